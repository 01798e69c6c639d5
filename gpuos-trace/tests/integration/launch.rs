//! The command runs as without the tracer: streams, exit status, signals, terminal, job control.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{TRACER, is_installed, known_calls, skip, terminal::Terminal, wait_until};
use gpuos_test_macros::privileged;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn traced(words: &[&str]) -> Command {
    let mut command = Command::new(TRACER);
    command.args(["run", "--quiet", "--"]).args(words);
    command
}

#[privileged]
fn streams_are_the_commands_own() {
    let mut child = traced(&["sh", "-c", "tr a-z A-Z; echo problem >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"HELLO\n"[..], &b"problem\n"[..]));
    // In a pipeline, with tables: they go to standard error.
    let output = Command::new("sh").args(["-c", &format!("{TRACER} run -- echo one | wc -l")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("system calls"));
}

#[privileged]
fn the_exit_status_is_the_commands() {
    for status in [0, 1, 42, 125, 255] {
        let code = traced(&["sh", "-c", &format!("exit {status}")]).status().unwrap().code();
        assert_eq!(code, Some(status));
    }
    let killed = traced(&["sh", "-c", "kill -KILL $$"]).status().unwrap();
    assert_eq!(killed.signal(), Some(libc::SIGKILL));
    let terminated = traced(&["sh", "-c", "kill -TERM $$"]).status().unwrap();
    assert_eq!(terminated.signal(), Some(libc::SIGTERM));
    let aborted = Command::new(TRACER)
        .args(["run", "-q", "--"])
        .arg(known_calls())
        .arg("abort")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(aborted.signal(), Some(libc::SIGABRT));
}

#[privileged]
fn the_command_inherits_signals_environment_and_folder() {
    // SIGPIPE as the caller had it, nothing blocked, no fd of the tracer's.
    let script = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd | wc -l; pwd; env | sort; ulimit -a";
    let plain = Command::new("sh").args(["-c", script]).current_dir("/usr").output().unwrap();
    let through = traced(&["sh", "-c", script]).current_dir("/usr").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&plain.stdout), String::from_utf8_lossy(&through.stdout));
    // A caller that ignores SIGPIPE.
    let ignoring = |mut command: Command| {
        let ignore = || {
            // SAFETY: to ignore needs no handler.
            unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigIgn) }?;
            Ok(())
        };
        // SAFETY: one async-signal-safe call.
        unsafe { command.pre_exec(ignore) };
        String::from_utf8(command.args(["-c", "grep SigIgn /proc/self/status"]).output().unwrap().stdout).unwrap()
    };
    let expected = ignoring(Command::new("sh"));
    assert!(expected.contains("1000"), "{expected}");
    assert_eq!(ignoring(traced(&["sh"])), expected);
}

/// Waits until the tracer has a child that runs `name`.
fn wait_for_child(of: u32, name: &str) -> Pid {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name) {
                return Pid::from_raw(pid.parse().unwrap());
            }
        }
        assert!(Instant::now() < deadline, "the tracer started no `{name}`");
        std::thread::yield_now();
    }
}

#[privileged]
fn signals_to_the_tracer_reach_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let classic = [
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGUSR1,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGXCPU,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGABRT,
        libc::SIGSYS,
        libc::SIGSTKFLT,
    ];
    for signal in classic.into_iter().chain([libc::SIGRTMIN(), libc::SIGRTMAX()]) {
        let mut child =
            Command::new(TRACER).args(["run", "-q", "-o"]).arg(&file).args(["--", "sleep", "30"]).spawn().unwrap();
        wait_for_child(child.id(), "sleep");
        // SAFETY: plain numbers; our own child.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
        let run = gpuos_runs::files::read(&file).unwrap();
        assert_eq!(run.header.end, gpuos_runs::run::End::Killed(signal), "signal {signal}");
        std::fs::remove_file(&file).unwrap();
    }
    // Those without an effect, to a command that handles them.
    for (signal, name) in [(libc::SIGWINCH, "WINCH"), (libc::SIGURG, "URG")] {
        let script = format!("trap 'exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child =
            Command::new(TRACER).args(["run", "-q", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        // SAFETY: plain numbers; our own child.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        assert_eq!(child.wait().unwrap().code(), Some(7), "{name}");
    }
}

#[privileged]
fn a_timer_from_before_the_tracer_ends_the_command() {
    // As `alarm` in a shell's child: it goes on over `execve`, and not into children.
    let mut command = traced(&["sleep", "30"]);
    let set = || {
        // SAFETY: a plain number.
        unsafe { libc::alarm(1) };
        Ok(())
    };
    // SAFETY: one async-signal-safe call.
    unsafe { command.pre_exec(set) };
    assert_eq!(command.status().unwrap().signal(), Some(libc::SIGALRM));
}

#[privileged]
fn a_stop_of_the_tracer_stops_the_command_until_it_goes_on() {
    // Of a process group of its own, whose parent is this test: SIGTSTP stops nobody whose group is an orphan.
    let mut child = traced(&["sleep", "1"]).process_group(0).spawn().unwrap();
    let command = wait_for_child(child.id(), "sleep");
    let tracer = Pid::from_raw(child.id() as i32);
    let is_stopped = |pid: Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    kill(tracer, Signal::SIGTSTP).unwrap();
    wait_until("both are stopped", || is_stopped(command) && is_stopped(tracer));
    kill(tracer, Signal::SIGCONT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[privileged]
fn a_command_that_handles_interrupts_keeps_its_tracer() {
    let mut terminal = Terminal::open();
    terminal.send(&format!("{TRACER} run -- sh -c 'n=0; trap \"n=\\$((n+1)); echo caught \\$n; [ \\$n -lt 3 ] || exit 5\" INT; echo up; while :; do sleep 0.05; done'\n"));
    terminal.expect("up\r\n");
    for time in 1..=3 {
        terminal.send("\x03");
        terminal.expect(&format!("caught {time}"));
    }
    terminal.expect("exit status 5");
}

#[privileged]
fn waiting_for_a_daemon_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut child = Command::new(TRACER)
        .args(["run", "-q", "--wait-all", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "sleep 30 & echo $!; exit 4"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let daemon = Pid::from_raw(line.trim().parse().unwrap());
    // One for the tracer, once the command is gone; a second would end the tracer while it writes.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while !std::fs::read_to_string(&children).unwrap().is_empty() {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(50));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    kill(daemon, Signal::SIGKILL).unwrap();
    assert_eq!(status.code(), Some(4));
    assert!(gpuos_runs::files::read(&file).unwrap().calls.height() > 5);
}

#[privileged]
fn a_caller_that_ignores_its_children_is_no_trap() {
    let mut command = traced(&["sh", "-c", "exit 3"]);
    let ignore = || {
        // SAFETY: to ignore needs no handler.
        unsafe { nix::sys::signal::signal(Signal::SIGCHLD, nix::sys::signal::SigHandler::SigIgn) }?;
        Ok(())
    };
    // SAFETY: one async-signal-safe call.
    unsafe { command.pre_exec(ignore) };
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[privileged]
fn a_real_time_signal_ends_the_tracer_likewise() {
    let status = traced(&["sh", "-c", "kill -34 $$"]).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(34));
}

#[privileged]
fn a_command_that_somebody_else_stops_does_not_stop_the_tracer() {
    let mut child = traced(&["sleep", "0.3"]).spawn().unwrap();
    let command = wait_for_child(child.id(), "sleep");
    kill(command, Signal::SIGTSTP).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    kill(command, Signal::SIGCONT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[privileged]
fn nobody_listening_on_standard_error_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    for stderr in ["/dev/full", "/dev/null"] {
        let _ = std::fs::remove_file(&file);
        let status = Command::new(TRACER)
            .args(["run", "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", "exit 7"])
            .stderr(File::options().write(true).open(stderr).unwrap())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(7), "{stderr}");
        gpuos_runs::files::read(&file).unwrap();
    }
    let status = Command::new(TRACER)
        .args(["run", "--", "no-such"])
        .stderr(File::options().write(true).open("/dev/full").unwrap())
        .status();
    assert_eq!(status.unwrap().code(), Some(127));
    // A pipe whose reader is gone.
    let script = format!(
        "{{ {TRACER} run -o {} -- sh -c 'exit 7'; echo $? >&3; }} 3>&1 2>&1 >/dev/null | true; cat",
        file.display()
    );
    let _ = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status().unwrap();
    gpuos_runs::files::read(&file).unwrap();
}

#[privileged]
fn a_killed_tracer_leaves_the_command_alone() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = format!("sleep 1; touch {}", done.display());
    let mut child = traced(&["sh", "-c", &script]).spawn().unwrap();
    wait_for_child(child.id(), "sh");
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done.exists() {
        assert!(Instant::now() < deadline, "the command did not finish");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Characters of a line without its colours.
fn printed_width(line: &str) -> usize {
    let mut width = 0;
    let mut inside = false;
    for character in line.trim_end().chars() {
        match character {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            _ => width += 1,
        }
    }
    width
}

#[privileged]
fn control_c_goes_to_the_command_and_the_tables_still_come() {
    let mut terminal = Terminal::open();
    terminal.send(&format!(
        "{TRACER} run -- sh -c 'trap \"echo caught; exit 3\" INT; echo up; while :; do sleep 0.1; done'\n"
    ));
    terminal.expect("up\r\n");
    terminal.send("\x03");
    terminal.expect("caught");
    terminal.expect("exit status 3");
    terminal.expect("ready> ");
    terminal.send("echo status=$?\n");
    terminal.expect("status=3");
    // A command that dies of it.
    terminal.send(&format!("{TRACER} run -- sh -c 'echo up; exec sleep 30'\n"));
    terminal.expect("up\r\n");
    terminal.send("\x03");
    terminal.expect("killed by SIGINT");
    terminal.expect("ready> ");
    terminal.send("echo status=$?\n");
    terminal.expect("status=130");
}

#[privileged]
fn control_z_and_fg_work() {
    let mut terminal = Terminal::open();
    terminal.send(&format!("{TRACER} run -- sh -c 'echo up; read line; echo got $line'\n"));
    terminal.expect("up\r\n");
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.send("jobs\n");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.send("fg\n");
    terminal.expect("read line");
    terminal.send("hello\n");
    terminal.expect("got hello");
    terminal.expect("exit status 0");
    terminal.expect("ready> ");
}

#[privileged]
fn tables_are_coloured_and_fitted_on_a_terminal_only() {
    let mut terminal = Terminal::open();
    for columns in [60, 80, 200] {
        terminal.send(&format!(
            "stty rows 50 cols {columns}; TERM=xterm-256color {TRACER} run -- ls / > /dev/null; echo en\"\"d\n"
        ));
        terminal.expect("system calls");
        let tables = terminal.expect("\nend");
        let longest = tables.lines().filter(|line| !line.starts_with("note:")).map(printed_width).max().unwrap();
        assert!(longest <= columns, "{longest} on {columns} columns:\n{tables}");
        assert!(columns < 200 || longest > 100, "a wide terminal is not used: {longest}");
    }
    terminal.send(&format!("TERM=xterm-256color {TRACER} run -- true > /dev/null\n"));
    terminal.expect("\u{1b}[");
    let plain = Command::new(TRACER).args(["run", "--", "true"]).output().unwrap();
    assert!(!plain.stderr.contains(&0x1b));
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest(&String::from_utf8_lossy(&plain.stderr)) <= 120);
}

#[privileged]
fn orphans_of_the_first_process_are_collected() {
    const TEST: &str = "orphans_of_the_first_process_are_collected";
    if !is_installed("unshare") || !is_installed("ps") {
        return skip(TEST, "no unshare, or no ps");
    }
    let orphans =
        "for i in 1 2 3 4 5 6 7 8; do sh -c 'sleep 0.05 & exit 0'; done; sleep 0.6; ps -eo stat | grep -c '^Z'";
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--", TRACER, "run", "-q", "--", "sh", "-c", orphans])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{}", String::from_utf8_lossy(&output.stderr));
}

#[privileged]
fn a_child_that_the_command_hands_over_is_collected() {
    // `clone(CLONE_PARENT | SIGCHLD)` by number: its parent is the tracer. The command waits until it is gone.
    let script = "import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
child = libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        sys.exit(7)
    time.sleep(0.01)
";
    if !cfg!(target_arch = "x86_64") || !is_installed("python3") {
        return skip("a_child_that_the_command_hands_over_is_collected", "no python3, or no number of `clone`");
    }
    assert_eq!(traced(&["python3", "-c", script]).status().unwrap().code(), Some(7));
}
