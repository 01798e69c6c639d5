//! Tracing by ptrace counts what BPF counts, harms no program, and is there for who has no rights.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::exactness::PROGRAMS;
use crate::support::{TRACER, Trace, attached, example, known_calls, trace, trace_known};
use gpuos_runs::{columns::column, files, group, run::End};
use gpuos_test_macros::privileged;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PTRACE: &[&str] = &["--backend", "ptrace"];

/// Calls and errors by phase, call, device and what tells calls of one command apart.
fn rows(trace: &Trace) -> BTreeMap<String, (u64, u64)> {
    let columns = [column::PHASE, column::SYSCALL, column::DEVICE, column::COMMAND_NAME, column::DETAIL];
    let groups = group::group(&trace.run.calls, &columns).unwrap();
    // How often threads meet depends on speed; where memory is, on the kernel.
    let by_speed = ["futex", "restart_syscall", "madvise", "mprotect", "munmap", "mmap", "brk"];
    // A thread that is not joined may get no further than its closure.
    let is_sure =
        |key: &[String]| !by_speed.contains(&key[1].as_str()) && (key[0] != "work/never ended" || key[1] == "getppid");
    let groups = groups.into_iter().filter(|group| is_sure(&group.key));
    groups.map(|group| (group.key.join(" "), (group.calls, group.errors))).collect()
}

#[privileged]
fn known_programs_are_counted_exactly() {
    let silent: (&[&str], &str, u64) = (&["exec-from-silent-thread"], "getppid", 8);
    for (words, call, expected) in PROGRAMS.into_iter().chain([silent]) {
        let trace = trace_known(&[PTRACE, &["--wait-all"]].concat(), words);
        assert!(trace.output.status.success(), "{words:?}: {}", trace.stderr());
        assert_eq!(trace.calls(call), expected, "{words:?}");
        assert_eq!(trace.run.header.mode.backend, "ptrace");
        assert!(trace.run.header.processes.iter().all(|process| process.threads_alive == 0), "{words:?}");
    }
    // Not asked to wait: what still runs goes on.
    let trace = trace_known(PTRACE, &["daemon", "9", "30000"]);
    assert_eq!(trace.calls("getppid"), 0);
    assert!(trace.stderr().contains("1 thread of the tree still ran at the end"), "{}", trace.stderr());
}

#[privileged]
fn rows_phases_and_processes_are_those_of_bpf() {
    let programs: [Vec<PathBuf>; 5] = [
        vec![example("phase_calls")],
        vec![example("phase_calls"), "deep".into()],
        vec![example("phase_calls"), "odd".into()],
        vec![example("phase_calls"), "leave".into()],
        vec![known_calls(), "ioctl".into(), "50".into()],
    ];
    for words in programs {
        let [of_bpf, ours] =
            [&["--wait-all"][..], &["--wait-all", "--backend", "ptrace"]].map(|options| trace(options, &words));
        assert_eq!(rows(&ours), rows(&of_bpf), "{words:?}");
        let phases = |trace: &Trace| -> Vec<(String, u64, u64)> {
            let mut phases: Vec<_> = trace
                .run
                .header
                .phases
                .iter()
                .map(|phase| (phase.path.clone(), phase.entered, phase.iterations))
                .collect();
            phases.sort();
            phases
        };
        assert_eq!(phases(&ours), phases(&of_bpf), "{words:?}");
        let processes = |trace: &Trace| -> Vec<(String, u32, u32)> {
            let all = &trace.run.header.processes;
            let mut processes: Vec<_> =
                all.iter().map(|process| (process.command.clone(), process.threads, process.exit_code)).collect();
            processes.sort();
            processes
        };
        assert_eq!(processes(&ours), processes(&of_bpf), "{words:?}");
        assert_eq!(ours.run.header.losses, of_bpf.run.header.losses, "{words:?}");
    }
}

#[privileged]
fn a_filter_counts_what_it_names() {
    let trace = trace_known(&[PTRACE, &["-e", "getppid,write"]].concat(), &["threads", "300", "3"]);
    let names: Vec<String> = rows(&trace).into_keys().collect();
    assert!(
        trace.calls("getppid") == 900 && names.iter().all(|name| name.contains("getppid") || name.contains("write")),
        "{names:?}"
    );
    // With a filter of its own, of which the command knows nothing; what it does not name is not stopped at.
    for words in
        [&["threads", "300", "3"][..], &["exec-chain", "10"], &["exec-from-thread"], &["vfork", "5"], &["forks", "20"]]
    {
        let expected = trace_known(&["--wait-all", "-e", "getppid,execve"], words);
        let filtered = trace_known(&[PTRACE, &["--wait-all", "-e", "getppid,execve"]].concat(), words);
        assert_eq!(rows(&filtered), rows(&expected), "{words:?}");
        let processes = |trace: &Trace| trace.run.header.processes.len();
        assert_eq!(processes(&filtered), processes(&expected), "{words:?}");
    }
    let program = example("phase_calls");
    let [of_bpf, ours] =
        [&["--wait-all", "-e", "getppid"][..], &["--wait-all", "-e", "getppid", "--backend", "ptrace"]]
            .map(|options| crate::support::trace(options, &[&program]));
    assert_eq!(rows(&ours), rows(&of_bpf));
    let trace =
        trace_known(&[PTRACE, &["-e", "getppid", "--no-latency", "--per-thread"]].concat(), &["threads", "100", "4"]);
    assert_eq!(trace.run.calls.height(), 4);
}

#[privileged]
fn the_end_of_the_command_is_passed_on() {
    let script = |script: &str| trace(PTRACE, &["sh", "-c", script]);
    assert_eq!(script("exit 7").output.status.code(), Some(7));
    let killed = script("kill -KILL $$");
    assert_eq!((killed.run.header.end, killed.output.status.signal()), (End::Killed(9), Some(9)));
    // Signals reach handlers, and a stop is one.
    let stopped =
        script("trap 'echo usr1' USR1; kill -USR1 $$; (sleep 0.2; kill -CONT $$) & kill -STOP $$; wait; echo on");
    assert_eq!(String::from_utf8_lossy(&stopped.output.stdout), "usr1\non\n");
    let missing = Command::new(TRACER).args(["run", "--backend", "ptrace", "--", "/etc/passwd"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(126), "{}", String::from_utf8_lossy(&missing.stderr));
}

#[privileged]
fn running_processes_are_attached_to_and_left_unharmed() {
    let mut worker = Command::new(known_calls())
        .args(["on-demand", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut orders, mut answers) = (worker.stdin.take().unwrap(), BufReader::new(worker.stdout.take().unwrap()));
    let mut work = |calls: Option<u32>| {
        calls.iter().for_each(|calls| writeln!(orders, "{calls}").unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    };
    work(None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    for calls in [77, 33] {
        let mut attach = Command::new(TRACER);
        let attach = attach.args(["attach", "--backend", "ptrace", "-p", &worker.id().to_string(), "-o"]).arg(&file);
        let mut tracer = attached(attach);
        work(Some(calls));
        // A second tracer is refused, and it is said why.
        let again = Command::new(TRACER)
            .args(["attach", "--backend", "ptrace", "-p", &worker.id().to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(
            !again.status.success() && said.contains(&format!("process {} traces it already", tracer.id())),
            "{said}"
        );
        kill(Pid::from_raw(tracer.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(tracer.wait().unwrap().code(), Some(0));
        let run = files::read(&file).unwrap();
        assert_eq!(run.header.end, End::Detached);
        // Three threads, the leader, and a child.
        let trace = Trace { output: Command::new("true").output().unwrap(), run };
        assert_eq!(trace.calls("getppid"), u64::from(calls) * 5);
        work(Some(1000));
    }
    // Until its end.
    let mut attach = Command::new(TRACER);
    let attach = attach.args(["attach", "--backend", "ptrace", "-p", &worker.id().to_string(), "-o"]).arg(&file);
    let mut tracer = attached(attach);
    drop(orders);
    assert!(worker.wait().unwrap().success());
    assert_eq!(tracer.wait().unwrap().code(), Some(0));
}

#[privileged]
fn a_killed_tracer_lets_the_command_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = format!("echo ready; sleep 0.5; echo > {}", done.display());
    let mut tracer = Command::new(TRACER)
        .args(["run", "--backend", "ptrace", "--", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !done.exists() {
        assert!(std::time::Instant::now() < deadline, "the command did not go on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[privileged]
fn recordings_have_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |backend: &str| -> Vec<String> {
        let file: PathBuf = folder.path().join(format!("{backend}.parquet"));
        let recorded = Command::new(TRACER)
            .args(["record", "-q", "--paths", "--backend", backend, "-o"])
            .arg(&file)
            .arg("--")
            .arg(example("phase_calls"))
            .output()
            .unwrap();
        assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
        let shown = Command::new(TRACER).args(["show", "--events"]).arg(&file).output().unwrap();
        // Without times, numbers of threads and addresses.
        let bare = |line: &str| {
            let line = line.get(25..).unwrap_or_default();
            line.split(['(', '<']).next().unwrap_or_default().trim().to_owned()
        };
        // A thread's last calls may be cut off by the end of its process.
        let last = ["sigaltstack", "rt_sigprocmask", " exit"];
        let by_speed = ["futex", "mmap", "munmap", "mprotect", "madvise", "restart_syscall", "+++", "brk"];
        let is_left_out = |line: &String| {
            by_speed.iter().any(|word| line.contains(word)) || last.iter().any(|word| line.ends_with(word))
        };
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let mut lines: Vec<String> = text.lines().map(bare).filter(|line| !is_left_out(line)).collect();
        lines.sort();
        lines
    };
    let (ours, of_bpf) = (lines("ptrace"), lines("bpf"));
    assert!(ours.len() > 500 && ours.iter().any(|line| line.ends_with("openat")), "{}", ours.len());
    assert_eq!(ours, of_bpf);
}

/// Where another user finds the tracer.
fn for_everybody(folder: &Path) -> PathBuf {
    let copy = folder.join("gpuos-trace");
    std::fs::copy(TRACER, &copy).unwrap();
    for (path, mode) in [(folder, 0o777), (copy.as_path(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    copy
}

#[privileged]
fn who_has_no_rights_is_not_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let tracer = for_everybody(folder.path());
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&tracer).args(words);
        command.current_dir(folder.path()).output().unwrap()
    };
    let output = as_nobody(&["run", "-o", "run.json", "--", "sh", "-c", "echo hello; exit 3"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(3), "hello\n"),
        "{said}"
    );
    let first = said.lines().next().unwrap_or_default();
    assert!(first.contains("tracing by ptrace, as strace does: this process may not load BPF programs"), "{said}");
    assert!(first.contains("for the fast way"), "{said}");
    let run = files::read(&folder.path().join("run.json")).unwrap();
    assert_eq!((run.header.mode.backend.as_str(), run.header.processes.len()), ("ptrace", 1));
    let lines = as_nobody(&["record", "--print", "-e", "openat", "-o", "-", "--", "cat", "/etc/hostname"]);
    assert!(String::from_utf8_lossy(&lines.stdout).contains("\"/etc/hostname\""), "{lines:?}");
    // What ptrace cannot do is said before anything runs.
    let refused = as_nobody(&["run", "--auto-phases", "--", "touch", "made"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(125) && said.contains("`--auto-phases` needs BPF"), "{said}");
    assert!(!folder.path().join("made").exists());
    let refused = as_nobody(&["run", "--backend", "bpf", "--", "true"]);
    assert_eq!(refused.status.code(), Some(125));
    // Another user's process.
    let said = String::from_utf8_lossy(&as_nobody(&["attach", "-p", "1"]).stderr).into_owned();
    assert!(said.contains("cannot attach to process 1"), "{said}");
}

#[privileged]
fn root_of_a_container_is_not_sent_away() {
    // What Docker gives by default; the command has as many, and `CAP_SYS_PTRACE` is not among them.
    let given = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";
    let mut command = Command::new("setpriv");
    command.args([
        "--inh-caps=-all",
        "--bounding-set",
        given,
        TRACER,
        "run",
        "--wait-all",
        "-o",
        "-",
        "--format",
        "json",
    ]);
    let output = command.args(["--", "sh", "-c", "ls /proc/self/fd; true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("tracing by ptrace"), "{said}");
    let run: serde_json::Value = {
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap()
    };
    assert_eq!(run["header"]["processes"].as_array().map(Vec::len), Some(2));
}

/// A program in Python.
fn python(text: &str) -> Vec<PathBuf> {
    vec!["/usr/bin/python3".into(), "-c".into(), text.into()]
}

#[privileged]
fn children_of_a_killed_process_go_on() {
    // Its children hold a pipe until they end, and they end at once.
    let text = "
import os, select, signal, sys, time
reader, writer = os.pipe()
for _ in range(30):
    worker = os.fork()
    if worker == 0:
        while True:
            if os.fork() == 0: os._exit(0)
    time.sleep(0.01)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
os.close(writer)
sys.exit(0 if select.select([reader], [], [], 20)[0] else 3)
";
    for options in [PTRACE, &["--backend", "ptrace", "--wait-all"]] {
        let trace = trace(options, &python(text));
        assert_eq!(trace.output.status.code(), Some(0), "{options:?} {}", trace.stderr());
    }
}

#[privileged]
fn a_program_filter_that_wants_a_tracer_still_refuses() {
    // SECCOMP_RET_TRACE for `getppid`: without a tracer of its own the kernel answers ENOSYS.
    let text = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {'x86_64': 110, 'aarch64': 173}[os.uname().machine]
code = b''.join(struct.pack('HBBI', *one) for one in [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x7ff00000), (6, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 4, ctypes.addressof(buffer)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
sys.exit(0 if libc.syscall(number) == -1 and ctypes.get_errno() == 38 else 3)
";
    for options in [PTRACE, &["--backend", "ptrace", "--wait-all", "-e", "getppid"]] {
        let trace = trace(options, &python(text));
        assert_eq!(trace.output.status.code(), Some(0), "{options:?} {}", trace.stderr());
    }
}

#[privileged]
fn signals_for_the_command_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.parquet").display().to_string();
    // A recorder is a thread, and must leave them to the command, too.
    for words in [&["run"][..], &["record", "-o", &file]] {
        for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGTERM, Signal::SIGHUP] {
            let text = format!(
                "
import signal, sys, time
signal.signal({}, lambda *_: sys.exit(7))
print('ready', flush=True)
time.sleep(20)
",
                signal as i32
            );
            let mut tracer = Command::new(TRACER)
                .args(words)
                .args(["--backend", "ptrace", "-q", "--"])
                .args(python(&text))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut line).unwrap();
            kill(Pid::from_raw(tracer.id().cast_signed()), signal).unwrap();
            assert_eq!(tracer.wait().unwrap().code(), Some(7), "{words:?} {signal}");
        }
    }
}

#[privileged]
fn what_children_used_is_theirs_alone() {
    let text = "
import mmap, os
if os.fork() == 0:
    memory = mmap.mmap(-1, 20000 * mmap.PAGESIZE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(20000): memory[page * mmap.PAGESIZE] = 1
    os._exit(0)
os.wait()
";
    let trace = trace(&["--backend", "ptrace", "-e", "fork,clone,wait4"], &python(text));
    let processes = &trace.run.header.processes;
    let (parent, child) = (&processes[0], &processes[1]);
    assert_eq!(child.parent, parent.id);
    assert!(child.usage.minor_faults > parent.usage.minor_faults + 10_000, "{processes:?}");
}
