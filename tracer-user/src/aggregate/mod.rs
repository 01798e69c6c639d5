//! Adds up counts as they leave the kernel: of ended processes while the run goes on, of all at its end.

mod jobs;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
};

use gpuos_decode::devices::{DeviceKind, Devices};
use gpuos_host::{
    environment::{in_pid_namespace, monotonic_ns},
    processes::{self, ThreadUsage},
};
use gpuos_runs::{
    jobs::JobClass,
    losses::Losses,
    phases::{self, Phase},
    run::Process,
};
use gpuos_tracer_abi::{
    counters::{self, state},
    hooks::HookCounts,
    ioctl::DeviceId,
    syscalls::{RowCounts, RowKey},
    tasks::{ProcessRecord, TaskUsage},
};

pub use jobs::EndedJob;
use jobs::JobTables;

use crate::probe::Counters;

/// The kernel frees a thread, and books its last microseconds, some time after its exit.
const SETTLING_NS: u64 = 250_000_000;

/// Ended processes that are kept apart. Those that end after so many are added up by command, so that a
/// storm of short processes does not fill the memory of the tracer.
const KEPT_APART: usize = 4096;

/// Processes, threads that have exited, calls on the slower path.
type Signature = (usize, u64, u64);

/// Everything that was read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Counts of ended processes (under process 0) and of those that run.
    pub rows: Vec<(RowKey, RowCounts)>,
    /// Calls of each thread that is alive.
    pub threads: HashMap<u32, u64>,
    /// Processes that run.
    pub processes: Vec<LiveProcess>,
    /// Whether what their threads have used was read, too: that takes longer and is done once a second.
    pub has_usage: bool,
    /// Phases by number, from 1.
    pub phases: Vec<Phase>,
    /// Classes of jobs, by their labels.
    pub jobs: Vec<JobClass>,
    /// What was lost so far.
    pub losses: Losses,
    /// Traced threads alive.
    pub threads_alive: u64,
}

/// A process that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveProcess {
    /// Id in the counts.
    pub id: u64,
    /// Number in the initial pid namespace.
    pub pid: u32,
    /// Name of its command.
    pub command: String,
    /// Number of its current phase; 0: none.
    pub phase: u32,
    /// Whether it uses a GPU: has called one, or has one open.
    pub uses_gpu: bool,
    /// What its threads have used, where that could be read.
    pub threads: Vec<ThreadUsage>,
}

/// Counts and processes, as far as they were read.
#[derive(Debug, Default)]
pub struct Aggregator {
    /// Drivers of the machine, as far as they have come.
    devices: Devices,
    /// Nodes of devices that the kernel side knows by their paths.
    paths: HashMap<String, DeviceId>,
    rows: HashMap<RowKey, RowCounts>,
    /// Somebody looks at the counts while they grow.
    is_watched: bool,
    /// Then, counts of processes that have ended, of all together (process 0).
    of_ended: HashMap<RowKey, RowCounts>,
    /// The totals as they were read last for a reading, and what tells whether they have changed.
    totals: Option<(Signature, Vec<(RowKey, RowCounts)>)>,
    /// Exits of threads when all processes that had ended were taken.
    exits_seen: u64,
    /// Processes that have called a GPU.
    on_gpu: HashSet<u64>,
    ended: HashMap<u64, Process>,
    /// By command name, the process that stands for all of it that are not kept apart.
    standing_for: HashMap<String, u64>,
    /// Nanoseconds in the phases that processes were in at their end, by number.
    unfinished_phases: HashMap<u32, u64>,
    jobs: JobTables,
}

fn add(rows: &mut HashMap<RowKey, RowCounts>, key: RowKey, more: &RowCounts) {
    rows.entry(key).or_default().merge(more, |sum, more| *sum += more, |max, more| *max = (*max).max(more));
}

impl Aggregator {
    /// Begins a run on a machine with these drivers. `is_watched`: there will be readings.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(devices: Devices, counters: &Counters, is_watched: bool) -> io::Result<Self> {
        counters.set_drivers(&devices)?;
        let mut paths = HashMap::new();
        counters.set_device_paths(&mut paths)?;
        Ok(Self { devices, paths, is_watched, ..Self::default() })
    }

    /// Drivers of the machine, as far as they have come.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// What the counts are now. A row of a thread that exits at this moment may be missing for once. With `has_usage`
    /// also what threads have used, and every total, which takes longer.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reading(&mut self, counters: &Counters, has_usage: bool) -> io::Result<Reading> {
        let at_ns = monotonic_ns();
        let records = counters.processes()?;
        // The totals change when a thread exits, or a call takes the slower path. To read them is to walk a large table.
        let exits =
            records.iter().map(|(_, record)| u64::from(record.threads.wrapping_sub(record.threads_alive))).sum();
        let seen = (records.len(), exits, counters.counter(counters::CALLS_ON_SLOW_PATH));
        if has_usage || self.totals.as_ref().is_none_or(|(before, _)| *before != seen) {
            self.totals = Some((seen, counters.totals()?));
        }
        let mut sums = self.of_ended.clone();
        for (key, counts) in self.totals.iter().flat_map(|(_, totals)| totals) {
            add(&mut sums, RowKey { thread: 0, ..*key }, counts);
        }
        let mut threads: HashMap<u32, u64> = HashMap::new();
        for row in counters.live_rows() {
            if row.key.device != DeviceId::NONE && self.devices.kind(row.key.device) != DeviceKind::NotGpu {
                self.on_gpu.insert(row.key.process);
            }
            *threads.entry(row.thread).or_default() += row.counts.calls;
            add(&mut sums, RowKey { thread: 0, ..row.key }, &row.counts);
        }
        // Process numbers are those of the initial namespace; elsewhere `/proc` has others.
        let has_usage = has_usage && !in_pid_namespace();
        // One that was attached to has no thread for the kernel side before its first call: it may wait, or spin.
        let is_alive = |record: &ProcessRecord| {
            let is_quiet = record.unborn != 0 && record.ended_ns == 0;
            record.threads_alive != 0 || is_quiet && (in_pid_namespace() || processes::is_there(record.pid))
        };
        let alive = records.into_iter().filter(|(_, record)| is_alive(record));
        let mut processes = Vec::new();
        for (id, record) in alive {
            if has_usage && !self.on_gpu.contains(&id) && processes::has_gpu_open(record.pid) {
                self.on_gpu.insert(id);
            }
            processes.push(LiveProcess {
                id,
                pid: record.pid,
                command: Process::from_record(id, &record, at_ns).command,
                phase: record.phase,
                uses_gpu: self.on_gpu.contains(&id),
                threads: if has_usage { processes::thread_usages(record.pid) } else { Vec::new() },
            });
        }
        let nodes = counters.phases()?;
        let (jobs, job_places) = self.jobs.classes(&nodes);
        Ok(Reading {
            at_ns,
            rows: sums.into_iter().collect(),
            threads,
            processes,
            has_usage,
            phases: phases::from_kernel(&nodes),
            jobs,
            losses: Losses {
                job_tables: self.jobs.tables_lost,
                job_places,
                recursion_misses: counters.recursion_misses()?,
                ..Losses::counted(|index| counters.counter(index))
            },
            threads_alive: counters.state(state::THREADS_ALIVE),
        })
    }

    /// Jobs are wanted one by one, too.
    pub fn record_jobs(&mut self) {
        self.jobs.record();
    }

    /// Looks for tables of jobs; `again` also where no thread has said that it has a slot. Says whether any process has jobs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look_for_jobs(&mut self, counters: &Counters, again: bool) -> io::Result<bool> {
        self.jobs.look(counters, again)
    }

    /// Jobs that have ended since this was asked for the last time, and how many more were overwritten before they were read.
    pub fn take_ended_jobs(&mut self) -> (Vec<EndedJob>, u64) {
        self.jobs.take_ended_jobs()
    }

    /// Takes processes that have ended out of the kernel's maps, so that the maps stay small.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_ended(&mut self, counters: &Counters) -> io::Result<()> {
        if self.devices.look_again() {
            counters.set_drivers(&self.devices)?;
        }
        counters.set_device_paths(&mut self.paths)?;
        let exits = counters.state(state::THREADS_ENDED);
        if exits.wrapping_sub(self.exits_seen)
            < if counters.reading_costs_events() { counters.exits_at_once() } else { 1 }
        {
            return Ok(());
        }
        let now = monotonic_ns();
        let ended =
            |process: &ProcessRecord| process.threads_alive == 0 && process.unborn == 0 && process.ended_ns != 0;
        let (over, settling): (HashMap<u64, ProcessRecord>, HashMap<_, _>) = counters
            .processes()?
            .into_iter()
            .filter(|(_, process)| ended(process))
            .partition(|(_, process)| process.ended_ns + SETTLING_NS < now);
        // Those that are not over yet are looked for again; where looking costs, with the next ones.
        if settling.is_empty() || counters.reading_costs_events() {
            self.exits_seen = exits;
        }
        if over.is_empty() {
            return Ok(());
        }
        self.jobs.close(&over);
        let totals: Vec<_> =
            counters.totals()?.into_iter().filter(|(key, _)| over.contains_key(&key.process)).collect();
        let keys: Vec<RowKey> = totals.iter().map(|(key, _)| *key).collect();
        let ids: Vec<u64> = over.keys().copied().collect();
        counters.forget(&keys, &ids)?;
        let mut renamed: HashMap<u64, u64> = HashMap::new();
        for (id, record) in over {
            self.end_phase(&record, now);
            let process = Process::from_record(id, &record, now);
            if self.ended.len() < KEPT_APART {
                self.ended.insert(id, process);
                continue;
            }
            let standing = *self.standing_for.entry(process.command.clone()).or_insert(id);
            renamed.insert(id, standing);
            match self.ended.entry(standing) {
                Entry::Occupied(mut all) => all.get_mut().absorb(&process),
                Entry::Vacant(place) => drop(place.insert(process)),
            }
        }
        for (mut key, counts) in totals {
            if self.is_watched {
                add(&mut self.of_ended, RowKey { process: 0, thread: 0, ..key }, &counts);
            }
            if let Some(standing) = renamed.get(&key.process) {
                key.process = *standing;
                key.thread = 0;
            }
            add(&mut self.rows, key, &counts);
        }
        Ok(())
    }

    /// A process that ends in a phase has been in it until then.
    fn end_phase(&mut self, record: &ProcessRecord, now: u64) {
        if record.phase != 0 && record.phase_since_ns != 0 {
            let end = if record.threads_alive == 0 { record.ended_ns } else { now };
            *self.unfinished_phases.entry(record.phase).or_default() += end.saturating_sub(record.phase_since_ns);
        }
    }

    /// Whether no traced thread is alive.
    #[must_use]
    pub fn tree_is_empty(&self, counters: &Counters) -> bool {
        counters.state(state::THREADS_ALIVE) == 0
    }

    /// Reads what is left. To be called after the programs are detached, when nothing moves any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(mut self, counters: &Counters) -> io::Result<Totals> {
        self.devices.look_at_all();
        let totals = counters.totals()?;
        let live = counters.live_rows().map(|row| (row.key, row.counts));
        for (key, counts) in totals.iter().copied().chain(live) {
            add(&mut self.rows, key, &counts);
        }
        let now = monotonic_ns();
        let mut records = HashMap::new();
        let nodes = counters.phases()?;
        let (jobs, job_places) = self.jobs.classes(&nodes);
        for (id, record) in counters.processes()? {
            self.jobs.check(id, &record);
            self.end_phase(&record, now);
            self.ended.entry(id).or_insert_with(|| Process::from_record(id, &record, now));
            records.insert(id, record);
        }
        let mut nodes = nodes;
        for (number, time) in &self.unfinished_phases {
            if let Some((_, node)) = nodes.get_mut(*number as usize - 1) {
                node.own_ns = node.own_ns.saturating_add(*time);
            }
        }
        let mut processes: Vec<Process> = self.ended.into_values().collect();
        processes.sort_by_key(|process| (process.started_ns, process.id));
        Ok(Totals {
            rows: self.rows,
            phases: phases::from_kernel(&nodes),
            hooks: counters.hooks(),
            markers: counters.counter(counters::MARKERS),
            markers_without_meaning: counters.counter(counters::MARKERS_WITHOUT_MEANING),
            jobs,
            processes,
            records,
            losses: Losses {
                job_tables: self.jobs.tables_lost,
                job_places,
                ..Losses::counted(|index| counters.counter(index))
            },
            devices: self.devices,
            unreadable_arguments: counters.counter(counters::ARGUMENTS_UNREADABLE),
            threads_running: counters.state(state::THREADS_ALIVE),
            slow_calls: counters.counter(counters::CALLS_ON_SLOW_PATH),
            compat_calls_filtered: counters.counter(counters::COMPAT_CALLS_FILTERED),
            rings_filtered: counters.counter(counters::RINGS_FILTERED),
        })
    }
}

/// Everything that was counted.
#[derive(Debug, Default)]
pub struct Totals {
    /// Counts.
    pub rows: HashMap<RowKey, RowCounts>,
    /// Phases by their number, which begins at 1.
    pub phases: Vec<Phase>,
    /// What was counted at the functions of drivers, by the index in [`HOOKS`](gpuos_tracer_abi::hooks::HOOKS).
    pub hooks: Vec<HookCounts>,
    /// Marker calls; they are not among the calls.
    pub markers: u64,
    /// Those that ended what never began, or said what nobody knows.
    pub markers_without_meaning: u64,
    /// Classes of jobs, by their labels.
    pub jobs: Vec<JobClass>,
    /// Processes, the first started first.
    pub processes: Vec<Process>,
    /// Records that were still in the kernel at the end, before user and system time were split.
    pub records: HashMap<u64, ProcessRecord>,
    /// What could not be counted.
    pub losses: Losses,
    /// Drivers of the machine.
    pub devices: Devices,
    /// Arguments of device calls that could not be read.
    pub unreadable_arguments: u64,
    /// Traced threads that had not exited, those that had not run yet included.
    pub threads_running: u64,
    /// Calls that were counted on the slower path; exact all the same.
    pub slow_calls: u64,
    /// io_uring rings that were set up although a filter left the call out.
    pub rings_filtered: u64,
    /// 32-bit calls that a filter left out.
    pub compat_calls_filtered: u64,
}

impl Totals {
    /// Adds what threads that are still alive have used to a process.
    pub fn add_usage(&mut self, id: u64, more: TaskUsage) {
        let (Some(record), Some(process)) =
            (self.records.get_mut(&id), self.processes.iter_mut().find(|process| process.id == id))
        else {
            return;
        };
        record.usage.merge(&more);
        let wall_ns = process.wall_ns;
        *process = Process { wall_ns, ..Process::from_record(id, record, monotonic_ns()) };
    }
}
