//! speedscope's file format: one profile for each thread, its calls in their order with the time inside each.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
};

use serde_json::json;

use super::{ExportError, Exporter, folded::stack};
use crate::{rows::EventRow, source::Source, table::word};

#[derive(Debug)]
pub(super) struct Speedscope {
    command: String,
    frames: Vec<String>,
    numbers: HashMap<String, usize>,
    threads: BTreeMap<(u32, u32), Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    name: String,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

impl Speedscope {
    pub(super) fn new(source: &Source) -> Self {
        let command = source.command().join(" ");
        Self { command, frames: Vec::new(), numbers: HashMap::new(), threads: BTreeMap::new() }
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
        let thread = self.threads.entry((row.pid, row.thread)).or_default();
        row.comm.clone_into(&mut thread.name);
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
        let profile = |(&(pid, thread), calls): (&(u32, u32), &Thread)| {
            json!({
                "type": "sampled",
                "name": format!("{} {thread} of {pid}", calls.name),
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
