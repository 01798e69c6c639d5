//! Jobs of the traced processes: what their tables say, beside what the kernel side charged to each class.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
};

use gpuos_host::environment::clocks;
use gpuos_runs::{
    jobs::{JobClass, JobSums, JobUsage},
    phases::label_of,
};
use gpuos_tracer_abi::{
    counters::state::JOB_SLOTS,
    jobs::{JobCounts, JobRecord},
    phases::{LABEL, PhaseKey, PhaseNode, SCOPE_JOB},
    tasks::ProcessRecord,
};

use crate::probe::{
    Counters,
    job_table::{JobTable, table_of},
};

/// A table and whose it is.
#[derive(Debug)]
struct Owned {
    process: u64,
    pid: u32,
    table: JobTable,
    /// What had been counted before the trace, of a process that was attached to.
    before: Vec<([u8; LABEL], JobCounts)>,
}

/// Tables that are open at a time. Those of more processes are counted as not read.
const MOST_OPEN: usize = 512;
/// Files have the time of the last tick of the clock. Nanoseconds.
const MORE_THAN_A_TICK: u64 = 1_000_000_000;
/// Labels that are kept of processes that have ended.
const MOST_LABELS: usize = 4096;
/// More of them that found no place no table tells of.
const MOST_PLACES: u64 = 1 << 32;

/// A job that has ended, as a recording wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedJob {
    /// Number of its process.
    pub pid: u32,
    /// Label of its class.
    pub label: [u8; LABEL],
    /// What the program said.
    pub record: JobRecord,
}

/// Every table that was found, and what those of ended processes said.
#[derive(Debug, Default)]
pub(super) struct JobTables {
    open: Vec<Owned>,
    /// Files that are open, and processes that had one.
    known: HashSet<u64>,
    found_in: HashSet<u64>,
    /// How many slots each process had told of when its table was looked for.
    looked_at: HashMap<u64, u32>,
    of_ended: BTreeMap<String, JobSums>,
    /// How often threads had said that they have a slot when tables were looked for.
    seen: u64,
    /// Jobs of which a recording hears.
    ended: Vec<EndedJob>,
    is_recorded: bool,
    /// Tables that were not read, classes and threads that found no place in one.
    pub(super) tables_lost: u64,
    places_lost: u64,
    records_lost: u64,
}

impl JobTables {
    /// Jobs are wanted one by one, too.
    pub(super) fn record(&mut self) {
        self.is_recorded = true;
    }

    /// Looks for tables where threads have said since that they have a slot, or where `again` says so. Says whether there are any.
    pub(super) fn look(&mut self, counters: &Counters, again: bool) -> io::Result<bool> {
        let slots = counters.state(JOB_SLOTS);
        if again || slots != self.seen {
            self.seen = slots;
            let mut processes = counters.processes()?;
            // A child has its parent's table open, and has told of no slot. Processes that ran before have told of none either.
            processes.sort_by_key(|(_, record)| (record.job_slots == 0, record.started_ns));
            for (process, record) in processes {
                let before = self.looked_at.insert(process, record.job_slots);
                let has_told = record.job_slots != 0 && before != Some(record.job_slots);
                if has_told || again && before.is_none() && record.job_slots == 0 {
                    self.look_at(process, &record);
                }
            }
        }
        Ok(slots != 0 || !self.open.is_empty())
    }

    fn look_at(&mut self, process: u64, record: &ProcessRecord) {
        let pid = record.pid;
        let Some(mut table) = table_of(pid, |inode| self.known.contains(&inode)) else { return };
        if self.open.len() >= MOST_OPEN {
            return;
        }
        self.found_in.insert(process);
        self.known.insert(table.inode);
        // Made before the process was traced: what stands in it is of before.
        let mut before = Vec::new();
        let clocks = clocks();
        let began = clocks.realtime_ns.saturating_sub(clocks.monotonic_ns.saturating_sub(record.started_ns));
        let made =
            table.made.0.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(table.made.1.cast_unsigned());
        if record.job_slots == 0 || made.saturating_add(MORE_THAN_A_TICK) < began {
            before = table.classes().unwrap_or_default();
            table.begin_here();
        }
        self.open.push(Owned { process, pid, table, before });
    }

    /// Keeps the jobs that have ended since, where they are recorded.
    pub(super) fn read_records(&mut self) {
        if self.is_recorded {
            for Owned { pid, table, .. } in &mut self.open {
                Self::read_of(*pid, table, &mut self.ended, &mut self.records_lost);
            }
        }
    }

    fn read_of(pid: u32, table: &mut JobTable, ended: &mut Vec<EndedJob>, lost: &mut u64) {
        let Ok(new) = table.new_records() else { return };
        *lost = lost.saturating_add(new.lost);
        let mut labels: HashMap<u32, Option<[u8; LABEL]>> = HashMap::new();
        ended.extend(new.records.into_iter().filter_map(|record| {
            let label = *labels.entry(record.class).or_insert_with(|| table.label(record.class));
            Some(EndedJob { pid, label: label?, record })
        }));
    }

    /// Jobs that have ended since this was asked for the last time, and how many more were overwritten before they were read.
    pub(super) fn take_ended_jobs(&mut self) -> (Vec<EndedJob>, u64) {
        self.read_records();
        (std::mem::take(&mut self.ended), std::mem::take(&mut self.records_lost))
    }

    /// Processes that have ended: their tables are read for the last time.
    pub(super) fn close<'a>(&mut self, over: impl IntoIterator<Item = (&'a u64, &'a ProcessRecord)>) {
        for (process, record) in over {
            self.check(*process, record);
            while let Some(place) = self.open.iter().position(|owned| owned.process == *process) {
                let mut owned = self.open.swap_remove(place);
                if self.is_recorded {
                    Self::read_of(owned.pid, &mut owned.table, &mut self.ended, &mut self.records_lost);
                }
                add(&owned, &mut self.of_ended, &mut self.places_lost);
                self.known.remove(&owned.table.inode);
            }
            self.looked_at.remove(process);
            self.found_in.remove(process);
        }
    }

    /// Notices a process that had jobs and whose table was not found.
    pub(super) fn check(&mut self, process: u64, record: &ProcessRecord) {
        self.tables_lost += u64::from(record.job_slots != 0 && !self.found_in.contains(&process));
    }

    /// Every class, with what was charged to the phases of jobs. And how many classes and threads found no place.
    pub(super) fn classes(&self, nodes: &[(PhaseKey, PhaseNode)]) -> (Vec<JobClass>, u64) {
        let (mut sums, mut places_lost) = (self.of_ended.clone(), self.places_lost);
        self.open.iter().for_each(|owned| add(owned, &mut sums, &mut places_lost));
        let mut used: BTreeMap<String, JobUsage> = BTreeMap::new();
        for (key, node) in nodes.iter().filter(|(key, _)| key.scope == SCOPE_JOB) {
            let label = label_of(&key.label);
            sums.entry(label.clone()).or_default();
            *used.entry(label).or_default() += JobUsage {
                cpu_ns: node.used.run_ns,
                voluntary_switches: node.used.voluntary_switches,
                involuntary_switches: node.used.involuntary_switches,
                minor_faults: node.used.minor_faults,
                major_faults: node.used.major_faults,
            };
        }
        let class = |(label, sums): (String, JobSums)| {
            let used = used.get(&label).copied().unwrap_or_default();
            sums.class(label, used)
        };
        (sums.into_iter().map(class).collect(), places_lost)
    }
}

/// Adds what stands in a table since its process is traced.
fn add(owned: &Owned, sums: &mut BTreeMap<String, JobSums>, places_lost: &mut u64) {
    let Ok(head) = owned.table.head() else { return };
    let lost = head.classes_lost.saturating_add(head.threads_lost);
    *places_lost = places_lost.saturating_add(lost.min(MOST_PLACES));
    for (label, counts) in owned.table.classes().unwrap_or_default() {
        let before = owned.before.iter().find(|(known, _)| *known == label).map(|(_, counts)| counts);
        let text = label_of(&label);
        if sums.len() < MOST_LABELS || sums.contains_key(&text) {
            sums.entry(text).or_default().add(&counts, before);
        } else {
            *places_lost = places_lost.saturating_add(1);
        }
    }
}
