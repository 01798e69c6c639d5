//! `attach`: running processes are counted from the moment of attaching, and are none the worse for it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::support::{TRACER, Trace, attached, known_calls};
use gpuos_runs::{columns::column, files, group, run::End};
use gpuos_test_macros::privileged;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process with three idle threads that makes calls when it is told to.
struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        let mut child = Command::new(known_calls())
            .args(["on-demand", "3"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut worker = Self { child, orders, answers };
        worker.answer();
        worker
    }

    fn answer(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }

    /// Every thread, and one child process, makes this many calls of `getppid`.
    fn work(&mut self, calls: u32) {
        writeln!(self.orders, "{calls}").unwrap();
        self.answer();
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `attach` and waits until it says that it is attached.
fn attach(pids: &str, file: &Path) -> Child {
    attach_with(&[], pids, file)
}

fn attach_with(options: &[&str], pids: &str, file: &Path) -> Child {
    let mut command = Command::new(TRACER);
    attached(command.arg("attach").args(options).args(["-p", pids, "-o"]).arg(file))
}

fn detach(mut child: Child, file: &Path) -> Trace {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let run = files::read(file).unwrap();
    assert!(!run.header.losses.any());
    Trace { output: Command::new("true").output().unwrap(), run }
}

#[privileged]
fn every_thread_and_child_is_counted_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut worker = Worker::start();
    worker.work(1000);
    let tracer = attach(&worker.pid(), &file);
    worker.work(77);
    let trace = detach(tracer, &file);
    worker.work(1000);
    // Three threads, the leader, and a child.
    assert_eq!(trace.calls("getppid"), 77 * 5);
    assert_eq!(trace.run.header.end, End::Detached);
    let processes = &trace.run.header.processes;
    assert_eq!(processes.len(), 2);
    assert_eq!((processes[0].pid.to_string(), processes[0].command.as_str()), (worker.pid(), "known_calls"));
}

#[privileged]
fn what_it_uses_from_then_on_is_counted_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    // A thread calls and ends while the leader sleeps in one call; then the leader works without any call.
    let script = "import threading,time,os,sys\nsys.stdin.readline()\nt=threading.Thread(target=os.getppid)\nt.start()\nt.join()\n\
        time.sleep(0.8)\ne=time.process_time()+0.3\nwhile time.process_time()<e: pass\nprint('done',flush=True)\n\
        sys.stdin.readline()\nos._exit(7)";
    for ends in [true, false] {
        let mut python = Command::new("/usr/bin/python3");
        let python = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let tracer = attach(&child.id().to_string(), &file);
        writeln!(orders).unwrap();
        answers.read_line(&mut String::new()).unwrap();
        let trace = if ends {
            writeln!(orders).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(7));
            let output = tracer.wait_with_output().unwrap();
            Trace { output, run: files::read(&file).unwrap() }
        } else {
            detach(tracer, &file)
        };
        let process = &trace.run.header.processes[0];
        assert_eq!(process.exit_code, if ends { 7 << 8 } else { 0 }, "{process:?}");
        assert!(
            process.usage.user_ns + process.usage.system_ns >= 290_000_000 && process.wall_ns > 1_100_000_000,
            "{process:?}"
        );
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[privileged]
fn several_processes_until_the_last_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let (mut a, mut b) = (Worker::start(), Worker::start());
    let mut tracer = attach(&format!("{},{},{}", a.pid(), b.pid(), a.pid()), &file);
    a.work(10);
    b.work(20);
    drop(a);
    b.work(30);
    drop(b);
    assert!(tracer.wait().unwrap().success());
    let run = files::read(&file).unwrap();
    assert_eq!(run.header.processes.len(), 2 + 3);
    assert_eq!(Trace { output: Command::new("true").output().unwrap(), run }.calls("getppid"), 60 * 5);
}

#[privileged]
fn a_killed_tracer_harms_nobody_and_the_next_one_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut worker = Worker::start();
    let mut tracer = attach(&worker.pid(), &file);
    worker.work(5);
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    worker.work(5);
    let tracer = attach(&worker.pid(), &file);
    worker.work(6);
    assert_eq!(detach(tracer, &file).calls("getppid"), 30);
    worker.work(5);
}

#[privileged]
fn two_tracers_count_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("1.json"), folder.path().join("2.json"));
    let mut worker = Worker::start();
    let (a, b) = (attach(&worker.pid(), &one), attach(&worker.pid(), &two));
    worker.work(40);
    assert_eq!(detach(a, &one).calls("getppid"), 200);
    worker.work(2);
    assert_eq!(detach(b, &two).calls("getppid"), 210);
}

#[test]
fn a_process_that_is_not_there_is_an_error() {
    for pid in ["4194300", "0", "x"] {
        let output = Command::new(TRACER).args(["attach", "-p", pid]).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(pid) && !text.contains("panicked"), "{text}");
    }
}

#[privileged]
fn a_process_that_executes_while_it_is_attached_to_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counts.json");
    for round in 0..12 {
        let mut child = Command::new(known_calls()).args(["exec-race", "1000000"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(20_000 + 700 * round));
        let by_id: &[&str] = if round % 3 == 2 { &["--tasks-by-id", "--strict"] } else { &["--strict"] };
        let mut tracer = attach_with(by_id, &child.id().to_string(), &file);
        std::thread::sleep(std::time::Duration::from_millis(500));
        kill(Pid::from_raw(tracer.id() as i32), Signal::SIGINT).unwrap();
        assert!(tracer.wait().unwrap().success(), "round {round}");
        assert!(child.try_wait().unwrap().is_none(), "the process is unharmed");
        child.kill().unwrap();
        child.wait().unwrap();
        let groups = group::group(&files::read(&file).unwrap().calls, &[column::SYSCALL]).unwrap();
        let executed = groups.iter().find(|group| group.key[0] == "execve").map_or(0, |group| group.calls);
        assert!(executed > 0, "round {round}: it executes all the time");
    }
}

#[privileged]
fn a_process_goes_on_after_its_first_thread() {
    // `pthread_exit` of the first thread, and another that makes calls.
    let program = "import ctypes, os, threading, time
def work():
    while True:
        os.getppid()
        time.sleep(0.01)
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(60, 0)";
    let mut child = Command::new("python3").args(["-c", program]).spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    crate::support::wait_until("its first thread has ended", || {
        std::fs::read_to_string(&stat).unwrap().contains(") Z ")
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let tracer = attach(&child.id().to_string(), &file);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(detach(tracer, &file).calls("getppid") > 0, "it attaches and goes on");
    // A thread by its number is told from a process that is not there.
    let thread = std::fs::read_dir(format!("/proc/{}/task", child.id()))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .find(|name| *name != child.id().to_string())
        .unwrap();
    let output = Command::new(TRACER).args(["attach", "-p", &thread]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("{thread} is a thread of process {}", child.id())), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}
