//! The live view, as a person at a terminal sees it, and as a file does.

use std::{process::Command, time::Duration};

use gpuos_test_macros::privileged;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    TRACER, example,
    terminal::{COLUMNS, ROWS, Terminal},
};

fn terminal() -> Terminal {
    let mut terminal = Terminal::open();
    terminal.send(&format!("stty rows {ROWS} cols {COLUMNS}\n"));
    terminal.expect("ready> ");
    terminal
}

#[privileged]
fn the_screen_is_taken_and_given_back_with_the_commands_output() {
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

#[privileged]
fn keys_are_followed() {
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

#[privileged]
fn a_pane_of_the_commands_output_can_be_there_from_the_beginning() {
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} run --live --pane --top 1 -- sh -c 'echo in the pane; sleep 1.5; exit 8'\n"));
    terminal.see("output of the command");
    let picture = terminal.see("\nin the pane");
    assert!(terminal.is_taken(), "{picture}");
    terminal.see("exit status 8");
}

#[privileged]
fn a_killed_view_gives_the_terminal_back() {
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} run --live --top 2 -- sleep 31.5\n"));
    terminal.see("nothing lost");
    kill(tracer_of("sleep 31.5"), Signal::SIGTERM).unwrap();
    terminal.see("killed by SIGTERM");
    assert!(!terminal.is_taken());
}

#[privileged]
fn a_terminal_that_goes_away_ends_the_view_and_not_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (counts, ready) = (folder.path().join("counts.json"), folder.path().join("ready"));
    let mut terminal = terminal();
    // The command ignores that its terminal is gone, and makes calls afterwards.
    let script = folder.path().join("script");
    let text = format!(
        "trap '' HUP; touch {}; while test -e {0}; do sleep 0.1; done; exec {} getppid 77",
        ready.display(),
        crate::support::known_calls().display()
    );
    std::fs::write(&script, text).unwrap();
    let command = format!("sh {}", script.display());
    terminal.send(&format!("{TRACER} run --live -o {} -- {command}\n", counts.display()));
    terminal.see("nothing lost");
    crate::support::wait_until("the command begins", || ready.exists());
    let tracer = tracer_of(&command);
    drop(terminal);
    std::thread::sleep(Duration::from_millis(500));
    std::fs::remove_file(&ready).unwrap();
    crate::support::wait_until("the tracer ends", || !std::path::Path::new(&format!("/proc/{tracer}")).exists());
    let text = std::fs::read_to_string(&counts).unwrap();
    let run: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = run["calls"].as_array().unwrap();
    // A shell asks for its parent once, too.
    let calls = |row: &serde_json::Value| if row["syscall"] == "getppid" { row["calls"].as_u64().unwrap() } else { 0 };
    assert!(rows.iter().map(calls).sum::<u64>() >= 77, "{text}");
}

#[privileged]
fn output_that_finds_no_place_is_said_and_the_command_does_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = folder.path().join("script");
    std::fs::write(
        &script,
        "set -e\ni=0\nwhile test $i -lt 5000; do echo a line of output, number $i; i=$((i+1)); done\nexit 6\n",
    )
    .unwrap();
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let mut terminal = terminal();
    terminal.send(&format!(
        "unshare -m sh -c 'mount -t tmpfs -o size=64k none {path}/copy; TMPDIR={path}/copy {TRACER} run --live --top 1 -- sh {path}/script'; echo status=$?\n"
    ));
    terminal.see("status=6");
    let said = terminal.expect("status=6");
    assert!(said.contains(" of the command's output found no place"), "{said}");
    assert!(said.contains("number 0\r") && said.contains("number 4999\r"), "{said}");
}

#[privileged]
fn without_a_terminal_there_is_a_line_a_second() {
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

#[privileged]
fn running_processes_are_shown_too() {
    let mut child = Command::new("sleep").arg("30").spawn().unwrap();
    let mut terminal = terminal();
    terminal.send(&format!("{TRACER} attach --live -p {}\n", child.id()));
    terminal.see("nothing lost");
    terminal.see(&format!("attached to {}", child.id()));
    // It has made no call since, and is there all the same.
    terminal.see(&format!("{} ", child.id()));
    terminal.see(" sleep");
    terminal.send("q");
    terminal.see("detached");
    assert!(!terminal.is_taken());
    child.kill().unwrap();
    child.wait().unwrap();
}
