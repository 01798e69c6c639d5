//! `cargo xtask test`: every test, those that need root included, and one line of counts at the end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo, is_root},
    setup,
};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed to the test programs: names to select, `--nocapture`, …
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What one or more runs of Rust's test harness came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a closing line of the harness: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add_line(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) {
                match word {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::runtime()?;
    setup::tests()?;
    // The programs that tests run, built by whom the folder belongs to: the tests may run as root.
    process::run(cargo().args(["build", "--quiet", "--workspace", "--lib", "--bins", "--examples"]))?;
    let skips = process::target_folder().join("skipped-tests");
    let _ = fs::remove_file(&skips);
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if !is_root() {
        // The test programs themselves run as root; cargo and its files stay the user's.
        let runner = format!("CARGO_TARGET_{}_RUNNER", env!("XTASK_TARGET").to_uppercase().replace('-', "_"));
        command.env(runner, "sudo --preserve-env");
    }
    command.arg("--").args(&options.arguments).env("GPUOS_SKIP_LOG", &skips).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no pipe from cargo")?).lines() {
        let line = line?;
        println!("{line}");
        counts.add_line(&line);
    }
    let status = child.wait()?;
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    for line in skipped.lines() {
        println!("SKIP {line}");
    }
    let skipped = skipped.lines().count() as u64;
    println!(
        "\n{} passed, {} failed, {} skipped",
        counts.passed.saturating_sub(skipped),
        counts.failed,
        skipped + counts.ignored
    );
    if !status.success() {
        bail!("some tests failed");
    }
    if counts.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_closing_lines_of_the_harness() {
        let mut counts = Counts::default();
        counts
            .add_line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s");
        counts.add_line(
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        counts.add_line("test other ... ok");
        assert_eq!(counts, Counts { passed: 5, failed: 4, ignored: 1 });
    }
}
