//! Writes a dataset of so many rows, for measurements of the analysis: `large_dataset FOLDER ROWS`. What is in it is made
//! up: four backends, each iteration makes two calls of each command.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::Path;

use gpuos_analysis::{
    dataset::{CountRow, Dataset, RunRow, Thread},
    plan::Plan,
};
use gpuos_model::Role;

const BACKENDS: [&str; 4] = ["a", "b", "c", "d"];
const PHASES: [&str; 4] = ["init", "warmup", "work", "teardown"];
const ROLES: [Role; 4] = [Role::Memory, Role::Synchronization, Role::Bookkeeping, Role::Io];
/// Made once, whatever the work.
const ONCE: u64 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, rows] = &arguments[..] else { return Err("usage: large_dataset FOLDER ROWS".into()) };
    let rows: usize = rows.parse()?;
    // More rows are more blocks first, and longer runs then.
    let blocks = if rows <= 1_000_000 { 11 } else { 101 };
    let mut plan = format!("name = \"{rows} rows\"\nseed = 1\nblocks = {blocks}\n");
    for backend in BACKENDS {
        for (bytes, iters) in [("[65536]", "[1, 3, 10, 30, 100, 300, 1000]"), (SIZES, "[100]")] {
            plan += &format!(
                "\n[[series]]\nbackend = \"{backend}\"\nmodel = \"kernel\"\nbytes = {bytes}\niters = {iters}\n"
            );
        }
    }
    let environment = format!(
        r#"{{"schema": {}, "host": {{"kernel": "none", "cpu": "none", "cpus": 0}}, "tool_version": "none", "bench_checksum": "none", "backends": [], "variables": {{}}, "governor": "none", "hypervisor": "none", "container": "none", "cgroup_cpu": "none", "cgroup_memory": "none"}}"#,
        gpuos_analysis::dataset::SCHEMA_VERSION
    );
    let cells = Plan::parse(&plan)?.cells().len() * blocks;
    let dataset = Dataset::create(Path::new(folder), &plan, &environment, "2026-11-29T00:00:00Z", false)?;
    let of_run = rows.div_ceil(cells);
    for block in 1..=blocks as u32 {
        for (place, cell) in dataset.plan.block(block).into_iter().enumerate() {
            let counts: Vec<CountRow> = (0..of_run).map(|number| row(number, cell.iters)).collect();
            let run = RunRow { block, place: place as u32, command: cell.arguments().join(" "), ..RunRow::default() };
            dataset.add(&cell, &run, &counts)?;
        }
    }
    println!("{}", of_run * cells);
    Ok(())
}

const SIZES: &str = "[4096, 65536, 1048576, 8388608, 33554432, 67108864, 268435456]";

/// One row of a run: commands on two devices, in all phases.
fn row(number: usize, iters: u64) -> CountRow {
    let phase = PHASES[number % 4];
    let calls = if phase == "work" { ONCE + 2 * iters } else { ONCE };
    CountRow {
        phase: phase.to_owned(),
        thread: Thread::Caller,
        role: ROLES[number / 4 % 4],
        category: "ioctl".to_owned(),
        syscall: "ioctl".to_owned(),
        device: format!("device{}", number / 16 % 2),
        ioctl: format!("COMMAND_{}", number / 32),
        calls,
        detail: String::new(),
        errors: 0,
        total_ns: 1000 * calls,
    }
}
