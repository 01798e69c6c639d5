//! What runs in the machines, and the static programs that it needs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo},
    setup::STATIC_TARGET,
};

/// The oldest kernel on which the tracer works. Nothing older was tried.
const MINIMUM: (u32, u32) = (5, 10);

/// A shell script that runs in a machine of its own; exit status 0 is success. A line of its output that
/// begins with `SKIP ` says that it did not test anything, which is a failure: kernels that are too old are left out here.
#[derive(Debug)]
pub(super) struct GuestTest {
    pub(super) name: String,
    /// Kernels from this one on.
    minimum: (u32, u32),
    /// Kernel modules that are loaded before.
    pub(super) modules: &'static [&'static str],
    /// Path in the guest, path here.
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) script: String,
}

impl GuestTest {
    fn new(name: &str, programs: &Programs, script: &str) -> Self {
        let path = |program: &Path| program.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        Self {
            name: name.to_owned(),
            minimum: MINIMUM,
            modules: &[],
            files: [&programs.tracer, &programs.known_calls].into_iter().map(|program| as_here(program)).collect(),
            script: format!("PATH={}:{}:$PATH\n{script}\n", path(&programs.tracer), path(&programs.known_calls)),
        }
    }

    /// Whether a kernel has what is tested.
    pub(super) fn is_for(&self, kernel: (u32, u32)) -> bool {
        kernel >= self.minimum
    }
}

/// A file that lies in the guest where it lies here: the test programs know each other by path.
fn as_here(path: &Path) -> (String, PathBuf) {
    (path.display().to_string(), path.to_owned())
}

/// All tests, or only this one, with their programs built.
pub(super) fn all(command: Option<&str>) -> Result<Vec<GuestTest>> {
    let programs = Programs::build()?;
    if let Some(script) = command {
        return Ok(vec![GuestTest { minimum: (0, 0), ..GuestTest::new("command", &programs, script) }]);
    }
    let mut tests = vec![
        GuestTest::new("check", &programs, "gpuos-trace check --json"),
        GuestTest::new("counts", &programs, include_str!("counts.sh")),
    ];
    for program in &programs.tests {
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        // cargo ends the name in a hash.
        let name = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
        let Some((_, minimum, left_out)) = TESTS.iter().find(|(known, ..)| *known == name) else { continue };
        let skip: String = left_out.iter().map(|test| format!(" --skip {test}")).collect();
        // One round: `cargo xtask test` does more of them on a faster machine.
        let run = format!("GPUOS_REQUIRE_PRIVILEGED=1 GPUOS_ROUNDS=1 {}{skip}", program.display());
        let mut test = GuestTest { minimum: *minimum, ..GuestTest::new(&format!("tests/{name}"), &programs, &run) };
        test.files.push(as_here(program));
        tests.push(test);
    }
    Ok(tests)
}

/// Test programs of the tracer that need little but the kernel and a shell; the oldest kernel for them; tests in
/// them that need more than a guest has.
const TESTS: [(&str, (u32, u32), &[&str]); 5] = [
    (
        "syscalls",
        MINIMUM,
        &[
            // They compare with python3.
            "cpu_time_of_short_processes_is_what_the_kernel_says",
            "what_a_process_used_is_what_the_kernel_says",
            // A static program makes fewer than 16 different calls, and takes no slower path.
            "more_calls_than_a_thread_has_rows_stay_exact",
            // Where a CPU is emulated, its timer of 3 ms may fire before the sleep begins.
            "a_restart_is_no_error",
        ],
    ),
    ("tasks", MINIMUM, &[]),
    // Attaching to the threads of a process needs PIDFD_THREAD of Linux 6.9.
    ("attach", (6, 9), &["what_it_uses_from_then_on_is_counted_to_the_end"]),
    ("exactness", MINIMUM, &[]),
    ("verifier", MINIMUM, &[]),
];

/// Static programs, which need nothing from the guest.
struct Programs {
    tracer: PathBuf,
    known_calls: PathBuf,
    tests: Vec<PathBuf>,
}

impl Programs {
    fn build() -> Result<Self> {
        eprintln!("building for {STATIC_TARGET} (minutes the first time)");
        let common = ["--quiet", "--release", "--target", STATIC_TARGET, "--package", "gpuos-trace"];
        let examples = ["--bins", "--example", "known_calls"];
        process::run(cargo().arg("build").args(common).args(examples))?;
        let output = cargo()
            .args(["test", "--no-run", "--tests", "--message-format", "json"])
            .args(common)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the tests do not compile for {STATIC_TARGET}: {}", output.status);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let folder = process::target_folder().join(STATIC_TARGET).join("release");
        Ok(Self {
            tracer: folder.join("gpuos-trace"),
            known_calls: folder.join("examples/known_calls"),
            tests: text.lines().filter_map(executable).collect(),
        })
    }
}

/// The path in a message of cargo that a test program was built.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    (message["target"]["kind"][0] == "test").then(|| message["executable"].as_str().map(PathBuf::from))?
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn finds_test_programs_in_the_messages_of_cargo() {
        let message = |kind| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"]}},"executable":"/a/deps/tasks-0a"}}"#
            )
        };
        assert_eq!(executable(&message("test")), Some("/a/deps/tasks-0a".into()));
        assert_eq!(executable(&message("bin")), None);
        assert_eq!(executable("not a message"), None);
    }
}
