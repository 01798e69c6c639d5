//! The live view, as a person at a terminal sees it, and as a file does.

mod support;

use std::process::Command;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use support::{
    TRACER, example, privileged,
    terminal::{COLUMNS, ROWS, Terminal},
};

fn terminal() -> Terminal {
    let mut terminal = Terminal::open();
    terminal.send(&format!("stty rows {ROWS} cols {COLUMNS}\n"));
    terminal.expect("ready> ");
    terminal
}

#[test]
fn the_screen_is_taken_and_given_back_with_the_commands_output() {
    if !privileged("the_screen_is_taken_and_given_back_with_the_commands_output") {
        return;
    }
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} run --live -- sh -c 'echo said; test -t 1 && echo tty; sleep 1.5; exit 3'\n"));
    let picture = terminal.see("nothing lost");
    assert!(terminal.is_taken() && picture.contains("memory") && !picture.contains("said\n"), "{picture}");
    let picture = terminal.see("exit status 3");
    assert!(!terminal.is_taken() && picture.contains("\nsaid\ntty\n"), "{picture}");
    terminal.see("minor faults");
    terminal.send("echo status=$?; stty -a\n");
    let picture = terminal.see("extproc");
    assert!(picture.contains("status=3"), "{picture}");
    assert!(picture.contains(" icanon") && picture.contains(" echo "), "{picture}");
}

#[test]
fn keys_are_followed() {
    if !privileged("keys_are_followed") {
        return;
    }
    let mut terminal = terminal();
    terminal.send(&format!(
        "{TRACER} run --live --top 2 -- sh -c 'trap \"echo caught; exit 4\" INT; echo first; while :; do sleep 0.1; done'\n"
    ));
    terminal.see("nothing lost");
    terminal.send("?");
    terminal.see("pause and go on");
    terminal.send("?p");
    terminal.see("· paused");
    terminal.send("ps");
    terminal.see("calls, by calls");
    terminal.send("o");
    terminal.see("output of the command");
    terminal.see("\nfirst");
    terminal.send("/zzz");
    terminal.see("filter: zzz");
    terminal.send("\r");
    terminal.see("/ filter `zzz`");
    terminal.send("\r");
    terminal.see("· only process");
    terminal.send("\x03");
    let picture = terminal.see("exit status 4");
    assert!(!terminal.is_taken() && picture.contains("first\ncaught\n"), "{picture}");
    // Ending the view does not end the trace, and the output goes on.
    terminal.send(&format!("{TRACER} run --live --top 2 -- sh -c 'echo early; sleep 1.5; echo late; exit 5'\n"));
    terminal.see("nothing lost");
    terminal.send("q");
    let picture = terminal.see("early\n");
    assert!(!terminal.is_taken() && !picture.contains("exit status 5"), "{picture}");
    let picture = terminal.see("exit status 5");
    assert!(picture.contains("early\nlate\n"), "{picture}");
}

/// The tracer that was told to run a command, by the command's words.
fn tracer_of(command: &str) -> Pid {
    let ends = format!("\0--\0{}\0", command.replace(' ', "\0"));
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.starts_with(TRACER.as_bytes()) && words.ends_with(ends.as_bytes()))
    };
    Pid::from_raw(processes.into_iter().find(is_it).expect("the tracer"))
}

#[test]
fn a_killed_view_gives_the_terminal_back() {
    if !privileged("a_killed_view_gives_the_terminal_back") {
        return;
    }
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} run --live --top 2 -- sleep 31.5\n"));
    terminal.see("nothing lost");
    kill(tracer_of("sleep 31.5"), Signal::SIGTERM).unwrap();
    terminal.see("killed by SIGTERM");
    assert!(!terminal.is_taken());
}

#[test]
fn without_a_terminal_there_is_a_line_a_second() {
    if !privileged("without_a_terminal_there_is_a_line_a_second") {
        return;
    }
    let program = example("phase_calls");
    let output = Command::new(TRACER)
        .args(["run", "--live", "-q", "--", "sh", "-c"])
        .arg(format!("{} >/dev/null; sleep 2.3", program.display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!((2..=5).contains(&lines.len()), "{text}");
    assert!(lines.iter().all(|line| line.contains(" calls · ") && line.contains(" a second")), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(output.status.success());
}

#[test]
fn running_processes_are_shown_too() {
    if !privileged("running_processes_are_shown_too") {
        return;
    }
    let mut child = Command::new("sleep").arg("30").spawn().unwrap();
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} attach --live -p {}\n", child.id()));
    terminal.see("nothing lost");
    terminal.see(&format!("attached to {}", child.id()));
    terminal.send("q");
    terminal.see("detached");
    assert!(!terminal.is_taken());
    child.kill().unwrap();
    child.wait().unwrap();
}
