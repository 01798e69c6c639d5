//! An unmodified program on the fake driver of `client/jobs`, with the library preloaded and without.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn examples() -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    beside.parent().unwrap().parent().unwrap().join("examples")
}

struct Fixture {
    folder: tempfile::TempDir,
    preload: PathBuf,
}

/// A program of `tests/`: its file, what is defined, the fake it is linked with.
type Program<'a> = (&'a str, &'a [&'a str], Option<&'a str>);

const UNMODIFIED: Program<'_> = ("unmodified.c", &[], None);
const LINKED: Program<'_> = ("unmodified.c", &["-DLINKED"], Some("libcuda.so.1"));
const HIP: Program<'_> = ("unmodified.c", &["-DLINKED", "-DHIP"], Some("libamdhip64.so.6"));
const MEMORY: Program<'_> = ("memory.c", &[], Some("libcuda.so.1"));

impl Fixture {
    fn new((file, defined, linked): Program<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Neither is built with a test: one is no library of Rust, the others examples of another crate.
        for words in [
            &["--package", "gpuos-job-preload", "--lib", "--quiet"][..],
            &["--package", "gpuos-job", "--example", "fake_cuda_jobs", "--example", "fake_hip_jobs"],
        ] {
            let mut build = Command::new(env!("CARGO"));
            assert!(build.arg("build").args(words).stderr(Stdio::null()).status().unwrap().success(), "{words:?}");
        }
        let preload = examples().with_file_name("libgpuos_job_preload.so");
        for (fake, name) in [("libfake_cuda_jobs.so", "libcuda.so.1"), ("libfake_hip_jobs.so", "libamdhip64.so.6")] {
            let linked = Command::new("ln").arg("-s").arg(examples().join(fake)).arg(folder.path().join(name)).status();
            assert!(linked.unwrap().success());
        }
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut compile = Command::new("cc");
        compile
            .args(["-O1", "-fno-builtin", "-o"])
            .arg(folder.path().join("program"))
            .args(defined)
            .arg(tests.join(file));
        compile.args(linked.map(|name| folder.path().join(name))).arg("-ldl");
        assert!(compile.status().unwrap().success());
        Self { folder, preload }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("program"));
        command.args(words).env("LD_LIBRARY_PATH", self.folder.path());
        command
    }

    fn run(&self, words: &[&str], is_preloaded: bool, jobs: &str) -> Output {
        let mut command = self.command(words);
        if is_preloaded {
            command.env("LD_PRELOAD", &self.preload).env("GPUOS_JOBS", jobs).env("GPUOS_JOBS_STATS", "1");
        }
        command.output().unwrap()
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[test]
fn its_waits_are_jobs_and_none_returns_early() {
    let fixture = Fixture::new(UNMODIFIED);
    for way in ["dlsym", "procaddress", "before-12"] {
        let bare = fixture.run(&[way], false, "");
        assert_eq!(String::from_utf8_lossy(&bare.stdout), "launched 200 early 0\n");
        let preloaded = fixture.run(&[way], true, "on");
        assert_eq!(preloaded.stdout, bare.stdout, "{}", String::from_utf8_lossy(&preloaded.stderr));
        // Launches are 5 a round, waits 4: three are jobs, of four classes (a wait for two streams is of two).
        let said = String::from_utf8_lossy(&preloaded.stderr);
        assert!(said.contains("200 launches, 160 waits: 120 as jobs of 4 classes"), "{way}: {said}");
        assert!(said.contains("40 passed through"), "{way}: {said}");
        assert!(said.contains("0 in a form that is not known"), "{way}: {said}");
    }
}

#[test]
fn programs_that_are_linked_with_a_runtime_are_seen() {
    for program in [LINKED, HIP] {
        let fixture = Fixture::new(program);
        let bare = fixture.run(&[], false, "");
        assert_eq!(text(&bare.stdout), "launched 200 early 0\n", "{}", text(&bare.stderr));
        let preloaded = fixture.run(&[], true, "identity,wait");
        let said = text(&preloaded.stderr);
        assert_eq!(preloaded.stdout, bare.stdout, "{said}");
        assert!(said.contains("200 launches, 160 waits: 120 as jobs of 4 classes"), "{program:?}: {said}");
        assert!(!said.contains("(0 slept)"), "{program:?}: {said}");
    }
}

#[test]
fn with_identity_alone_waits_are_the_runtime_s() {
    let fixture = Fixture::new(LINKED);
    let seen = fixture.run(&[], true, "identity");
    assert_eq!(text(&seen.stdout), "launched 200 early 0\n");
    let said = text(&seen.stderr);
    assert!(said.contains("200 launches, 160 waits: 120 as jobs of 4 classes (0 slept)"), "{said}");
    // A word that is none is said, and changes nothing.
    let wrong = fixture.run(&[], true, "wait,speed");
    let said = text(&wrong.stderr);
    assert!(said.contains("GPUOS_JOBS=`wait,speed`") && said.contains(": 0 as jobs"), "{said}");
}

#[test]
fn freed_memory_comes_again_without_a_call() {
    let fixture = Fixture::new(MEMORY);
    let of = |again: &str, after: &str| {
        format!(
            "again: {again}\nlarger 0, after: {after}\ntoo much 2\ndestroyed: asked ASKED has 0\nanew: asked ANEW has 1\ntwice 0 1, none 1\n"
        )
    };
    let bare = fixture.run(&[], false, "");
    let expected = of("asked 200 has 0", "asked 201 has 1").replace("ASKED", "202").replace("ANEW", "203");
    assert_eq!(text(&bare.stdout), expected);
    // Two blocks serve two hundred requests. For a larger one both go back, and the driver is asked twice; so for what is too much.
    let kept = fixture.run(&[], true, "arena");
    let expected = of("asked 2 has 2", "asked 4 has 1").replace("ASKED", "6").replace("ANEW", "7");
    let said = text(&kept.stderr);
    // What is kept at the end is the program's last block.
    assert_eq!(text(&kept.stdout), expected, "{said}");
    assert!(said.contains("198 blocks again"), "{said}");
    let off = fixture.run(&[], true, "identity,wait");
    assert_eq!(off.stdout, bare.stdout);
}

#[test]
fn other_interposers_find_what_is_behind_them() {
    let fixture = Fixture::new(LINKED);
    let other = fixture.folder.path().join("next.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/next.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-fno-builtin", "-o"]).arg(&other).arg(source).status();
    assert!(compiled.unwrap().success());
    for order in [[&fixture.preload, &other], [&other, &fixture.preload]] {
        let libraries = order.map(|library| library.to_str().unwrap()).join(":");
        let run = fixture.command(&["x", "3"]).env("LD_PRELOAD", libraries).output().unwrap();
        assert_eq!(text(&run.stdout), "next\nnext\nlaunched 15 early 0\n", "{}", text(&run.stderr));
    }
}

#[test]
fn a_form_of_a_newer_driver_is_left_alone() {
    let fixture = Fixture::new(UNMODIFIED);
    let preloaded = fixture.run(&["tomorrow"], true, "on");
    let said = String::from_utf8_lossy(&preloaded.stderr);
    assert_eq!(String::from_utf8_lossy(&preloaded.stdout), "failed 0 done 1\n", "{said}");
    assert!(said.contains("1 in a form that is not known"), "{said}");
}

#[test]
fn switched_off_everything_passes_through() {
    let fixture = Fixture::new(UNMODIFIED);
    let off = fixture.run(&["dlsym", "5"], true, "off");
    assert_eq!(String::from_utf8_lossy(&off.stdout), "launched 25 early 0\n");
    let said = String::from_utf8_lossy(&off.stderr);
    assert!(said.contains("25 launches, 20 waits: 0 as jobs of 0 classes (0 slept), 20 passed through"), "{said}");
}

#[test]
fn programs_without_a_gpu_are_not_touched() {
    let fixture = Fixture::new(UNMODIFIED);
    let python = Command::new("/usr/bin/python3")
        .args(["-c", "import ctypes, sqlite3; print(ctypes.CDLL(None).getpid() > 0)"])
        .env("LD_PRELOAD", &fixture.preload)
        .env("GPUOS_JOBS_STATS", "1")
        .output()
        .unwrap();
    assert_eq!((python.stdout.as_slice(), python.stderr.as_slice()), (b"True\n".as_slice(), b"".as_slice()));
}
