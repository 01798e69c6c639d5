//! What the tests share: tracing a command and asking for its counts.

pub(crate) mod terminal;

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use gpuos_runs::{
    columns::column,
    files,
    group::{self, Group},
    run::Run,
};
pub(crate) use gpuos_testprogs::{privileged, skip};

/// The program under test.
pub(crate) const TRACER: &str = env!("CARGO_BIN_EXE_gpuos-trace");

/// The programs with known numbers of calls.
pub(crate) fn known_calls() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("known_calls")).clone()
}

/// Waits until this is true; a minute is enough for an emulated machine.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < Duration::from_mins(1), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An example program.
///
/// `cargo test` builds them along with the tests, unless it was asked for one test program only.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = Path::new(TRACER).parent().unwrap().join("examples").join(name);
    if !path.exists() {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "gpuos-testprogs", "--example", name])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "cannot build the example {name}");
    }
    path
}

/// Whether there is such a program.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The program under test where everybody can enter, for tests of users that cannot enter our folder.
pub(crate) fn copy_for_everybody() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("gpuos-trace");
    // By another process: a file that this one has open for writing is busy in children that other tests start meanwhile.
    assert!(Command::new("cp").arg(TRACER).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    (folder, copy)
}

/// Starts `attach` and waits until it says that it is attached.
pub(crate) fn attached(command: &mut Command) -> Child {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("attached to"), "{line}");
    // Drained by a thread of its own, so that the tracer never waits for us.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    child
}

/// A finished trace: what the command printed, and what was counted.
pub(crate) struct Trace {
    pub(crate) output: Output,
    pub(crate) run: Run,
}

/// Traces a command with these options.
pub(crate) fn trace<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.parquet");
    let output =
        Command::new(TRACER).arg("run").args(options).arg("-o").arg(&file).arg("--").args(command).output().unwrap();
    let run = files::read(&file).unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
    Trace { output, run }
}

/// Traces one of the programs with known numbers of calls.
pub(crate) fn trace_known(options: &[&str], words: &[&str]) -> Trace {
    let program = known_calls();
    let mut command = vec![program.as_os_str()];
    command.extend(words.iter().map(OsStr::new));
    let trace = trace(options, &command);
    assert!(!trace.run.header.losses.any(), "{:?}", trace.run.header.losses);
    trace
}

impl Trace {
    /// Everything counted under a name; zero when there is nothing.
    pub(crate) fn group(&self, syscall: &str) -> Group {
        group::group(&self.run.calls, &[column::SYSCALL])
            .unwrap()
            .into_iter()
            .find(|group| group.key[0] == syscall)
            .unwrap_or_default()
    }

    /// Number of calls under a name.
    pub(crate) fn calls(&self, syscall: &str) -> u64 {
        self.group(syscall).calls
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}
