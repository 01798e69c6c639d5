//! From a recording back to counts: what `run` would have shown.

use std::collections::HashMap;

use gpuos_runs::{
    phases::{Phase, Scope},
    run::{Header, Process},
};

use gpuos_tracer_abi::{
    ioctl::DeviceId,
    syscalls::{ABI_COMPAT, ABI_NATIVE, CallOutcome, RowCounts, RowKey, bucket_of, outcome_of},
};
use polars_core::{frame::DataFrame, prelude::PolarsResult};

use crate::{
    rows::{self, EventRow},
    table::word,
};

/// Counts of the rows seen so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// By process, call, device and command.
    pub rows: HashMap<RowKey, RowCounts>,
    /// Processes that began in it.
    pub processes: Vec<Process>,
    /// Phases by their number, which begins at 1.
    pub phases: Vec<Phase>,
    /// Beginning of the first event and end of the last, `CLOCK_MONOTONIC` in nanoseconds.
    pub span: Option<(u64, u64)>,
    /// Events.
    pub events: u64,
    /// Events that were lost.
    pub lost: u64,
    numbers: HashMap<String, u32>,
    /// Places in `processes`, by id.
    places: HashMap<u64, usize>,
    /// Places of rows that stand for many, by command.
    standing: HashMap<String, usize>,
    /// Phases that are open: by process number, and by thread number for those of one thread, else 0; the outer first.
    open: HashMap<(u32, u32), Vec<Open>>,
    has_header: bool,
}

/// A phase that has begun.
#[derive(Clone, Copy, Debug)]
struct Open {
    number: u32,
    began_ns: u64,
    /// Time in those that began and ended inside it.
    inside_ns: u64,
}

impl Counts {
    /// None yet; processes and phases of this header are known already.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut counts = Self { processes: header.processes.clone(), has_header: true, ..Self::default() };
        counts.places = header.processes.iter().enumerate().map(|(at, process)| (process.id, at)).collect();
        for (at, process) in header.processes.iter().enumerate().filter(|(_, process)| process.stands_for > 1) {
            counts.standing.entry(process.command.clone()).or_insert(at);
        }
        for phase in &header.phases {
            let number = counts.phase(&phase.path) as usize;
            if let Some(place) = number.checked_sub(1).and_then(|at| counts.phases.get_mut(at)) {
                *place = phase.clone();
            }
        }
        counts
    }

    fn phase(&mut self, path: &str) -> u32 {
        if path.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.phases.push(Phase { path: path.to_owned(), ..Phase::default() });
        let number = self.phases.len() as u32;
        self.numbers.insert(path.to_owned(), number);
        number
    }

    /// Adds rows of a recording.
    ///
    /// # Errors
    /// When a column is missing.
    pub fn add(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        rows::each(frame, |row| {
            self.take(&row);
            Ok(())
        })
    }

    fn take(&mut self, row: &EventRow<'_>) {
        self.events += 1;
        if row.event == word::LOST {
            self.lost = self.lost.saturating_add(row.argument0);
            return;
        }
        let (begin, last) = self.span.unwrap_or((row.time, row.end()));
        self.span = Some((begin.min(row.time), last.max(row.end())));
        match row.event {
            word::CALL | word::UNFINISHED => {}
            word::PROCESS | word::THREAD | word::EXEC | word::END => return self.live(row),
            word::PHASE_BEGIN | word::PHASE_END | word::ITERATIONS => return self.mark(row),
            _ => return,
        }
        let key = RowKey {
            process: self.places.get(&row.process).and_then(|at| self.processes.get(*at)).map_or(row.process, |p| p.id),
            phase: self.phase(row.phase),
            number: row.number,
            abi: if row.abi == "compat" { ABI_COMPAT } else { ABI_NATIVE },
            device: DeviceId(row.device_number),
            command: row.command_number,
            detail: row.detail_number,
            ..RowKey::default()
        };
        let counts = self.rows.entry(key).or_default();
        counts.calls += 1;
        let Some(returned) = row.returned else { return };
        // `rt_sigreturn` returns what another call left: no error, whatever the value.
        if !row.error.is_empty() {
            match outcome_of(returned) {
                CallOutcome::Restart => counts.restarted += 1,
                CallOutcome::Error | CallOutcome::Success => counts.errors += 1,
            }
        }
        if row.status_number != 0 {
            counts.refused += 1;
            counts.status = row.status_number.into();
        }
        match row.duration {
            Some(lasted) => {
                counts.total_ns = counts.total_ns.saturating_add(lasted);
                counts.max_ns = counts.max_ns.max(lasted);
                counts.buckets[bucket_of(lasted)] += 1;
            }
            None => counts.untimed += 1,
        }
    }

    /// Processes of a recording without a header.
    fn live(&mut self, row: &EventRow<'_>) {
        if self.has_header {
            // It knows better; but of many short processes only one for each command has a row there.
            if let (false, Some(at)) = (self.places.contains_key(&row.process), self.standing.get(row.comm)) {
                self.places.insert(row.process, *at);
            }
            return;
        }
        if row.event == word::END && row.thread == row.pid {
            self.leave_all((row.pid, 0), row.time);
        }
        let known = self.places.get(&row.process).and_then(|at| self.processes.get_mut(*at));
        match (known, row.event) {
            (Some(process), word::EXEC) => row.comm.clone_into(&mut process.command),
            (Some(process), word::THREAD) => process.threads += 1,
            (Some(process), _) => process.wall_ns = row.time.saturating_sub(process.started_ns),
            (None, word::PROCESS) => {
                self.places.insert(row.process, self.processes.len());
                self.processes.push(Process {
                    id: row.process,
                    pid: row.pid,
                    command: row.comm.to_owned(),
                    started_ns: row.time,
                    stands_for: 1,
                    threads: 1,
                    ..Process::default()
                });
            }
            (None, _) => {}
        }
    }

    /// Phases of a recording without a header.
    fn mark(&mut self, row: &EventRow<'_>) {
        if self.has_header {
            return;
        }
        let number = self.phase(row.phase);
        let Some(phase) = (number as usize).checked_sub(1).and_then(|at| self.phases.get_mut(at)) else { return };
        if row.event == word::ITERATIONS {
            phase.iterations = phase.iterations.saturating_add(row.argument0);
            return;
        }
        let owner = (row.pid, if row.is_threads_own() { row.thread } else { 0 });
        if row.event == word::PHASE_BEGIN {
            phase.entered += 1;
            phase.scope = if row.is_threads_own() { Scope::Thread } else { Scope::Process };
            self.open.entry(owner).or_default().push(Open { number, began_ns: row.time, inside_ns: 0 });
            return;
        }
        let depth = self.open.get(&owner).and_then(|open| open.iter().rposition(|one| one.number == number));
        if let Some(depth) = depth {
            // Ends of those inside it were lost.
            while self.open.get(&owner).is_some_and(|open| open.len() > depth) {
                self.leave(owner, row.time);
            }
        }
    }

    /// The innermost phase of a process or thread ends.
    fn leave(&mut self, owner: (u32, u32), at_ns: u64) {
        let Some(open) = self.open.get_mut(&owner) else { return };
        let Some(Open { number, began_ns, inside_ns }) = open.pop() else { return };
        let lasted = at_ns.saturating_sub(began_ns);
        if let Some(around) = open.last_mut() {
            around.inside_ns = around.inside_ns.saturating_add(lasted);
        }
        if let Some(phase) = self.phases.get_mut(number as usize - 1) {
            phase.wall_ns = phase.wall_ns.saturating_add(lasted);
            phase.own_ns = phase.own_ns.saturating_add(lasted.saturating_sub(inside_ns));
        }
    }

    fn leave_all(&mut self, owner: (u32, u32), at_ns: u64) {
        while self.open.get(&owner).is_some_and(|open| !open.is_empty()) {
            self.leave(owner, at_ns);
        }
        self.open.remove(&owner);
    }

    /// Of a recording without a header: what is still open, and who still runs, is so until this moment. What a thread has
    /// begun for itself and not ended does not count.
    pub fn end_at(&mut self, at_ns: u64) {
        let of_processes: Vec<_> = self.open.keys().copied().filter(|(_, thread)| *thread == 0).collect();
        of_processes.into_iter().for_each(|owner| self.leave_all(owner, at_ns));
        if !self.has_header {
            for process in self.processes.iter_mut().filter(|process| process.wall_ns == 0) {
                process.wall_ns = at_ns.saturating_sub(process.started_ns);
            }
        }
    }
}
