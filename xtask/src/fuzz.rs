//! `cargo xtask fuzz`: random bytes for everything that the tracer reads, and a table of what came of it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo, find_program, root};

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For how long, each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Which; without one, all of `fuzz/fuzz_targets` but `parquet_file`
    targets: Vec<String>,
}

/// Runs only when named: polars asks for as much memory as a damaged file says, and such a refusal ends
/// the program. Nothing here can catch that.
const ON_REQUEST: &str = "parquet_file";

/// Seconds that one input may take, and mebibytes.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// What libFuzzer says of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Edges that some input reached.
    coverage: u64,
    /// Files with an input that crashed, ran too long or took too much memory.
    found: Vec<String>,
}

impl Outcome {
    /// Takes a line of its log: `#4096 pulse cov: 512 ft: …`, `stat::number_of_executed_units: 8192`,
    /// `…; Test unit written to FILE`.
    fn add_line(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number.trim().parse().unwrap_or(self.executions);
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.found.push(file.trim().to_owned());
        } else if let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once('\t')) {
            self.executions = number.parse().unwrap_or(self.executions);
            let coverage = rest.split_once("cov: ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
            self.coverage = coverage.unwrap_or(self.coverage);
        }
    }
}

/// cargo-fuzz under the nightly that it needs. Without AddressSanitizer: what reads these bytes is safe Rust, which panics
/// where C would write beyond, and polars with it takes more than twenty minutes to build.
fn cargo_fuzz(subcommand: &str, target: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", subcommand, "--sanitizer", "none", target]);
    command
}

pub(crate) fn run(options: &Options) -> Result<()> {
    set_up()?;
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{unknown}`\nhint: there are `{}`", known.join("`, `"));
    }
    let all: Vec<String> = known.into_iter().filter(|name| name != ON_REQUEST).collect();
    let wanted = if options.targets.is_empty() { &all } else { &options.targets };
    eprintln!("building (the first time ten minutes and more: polars, instrumented)");
    for target in wanted {
        process::run(&mut cargo_fuzz("build", target))?;
    }
    let mut outcomes = Vec::new();
    for target in wanted {
        eprintln!("{target}: {} seconds", options.seconds);
        outcomes.push((target, fuzz(target, options.seconds)?));
    }
    println!("{:<16}{:>14}{:>10}{:>9}", "target", "executions", "coverage", "crashes");
    for (target, outcome) in &outcomes {
        println!("{target:<16}{:>14}{:>10}{:>9}", outcome.executions, outcome.coverage, outcome.found.len());
    }
    let mut bad = false;
    for (target, outcome) in outcomes {
        for file in outcome.found {
            bad = true;
            println!("\n{file}\nhint: `cargo +nightly fuzz tmin {target} {file}` makes it smaller");
        }
    }
    if bad {
        bail!("some inputs crashed, ran too long or took too much memory");
    }
    Ok(())
}

fn set_up() -> Result<()> {
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        bail!("fuzzing needs a nightly compiler\nhint: `rustup toolchain install nightly`");
    }
    if find_program("cargo-fuzz").is_none() {
        eprintln!("installing cargo-fuzz (a minute)");
        process::run(cargo().args(["install", "--quiet", "cargo-fuzz", "--locked"]))?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        if let Some(name) = entry?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Runs one target until its time is over or something is found.
fn fuzz(target: &str, seconds: u64) -> Result<Outcome> {
    // New inputs are kept in the first folder, which is not committed.
    let corpus = Path::new("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let mut command = cargo_fuzz("run", target);
    command.arg(&corpus).arg(Path::new("fuzz/seeds").join(target)).arg("--");
    let words = Path::new("fuzz/words").join(target);
    if words.exists() {
        command.arg(format!("-dict={}", words.display()));
    }
    command.arg(format!("-max_total_time={seconds}")).args(LIMITS).arg("-print_final_stats=1");
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start rustup")?;
    let mut outcome = Outcome::default();
    let mut last = Vec::new();
    for line in BufReader::new(child.stderr.take().context("no pipe from cargo-fuzz")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        outcome.add_line(&line);
        last.push(line);
        if last.len() > 60 {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        eprintln!("{}", last.join("\n"));
        if outcome.found.is_empty() {
            bail!("{target} did not run: {status}");
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_log_of_libfuzzer() {
        let mut outcome = Outcome::default();
        for line in [
            "INFO: Seed: 1",
            "#2\tINITED cov: 71 ft: 72 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#4096\tpulse  cov: 512 ft: 900 corp: 44/1200b lim: 43 exec/s: 2048 rss: 31Mb",
            "artifact_prefix='/a/'; Test unit written to /a/crash-0",
            "stat::number_of_executed_units: 5000",
        ] {
            outcome.add_line(line);
        }
        assert_eq!(outcome, Outcome { executions: 5000, coverage: 512, found: vec!["/a/crash-0".into()] });
    }
}
