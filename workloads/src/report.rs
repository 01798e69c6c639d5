//! What `bench` prints: lines to read, or one JSON object.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use gpuos_model::bench::{self, Percentiles};
use serde::Serialize;

use crate::{
    api::Calls,
    backend::Description,
    model::Measured,
    workload::{Direction, Lifetime, Model, Workload},
};

/// The JSON object of a micro-workload.
#[derive(Serialize)]
struct OfModel<'a> {
    backend: Option<&'a Description>,
    #[serde(flatten)]
    workload: &'a Workload,
    #[serde(flatten)]
    report: bench::Report,
}

/// Writes to standard output; nobody there to read is no failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The measured of a model.
pub(crate) fn model(measured: &Measured, json: bool) -> serde_json::Result<String> {
    let Measured { workload, backend, latencies, wall_ns, usage } = measured;
    let latency = latencies.percentiles();
    if json {
        let backend = backend.as_ref();
        return serde_json::to_string(&OfModel {
            backend,
            workload,
            report: bench::Report { wall_ns: *wall_ns, latency, usage: *usage },
        });
    }
    let on = backend.as_ref().map_or_else(|| "the CPU".to_owned(), on);
    let direction = match (workload.model, workload.direction) {
        (Model::Copy, Direction::H2d) => " to the device",
        (Model::Copy, Direction::D2h) => " to the host",
        _ => "",
    };
    let batch = match (workload.batch, workload.fused) {
        (1, _) => String::new(),
        (batch, true) if matches!(workload.model, Model::Alloc | Model::Copy) => {
            format!(" of one operation on {batch} times as many bytes")
        }
        (batch, true) => format!(" of one operation that adds {batch}"),
        (batch, false) => format!(" of {batch} operations"),
    };
    let mut lines = vec![format!(
        "{} on {on}: {} bytes{direction} × {} iterations{batch}{}",
        workload.model.name(),
        workload.bytes,
        workload.iters,
        checked(workload)
    )];
    lines.extend(latency.as_ref().map(percentiles));
    Ok(lines.join("\n"))
}

/// What of the results was looked at.
fn checked(workload: &Workload) -> &'static str {
    // An array without a whole word has nothing to check, and one that nobody worked on only what it was made with.
    let worked = workload.warmup + workload.iters > 0
        && (workload.bytes >= 4 || matches!(workload.model, Model::Sync | Model::Launch));
    match (workload.model, workload.lifetime) {
        _ if !worked => "",
        (Model::Alloc, _) => "",
        // Of arrays that nobody keeps one more iteration is checked.
        (Model::Kernel, Lifetime::PerIter | Lifetime::Pooled) => ", results of one more checked",
        _ => ", results checked",
    }
}

fn percentiles(latency: &Percentiles) -> String {
    let Percentiles { p50_ns, p90_ns, p99_ns, max_ns, .. } = *latency;
    let [p50, p90, p99, max] = [p50_ns, p90_ns, p99_ns, max_ns].map(micros);
    format!("latency p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
}

/// The latencies of a real model.
#[cfg(feature = "infer")]
pub(crate) fn inference(inferred: &crate::infer::Inferred, json: bool) -> serde_json::Result<String> {
    if json {
        return serde_json::to_string(inferred);
    }
    let crate::infer::Inferred { inference, runtime, load_ns, first_ns, latency, items_per_second, error, .. } =
        inferred;
    let name = crate::backend::names(&[inference.model]);
    let threads = match inference.threads {
        0 => "as many threads as the runtime likes".to_owned(),
        threads => format!("{threads} threads"),
    };
    let mut lines = vec![
        format!(
            "{name} on {} ({runtime}), {threads}: batches of {} × {} inferences",
            inference.provider.name(),
            inference.batch,
            inference.iters
        ),
        format!("load {}, first inference {}", micros(*load_ns), micros(*first_ns)),
    ];
    lines.extend(latency.as_ref().map(percentiles));
    lines.extend(items_per_second.map(|items| format!("{items:.1} items a second")));
    lines.push(format!("{error:.1e} from PyTorch's values at most"));
    Ok(lines.join("\n"))
}

/// The latencies of single calls.
pub(crate) fn api(calls: &Calls, json: bool) -> serde_json::Result<String> {
    if json {
        return serde_json::to_string(calls);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["call", "calls", "p50", "p90", "p99", "max"]);
    for step in &calls.steps {
        let mut row = vec![step.name.to_owned()];
        match (&step.latency, &step.skipped) {
            (Some(latency), _) => row.extend([
                latency.count.to_string(),
                micros(latency.p50_ns),
                micros(latency.p90_ns),
                micros(latency.p99_ns),
                micros(latency.max_ns),
            ]),
            (None, Some(_)) => row.push("not possible".to_owned()),
            (None, None) => row.push("0".to_owned()),
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(format!("calls of {}, {} bytes\n{}", on(&calls.backend), calls.bytes, trimmed(&table)))
}

/// A table without blanks at the ends of its lines.
pub(crate) fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn on(backend: &Description) -> String {
    format!("{} ({}, {})", backend.name, backend.runtime, backend.device)
}

fn micros(nanoseconds: u64) -> String {
    format!("{:.1} µs", nanoseconds as f64 / 1000.0)
}
