//! What the live view shows: counts as they stand, and how fast they grow. Knows nothing of terminals.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use gpuos_decode::{
    call::{self, Call},
    devices::Devices,
    roles::Roles,
};
use gpuos_host::processes::ThreadUsage;
use gpuos_model::Role;
use gpuos_runs::{histogram::Histogram, jobs::JobClass, losses::Losses, phases::marked_around};
use gpuos_tracer_abi::syscalls::{RowCounts, RowKey};

use crate::aggregate::Reading;

/// What tables are ordered by, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveOrder {
    /// Calls a second.
    #[default]
    Rate,
    /// Calls.
    Calls,
    /// Time inside.
    Total,
    /// The longest.
    Max,
}

impl LiveOrder {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "a second",
            Self::Calls => "calls",
            Self::Total => "total",
            Self::Max => "max",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Calls,
            Self::Calls => Self::Total,
            Self::Total => Self::Max,
            Self::Max => Self::Rate,
        }
    }
}

/// Counts of a role or a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Name of the role or the call.
    pub name: String,
    /// Its role.
    pub role: Option<Role>,
    /// Entries.
    pub calls: u64,
    /// Errors, and calls that the driver refused.
    pub errors: u64,
    /// Entries a second.
    pub rate: f64,
    /// Nanoseconds inside.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Histogram of nanoseconds.
    pub latency: Histogram,
}

impl Line {
    fn add(&mut self, counts: &RowCounts) {
        self.calls = self.calls.saturating_add(counts.calls);
        self.errors = self.errors.saturating_add(counts.errors).saturating_add(counts.refused);
        self.total_ns = self.total_ns.saturating_add(counts.total_ns);
        self.max_ns = self.max_ns.max(counts.max_ns);
        self.latency.add(&Histogram(counts.buckets));
    }

    fn key(&self, order: LiveOrder) -> u64 {
        match order {
            LiveOrder::Rate => self.rate as u64,
            LiveOrder::Calls => self.calls,
            LiveOrder::Total => self.total_ns,
            LiveOrder::Max => self.max_ns,
        }
    }
}

/// A process as it is listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessLine {
    /// Id in the counts.
    pub id: u64,
    /// Number.
    pub pid: u32,
    /// Name of its command.
    pub command: String,
    /// Path of its current phase.
    pub phase: String,
    /// Threads alive.
    pub threads: usize,
    /// Entries.
    pub calls: u64,
    /// CPU time a second of time, in user code and in the kernel.
    pub user: f64,
    /// Likewise in the kernel.
    pub system: f64,
    /// Context switches a second.
    pub switches: f64,
}

/// A thread that computes without a system call while a GPU is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spin {
    /// Its number.
    pub thread: u32,
    /// Name of its process's command.
    pub command: String,
    /// For how many seconds already.
    pub seconds: u64,
}

/// A phase as it is listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseLine {
    /// Its path.
    pub path: String,
    /// Whether a process is in it now.
    pub is_current: bool,
    /// How often it began.
    pub entered: u64,
    /// Entries.
    pub calls: u64,
}

/// A class of jobs as it is listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobLine {
    /// Its label.
    pub label: String,
    /// Jobs that were done.
    pub done: u64,
    /// Jobs a second.
    pub rate: f64,
    /// Half of them took at most so long, nanoseconds; 0 where none was done.
    pub p50_ns: u64,
    /// CPU time a second of time.
    pub cpu: f64,
}

/// What rates are taken from: calls as they stood at a moment.
#[derive(Clone, Debug)]
struct Past {
    at_ns: u64,
    calls: BTreeMap<String, u64>,
    roles: BTreeMap<Role, u64>,
    /// Jobs that were done, and CPU time, by class.
    jobs: BTreeMap<String, (u64, u64)>,
}

/// What a thread had used at a moment, and the calls it had made.
#[derive(Clone, Copy, Debug)]
struct Used {
    at_ns: u64,
    usage: ThreadUsage,
    calls: u64,
}

/// Seconds of history in a sparkline.
pub const HISTORY: usize = 40;
/// A point of the sparklines is a rate over this time.
const RATE_NS: u64 = 1_000_000_000;
/// Readings a second apart are so far apart at least: timers are early and late by a little.
const NEARLY_RATE_NS: u64 = RATE_NS / 100 * 95;
/// Of a second of time, CPU time in user code from which on a thread is taken to spin.
const SPINS: f64 = 0.95;

/// The state behind the screen.
#[derive(Debug)]
pub struct State {
    /// What is traced.
    pub title: String,
    roles_of_calls: Roles,
    devices: Devices,
    known: HashMap<RowKey, Call>,
    started_ns: u64,
    /// The last reading.
    pub at_ns: u64,
    recent: VecDeque<Past>,
    usages: HashMap<u32, Used>,
    spinning: HashMap<u32, u64>,
    all_calls: BTreeMap<String, u64>,
    /// Calls a second of each role, the newest last.
    pub history: BTreeMap<Role, VecDeque<u64>>,
    /// By role.
    pub roles: Vec<Line>,
    /// By call or driver command.
    pub calls: Vec<Line>,
    /// All together.
    pub total: Line,
    /// Phases.
    pub phases: Vec<PhaseLine>,
    /// Classes of jobs, those with the most jobs first.
    pub jobs: Vec<JobLine>,
    /// Processes that run.
    pub processes: Vec<ProcessLine>,
    /// Threads that spin.
    pub spins: Vec<Spin>,
    /// What was lost.
    pub losses: Losses,
    /// Threads alive.
    pub threads_alive: u64,
    /// What calls are ordered by.
    pub order: LiveOrder,
    /// Only calls whose name or role has this in it.
    pub filter: String,
    /// Only this process.
    pub process: Option<u64>,
    last: Reading,
}

/// A class, with its rates since `before`, so many seconds ago.
fn job_line(class: &JobClass, before: Option<&Past>, seconds: f64) -> JobLine {
    let (done, cpu_ns) = before.and_then(|past| past.jobs.get(&class.label).copied()).unwrap_or_default();
    let rate = |grown: u64| if seconds > 0.0 { grown as f64 / seconds } else { 0.0 };
    JobLine {
        label: class.label.clone(),
        done: class.done,
        rate: rate(class.done.saturating_sub(done)),
        p50_ns: class.duration.map_or(0, |duration| duration.p50_ns),
        cpu: rate(class.used.cpu_ns.saturating_sub(cpu_ns)) / 1e9,
    }
}

impl State {
    /// Nothing read yet.
    #[must_use]
    pub fn new(title: String, roles: Roles, devices: Devices) -> Self {
        Self {
            title,
            roles_of_calls: roles,
            devices,
            known: HashMap::new(),
            started_ns: 0,
            at_ns: 0,
            recent: VecDeque::new(),
            usages: HashMap::new(),
            spinning: HashMap::new(),
            all_calls: BTreeMap::new(),
            history: BTreeMap::new(),
            roles: Vec::new(),
            calls: Vec::new(),
            total: Line::default(),
            phases: Vec::new(),
            jobs: Vec::new(),
            processes: Vec::new(),
            spins: Vec::new(),
            losses: Losses::default(),
            threads_alive: 0,
            order: LiveOrder::default(),
            filter: String::new(),
            process: None,
            last: Reading::default(),
        }
    }

    /// Nanoseconds since the first reading.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.at_ns.saturating_sub(self.started_ns)
    }

    /// Chooses the next order.
    pub fn next_order(&mut self) {
        self.order = self.order.next();
        self.show();
    }

    /// Takes a filter over.
    pub fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.show();
    }

    /// Looks at one process only, or at all. Rates begin anew.
    pub fn choose_process(&mut self, process: Option<u64>) {
        self.process = process;
        self.recent.clear();
        self.history.clear();
        self.show();
    }

    /// Takes a reading over. `devices` may have grown.
    pub fn read(&mut self, reading: Reading, devices: &Devices) {
        if self.started_ns == 0 {
            self.started_ns = reading.at_ns;
        }
        if *devices != self.devices {
            self.devices = devices.clone();
            self.known.clear();
        }
        self.at_ns = reading.at_ns;
        self.losses = reading.losses;
        self.threads_alive = reading.threads_alive;
        self.look_at_threads(&reading);
        self.last = reading;
        // The one that was looked at has ended.
        if self.process.is_some_and(|chosen| self.processes.iter().all(|process| process.id != chosen)) {
            self.choose_process(None);
        } else {
            self.show();
        }
        self.remember();
    }

    fn name(&mut self, key: &RowKey) -> Call {
        let kind = RowKey { process: 0, thread: 0, phase: 0, ..*key };
        if let Some(call) = self.known.get(&kind) {
            return call.clone();
        }
        let call = call::call_of(&kind, &self.roles_of_calls, &self.devices);
        self.known.insert(kind, call.clone());
        call
    }

    /// Sums the last reading as it is to be shown.
    fn show(&mut self) {
        let reading = std::mem::take(&mut self.last);
        let mut roles: BTreeMap<Role, Line> = BTreeMap::new();
        let mut calls: BTreeMap<String, Line> = BTreeMap::new();
        let mut phases: HashMap<u32, u64> = HashMap::new();
        let mut processes: HashMap<u64, u64> = HashMap::new();
        let mut total = Line::default();
        for (key, counts) in &reading.rows {
            *processes.entry(key.process).or_default() += counts.calls;
            if self.process.is_some_and(|process| process != key.process) {
                continue;
            }
            let call = self.name(key);
            *phases.entry(key.phase).or_default() += counts.calls;
            roles.entry(call.role).or_default().add(counts);
            total.add(counts);
            let line = calls.entry(call.name).or_default();
            line.role = Some(call.role);
            line.add(counts);
        }
        let before = self.recent.front().cloned();
        let seconds = before.as_ref().map_or(0.0, |past| self.at_ns.saturating_sub(past.at_ns) as f64 / 1e9);
        let rate = |now: u64, before: Option<u64>| match before {
            // What was not there a second ago has come since.
            before if seconds > 0.0 => now.saturating_sub(before.unwrap_or(0)) as f64 / seconds,
            _ => 0.0,
        };
        for (role, line) in &mut roles {
            line.name = role.name().to_owned();
            line.role = Some(*role);
            line.rate = rate(line.calls, before.as_ref().and_then(|past| past.roles.get(role).copied()));
        }
        for (name, line) in &mut calls {
            line.name.clone_from(name);
            line.rate = rate(line.calls, before.as_ref().and_then(|past| past.calls.get(name).copied()));
        }
        total.rate = roles.values().map(|line| line.rate).sum();
        self.total = total;
        self.roles = roles.into_values().collect();
        self.all_calls = calls.iter().map(|(name, line)| (name.clone(), line.calls)).collect();
        let wanted = |line: &Line| {
            let role = line.role.map_or("", Role::name);
            line.name.contains(&self.filter) || role.contains(&self.filter)
        };
        self.calls = calls.into_values().filter(wanted).collect();
        let order = self.order;
        self.calls.sort_by_key(|line| (std::cmp::Reverse(line.key(order)), std::cmp::Reverse(line.calls)));
        self.jobs = reading.jobs.iter().map(|class| job_line(class, before.as_ref(), seconds)).collect();
        self.jobs.sort_by(|one, other| (other.done, &one.label).cmp(&(one.done, &other.label)));
        let current: HashSet<u32> = reading.processes.iter().map(|process| process.phase).collect();
        // What is called for jobs, or in functions of libraries, belongs to the phases around them.
        let around = marked_around(&reading.phases);
        let number_of: HashMap<&str, u32> = reading.phases.iter().map(|phase| phase.path.as_str()).zip(1..).collect();
        for (number, phase) in (1_u32..).zip(&reading.phases) {
            let outside = around.get(phase.path.as_str()).and_then(|path| number_of.get(path));
            if let Some(outside) = outside {
                let calls = phases.remove(&number).unwrap_or(0);
                *phases.entry(*outside).or_default() += calls;
            }
        }
        self.phases = (1..)
            .zip(&reading.phases)
            .filter(|(_, phase)| phase.scope.is_marked())
            .map(|(number, phase)| PhaseLine {
                path: phase.path.clone(),
                is_current: current.contains(&number),
                entered: phase.entered,
                calls: phases.get(&number).copied().unwrap_or(0),
            })
            .collect();
        for line in &mut self.processes {
            line.calls = processes.get(&line.id).copied().unwrap_or(0);
        }
        self.processes.sort_by_key(|line| (std::cmp::Reverse(line.calls), line.pid));
        self.last = reading;
    }

    /// Keeps what rates are taken from, and a point of the sparklines each second.
    fn remember(&mut self) {
        let calls = self.all_calls.clone();
        let roles: BTreeMap<Role, u64> = self.roles.iter().filter_map(|line| Some((line.role?, line.calls))).collect();
        let second = self.elapsed_ns() / RATE_NS;
        let is_new_second =
            self.recent.back().is_some_and(|past| past.at_ns.saturating_sub(self.started_ns) / RATE_NS != second);
        if is_new_second {
            for line in &self.roles {
                let Some(role) = line.role else { continue };
                let points = self.history.entry(role).or_default();
                points.push_back(line.rate.round() as u64);
                if points.len() > HISTORY {
                    points.pop_front();
                }
            }
        }
        let jobs = self.last.jobs.iter().map(|class| (class.label.clone(), (class.done, class.used.cpu_ns))).collect();
        self.recent.push_back(Past { at_ns: self.at_ns, calls, roles, jobs });
        while self.recent.get(1).is_some_and(|past| self.at_ns.saturating_sub(past.at_ns) >= NEARLY_RATE_NS) {
            self.recent.pop_front();
        }
    }

    /// CPU time and switches of processes over the last second, and threads that do nothing but compute.
    fn look_at_threads(&mut self, reading: &Reading) {
        let mut alive = HashSet::new();
        let mut spins = Vec::new();
        let mut lines = Vec::new();
        for process in &reading.processes {
            let phase = (process.phase as usize).checked_sub(1).and_then(|at| reading.phases.get(at));
            let mut line = ProcessLine {
                id: process.id,
                pid: process.pid,
                command: process.command.clone(),
                phase: phase.map_or_else(String::new, |phase| phase.path.clone()),
                threads: process.threads.len(),
                ..ProcessLine::default()
            };
            if !reading.has_usage {
                if let Some(before) = self.processes.iter().find(|before| before.id == line.id) {
                    line.threads = before.threads;
                    (line.user, line.system, line.switches) = (before.user, before.system, before.switches);
                }
                lines.push(line);
                continue;
            }
            for now in &process.threads {
                alive.insert(now.thread);
                let calls = reading.threads.get(&now.thread).copied().unwrap_or(0);
                let fresh = Used { at_ns: reading.at_ns, usage: *now, calls };
                let Used { at_ns: since, usage: before, calls: calls_before } =
                    *self.usages.entry(now.thread).or_insert(fresh);
                let seconds = reading.at_ns.saturating_sub(since) as f64 / 1e9;
                if seconds <= 0.0 {
                    continue;
                }
                let share = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e9 / seconds;
                let user = share(now.user_ns, before.user_ns);
                line.user += user;
                line.system += share(now.system_ns, before.system_ns);
                line.switches += now.switches.saturating_sub(before.switches) as f64 / seconds;
                if process.uses_gpu && user >= SPINS && calls == calls_before {
                    let began = *self.spinning.entry(now.thread).or_insert(since);
                    spins.push(Spin {
                        thread: now.thread,
                        command: process.command.clone(),
                        seconds: reading.at_ns.saturating_sub(began) / 1_000_000_000,
                    });
                } else {
                    self.spinning.remove(&now.thread);
                }
                self.usages.insert(now.thread, fresh);
            }
            lines.push(line);
        }
        if reading.has_usage {
            self.usages.retain(|thread, _| alive.contains(thread));
            self.spinning.retain(|thread, _| alive.contains(thread));
            self.spins = spins;
        }
        self.processes = lines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::LiveProcess;
    use gpuos_tracer_abi::syscalls::ABI_NATIVE;

    fn row(process: u64, number: i64, calls: u64) -> (RowKey, RowCounts) {
        let mut counts = RowCounts { calls, total_ns: calls * 100, max_ns: 150, ..RowCounts::ZERO };
        counts.buckets[6] = calls;
        (RowKey { process, number: number as u32, abi: ABI_NATIVE, ..Default::default() }, counts)
    }

    fn state() -> State {
        State::new("test".into(), Roles::default(), Devices::default())
    }

    fn reading(second: f64, rows: Vec<(RowKey, RowCounts)>) -> Reading {
        Reading { at_ns: 5_000_000_000 + (second * 1e9) as u64, rows, ..Reading::default() }
    }

    #[test]
    fn rates_are_over_the_last_second() {
        let mut state = state();
        for tenth in 0..=25_u64 {
            let rows = vec![row(1, libc::SYS_mmap, 1000 + tenth * 100), row(1, libc::SYS_futex, tenth * 10)];
            state.read(reading(tenth as f64 / 10.0, rows), &Devices::default());
        }
        let rate = |name: &str| state.roles.iter().find(|line| line.name == name).unwrap().rate;
        assert!((rate("memory") - 1000.0).abs() < 1.0, "{}", rate("memory"));
        assert!((rate("synchronization") - 100.0).abs() < 1.0, "{}", rate("synchronization"));
        assert_eq!(state.elapsed_ns(), 2_500_000_000);
        // A point for each second that was over.
        assert_eq!(state.history[&Role::Memory].len(), 2);
    }

    #[test]
    fn calls_are_filtered_ordered_and_chosen_by_process() {
        let mut state = state();
        let rows = vec![row(1, libc::SYS_mmap, 3), row(2, libc::SYS_mmap, 4), row(2, libc::SYS_futex, 5)];
        state.read(reading(0.0, rows), &Devices::default());
        let names = |state: &State| state.calls.iter().map(|l| (l.name.clone(), l.calls)).collect::<Vec<_>>();
        assert_eq!(names(&state), [("mmap".to_owned(), 7), ("futex".to_owned(), 5)]);
        state.choose_process(Some(2));
        assert_eq!(names(&state), [("futex".to_owned(), 5), ("mmap".to_owned(), 4)]);
        state.set_filter("memo".into());
        assert_eq!(names(&state), [("mmap".to_owned(), 4)]);
        assert_eq!(state.total.calls, 9);
        state.choose_process(None);
        assert_eq!(state.total.calls, 12);
    }

    #[test]
    fn a_thread_that_only_computes_while_a_gpu_is_used_spins() {
        let read = |state: &mut State, second: u64, user_ns: u64, calls: u64, uses_gpu: bool| {
            let thread = ThreadUsage { thread: 7, user_ns, ..ThreadUsage::default() };
            let process =
                LiveProcess { id: 1, command: "infer".into(), uses_gpu, threads: vec![thread], ..Default::default() };
            let threads = HashMap::from([(7, calls)]);
            let at_ns = 1_000_000_000 * (second + 1);
            state.read(
                Reading { at_ns, threads, processes: vec![process], has_usage: true, ..Reading::default() },
                &Devices::default(),
            );
            state.spins.clone()
        };
        let second = 1_000_000_000;
        let mut state = state();
        assert!(read(&mut state, 0, 0, 5, true).is_empty());
        assert_eq!(read(&mut state, 1, second, 5, true).len(), 1);
        assert_eq!(read(&mut state, 2, 2 * second, 5, true)[0].seconds, 2);
        assert!((state.processes[0].user - 1.0).abs() < 0.01);
        // A call; half of the time; no GPU.
        assert!(read(&mut state, 3, 3 * second, 6, true).is_empty());
        assert!(read(&mut state, 4, 3 * second + second / 2, 6, true).is_empty());
        assert!(read(&mut state, 5, 4 * second + second / 2, 6, false).is_empty());
    }
}
