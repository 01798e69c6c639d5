//! What `bench` prints: two lines to read, or one JSON object.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{
    backend::Description,
    measure::{Percentiles, Usage},
    model::Outcome,
};

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    backend: Option<&'a Description>,
    bytes: usize,
    iters: u64,
    warmup: u64,
    wall_ns: u64,
    /// Absent when nothing was timed.
    latency: Option<Percentiles>,
    usage: Usage,
}

pub(crate) fn print(outcome: &Outcome, json: bool) -> io::Result<()> {
    let report = Report {
        model: outcome.model,
        backend: outcome.backend.as_ref(),
        bytes: outcome.options.bytes,
        iters: outcome.options.iters,
        warmup: outcome.options.warmup,
        wall_ns: outcome.wall_ns,
        latency: outcome.latencies.percentiles(),
        usage: outcome.usage,
    };
    let text = if json { serde_json::to_string(&report)? } else { text(&report) };
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn text(report: &Report<'_>) -> String {
    let on =
        report.backend.map_or_else(|| "the CPU".to_owned(), |b| format!("{} ({}, {})", b.name, b.runtime, b.device));
    let mut lines = vec![format!(
        "{} on {on}: {} bytes × {} iterations, results checked",
        report.model, report.bytes, report.iters
    )];
    if let Some(latency) = &report.latency {
        let micros = |nanoseconds: u64| format!("{:.1} µs", nanoseconds as f64 / 1000.0);
        lines.push(format!(
            "latency p50 {}, p90 {}, p99 {}, max {}",
            micros(latency.p50_ns),
            micros(latency.p90_ns),
            micros(latency.p99_ns),
            micros(latency.max_ns)
        ));
    }
    lines.join("\n")
}
