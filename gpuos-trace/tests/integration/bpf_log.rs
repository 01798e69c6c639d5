//! What the programs in the kernel say of their work, at the level that is asked for.
#![cfg(feature = "bpf-log")]

use std::process::Command;

use crate::support::{TRACER, example};
use gpuos_test_macros::privileged;

fn said(options: &[&str]) -> String {
    let output = Command::new(TRACER).arg("run").args(options).arg("--").arg(example("phase_calls")).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[privileged]
fn the_programs_say_what_they_do() {
    for options in [&["-q", "--bpf-log", "debug"][..], &["-q", "--bpf-log", "debug", "--tasks-by-id"]] {
        let text = said(options);
        let lines = |of: &str| {
            text.lines().filter(|line| line.starts_with("gpuos-trace: bpf debug: ") && line.contains(of)).count()
        };
        assert!(lines("executed a program") >= 1, "{text}");
        assert!(lines("child of 0") == 1, "{text}");
        assert!(lines("marker 1 of process") >= 1, "{text}");
        // Every thread that began has ended.
        assert_eq!(lines("child of") + lines("thread") - lines("ends with code"), lines("ends with code"), "{text}");
    }
    // Nothing was lost, so there is nothing to warn of.
    assert_eq!(said(&["-q", "--bpf-log", "warn"]), "");
    assert_eq!(said(&["-q"]), "");
    assert!(said(&["-q", "--bpf-log", "warn", "--processes", "1"]).contains("bpf warn: process "));
}
