//! `cargo xtask bench jobs`: what jobs cost and how late their waits are, beside the runtime's own ways, in one run. On threads of
//! the CPU, which sleep for as long as a kernel would take; `study/phase3/lab.sh` measures the same on a GPU.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::variant::median;

/// Lines of the lab: a name, its words, and what is read of what it prints.
const LINES: [(&str, &[&str], &str); 10] = [
    ("a pair of 64 KiB, native", &["alloc", "native", "--streams", "16", "--iters", "500"], "ns_a_pair"),
    ("a pair of 64 KiB, of a job", &["alloc", "job", "--streams", "16", "--iters", "20000"], "ns_a_pair"),
    ("a job that begins and ends", &["switch", "--iters", "20000"], "begin_end_ns"),
    ("1 ms, asleep in the runtime: p50 µs", &["wait", "block", "--microseconds", "1000", "--iters", "300"], "p50_us"),
    ("1 ms, asleep in the runtime: CPU µs", &["wait", "block", "--microseconds", "1000", "--iters", "300"], "cpu_us"),
    ("1 ms, of a job: p50 µs", &["wait", "job", "--microseconds", "1000", "--iters", "300"], "p50_us"),
    ("1 ms, of a job: CPU µs", &["wait", "job", "--microseconds", "1000", "--iters", "300"], "cpu_us"),
    (
        "4 of 1 ms, called back: of ideal",
        &["flight", "callback", "--microseconds", "1000", "--streams", "4"],
        "of_ideal",
    ),
    ("4 of 1 ms, by deadline: of ideal", &["flight", "job", "--microseconds", "1000", "--streams", "4"], "of_ideal"),
    ("a change of what a thread works for, ns", &["switch", "--iters", "20000"], "change_ns"),
];

pub(crate) fn run(rounds: usize, folder: &Path) -> Result<()> {
    let (lab, library) = (folder.join("examples/lab"), folder.join("libgpuos_job.so"));
    let mut values: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        // What two lines read of the same words is of the same run.
        let mut done: BTreeMap<&[&str], serde_json::Value> = BTreeMap::new();
        for (place, (name, words, field)) in LINES.iter().enumerate() {
            if !done.contains_key(words) {
                let output = Command::new(&lab).args(*words).args(["--host", "--library"]).arg(&library).output()?;
                if !output.status.success() {
                    bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
                }
                let line = serde_json::from_slice(&output.stdout).with_context(|| (*name).to_owned())?;
                done.insert(words, line);
            }
            let value = done[words][field].as_f64().with_context(|| format!("{name}: no {field}"))?;
            values.entry(place).or_default().push(value);
        }
        eprint!("\rround {} of {rounds}", round + 1);
    }
    eprintln!();
    println!("\nJobs on threads of the CPU (median of {rounds} rounds)\n");
    for (place, (name, ..)) in LINES.iter().enumerate() {
        let value = median(&values[&place]);
        println!("{name:42}{value:>12.digits$}", digits = if value < 10.0 { 3 } else { 1 });
    }
    let ratio = |one: usize, other: usize| {
        median(&values[&one].iter().zip(&values[&other]).map(|(one, other)| one / other).collect::<Vec<_>>())
    };
    println!("\nRatios (median of the rounds')\n");
    println!("a pair of a job, of a native one        {:.4}", ratio(1, 0));
    println!("p50 of a job's wait, of one asleep      {:.3}", ratio(5, 3));
    println!("CPU of a job's wait, of one asleep      {:.2}", ratio(6, 4));
    println!("rate by deadline, of that by callbacks  {:.3}", ratio(8, 7));
    Ok(())
}
