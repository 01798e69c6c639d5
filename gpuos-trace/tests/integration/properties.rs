//! Trees of processes and threads that nobody thought of, counted against the log that they keep themselves.

use std::{ffi::OsStr, fs};

use crate::support::{known_calls, trace};
use gpuos_test_macros::privileged;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// A program in the language of `known_calls script`.
fn program() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![6 => Just("p".to_owned()), 1 => Just("f(p)".to_owned()), 1 => Just("T(p)".to_owned())];
    let tree = leaf.prop_recursive(4, 40, 6, |inner| {
        let list = prop::collection::vec(inner, 0..6).prop_map(|parts| parts.concat());
        (prop::sample::select(vec!["f", "F", "t", "T"]), list).prop_map(|(action, list)| format!("{action}({list})"))
    });
    // Ends: as usual, by exec of more, or at once with whatever still runs.
    let list = || prop::collection::vec(tree.clone(), 0..8).prop_map(|parts| parts.concat());
    prop_oneof![
        4 => list(),
        2 => (list(), list()).prop_map(|(first, more)| format!("{first}x({more})")),
        1 => list().prop_map(|first| format!("{first}e")),
    ]
}

/// Every call, process and thread of the log is in the trace, and nothing else.
fn check(program: &str, options: &[&str]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::write(&log, [0; 24]).unwrap();
    let known = known_calls();
    let command = [known.as_os_str(), OsStr::new("script"), OsStr::new(program), log.as_os_str()];
    let trace = trace(&[&["--wait-all", "--strict"], options].concat(), &command);
    prop_assert!(trace.output.status.success(), "{}", trace.stderr());
    let numbers: Vec<u64> =
        fs::read(&log).unwrap().chunks(8).map(|part| u64::from_ne_bytes(part.try_into().unwrap())).collect();
    prop_assert_eq!(trace.calls("getppid"), numbers[0], "{}", program);
    let processes = &trace.run.header.processes;
    prop_assert_eq!(processes.len() as u64, numbers[1] + 1, "{}", program);
    prop_assert_eq!(
        processes.iter().map(|process| u64::from(process.threads)).sum::<u64>(),
        numbers[1] + numbers[2] + 1,
        "{}",
        program
    );
    prop_assert!(processes.iter().all(|process| process.threads_alive == 0));
    Ok(())
}

#[privileged]
fn any_tree_of_processes_and_threads_is_counted_exactly() {
    let cases = std::env::var("GPUOS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&(program(), any::<bool>()), |(program, timed)| {
            check(&program, if timed { &[] } else { &["--no-latency"] })
        })
        .unwrap();
}
