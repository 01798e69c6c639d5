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

impl Fixture {
    /// With a program of `tests/`.
    fn new(file: &str) -> Self {
        Self::with(file, &[])
    }

    /// And words for the linker.
    fn with(file: &str, words: &[&str]) -> Self {
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
        // A program that is linked with a fake asks for the name that the build script of its package gives all it links.
        let is_hip = words.contains(&"-DHIP");
        let fakes = [
            ("libfake_cuda_jobs.so", "libcuda.so.1"),
            ("libfake_hip_jobs.so", "libamdhip64.so.6"),
            (if is_hip { "libfake_hip_jobs.so" } else { "libfake_cuda_jobs.so" }, "libgpuos_job.so.1"),
        ];
        for (fake, name) in fakes {
            let made = Command::new("ln").arg("-s").arg(examples().join(fake)).arg(folder.path().join(name)).status();
            assert!(made.unwrap().success());
        }
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-o"]).arg(folder.path().join("program")).arg(tests.join(file)).args(words);
        let linked = folder.path().join(if is_hip { "libamdhip64.so.6" } else { "libcuda.so.1" });
        compile.arg(linked).args(["-Wl,--as-needed", "-ldl", "-lpthread"]);
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
    let fixture = Fixture::new("unmodified.c");
    for way in ["dlsym", "procaddress", "before-12"] {
        let bare = fixture.run(&[way], false, "");
        assert_eq!(String::from_utf8_lossy(&bare.stdout), "launched 200 early 0\n");
        let preloaded = fixture.run(&[way], true, "identity,wait");
        assert_eq!(preloaded.stdout, bare.stdout, "{}", String::from_utf8_lossy(&preloaded.stderr));
        // Launches are 5 a round, waits 4: for a stream, an event, all and nothing. Two are jobs, of three classes: a wait for two
        // streams is of two. What is waited for by an event is launched before the next wait as well.
        let said = String::from_utf8_lossy(&preloaded.stderr);
        assert!(said.contains("200 launches, 160 waits: 80 as jobs of 3 classes"), "{way}: {said}");
        assert!(said.contains("80 passed through"), "{way}: {said}");
        assert!(said.contains("0 in a form that is not known"), "{way}: {said}");
    }
}

#[test]
fn a_copy_into_pageable_memory_is_a_wait() {
    let fixture = Fixture::new("unmodified.c");
    let copies = fixture.run(&["copies"], true, "identity,wait");
    assert_eq!(text(&copies.stdout), "launched 80 early 0\n");
    // Of three waits a round two have something to wait for: the copy into pageable memory, and the wait after the other copy.
    let said = text(&copies.stderr);
    assert!(said.contains("80 launches, 120 waits: 80 as jobs of 2 classes") && said.contains("40 passed"), "{said}");
    assert!(!said.contains("(0 slept)"), "{said}");
}

#[test]
fn with_identity_alone_waits_are_the_runtime_s() {
    let fixture = Fixture::new("unmodified.c");
    let seen = fixture.run(&["dlsym"], true, "identity");
    assert_eq!(text(&seen.stdout), "launched 200 early 0\n");
    let said = text(&seen.stderr);
    assert!(said.contains("200 launches, 160 waits: 80 as jobs of 3 classes (0 slept)"), "{said}");
    // A word that is none is said, and changes nothing.
    let wrong = fixture.run(&["dlsym"], true, "wait,speed");
    let said = text(&wrong.stderr);
    assert!(said.contains("GPUOS_JOBS=`wait,speed`") && said.contains(": 0 as jobs"), "{said}");
}

#[test]
fn freed_memory_comes_again_without_a_call() {
    let fixture = Fixture::new("memory.c");
    let of = |again: &str, after: &str| {
        format!(
            "again: {again}\nlarger 0, after: {after}\ntoo much 2\ndestroyed: asked ASKED has 0\nanew: asked ANEW has 1\ntwice 0 1, none 1\noff 0\n"
        )
    };
    let bare = fixture.run(&[], false, "");
    let expected = of("asked 200 has 0", "asked 201 has 1").replace("ASKED", "202").replace("ANEW", "203");
    assert_eq!(text(&bare.stdout), expected);
    // Two blocks serve two hundred requests. For a larger one both go back, and the driver is asked again; for what is too much nothing is left to go back.
    let kept = fixture.run(&[], true, "arena");
    let expected = of("asked 2 has 2", "asked 4 has 1").replace("ASKED", "5").replace("ANEW", "6");
    let said = text(&kept.stderr);
    // What is kept at the end is the program's last block.
    assert_eq!(text(&kept.stdout), expected, "{said}");
    assert!(said.contains("198 blocks again"), "{said}");
    let off = fixture.run(&[], true, "identity,wait");
    assert_eq!(off.stdout, bare.stdout);
}

#[test]
fn other_interposers_find_what_is_behind_them() {
    let fixture = Fixture::new("caller.c");
    let other = fixture.folder.path().join("next.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/next.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&other).arg(source).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    for order in [[&fixture.preload, &other], [&other, &fixture.preload]] {
        let libraries = order.map(|library| library.to_str().unwrap()).join(":");
        let run = fixture.command(&[]).env("LD_PRELOAD", libraries).output().unwrap();
        assert_eq!(text(&run.stdout), "next\n1\n", "{}", text(&run.stderr));
    }
}

#[test]
fn a_form_of_a_newer_driver_is_left_alone() {
    let fixture = Fixture::new("unmodified.c");
    let preloaded = fixture.run(&["tomorrow"], true, "identity,wait");
    let said = String::from_utf8_lossy(&preloaded.stderr);
    assert_eq!(String::from_utf8_lossy(&preloaded.stdout), "failed 0 done 1\n", "{said}");
    assert!(said.contains("1 in a form that is not known"), "{said}");
}

#[test]
fn switched_off_everything_passes_through() {
    let fixture = Fixture::new("unmodified.c");
    let off = fixture.run(&["dlsym", "5"], true, "off");
    assert_eq!(String::from_utf8_lossy(&off.stdout), "launched 25 early 0\n");
    let said = String::from_utf8_lossy(&off.stderr);
    assert!(said.contains("0 launches, 20 waits: 0 as jobs of 0 classes (0 slept), 20 passed through"), "{said}");
}

#[test]
fn programs_that_are_linked_with_the_driver_are_seen() {
    for words in
        [&["-Wl,-z,lazy", "-Wl,-z,norelro"][..], &["-Wl,-z,lazy"], &["-Wl,-z,now"], &["-fno-plt", "-Wl,-z,now"]]
    {
        let fixture = Fixture::with("linked.c", words);
        let bare = fixture.run(&[], false, "");
        assert_eq!(text(&bare.stdout), "launched 80 early 0\n", "{words:?}: {}", text(&bare.stderr));
        let preloaded = fixture.run(&[], true, "wait");
        let said = text(&preloaded.stderr);
        assert_eq!(preloaded.stdout, bare.stdout, "{words:?}: {said}");
        assert!(said.contains("80 launches, 80 waits: 80 as jobs of 2 classes"), "{words:?}: {said}");
        let off = fixture.run(&[], true, "off");
        assert_eq!((off.stdout, text(&off.stderr).as_ref()), (bare.stdout, ""), "{words:?}");
    }
}

#[test]
fn what_comes_after_a_wait_is_not_waited_for() {
    let fixture = Fixture::new("unmodified.c");
    let later = fixture.run(&["later"], true, "wait");
    assert_eq!(text(&later.stdout), "done 1\n", "{}", text(&later.stderr));
}

#[test]
fn while_a_stream_is_captured_waits_pass_through() {
    let fixture = Fixture::new("unmodified.c");
    let captured = fixture.run(&["captured"], true, "wait");
    let said = text(&captured.stderr);
    assert_eq!(text(&captured.stdout), "done 2\n", "{said}");
    assert!(said.contains("2 waits: 1 as jobs of 1 classes") && said.contains("1 passed through"), "{said}");
}

#[test]
fn nothing_is_asked_of_a_stream_that_is_destroyed() {
    let fixture = Fixture::new("unmodified.c");
    for parts in ["wait", "identity"] {
        let destroyed = fixture.run(&["destroyed"], true, parts);
        let said = text(&destroyed.stderr);
        assert_eq!(text(&destroyed.stdout), "done 2\n", "{said}");
        // The first wait is the driver's, since not all that it is for is known.
        assert!(said.contains("2 waits: 1 as jobs"), "{said}");
    }
}

#[test]
fn the_library_is_not_taken_for_that_of_jobs() {
    let fixture = Fixture::new("caller.c");
    let bytes = std::fs::read(&fixture.preload).unwrap();
    let has = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    assert!(has(b"\0libgpuos_job_preload.so\0") && !has(b"libgpuos_job.so.1"));
}

#[test]
fn programs_without_a_gpu_are_not_touched() {
    let fixture = Fixture::new("unmodified.c");
    let python = Command::new("/usr/bin/python3")
        .args(["-c", "import ctypes, sqlite3; print(ctypes.CDLL(None).getpid() > 0)"])
        .env("LD_PRELOAD", &fixture.preload)
        .env("GPUOS_JOBS_STATS", "1")
        .output()
        .unwrap();
    assert_eq!((python.stdout.as_slice(), python.stderr.as_slice()), (b"True\n".as_slice(), b"".as_slice()));
}
