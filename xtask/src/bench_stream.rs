//! `cargo xtask bench stream`: what recording every event costs, beside the peers that print or record them, and whether
//! anything is lost when a program does nothing but system calls.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::variant::{Variant, median};

/// Prints a line a call.
const PRINT: &str = "tracepoint:raw_syscalls:sys_exit /pid == cpid/ { printf(\"%llu %d %d %ld\\n\", nsecs, tid, args->id, args->ret); }";

/// Seconds that a flat-out run is to take.
const SECONDS: f64 = 30.0;

pub(crate) fn run(rounds: usize, folder: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    slow_down(rounds, folder, scratch.path())?;
    for threads in [1, 4] {
        flat_out(folder, scratch.path(), threads)?;
    }
    Ok(())
}

/// The ways to record, and what a call costs under each.
fn slow_down(rounds: usize, folder: &Path, scratch: &Path) -> Result<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    let file = scratch.join("run.parquet").display().to_string();
    let (tracer, victim) = (path("gpuos-trace"), path("examples/call_loops"));
    let words = |text: &[&str]| text.iter().map(ToString::to_string).collect::<Vec<_>>();
    let variant = |name, prefix: &[&str]| Variant { name, prefix: words(prefix), beside: vec![] };
    let mut variants = vec![
        variant("bare", &[]),
        variant("run", &[&tracer, "run", "-q", "--"]),
        variant("record", &[&tracer, "record", "-q", "-o", &file, "--"]),
        variant("record -e ioctl", &[&tracer, "record", "-q", "-e", "ioctl", "-o", &file, "--"]),
    ];
    if crate::process::find_program("bpftrace").is_some() {
        variants.push(variant("bpftrace printf", &["bpftrace", "-q", "-o", "/dev/null", "-e", PRINT, "-c"]));
    }
    if crate::process::find_program("perf").is_some() {
        let output = scratch.join("perf.data").display().to_string();
        variants.push(variant("perf trace record", &["perf", "trace", "record", "-o", &output]));
    }
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for variant in &variants {
            let mut command = variant.command(&[&victim, "getppid"]);
            let output = command.stderr(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if let Some(value) = text.split_whitespace().rev().find_map(|word| word.parse::<f64>().ok()) {
                values.entry(variant.name).or_default().push(value);
            }
        }
        eprint!("\rround {} of {rounds}", round + 1);
    }
    eprintln!();
    println!("\nNanoseconds of a getppid (median of {rounds} rounds)\n");
    let value = |name: &str| values.get(name).map_or(f64::NAN, |values| median(values));
    for variant in &variants {
        println!("{:26}{:>10.0}{:>8.2} ×", variant.name, value(variant.name), value(variant.name) / value("bare"));
    }
    println!("\nBars\n");
    bar("slow-down under `record`", value("record") / value("bare"), 3.3);
    if value("bpftrace printf").is_finite() {
        bar("slow-down, of that under bpftrace's printf", value("record") / value("bpftrace printf"), 1.0);
    }
    Ok(())
}

fn bar(what: &str, value: f64, most: f64) {
    println!("{} {what}: {value:.2} (at most {most})", if value <= most { "ok  " } else { "OVER" });
}

/// Threads that only call, for half a minute.
fn flat_out(folder: &Path, scratch: &Path, threads: u32) -> Result<()> {
    let file = scratch.join("run.parquet");
    let record = |times: u64| -> Result<(f64, String)> {
        let start = Instant::now();
        let mut command = Command::new(folder.join("gpuos-trace"));
        command.args(["record", "-o"]).arg(&file).arg("--").arg(folder.join("examples/known_calls"));
        command.args(["threads", &times.to_string(), &threads.to_string()]);
        let output = command.output().with_context(|| format!("{command:?}"))?;
        Ok((start.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let number = |text: &str, before: &str, after: &str| -> Option<f64> {
        let end = text.find(after)?;
        let begin = text[..end].rfind(before).map_or(0, |at| at + before.len());
        text[begin..end].trim().replace(',', "").parse().ok()
    };
    // How long a call takes with so many threads.
    let tried = 200_000;
    let (_, text) = record(tried)?;
    let seconds = wall_seconds(&text).context("no wall time in the summary")?;
    let times = (tried as f64 * SECONDS / seconds) as u64;
    let (all, text) = record(times)?;
    let wall = wall_seconds(&text).context("no wall time in the summary")?;
    let events = number(&text, "recorded ", " events in").context("no number of events")?;
    let bytes = number(&text, " events in ", " bytes to").context("no size")?;
    let lost = number(&text, "LOST: ", " events found no place").unwrap_or(0.0);
    println!(
        "\n{threads} threads for {wall:.1} s: {events:.0} events, {:.2} million a second; file complete after {:.1} s more\n",
        events / wall / 1e6,
        all - wall
    );
    bar("events lost", lost, 0.0);
    bar("bytes an event in the file", bytes / events, 12.0);
    println!("     the writer: {:.2} million events a second, from beginning to end", events / all / 1e6);
    Ok(())
}

/// From the summary's second line, such as `exit status 0 · 31.2 s · …`.
fn wall_seconds(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("exit status"))?;
    let (number, unit) = line.split(" · ").nth(1)?.split_once(' ')?;
    let number: f64 = number.replace(',', "").parse().ok()?;
    Some(match unit {
        "ms" => number / 1e3,
        "µs" => number / 1e6,
        "s" => number,
        "min" => number * 60.0,
        _ => return None,
    })
}
