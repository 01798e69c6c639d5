//! speedscope's file format: one profile for each thread, its calls in their order with the time inside each.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Write,
};

use gpuos_model::units;
use gpuos_tracer_abi::tasks::started_ns;
use serde_json::json;

use super::{ExportError, Exporter, folded::stack};
use crate::{rows::EventRow, source::Source, table::word};

#[derive(Debug)]
pub(super) struct Speedscope {
    command: String,
    frames: Vec<String>,
    numbers: HashMap<String, usize>,
    /// By process number, process id and thread number: a number may be used again.
    threads: BTreeMap<(u32, u64, u32), Thread>,
    start_ns: u64,
}

#[derive(Debug, Default)]
struct Thread {
    name: String,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
    lived_ns: u64,
}

impl Speedscope {
    pub(super) fn new(source: &Source) -> Self {
        let command = source.command().join(" ");
        let start_ns = source.clocks().monotonic_ns;
        Self { command, frames: Vec::new(), numbers: HashMap::new(), threads: BTreeMap::new(), start_ns }
    }
}

impl Exporter for Speedscope {
    fn take(&mut self, row: &EventRow<'_>, _to: &mut dyn Write) -> Result<(), ExportError> {
        let Some(duration) = row.duration.filter(|_| row.event == word::CALL) else { return Ok(()) };
        let mut frame = |name: String| {
            *self.numbers.entry(name).or_insert_with_key(|name| {
                self.frames.push(name.clone());
                self.frames.len() - 1
            })
        };
        let sample: Vec<usize> = stack(row).into_iter().map(&mut frame).collect();
        let thread = self.threads.entry((row.pid, row.process, row.thread)).or_default();
        row.comm.clone_into(&mut thread.name);
        thread.lived_ns = row.time;
        match (thread.samples.last(), thread.weights.last_mut()) {
            (Some(last), Some(weight)) if *last == sample => *weight = weight.saturating_add(duration),
            _ => {
                thread.samples.push(sample);
                thread.weights.push(duration);
            }
        }
        Ok(())
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        let mut processes: HashMap<u32, HashSet<u64>> = HashMap::new();
        for (pid, process, _) in self.threads.keys() {
            processes.entry(*pid).or_default().insert(*process);
        }
        let profile = |(&(pid, process, thread), calls): (&(u32, u64, u32), &Thread)| {
            let mut name = format!("{} {thread} of {pid}", calls.name);
            if processes[&pid].len() > 1 {
                let started = started_ns(process, calls.lived_ns).saturating_sub(self.start_ns);
                name += &format!(", begun at {}", units::duration(started));
            }
            json!({
                "type": "sampled",
                "name": name,
                "unit": "nanoseconds",
                "startValue": 0,
                "endValue": calls.weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(*weight)),
                "samples": calls.samples,
                "weights": calls.weights,
            })
        };
        let file = json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "name": self.command,
            "exporter": concat!("gpuos-trace ", env!("CARGO_PKG_VERSION")),
            "shared": {"frames": self.frames.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()},
            "profiles": self.threads.iter().map(profile).collect::<Vec<_>>(),
        });
        serde_json::to_writer(&mut *to, &file)?;
        Ok(writeln!(to)?)
    }
}
