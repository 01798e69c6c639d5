//! `cargo xtask vmtest`: the tests on other kernels, each in an emulated machine.

mod initramfs;
mod kernels;
mod machine;
mod rocr;
mod tests;

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    panic::resume_unwind,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{process, setup};
use kernels::Kernel;
use machine::{End, Machine};
use tests::GuestTest;

/// Options of `cargo xtask vmtest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Lines of kernels: 5.10, 6.1, 6.12, 6.18, 7.2 or all
    #[arg(long, value_name = "LINE", value_delimiter = ',', default_value = "all")]
    kernel: Vec<String>,
    /// Fetch the newest kernels again
    #[arg(long)]
    refresh: bool,
    /// Show what every test printed
    #[arg(long)]
    show_output: bool,
    /// Run this shell script in place of the tests and show what it prints; `gpuos-trace` and `known_calls` are there
    #[arg(long, value_name = "SCRIPT", conflicts_with = "tests")]
    command: Option<String>,
    /// How many kernels are tried at the same time; by default as many as there are processors
    #[arg(long, value_name = "KERNELS")]
    at_once: Option<NonZeroUsize>,
    /// How long a test may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u64,
    /// Only tests with one of these in their name
    #[arg(last = true, value_name = "TEST")]
    tests: Vec<String>,
}

/// What a test came to on a kernel.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    /// The kernel is older than what is tested.
    NotForIt,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::vm()?;
    let lines = if options.kernel.iter().any(|name| name == "all") {
        kernels::LINES.iter().collect()
    } else {
        options.kernel.iter().map(|name| kernels::line(name)).collect::<Result<Vec<_>>>()?
    };
    let cache = process::target_folder().join("vmtest");
    fs::create_dir_all(&cache)?;
    let kernels =
        lines.into_iter().map(|line| kernels::fetch(line, &cache, options.refresh)).collect::<Result<Vec<_>>>()?;
    let selected =
        |test: &GuestTest| options.tests.is_empty() || options.tests.iter().any(|part| test.name.contains(part));
    let mut tests: Vec<GuestTest> = tests::all(options.command.as_deref())?.into_iter().filter(selected).collect();
    for test in tests.iter_mut().filter(|test| test.needs_rocr) {
        test.files.extend(rocr::files(&cache)?);
    }
    if tests.is_empty() {
        bail!("no test has such a name\n  hint: `cargo xtask vmtest` without names runs them all");
    }
    let matrix = Mutex::new(Matrix::default());
    let next = AtomicUsize::new(0);
    // Each thread takes the next kernel until there is none.
    let work = || -> Result<()> {
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            try_kernel(kernel, &tests, &cache, options, &matrix)?;
        }
        Ok(())
    };
    // An emulated machine has one processor.
    let at_once = options.at_once.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once.min(kernels.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    matrix.into_inner().unwrap_or_else(PoisonError::into_inner).finish(&tests, &kernels)
}

/// All tests on one kernel, in machines of its own.
fn try_kernel(
    kernel: &Kernel,
    tests: &[GuestTest],
    cache: &Path,
    options: &Options,
    matrix: &Mutex<Matrix>,
) -> Result<()> {
    let add = |test: &GuestTest, verdict, took| {
        matrix.lock().unwrap_or_else(PoisonError::into_inner).add(test, kernel, verdict, took);
    };
    let mut machines: HashMap<&[&str], Machine> = HashMap::new();
    for test in tests {
        if !test.is_for(kernel.version()) {
            add(test, Verdict::NotForIt, Duration::ZERO);
            continue;
        }
        if !machines.contains_key(test.modules) {
            machines.insert(test.modules, Machine::ready(kernel, test.modules, cache)?);
        }
        let start = Instant::now();
        let verdict = try_test(&machines[test.modules], test, options)?;
        add(test, verdict, start.elapsed());
    }
    Ok(())
}

fn try_test(machine: &Machine, test: &GuestTest, options: &Options) -> Result<Verdict> {
    let limit = Duration::from_secs(options.limit);
    let mut outcome = machine.run(&test.script, &test.files, limit)?;
    if outcome.end == End::Died {
        // Once more: a machine can be lost for a reason of the host's.
        outcome = machine.run(&test.script, &test.files, limit)?;
    }
    if options.show_output || options.command.is_some() {
        println!("{}", outcome.output.trim_end());
    }
    let skipped = outcome.output.lines().find(|line| line.starts_with("SKIP "));
    let failure = match (outcome.end, skipped) {
        (End::Exited(0), None) => return Ok(Verdict::Passed),
        // The host left out what this kernel is too old for; there is no other excuse.
        (End::Exited(0), Some(line)) => format!("it has what is needed and skipped all the same: {line}"),
        (End::Exited(status), _) => format!("exit status {status}"),
        (End::TimedOut, _) => format!("no end after {} seconds; `--limit` allows more", options.limit),
        (End::Died, _) => "the machine died, twice\n  hint: `rm -r target/vmtest/machines` makes new ones".to_owned(),
    };
    let mut text = failure;
    if !options.show_output && options.command.is_none() {
        text += &format!("\n{}", machine::tail(&outcome.output));
    }
    let console: Vec<_> = outcome.console.lines().filter(|line| !line.contains("reboot: Power down")).collect();
    if !console.is_empty() {
        text += &format!("\nconsole:\n{}", machine::tail(&console.join("\n")));
    }
    Ok(Verdict::Failed(text))
}

/// Results by test and kernel.
#[derive(Default)]
struct Matrix(HashMap<(String, &'static str), (Verdict, Duration)>);

impl Matrix {
    fn add(&mut self, test: &GuestTest, kernel: &Kernel, verdict: Verdict, took: Duration) {
        let seconds = took.as_secs_f64();
        match &verdict {
            Verdict::Passed => println!("{} on {}: ok, {seconds:.1} s", test.name, kernel.release),
            Verdict::Failed(why) => println!("{} on {}: FAILED, {seconds:.1} s: {why}", test.name, kernel.release),
            Verdict::NotForIt => {}
        }
        self.0.insert((test.name.clone(), kernel.line), (verdict, took));
    }

    /// Prints the table and the counts.
    fn finish(&self, tests: &[GuestTest], kernels: &[Kernel]) -> Result<()> {
        let width = tests.iter().map(|test| test.name.len()).max().unwrap_or(0);
        print!("\n{:width$}", "");
        for kernel in kernels {
            print!("{:>14}", kernel.line);
        }
        println!();
        let (mut passed, mut failed, mut left_out) = (0, 0, 0);
        for test in tests {
            print!("{:width$}", test.name);
            for kernel in kernels {
                let (verdict, took) = &self.0[&(test.name.clone(), kernel.line)];
                let cell = match verdict {
                    Verdict::Passed => {
                        passed += 1;
                        format!("ok {:.1} s", took.as_secs_f64())
                    }
                    Verdict::Failed(_) => {
                        failed += 1;
                        "FAILED".to_owned()
                    }
                    Verdict::NotForIt => {
                        left_out += 1;
                        "-".to_owned()
                    }
                };
                print!("{cell:>14}");
            }
            println!();
        }
        println!("\n{passed} passed, {failed} failed, {left_out} not for the kernel");
        if failed > 0 {
            bail!("some tests failed\n  hint: `cargo xtask vmtest --kernel LINE -- TEST` runs one of them");
        }
        if passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }
}
