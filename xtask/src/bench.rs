//! `cargo xtask bench`: measurements, and `overhead`: what tracing costs, beside every peer that is installed.
//!
//! All variants take turns in every round, and each is compared with the bare run of the same round;
//! shown are medians over the rounds. The machine may be shared and noisy: read the ratios.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo, find_program, is_root},
    variant::{Variant, median},
};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Rounds; medians are over these
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Nanoseconds that tracing adds to a system call, and seconds that it adds to programs
    Overhead,
    /// What recording every event costs, and whether anything is lost flat out
    Stream,
    /// How the analysis grows with its dataset, up to a hundred million rows
    Analysis,
    /// What jobs cost, and how late their waits are, on threads of the CPU
    Jobs,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = process::target_folder().join("release");
    if let What::Analysis = options.what {
        return crate::bench_analysis::run(&folder);
    }
    if let What::Jobs = options.what {
        process::run(cargo().args(["build", "--quiet", "--release", "--package", "gpuos-job", "--example", "lab"]))?;
        return crate::bench_jobs::run(options.rounds, &folder);
    }
    if !is_root() {
        bail!("tracing needs root\nhint: `sudo -E env PATH=\"$PATH\" cargo xtask bench overhead`");
    }
    process::run(cargo().args(["build", "--quiet", "--release", "--workspace", "--bins", "--examples"]))?;
    if let What::Stream = options.what {
        return crate::bench_stream::run(options.rounds, &folder);
    }
    let variants = variants(&folder);
    calls(options.rounds, &folder, &variants)?;
    programs(options.rounds, &folder, &variants)
}

fn variants(folder: &Path) -> Vec<Variant> {
    let path = |name: &str| folder.join(name).display().to_string();
    let tracer = path("gpuos-trace");
    let words = |text: &[&str]| text.iter().map(ToString::to_string).collect::<Vec<_>>();
    let ours = |options: &[&str]| [words(&[&tracer, "run", "-q"]), words(options), words(&["--"])].concat();
    let mut all = vec![
        Variant { name: "bare", prefix: vec![], beside: vec![] },
        Variant { name: "empty pair", prefix: words(&[&path("examples/baseline"), "nothing"]), beside: vec![] },
        Variant {
            name: "  and two clock readings",
            prefix: words(&[&path("examples/baseline"), "clock"]),
            beside: vec![],
        },
        Variant { name: "  and task storage", prefix: words(&[&path("examples/baseline"), "storage"]), beside: vec![] },
        Variant { name: "run", prefix: ours(&[]), beside: vec![] },
        Variant { name: "run --no-latency", prefix: ours(&["--no-latency"]), beside: vec![] },
        Variant { name: "run --sample 16", prefix: ours(&["--sample", "16"]), beside: vec![] },
        Variant { name: "run -e ioctl", prefix: ours(&["-e", "ioctl"]), beside: vec![] },
        Variant { name: "not traced", prefix: vec![], beside: [ours(&[]), words(&["sleep", "1000"])].concat() },
    ];
    // What the kernel itself takes from calls that nobody asked about.
    all.push(Variant {
        name: "  not traced, of storage",
        prefix: vec![],
        beside: words(&[&path("examples/baseline"), "storage", "sleep", "1000"]),
    });
    if find_program("perf").is_some() {
        let points = "syscalls:sys_enter_ioctl,syscalls:sys_exit_ioctl";
        all.push(Variant {
            name: "  points of ioctl alone",
            prefix: vec![],
            beside: words(&["perf", "stat", "-a", "-o", "/dev/null", "-e", points, "sleep", "1000"]),
        });
    }
    let by_ptrace = |options: &[&str]| ours(&[&["--backend", "ptrace"], options].concat());
    all.push(Variant { name: "ptrace", prefix: by_ptrace(&[]), beside: vec![] });
    all.push(Variant { name: "ptrace -e ioctl", prefix: by_ptrace(&["--wait-all", "-e", "ioctl"]), beside: vec![] });
    if find_program("strace").is_some() {
        all.push(Variant {
            name: "strace -c -f",
            prefix: words(&["strace", "-c", "-f", "-o", "/dev/null"]),
            beside: vec![],
        });
        all.push(Variant {
            name: "strace --seccomp-bpf",
            prefix: words(&["strace", "--seccomp-bpf", "-c", "-f", "-e", "trace=ioctl", "-o", "/dev/null"]),
            beside: vec![],
        });
    }
    if find_program("perf").is_some_and(|perf| {
        Command::new(perf).args(["trace", "-s", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success())
    }) {
        all.push(Variant {
            name: "perf trace -s",
            prefix: words(&["perf", "trace", "-s", "-o", "/dev/null", "--"]),
            beside: vec![],
        });
    }
    if find_program("bpftrace").is_some() {
        for (name, script) in [("bpftrace count", COUNT), ("bpftrace count + latency", LATENCY)] {
            all.push(Variant {
                name,
                prefix: words(&["bpftrace", "-q", "-o", "/dev/null", "-e", script, "-c"]),
                beside: vec![],
            });
        }
    }
    all
}

/// Counts by call of one process.
const COUNT: &str = "tracepoint:raw_syscalls:sys_enter /pid == cpid/ { @[args->id] = count(); }";
/// Counts and histograms by call of a process tree.
const LATENCY: &str = "tracepoint:sched:sched_process_fork /@t[args->parent_pid] || args->parent_pid == cpid/ { @t[args->child_pid] = 1; }
tracepoint:raw_syscalls:sys_enter /pid == cpid || @t[pid]/ { @s[tid] = nsecs; @n[tid] = args->id; }
tracepoint:raw_syscalls:sys_exit /@s[tid]/ { @c[@n[tid]] = count(); @h[@n[tid]] = hist(nsecs - @s[tid]); delete(@s[tid]); }";

/// Nanoseconds that each variant adds to a call.
fn calls(rounds: usize, folder: &Path, variants: &[Variant]) -> Result<()> {
    let loops = ["getppid", "ioctl", "mmap", "futex", "gpu", "marker", "job", "job-change"];
    let victim: PathBuf = folder.join("examples/call_loops");
    let mut added: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for work in loops {
            let mut bare = f64::NAN;
            for variant in variants {
                let output = variant.with_company(|| {
                    let mut command = variant.command(&[&victim.display().to_string(), work]);
                    command.stderr(Stdio::null()).output().with_context(|| format!("{command:?}"))
                })?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let value = text.split_whitespace().rev().find_map(|word| word.parse::<f64>().ok()).unwrap_or(f64::NAN);
                if variant.name == "bare" {
                    bare = value;
                }
                let shown = if variant.name == "bare" { value } else { value - bare };
                added.entry((variant.name, work)).or_default().push(shown);
            }
        }
        eprint!("\rround {} of {rounds}", round + 1);
    }
    eprintln!();
    println!("\nNanoseconds a call: bare, then what each adds (median of {rounds} rounds)\n");
    println!("{:26}{}", "", loops.map(|work| format!("{work:>10}")).concat());
    let value = |variant: &str, work: &'static str| {
        added
            .iter()
            .find(|((name, of), _)| *name == variant && *of == work)
            .map_or(f64::NAN, |(_, values)| median(values))
    };
    // What is near in time is compared: within each round.
    let ratio = |(variant, work): (&'static str, &'static str), (other, other_work): (&'static str, &'static str)| {
        let (Some(values), Some(others)) = (added.get(&(variant, work)), added.get(&(other, other_work))) else {
            return f64::NAN;
        };
        median(&values.iter().zip(others).map(|(value, other)| value / other).collect::<Vec<_>>())
    };
    for variant in variants {
        println!("{:26}{}", variant.name, loops.map(|work| format!("{:>10.0}", value(variant.name, work))).concat());
    }
    let of = |variant, other| ratio((variant, "getppid"), (other, "getppid"));
    let added_bare = added.get(&("bare", "getppid")).map_or(&[][..], Vec::as_slice);
    println!("\nBars, on getppid (median of the rounds' ratios)\n");
    let bar = |what: &str, ratio: f64, most: f64| {
        println!("{} {what}: {ratio:.2} (at most {most})", if ratio <= most { "ok  " } else { "OVER" });
    };
    bar("count + latency, of the pair with clock and task storage", of("run", "  and task storage"), 1.1);
    bar("count + latency, of the empty pair", of("run", "empty pair"), 2.3);
    bar("--no-latency, of the empty pair", of("run --no-latency", "empty pair"), 1.15);
    bar("not traced while a trace runs, of the empty pair", of("not traced", "empty pair"), 1.2);
    bar("  of what task storage alone takes", of("not traced", "  not traced, of storage"), 1.2);
    bar("-e ioctl on other calls, of the empty pair", of("run -e ioctl", "empty pair"), 0.45);
    bar("  of what perf's points of ioctl alone take", of("run -e ioctl", "  points of ioctl alone"), 1.2);
    bar("traced ioctl, of traced getppid", ratio(("run", "ioctl"), ("run", "getppid")), 1.5);
    let has = |name| variants.iter().any(|variant| variant.name == name);
    if has("bpftrace count") {
        bar("count + latency, of bpftrace's", of("run", "bpftrace count + latency"), 0.5);
        bar("--no-latency, of bpftrace's count", of("run --no-latency", "bpftrace count"), 1.0);
    }
    if has("strace -c -f") {
        bar("slow-down, of strace's", of("run", "strace -c -f"), 1.0 / 40.0);
        bar("slow-down by ptrace, of strace's", of("ptrace", "strace -c -f"), 1.2);
        // The whole call: what a filter takes is a fraction of it.
        let whole = |variant: &'static str| {
            let sum = |(added, bare): (&f64, &f64)| added + bare;
            let added = added.get(&(variant, "getppid")).into_iter().flatten();
            added.zip(added_bare).map(sum).collect::<Vec<_>>()
        };
        let ratios = whole("ptrace -e ioctl").into_iter().zip(whole("strace --seccomp-bpf"));
        let ratio = median(&ratios.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
        bar("ptrace -e ioctl on other calls, of strace's filter", ratio, 1.05);
    }
    Ok(())
}

/// Wall time of whole programs, and what a run needs at least.
fn programs(rounds: usize, folder: &Path, variants: &[Variant]) -> Result<()> {
    let known = folder.join("examples/known_calls").display().to_string();
    let source = std::env::temp_dir().join("gpuos-trace-bench.c");
    std::fs::write(&source, "int main(void){return 0;}\n")?;
    let source = source.display().to_string();
    let python = "import json,subprocess,asyncio,email,http.client";
    let all: [(&str, Vec<&str>); 4] = [
        ("true", vec!["/bin/true"]),
        ("fork storm", vec![&known, "forks", "300"]),
        ("python imports", vec!["/usr/bin/python3", "-c", python]),
        ("gcc", vec!["gcc", "-o", "/dev/null", &source]),
    ];
    let shown = ["bare", "run", "strace -c -f", "bpftrace count + latency"];
    let mut walls: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for (name, words) in &all {
            for variant in variants.iter().filter(|variant| shown.contains(&variant.name)) {
                // bpftrace splits at blanks and knows no quotes.
                if variant.name.starts_with("bpftrace") && words.contains(&python) {
                    continue;
                }
                let start = Instant::now();
                let mut command = variant.command(words);
                let status = command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .with_context(|| format!("{command:?}"))?;
                if status.success() {
                    walls.entry((name, variant.name)).or_default().push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        eprint!("\rround {} of {rounds}", round + 1);
    }
    eprintln!();
    println!("\nMilliseconds of wall time (median of {rounds} rounds)\n");
    println!("{:26}{}", "", all.each_ref().map(|(name, _)| format!("{name:>16}")).concat());
    let wall = |name: &str, variant: &str| {
        walls.iter().find(|((n, v), _)| *n == name && *v == variant).map_or(f64::NAN, |(_, values)| median(values))
    };
    for variant in shown {
        println!("{variant:26}{}", all.each_ref().map(|(name, _)| format!("{:>16.1}", wall(name, variant))).concat());
    }
    println!("\nBars\n");
    let bar = |what: &str, value: f64, most: f64| {
        println!("{} {what}: {value:.1} (at most {most:.1})", if value <= most { "ok  " } else { "OVER" });
    };
    bar("start and stop of `run -- true` over `true`, ms", wall("true", "run") - wall("true", "bare"), 40.0);
    for name in ["python imports", "gcc"] {
        bar(
            &format!("{name}: ms that we add, of what strace adds"),
            wall(name, "run") - wall(name, "bare"),
            wall(name, "strace -c -f") - wall(name, "bare"),
        );
    }
    bar("peak memory of the tracer, MiB", peak_memory(folder)?, 60.0);
    Ok(())
}

/// Peak resident memory of a run with thousands of processes.
fn peak_memory(folder: &Path) -> Result<f64> {
    let program = "import resource,subprocess,sys\nsubprocess.run(sys.argv[1:],check=True)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .arg(folder.join("gpuos-trace"))
        .args(["run", "-q", "--"])
        .arg(folder.join("examples/known_calls"))
        .args(["forks", "2000"])
        .output()?;
    let kibibytes: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("no memory figure")?;
    Ok(kibibytes / 1024.0)
}
