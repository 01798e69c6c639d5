//! Files: every format holds the same run, carries its header and prints the same tables again.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::support::{TRACER, is_installed, skip};
use gpuos_runs::{columns::column, files};
use gpuos_test_macros::privileged;

#[privileged]
fn every_format_prints_the_same_tables_again() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["parquet", "json", "csv"] {
        let file = folder.path().join("run").with_extension(ending);
        let output = Command::new(TRACER)
            .args(["run", "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", "ls / | wc -l"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let shown = Command::new(TRACER).arg("show").arg(&file).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let tables = printed.split("\nwrote ").next().unwrap().trim();
        assert_eq!(tables, shown.trim(), "{ending}");
        let run = files::read(&file).unwrap();
        let header = &run.header;
        assert_eq!(header.command, ["sh", "-c", "ls / | wc -l"]);
        assert_eq!(header.processes.len(), 3);
        assert!(header.clocks.realtime_ns > header.clocks.boottime_ns && header.wall_ns > 0);
        assert!(!header.host.kernel.is_empty() && !header.user.name.is_empty() && header.started.ends_with('Z'));
        // What a program does is for the owner of the file only.
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[privileged]
fn a_run_can_go_to_standard_output_or_a_pipe() {
    let output = Command::new(TRACER).args(["run", "-q", "-o", "-", "--format", "csv", "--", "true"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("# gpuos-trace {") && text.contains("execve"), "{text}");
    // The command's own output in the same file is not lost.
    let folder = tempfile::tempdir().unwrap();
    let both = folder.path().join("both");
    let status = Command::new(TRACER)
        .args(["run", "-q", "-o", "/dev/stdout", "--format", "json", "--", "echo", "mine"])
        .stdout(fs::File::create(&both).unwrap())
        .status();
    assert!(status.unwrap().success());
    assert!(fs::read_to_string(&both).unwrap().starts_with("mine\n{"));
    let output = Command::new(TRACER)
        .args(["run", "-q", "-o", "/dev/stdout", "--format", "json", "--", "true"])
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with('{'));
}

#[test]
fn a_failed_run_leaves_an_older_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    fs::write(&file, "precious").unwrap();
    let status =
        Command::new(TRACER).args(["run", "-q", "-o"]).arg(&file).args(["--", "no-such-command"]).status().unwrap();
    assert_eq!(status.code(), Some(127));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no unfinished file is left behind");
}

#[privileged]
fn roles_can_be_overridden() {
    let folder = tempfile::tempdir().unwrap();
    let roles = folder.path().join("roles.toml");
    fs::write(&roles, "[roles]\nexecve = \"submission\"\n[categories]\nexecve = \"start\"\n").unwrap();
    let trace = crate::support::trace(&["--roles", roles.to_str().unwrap(), "-e", "start,memory"], &["true"]);
    let names = trace.run.calls.column(column::SYSCALL).unwrap().str().unwrap();
    let at = names.iter().position(|name| name == Some("execve")).unwrap();
    assert_eq!(trace.run.calls.column(column::ROLE).unwrap().str().unwrap().get(at), Some("submission"));
    assert_eq!(trace.run.calls.column(column::CATEGORY).unwrap().str().unwrap().get(at), Some("start"));
    assert!(trace.stderr().contains("submission"));
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(TRACER).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("gpuos-trace"), "{shell}");
    }
}

#[test]
fn the_table_of_device_calls_shows_every_measure_on_120_columns() {
    // Recorded on an H200; its longest names have 49 characters.
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/../study/phase1/h200/decode/kernel-vulkan.csv");
    let shown = Command::new(TRACER).args(["show", run]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (_, table) = shown.split_once("\n device ").unwrap();
    let lines: Vec<&str> = table.lines().take_while(|line| line.starts_with([' ', 'c'])).collect();
    for head in ["call", "role", "calls", "total", "p50", "p99", "max"] {
        assert!(lines[0].split_whitespace().any(|word| word == head), "no {head}: {}", lines[0]);
    }
    assert!(lines.len() > 10 && lines.iter().all(|line| line.chars().count() <= 120), "{table}");
    // Two refused calls are below what is listed.
    assert!(shown.contains(" · 2 calls refused by a driver's status\n"), "{shown}");
    // What has no room goes on below, whole.
    assert!(lines.iter().any(|line| line.trim() == "NVOS32_FUNCTION_ALLOC_SIZE"), "{table}");
}

#[privileged]
fn every_loss_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    assert!(Command::new(TRACER).args(["run", "-q", "-o"]).arg(&file).args(["--", "true"]).status().unwrap().success());
    let run: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for loss in gpuos_runs::losses::Losses::default().all() {
        let mut lossy = run.clone();
        lossy["header"]["losses"][loss.name] = 7.into();
        let changed = folder.path().join("lossy.json");
        fs::write(&changed, lossy.to_string()).unwrap();
        let shown = Command::new(TRACER).arg("show").arg(&changed).output().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("LOST: 7 {}", loss.sentence)), "{}: {text}", loss.name);
    }
}

#[privileged]
fn a_time_namespace_shifts_no_clock() {
    const TEST: &str = "a_time_namespace_shifts_no_clock";
    if !fs::exists("/proc/self/timens_offsets").unwrap() || !is_installed("unshare") {
        return skip(TEST, "no time namespaces, or no unshare");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let shifted = Command::new("unshare")
        .args(["--time", "--fork", "--monotonic", "500000", "--boottime", "900000", "--", TRACER, "run", "-q", "-o"])
        .arg(&file)
        .args(["--", "true"])
        .status();
    assert!(shifted.unwrap().success());
    let (here, there) = (gpuos_host::environment::clocks(), files::read(&file).unwrap().header.clocks);
    let apart = |now: u64, then: u64| now.checked_sub(then).expect("not of the future") / 1_000_000_000;
    for seconds in [apart(here.monotonic_ns, there.monotonic_ns), apart(here.boottime_ns, there.boottime_ns)] {
        assert!(seconds < 3600, "{seconds} s apart");
    }
}
