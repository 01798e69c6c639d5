//! `cargo xtask soak`: a storm of short processes and threads for a long time. Memory must stay flat, in the
//! tracer and in its maps, and the totals must be exact.

use std::{
    collections::HashMap,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo};

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For how long
    #[arg(long, default_value_t = 30)]
    minutes: u64,
}

/// Kibibytes: resident memory of the tracer, memory of its BPF maps.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())?;
    let mut maps = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes / 1024);
        }
    }
    Some((resident, maps.values().sum()))
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::run(cargo().args(["build", "--quiet", "--release", "--workspace", "--bins", "--examples"]))?;
    let folder = process::target_folder().join("release");
    let file = std::env::temp_dir().join("gpuos-trace-soak.json");
    let seconds = options.minutes * 60;
    let mut tracer = Command::new(folder.join("gpuos-trace"))
        .args(["run", "--top", "5", "--wait-all", "--strict", "-o"])
        .arg(&file)
        .arg("--")
        .arg(folder.join("examples/known_calls"))
        .args(["churn", &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the tracer")?;
    let start = Instant::now();
    let mut samples = Vec::new();
    println!("{:>8}{:>16}{:>12}", "seconds", "tracer KiB", "maps KiB");
    while tracer.try_wait()?.is_none() {
        thread::sleep(Duration::from_secs(1));
        if let Some((resident, maps)) = memory(tracer.id()) {
            if samples.len() % 60 == 0 {
                println!("{:>8}{resident:>16}{maps:>12}", start.elapsed().as_secs());
            }
            samples.push((resident, maps));
        }
    }
    let output = tracer.wait_with_output()?;
    if !output.status.success() {
        bail!("the run failed: {}", output.status);
    }
    let processes: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .context("the program says how many processes it made")?;
    let report = fs::read_to_string(&file)?;
    let counted: u64 = report
        .split("\"calls\": [")
        .nth(1)
        .context("the file has rows")?
        .split('}')
        .filter(|row| row.contains("\"syscall\": \"getppid\""))
        .filter_map(|row| row.split("\"calls\": ").nth(1)?.split(',').next()?.trim().parse::<u64>().ok())
        .sum();
    println!("\n{processes} processes, {} threads, {} seconds", 3 * processes, start.elapsed().as_secs());
    println!("getppid: {} made, {counted} counted", 5 * processes);
    // The table of processes fills up first; after a tenth of the time nothing may grow any more.
    let early = samples[samples.len() / 10];
    // The last while it traced: then the maps are gone, and the report is written.
    let last = samples.iter().rfind(|(_, maps)| *maps != 0).copied().context("no sample while it traced")?;
    println!(
        "memory after a tenth of the time and at the end, KiB: tracer {} and {}, maps {} and {}",
        early.0, last.0, early.1, last.1
    );
    if counted != 5 * processes {
        bail!("the totals are not exact");
    }
    if last.0 > early.0 + early.0 / 4 || last.1 > early.1 + early.1 / 4 {
        bail!("memory grows");
    }
    Ok(())
}
