//! What runs in the machines, and the programs that it needs: as `cargo test` builds them, without their debug
//! information, and with the libraries that they want.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo};

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
    /// Whether AMD's runtime is to be there, in `/rocr`.
    pub(super) needs_rocr: bool,
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
            needs_rocr: false,
            files: [&programs.tracer]
                .into_iter()
                .chain(&programs.examples)
                .map(Program::file)
                .chain(programs.libraries.iter().cloned())
                .collect(),
            script: format!(
                "PATH={}:{}:$PATH\n{script}\n",
                path(&programs.tracer.path),
                path(&programs.examples[0].path)
            ),
        }
    }

    /// With a program of this machine and its libraries.
    fn with_program(mut self, name: &str) -> Result<Self> {
        let path = process::find_program(name)
            .with_context(|| format!("no program `{name}`\n  hint: `cargo xtask setup --tests` installs it"))?;
        self.files.extend(libraries_of(&path)?);
        self.files.push((format!("/bin/{name}"), path));
        Ok(self)
    }

    /// With `bench` and what it needs.
    fn with_bench(mut self) -> Result<Self> {
        let bench = Program::new(process::target_folder().join("debug/bench"))?;
        self.files.extend(libraries_of(&bench.path)?);
        self.files.push(("/bin/bench".to_owned(), bench.stripped));
        Ok(self)
    }

    /// Whether a kernel has what is tested.
    pub(super) fn is_for(&self, kernel: (u32, u32)) -> bool {
        kernel >= self.minimum
    }
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
        GuestTest::new("privileges", &programs, include_str!("privileges.sh")).with_program("setpriv")?,
        GuestTest { modules: &["cuse"], ..GuestTest::new("losses", &programs, include_str!("losses.sh")) },
        GuestTest { modules: &["amdgpu"], ..GuestTest::new("kfd", &programs, &on_devices(include_str!("kfd.sh"))) },
        GuestTest {
            modules: &["amdgpu"],
            needs_rocr: true,
            ..GuestTest::new("rocr", &programs, &on_devices(include_str!("rocr.sh")))
        },
        GuestTest {
            modules: &["amdgpu"],
            needs_rocr: true,
            ..GuestTest::new("hip", &programs, &on_devices(include_str!("hip.sh")))
        }
        .with_bench()?,
        GuestTest { modules: &["vgem"], ..GuestTest::new("vgem", &programs, &on_devices(include_str!("vgem.sh"))) },
        GuestTest { modules: &["cuse"], ..GuestTest::new("nvidia", &programs, &on_devices(include_str!("nvidia.sh"))) },
    ];
    for (module, minimum, left_out) in &MODULES {
        let skip: String = left_out.iter().map(|test| format!(" --skip {test}")).collect();
        // One round: `cargo xtask test` does more of them on a faster machine.
        let program = programs.integration.path.display();
        let run = format!("GPUOS_REQUIRE_PRIVILEGED=1 GPUOS_ROUNDS=1 {program} {module}::{skip}");
        let mut test = GuestTest { minimum: *minimum, ..GuestTest::new(&format!("tests/{module}"), &programs, &run) };
        test.files.push(programs.integration.file());
        tests.push(test);
    }
    Ok(tests)
}

/// A script that compares calls on devices.
fn on_devices(script: &str) -> String {
    format!("{}\n{script}", include_str!("devices.sh"))
}

/// Modules of the tracer's integration tests that need little but the kernel and a shell; the oldest kernel for them; tests
/// in them that need more than a guest has.
const MODULES: [(&str, (u32, u32), &[&str]); 8] = [
    (
        "syscalls",
        MINIMUM,
        &[
            // They compare with python3.
            "cpu_time_of_short_processes_is_what_the_kernel_says",
            "what_a_process_used_is_what_the_kernel_says",
            // Where a CPU is emulated, its timer of 3 ms may fire before the sleep begins.
            "a_restart_is_no_error",
        ],
    ),
    ("tasks", MINIMUM, &[]),
    (
        "attach",
        MINIMUM,
        // They need python3.
        &["what_it_uses_from_then_on_is_counted_to_the_end", "a_process_goes_on_after_its_first_thread"],
    ),
    (
        "ioctl",
        MINIMUM,
        // They make their calls by python3.
        &["calls_beyond_the_rows_of_a_thread_are_exact", "a_program_cannot_fill_the_maps_with_numbers"],
    ),
    ("exactness", MINIMUM, &[]),
    ("phases", MINIMUM, &["c_and_python_mark_phases_too"]),
    (
        "record",
        MINIMUM,
        // They need python3 or `unshare`.
        &[
            "a_recording_tells_who_did_what_when",
            "a_phase_that_is_open_when_the_window_begins_is_told",
            "a_full_disk_ends_the_recording_and_not_the_command",
            "a_failure_elsewhere_costs_no_recording",
        ],
    ),
    ("verifier", MINIMUM, &[]),
];

/// Programs that make known calls.
const EXAMPLES: [&str; 8] =
    ["known_calls", "call_loops", "device_calls", "kfd_calls", "fake_nvidia", "vgem_calls", "hsa_calls", "phase_calls"];

/// A program: where it is here and in the guest, and its copy without debug information.
struct Program {
    path: PathBuf,
    stripped: PathBuf,
}

/// Where the copies for the guests are.
fn copies() -> PathBuf {
    process::target_folder().join("vmtest/programs")
}

impl Program {
    fn new(path: PathBuf) -> Result<Self> {
        let folder = copies();
        fs::create_dir_all(&folder)?;
        let stripped = folder.join(path.file_name().context("a program has a name")?);
        process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(&path))?;
        Ok(Self { path, stripped })
    }

    /// It lies in the guest where it lies here: the test programs know each other by path.
    fn file(&self) -> (String, PathBuf) {
        (self.path.display().to_string(), self.stripped.clone())
    }
}

struct Programs {
    tracer: Program,
    examples: Vec<Program>,
    integration: Program,
    /// Libraries and the loader, at the paths where programs look for them.
    libraries: Vec<(String, PathBuf)>,
}

impl Programs {
    fn build() -> Result<Self> {
        eprintln!("building the programs for the guests");
        // Test programs have a hash in their names: those of an earlier build would stay, 30 MB each.
        if copies().exists() {
            fs::remove_dir_all(copies()).with_context(|| format!("cannot remove {}", copies().display()))?;
        }
        // The whole workspace, as `cargo xtask test` builds it: a single package would have dependencies with other
        // features, and so a second copy of all of them, polars and its 150 MB included.
        process::run(cargo().args(["build", "--quiet", "--workspace", "--bins", "--examples"]))?;
        let output = cargo()
            .args(["test", "--quiet", "--workspace", "--no-run", "--tests", "--message-format", "json"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the tests do not compile: {}", output.status);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let folder = process::target_folder().join("debug");
        let tracer = Program::new(folder.join("gpuos-trace"))?;
        let libraries = libraries_of(&tracer.path)?;
        let example = |name: &&str| Program::new(folder.join("examples").join(name));
        Ok(Self {
            tracer,
            examples: EXAMPLES.iter().map(example).collect::<Result<_>>()?,
            integration: Program::new(
                text.lines().find_map(integration_tests).context("cargo built no integration tests of the tracer")?,
            )?,
            libraries,
        })
    }
}

/// What the loader would load.
fn libraries_of(program: &Path) -> Result<Vec<(String, PathBuf)>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    let found: Vec<_> = text.lines().filter_map(path).map(|path| (path.clone(), PathBuf::from(path))).collect();
    if found.is_empty() {
        bail!("ldd names no libraries of {}: {text}", program.display());
    }
    Ok(found)
}

/// The path in a message of cargo that the tracer's integration tests were built.
fn integration_tests(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let source = message["target"]["src_path"].as_str()?;
    if !source.ends_with("gpuos-trace/tests/integration/main.rs") {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn finds_test_programs_in_the_messages_of_cargo() {
        let message = |package| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"src_path":"/a/{package}/tests/integration/main.rs"}},"executable":"/a/deps/i-0a"}}"#
            )
        };
        assert_eq!(integration_tests(&message("gpuos-trace")), Some("/a/deps/i-0a".into()));
        assert_eq!(integration_tests(&message("workloads")), None);
        assert_eq!(integration_tests("not a message"), None);
    }
}
