//! Chrome's trace events (the "Trace Event Format"): JSON that <chrome://tracing>, Perfetto and others open. Times are in
//! microseconds since the start of the recording.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde_json::{Map, Value as Json, json};

use super::{ExportError, Exporter, Value, details};
use crate::{rows::EventRow, source::Source, table::word};

#[derive(Debug)]
pub(super) struct Chrome {
    start_ns: u64,
    is_first: bool,
    /// Open phases of processes and threads, by an id of their own.
    phases: u64,
    open: HashMap<(u32, u32, String), Vec<u64>>,
    /// Processes that had a number, in their order.
    processes: HashMap<u32, Vec<u64>>,
}

impl Chrome {
    pub(super) fn begin(source: &Source, to: &mut dyn Write) -> io::Result<Self> {
        let clocks = source.clocks();
        let origin = json!({
            "command": source.command(),
            "realtime_ns": clocks.realtime_ns,
            "monotonic_ns": clocks.monotonic_ns,
            "boottime_ns": clocks.boottime_ns,
        });
        write!(to, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{origin},\"traceEvents\":[")?;
        Ok(Self {
            start_ns: clocks.monotonic_ns,
            is_first: true,
            phases: 0,
            open: HashMap::new(),
            processes: HashMap::new(),
        })
    }

    fn event(&mut self, to: &mut dyn Write, event: &Json) -> Result<(), ExportError> {
        if !std::mem::take(&mut self.is_first) {
            to.write_all(b",")?;
        }
        to.write_all(b"\n")?;
        Ok(serde_json::to_writer(to, event)?)
    }

    /// The number of a process. One that has the number of an earlier one gets another, larger than any of the kernel's, and a
    /// label that says so: the format knows processes by their numbers alone.
    fn pid(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<u32, ExportError> {
        let earlier = self.processes.entry(row.pid).or_default();
        if let Some(at) = earlier.iter().position(|process| *process == row.process) {
            return Ok(number_again(row.pid, at));
        }
        earlier.push(row.process);
        let again = earlier.len() - 1;
        let pid = number_again(row.pid, again);
        if again != 0 {
            let label = format!("pid {} again, process {} of that number", row.pid, again + 1);
            self.event(to, &json!({"ph": "M", "pid": pid, "name": "process_labels", "args": {"labels": label}}))?;
        }
        Ok(pid)
    }

    /// Microseconds.
    fn at(&self, nanoseconds: u64) -> f64 {
        (nanoseconds as f64 - self.start_ns as f64) / 1000.0
    }
}

/// A number for the process that is the `again`-th to have it.
fn number_again(pid: u32, again: usize) -> u32 {
    // `PID_MAX_LIMIT` of the kernel.
    const LARGEST: u32 = 1 << 22;
    pid.wrapping_add(LARGEST.wrapping_mul(again as u32))
}

impl Exporter for Chrome {
    fn take(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<(), ExportError> {
        let mut args = Map::new();
        for (name, value) in details(row) {
            let value = match value {
                Value::Text(text) => json!(text),
                // Larger numbers lose digits in JavaScript.
                Value::Number(number) => json!(format!("{number:#x}")),
                Value::Signed(number) => json!(number),
            };
            args.insert(name.to_owned(), value);
        }
        let (pid, tid, ts) = (self.pid(row, to)?, row.thread, self.at(row.time));
        let owner = if row.is_threads_own() { tid } else { 0 };
        let name = |what: &str| json!({"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": row.comm}});
        let event = match row.event {
            word::CALL | word::UNFINISHED | word::OFF_CPU => {
                let (name, category) = if row.event == word::OFF_CPU {
                    (format!("off cpu: {}", row.detail), "sched")
                } else {
                    (row.call(), row.role)
                };
                let dur = row.duration.unwrap_or(0) as f64 / 1000.0;
                json!({"ph": "X", "pid": pid, "tid": tid, "ts": ts, "dur": dur, "name": name, "cat": category, "args": args})
            }
            word::PHASE_BEGIN => {
                self.phases += 1;
                let id = self.phases;
                self.open.entry((pid, owner, row.phase.to_owned())).or_default().push(id);
                json!({"ph": "b", "pid": pid, "tid": tid, "ts": ts, "id": id, "name": row.phase, "cat": "phase"})
            }
            word::PHASE_END => {
                let open = self.open.get_mut(&(pid, owner, row.phase.to_owned())).and_then(Vec::pop);
                let Some(id) = open else { return Ok(()) };
                json!({"ph": "e", "pid": pid, "tid": tid, "ts": ts, "id": id, "name": row.phase, "cat": "phase"})
            }
            word::JOB => {
                self.phases += 1;
                let id = self.phases;
                let args = json!({"job": row.argument0, "known by": row.argument1, "failed": row.returned == Some(-1)});
                self.event(to, &json!({"ph": "b", "pid": pid, "tid": tid, "ts": ts, "id": id, "name": row.detail, "cat": "job", "args": args}))?;
                json!({"ph": "e", "pid": pid, "tid": tid, "ts": self.at(row.end()), "id": id, "name": row.detail, "cat": "job"})
            }
            word::PROCESS | word::EXEC => {
                self.event(to, &name("process_name"))?;
                name("thread_name")
            }
            word::THREAD | word::NAME => name("thread_name"),
            word::FAULT | word::LOST | word::ITERATIONS => {
                json!({"ph": "i", "s": "t", "pid": pid, "tid": tid, "ts": ts, "name": row.event, "args": {"value": row.argument0}})
            }
            _ => return Ok(()),
        };
        self.event(to, &event)
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        Ok(writeln!(to, "\n]}}")?)
    }
}
