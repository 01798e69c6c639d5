//! Two runs side by side: what a program asks for more, and a budget that a test can hold.

use std::path::Path;

use crate::{
    fleet::traced,
    support::{TRACER, known_calls},
    sweep::{run, text},
};
use gpuos_test_macros::privileged;

#[privileged]
fn what_is_asked_for_more_is_shown_and_rules_fail() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let calls = known_calls();
    traced(&[calls.to_str().unwrap(), "threads", "50", "3"], &path("one.parquet"));
    traced(&[calls.to_str().unwrap(), "threads", "60", "3"], &path("two.csv"));
    let both = ["one.parquet", "two.csv"];
    let shown = run(&[&["diff", "--by", "syscall"], &both[..]].concat(), folder.path());
    assert!(shown.status.success(), "{}", text(&shown));
    let line = text(&shown).lines().find(|line| line.trim_start().starts_with("getppid")).unwrap().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..6], ["getppid", "150", "180", "+30", "+20.0", "%"], "{line}");
    let fails = |rule: &str| {
        let output = run(&[&["diff", "--fail-on", rule], &both[..]].concat(), folder.path());
        (output.status.code(), text(&output))
    };
    let (status, said) = fails("syscall=getppid calls>+0");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("`syscall=getppid calls>+0` does not hold: calls 150 in A, 180 in B"), "{said}");
    assert_eq!(fails("syscall=getppid calls>+20%").0, Some(0));
    assert_eq!(fails("syscall=getppid calls>180").0, Some(0));
    // A rule that asks for nothing holds, and says so.
    let (status, said) = fails("syscall=getpppid calls>0");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("no call of either run has syscall=getpppid"), "{said}");
    let (status, said) = fails("syscall calls>1");
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("`syscall` has neither `=` nor `>`"), "{said}");
}

#[privileged]
fn by_unit_runs_of_different_length_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Path::new(TRACER).with_file_name("bench");
    assert!(bench.exists(), "no bench; `cargo build --workspace` builds it");
    let bench = bench.to_str().unwrap();
    for (name, iters, batch) in [("one.parquet", "50", "1"), ("two.parquet", "200", "1"), ("three.parquet", "50", "2")]
    {
        let words = [bench, "alloc", "--backend", "host", "--iters", iters, "--batch", batch];
        traced(&words, &folder.path().join(name));
    }
    let compare = |second: &str| {
        let rule = "phase=work role=memory calls>+0";
        run(&["diff", "--per-unit", "--fail-on", rule, "one.parquet", second], folder.path())
    };
    let alike = compare("two.parquet");
    assert!(alike.status.success(), "{}", text(&alike));
    let more = compare("three.parquet");
    assert_eq!(more.status.code(), Some(1), "{}", text(&more));
    assert!(text(&more).contains("calls 2 in A, 4 in B"), "{}", text(&more));
    assert!(text(&more).contains("+2.00 +100.0 %"), "{}", text(&more));
    // Nothing has units here.
    traced(&["true"], &folder.path().join("none.parquet"));
    let none = run(&["diff", "--per-unit", "none.parquet", "none.parquet"], folder.path());
    assert!(text(&none).contains("neither run has a phase with iterations"), "{}", text(&none));
}
