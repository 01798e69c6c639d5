//! Every thread and descendant is followed, nobody else is.

use std::process::{Command, Stdio};

use crate::support::{TRACER, known_calls, trace, trace_known};
use gpuos_host::environment::kernel_version;
use gpuos_test_macros::privileged;

#[privileged]
fn threads_are_counted_exactly() {
    let trace = trace_known(&[], &["threads", "20000", "8"]);
    assert_eq!(trace.calls("getppid"), 160_000);
    assert_eq!(trace.run.header.processes.len(), 1);
    assert_eq!(trace.run.header.processes[0].threads, 9);
    assert_eq!(trace_known(&[], &["nested-threads", "60"]).calls("getppid"), 122);
}

#[privileged]
fn rows_by_thread_say_which_thread() {
    let trace = trace_known(&["--per-thread", "-e", "getppid"], &["threads", "100", "4"]);
    let threads: Vec<u32> = trace.run.calls.column("thread").unwrap().u32().unwrap().iter().flatten().collect();
    let calls: Vec<u64> = trace.run.calls.column("calls").unwrap().u64().unwrap().iter().flatten().collect();
    assert_eq!(calls, [100; 4]);
    let distinct: std::collections::HashSet<_> = threads.iter().collect();
    assert_eq!(distinct.len(), 4);
    assert!(!threads.contains(&trace.run.header.processes[0].pid));
}

#[privileged]
fn short_processes_are_counted_exactly() {
    let trace = trace_known(&[], &["forks", "2000"]);
    assert_eq!(trace.calls("getppid"), 6000);
    assert_eq!(trace.run.header.processes.len(), 2001);
    // 4 + 16 + 64 + 256 processes at once.
    let trace = trace_known(&[], &["tree", "4", "4"]);
    assert_eq!(trace.calls("getppid"), 3 * 340);
    assert_eq!(trace.run.header.processes.len(), 341);
    let ids: std::collections::HashSet<u64> = trace.run.header.processes.iter().map(|process| process.id).collect();
    assert_eq!(ids.len(), 341);
    assert!(trace.run.header.processes[1..].iter().all(|process| ids.contains(&process.parent)));
}

#[privileged]
fn executing_keeps_the_process() {
    let trace = trace_known(&[], &["exec-chain", "20"]);
    assert_eq!((trace.calls("getppid"), trace.calls("execve")), (5 * 21, 21));
    assert_eq!(trace.run.header.processes.len(), 1);
    let trace = trace_known(&[], &["exec-from-thread"]);
    assert_eq!((trace.calls("getppid"), trace.calls("execve")), (7, 2));
    assert_eq!(trace.run.header.processes.len(), 1);
    // Few calls are looked at, and the thread makes none of them before.
    for options in
        [&["-e", "getppid"][..], &["-e", "getppid", "--tasks-by-id"], &["-e", "getppid", "--no-latency"], &[]]
    {
        let trace = trace_known(options, &["exec-from-silent-thread"]);
        let processes = &trace.run.header.processes;
        assert_eq!((trace.calls("getppid"), processes.len(), processes[0].threads), (8, 1, 2), "{options:?}");
    }
}

#[privileged]
fn vfork_is_followed() {
    let trace = trace_known(&[], &["vfork", "50"]);
    assert_eq!(trace.run.header.processes.len(), 51);
    assert_eq!(trace.run.header.processes.iter().filter(|process| process.command == "true").count(), 50);
    assert_eq!(trace.calls("execve"), 51);
}

#[privileged]
fn a_daemon_is_waited_for_when_asked() {
    let trace = trace_known(&["--wait-all"], &["daemon", "9"]);
    assert_eq!(trace.calls("getppid"), 9);
    assert!(trace.run.header.processes.iter().all(|process| process.threads_alive == 0));
    // Not asked: the trace ends with the command, and says that something still ran.
    // It sleeps longer than any machine takes to end a trace.
    let trace = trace_known(&[], &["daemon", "9", "30000"]);
    assert_eq!(trace.calls("getppid"), 0);
    assert!(trace.stderr().contains("1 thread of the tree still ran at the end"), "{}", trace.stderr());
}

#[privileged]
fn nobody_else_is_counted() {
    let mut noise = Command::new(known_calls()).args(["getppid", "400000000"]).spawn().unwrap();
    let trace = trace_known(&[], &["getppid", "50"]);
    noise.kill().unwrap();
    noise.wait().unwrap();
    assert_eq!(trace.calls("getppid"), 50);
}

#[privileged]
fn two_traces_do_not_see_each_other() {
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| trace_known(&[], &["threads", "50000", "3"]).calls("getppid"));
        let b = scope.spawn(|| trace_known(&[], &["forks", "300"]).calls("getppid"));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!((a, b), (150_000, 900));
}

#[privileged]
fn a_trace_inside_a_trace_counts_the_same() {
    let program = known_calls();
    let outer = trace(&[], &[TRACER, "run", "--", program.to_str().unwrap(), "getppid", "500"]);
    assert_eq!(outer.calls("getppid"), 500);
}

#[privileged]
fn works_inside_a_pid_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", TRACER, "run", "-o"])
        .arg(&file)
        .arg("--")
        .arg(known_calls())
        .args(["forks", "20"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // Before 5.13 tasks are followed by number, which others have in there: it is traced by ptrace.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = gpuos_runs::files::read(&file).unwrap();
    // From 7.0 on a container gets the way that may miss events, and says so.
    if kernel_version() >= (7, 0) && run.header.losses.any() {
        return;
    }
    assert_eq!(crate::support::Trace { output, run }.calls("getppid"), 60);
}
