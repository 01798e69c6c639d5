//! From a recording back to counts: what `run` would have shown.

use std::collections::HashMap;

use gpuos_tracer_abi::syscalls::{ABI_COMPAT, ABI_NATIVE, Outcome, RowCounts, RowKey, bucket_of, is_code, outcome_of};
use polars_core::prelude::*;

use super::table::{column, word};
use crate::model::{
    phases::Phase,
    run::{Header, Process},
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
}

impl Counts {
    /// None yet; processes and phases of this header are known already.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut counts = Self { processes: header.processes.clone(), ..Self::default() };
        for phase in &header.phases {
            let number = counts.phase(&phase.path);
            counts.phases[number as usize - 1] = phase.clone();
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
        let text = |name: &str| frame.column(name)?.str();
        let long = |name: &str| frame.column(name)?.u64();
        let short = |name: &str| frame.column(name)?.u32();
        let (event, phase, abi, comm) =
            (text(column::EVENT)?, text(column::PHASE)?, text(column::ABI)?, text(column::COMM)?);
        let (time, duration, process) = (long(column::TIME)?, long(column::DURATION)?, long(column::PROCESS)?);
        let (pid, number, device) = (short(column::PID)?, short(column::NUMBER)?, short(column::DEVICE_NUMBER)?);
        let (command, detail) = (short(column::COMMAND_NUMBER)?, short(column::DETAIL_NUMBER)?);
        let status = short(column::STATUS_NUMBER)?;
        let (first, returned) = (long(column::ARGUMENTS[0])?, frame.column(column::RETURNED)?.i64()?);
        for row in 0..frame.height() {
            let at = time.get(row).unwrap_or(0);
            let lasted = duration.get(row);
            let end = at.saturating_add(lasted.unwrap_or(0));
            let word = event.get(row).unwrap_or("");
            self.events += 1;
            if word == word::LOST {
                self.lost = self.lost.saturating_add(first.get(row).unwrap_or(0));
                continue;
            }
            let (begin, last) = self.span.unwrap_or((at, end));
            self.span = Some((begin.min(at), last.max(end)));
            let id = process.get(row).unwrap_or(0);
            match word {
                word::CALL | word::UNFINISHED => {}
                word::PROCESS | word::EXEC | word::END => {
                    self.live(word, id, at, pid.get(row).unwrap_or(0), comm.get(row).unwrap_or(""));
                    continue;
                }
                _ => continue,
            }
            let value = |column: &UInt32Chunked| column.get(row).unwrap_or(0);
            let key = RowKey {
                process: id,
                phase: self.phase(phase.get(row).unwrap_or("")),
                number: value(number),
                abi: if abi.get(row) == Some("compat") { ABI_COMPAT } else { ABI_NATIVE },
                device: value(device),
                command: value(command),
                detail: value(detail),
                ..RowKey::default()
            };
            let counts = self.rows.entry(key).or_default();
            counts.calls += 1;
            let Some(returned) = returned.get(row) else { continue };
            if is_code(returned) {
                match outcome_of(returned) {
                    Outcome::Restart => counts.restarted += 1,
                    _ => counts.errors += 1,
                }
            }
            if value(status) != 0 {
                counts.refused += 1;
                counts.status = value(status).into();
            }
            match lasted {
                Some(lasted) => {
                    counts.total_ns += lasted;
                    counts.max_ns = counts.max_ns.max(lasted);
                    counts.buckets[bucket_of(lasted)] += 1;
                }
                None => counts.untimed += 1,
            }
        }
        Ok(())
    }

    /// Processes of a recording without a header.
    fn live(&mut self, word: &str, id: u64, at: u64, pid: u32, comm: &str) {
        let known = self.processes.iter_mut().find(|process| process.id == id);
        match (known, word) {
            // The header knows better.
            (Some(process), _) if process.threads != 0 => {}
            (Some(process), word::EXEC) => process.command = comm.to_owned(),
            (Some(process), _) => process.wall_ns = at.saturating_sub(process.started_ns),
            (None, word::PROCESS) => self.processes.push(Process {
                id,
                pid,
                command: comm.to_owned(),
                started_ns: at,
                stands_for: 1,
                ..Process::default()
            }),
            (None, _) => {}
        }
    }
}
