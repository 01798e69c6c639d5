//! `bench` under the tracer: on its backend `host` every system call of the phase `work` is known beforehand.

use std::{collections::BTreeMap, path::Path};

use crate::support::{TRACER, Trace, skip, trace};
use gpuos_runs::{columns::column, group};
use gpuos_test_macros::privileged;

/// Traces `bench`, which lies where the tracer does.
fn bench(line: &str) -> Option<Trace> {
    bench_with(&["--strict"], line)
}

/// The same with these options of the tracer.
fn bench_with(options: &[&str], line: &str) -> Option<Trace> {
    let program = Path::new(TRACER).with_file_name("bench");
    if !program.exists() {
        skip(line, "no bench; `cargo build --workspace` builds it");
        return None;
    }
    let words = std::iter::once(program.to_str().unwrap()).chain(line.split(' '));
    Some(trace(options, &words.collect::<Vec<_>>()))
}

/// Calls in a phase.
fn calls(trace: &Trace, phase: &str) -> BTreeMap<String, u64> {
    let groups = group::group(&trace.run.calls, &[column::SYSCALL, column::PHASE]).unwrap();
    groups.into_iter().filter(|group| group.key[1] == phase).map(|group| (group.key[0].clone(), group.calls)).collect()
}

#[privileged]
fn the_calls_of_work_are_those_of_the_work() {
    let pairs = |number| [("mmap".to_owned(), number), ("munmap".to_owned(), number)].into();
    let none = BTreeMap::new();
    for (line, expected) in [
        ("alloc --backend host --bytes 64K --iters 100", pairs(100)),
        ("alloc --backend host --bytes 1G --iters 100 --batch 3", pairs(300)),
        ("alloc --backend host --bytes 64K --iters 100 --batch 3 --fused", pairs(100)),
        ("alloc --backend host --bytes 64K --iters 100 --lifetime pooled", none.clone()),
        // A buffer has four iterations.
        ("alloc --backend host --bytes 64K --iters 100 --free-every 4", pairs(25)),
        // Of all processes together.
        ("alloc --backend host --bytes 64K --iters 100 --processes 3", pairs(300)),
        ("alloc --backend host --bytes 64K --iters 0", none.clone()),
        ("kernel --backend host --bytes 64K --iters 100", none.clone()),
        ("kernel --backend host --bytes 64K --iters 100 --lifetime per-iter --batch 4", pairs(100)),
        ("copy --backend host --bytes 64K --iters 100 --direction d2h", none.clone()),
        ("launch --backend host --iters 1000", none.clone()),
        ("sync --backend host --iters 10 --duration-us 100", none.clone()),
        ("cpu --bytes 64K --iters 100", none),
    ] {
        let Some(trace) = bench(line) else { return };
        assert!(trace.output.status.success(), "{line}: {}", trace.stderr());
        assert_eq!(calls(&trace, "work"), expected, "{line}");
        let work = trace.run.header.phases.iter().find(|phase| phase.path == "work").unwrap();
        assert_eq!(line.contains("--iters 0"), work.iterations == 0, "{line}");
    }
}

#[privileged]
fn every_step_of_the_calls_of_a_runtime_is_a_phase() {
    let Some(trace) = bench("api --backend host --bytes 64K --iters 10 --warmup 2") else { return };
    assert_eq!(calls(&trace, "allocate"), [("mmap".to_owned(), 10)].into());
    assert_eq!(calls(&trace, "free"), [("munmap".to_owned(), 10)].into());
    assert!(calls(&trace, "launch and wait").is_empty());
}

#[privileged]
fn a_runtime_without_a_device_is_traced_to_its_end() {
    // AMD's runtime asks for /dev/kfd before it says that there is no device.
    let Some(trace) = bench("kernel --backend hip") else { return };
    if trace.stderr().contains("no library from libamdhip64") {
        skip(
            "a_runtime_without_a_device_is_traced_to_its_end",
            "no libamdhip64; `cargo xtask setup --tests` installs it",
        );
        return;
    }
    if !trace.output.status.success() {
        assert_eq!(trace.output.status.code(), Some(1), "{}", trace.stderr());
        assert!(trace.stderr().contains("hipErrorNoDevice"), "{}", trace.stderr());
        assert!(calls(&trace, "init")["openat"] > 10, "{:?}", calls(&trace, "init"));
    }
}

#[privileged]
fn what_memory_of_jobs_asks_for_is_charged_to_its_class() {
    let line = "alloc --backend host --bytes 4M --batch 16 --warmup 0 --iters 5000 --via arena";
    // It may end before its table of jobs is read, which is a loss, and none of calls.
    let Some(trace) = bench_with(&[], line) else { return };
    let groups = group::group(&trace.run.calls, &[column::ROLE, column::PHASE]).unwrap();
    let of = |phase: &str| {
        let of_phase = groups.iter().filter(|group| group.key[0] == "memory" && group.key[1] == phase);
        of_phase.map(|group| group.calls).sum::<u64>()
    };
    // Sixteen regions of the first job, then one for all that follow.
    let (charged, other) = (of("work/alloc"), of("work"));
    assert!((17..60).contains(&charged) && other * 9 <= charged, "{charged} {other}");
}
