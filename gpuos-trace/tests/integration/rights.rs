//! Whose rights the tracer has, what it shows with them, and when it gives them up.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use gpuos_test_macros::privileged;
use gpuos_testprogs::skip;

use crate::support::{TRACER, copy_for_everybody, example, wait_until};

/// A user that owns nothing else on the machine.
const USER: u32 = 65534;

fn as_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.uid(USER).gid(USER);
    command
}

/// A process of root, ended when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A tracer whose rights are those of its file, as the recipe makes it.
fn with_rights_of_its_file() -> Option<(tempfile::TempDir, PathBuf)> {
    let (folder, copy) = copy_for_everybody();
    let done = Command::new("setcap").arg("cap_bpf,cap_perfmon=ep").arg(&copy).status();
    done.is_ok_and(|status| status.success()).then_some((folder, copy))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Effective and permitted capabilities.
fn capabilities_of(pid: u32) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    ["CapEff:", "CapPrm:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(u64::MAX, |mask| u64::from_str_radix(mask.trim(), 16).unwrap())
    })
}

#[privileged]
fn capabilities_are_given_up_when_nothing_needs_them() {
    // CAP_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _KILL, _SYS_PTRACE, _SYS_NICE of `linux/capability.h`.
    let mut kept: u64 = [0, 1, 2, 3, 5, 19, 23].iter().map(|bit| 1 << bit).sum();
    if gpuos_host::environment::kernel_version() < (5, 19) {
        // Reading maps needs CAP_BPF or CAP_SYS_ADMIN there.
        kept |= 1 << 39 | 1 << 21;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut tracer = Command::new(TRACER)
        .args(["record", "-q", "-o", "r.parquet", "--stacks", "stacks.txt", "--", "sleep", "60"])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let is_over = || capabilities_of(tracer.id()).iter().all(|held| held & !kept == 0);
    wait_until("capabilities are given up", is_over);
    let threads = fs::read_dir(format!("/proc/{}/task", tracer.id())).unwrap().flatten();
    for thread in threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        assert!(capabilities_of(thread).iter().all(|held| held & !kept == 0), "thread {thread}");
    }
    let pid = nix::unistd::Pid::from_raw(tracer.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    tracer.wait().unwrap();
}

#[privileged]
fn rights_of_the_file_show_what_the_caller_could_ptrace() {
    const TEST: &str = "rights_of_the_file_show_what_the_caller_could_ptrace";
    let Some((folder, tracer)) = with_rights_of_its_file() else {
        return skip(TEST, "no setcap, or no capabilities of files here");
    };
    let run = |arguments: &[&str]| {
        as_user(&tracer).args(arguments).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap()
    };
    // A command of one's own, and a process of one's own.
    let output = run(&["run", "-o", "-", "-e", "getpid,exit_group", "--", "true"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut own = as_user("sleep").arg("1").spawn().unwrap();
    let output = run(&["attach", "-p", &own.id().to_string()]);
    own.wait().unwrap();
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0");
    let is_refused = stderr(&output).contains("not yours");
    assert!(is_refused == yama, "{}", stderr(&output));
    // Those of others.
    let others = Sleeper::start();
    for command in [&["attach", "-p"][..], &["record", "-o", "x.parquet", "-p"]] {
        let output = run(&[command, &[&others.pid()]].concat());
        assert_eq!(output.status.code(), Some(125));
        assert!(stderr(&output).contains("not yours to look at"), "{}", stderr(&output));
    }
    let output = run(&["run", "--api", "--", "true"]);
    assert!(!output.status.success() && stderr(&output).contains("rights from its file"), "{}", stderr(&output));
}

#[privileged]
fn a_file_of_ours_is_written_into_where_none_can_be_made() {
    const TEST: &str = "a_file_of_ours_is_written_into_where_none_can_be_made";
    let Some((folder, tracer)) = with_rights_of_its_file() else {
        return skip(TEST, "no setcap, or no capabilities of files here");
    };
    let own = folder.path().join("read-only");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("run.json"), "").unwrap();
    for path in [&own, &own.join("run.json")] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions(&own, fs::Permissions::from_mode(0o555)).unwrap();
    let output =
        as_user(&tracer).args(["run", "-q", "-o", "run.json", "--", "true"]).current_dir(&own).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read_to_string(own.join("run.json")).unwrap().starts_with('{'));
}

#[privileged]
fn a_program_that_gets_other_rights_while_it_is_attached_to_is_let_go() {
    const TEST: &str = "a_program_that_gets_other_rights_while_it_is_attached_to_is_let_go";
    let Some((folder, tracer)) = with_rights_of_its_file() else {
        return skip(TEST, "no setcap, or no capabilities of files here");
    };
    let setuid = folder.path().join("of-root");
    assert!(Command::new("cp").arg("/bin/sleep").arg(&setuid).status().unwrap().success());
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    // The more threads there are, the longer marking them takes; one of them executes the program meanwhile.
    for delay in ["1", "5", "20", "60", "120"] {
        let mut racing = as_user(example("known_calls"))
            .args(["exec-of-another", "1000", delay])
            .arg(&setuid)
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let output = as_user(&tracer)
            .args(["attach", "-q", "-o", "raced.json", "-p", &racing.id().to_string()])
            .current_dir(folder.path())
            .output()
            .unwrap();
        racing.wait().unwrap();
        if !output.status.success() {
            assert!(stderr(&output).contains("not yours to look at"), "{}", stderr(&output));
            continue;
        }
        let run: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("raced.json")).unwrap()).unwrap();
        for row in run["calls"].as_array().unwrap() {
            // What the program before it did is the caller's own.
            let is_of_root = row["command"] == "of-root" && row["syscall"] == "clock_nanosleep";
            assert!(!is_of_root, "{delay} ms: {row}");
        }
    }
}

#[privileged]
fn programs_with_other_rights_are_not_followed() {
    const TEST: &str = "programs_with_other_rights_are_not_followed";
    let Some((folder, tracer)) = with_rights_of_its_file() else {
        return skip(TEST, "no setcap, or no capabilities of files here");
    };
    let copy = |name: &str| {
        let path = folder.path().join(name);
        assert!(Command::new("cp").arg("/bin/cat").arg(&path).status().unwrap().success());
        path
    };
    let (setuid, capable) = (copy("of-root"), copy("capable"));
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(Command::new("setcap").arg("cap_net_raw=ep").arg(&capable).status().unwrap().success());
    for program in ["./of-root", "./capable"] {
        for mode in [&[][..], &["-e", "openat,close"]] {
            let script = format!("{program} /dev/null; cat /dev/null; {program} /dev/null; true");
            let output = as_user(&tracer)
                .args([&["run", "-q", "-o", "-"], mode, &["--", "sh", "-c", &script]].concat())
                .current_dir(folder.path())
                .output()
                .unwrap();
            let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(run["header"]["losses"]["other_rights"], 2, "{program} {mode:?}");
            let calls = run["calls"].as_array().unwrap();
            let of = |command: &str| -> Vec<&str> {
                let of_command = calls.iter().filter(|row| row["command"] == command);
                of_command.map(|row| row["syscall"].as_str().unwrap()).collect()
            };
            assert!(of("cat").contains(&"openat"), "{program} {mode:?}");
            // What its shell did before it executed the program is the shell's.
            let theirs = of(program.trim_start_matches("./"));
            assert!(theirs.iter().all(|call| !matches!(*call, "openat" | "mmap" | "read")), "{mode:?} {theirs:?}");
        }
    }
    // Root has rights of its own, and follows everybody.
    let output =
        Command::new(TRACER).args(["run", "-q", "-o", "-", "--"]).arg(&setuid).arg("/dev/null").output().unwrap();
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["header"]["losses"]["other_rights"], 0);
}
