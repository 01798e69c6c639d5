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
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Neither is built with a test: one is no library of Rust, the other an example of another crate.
        for words in [
            ["--package", "gpuos-job-preload", "--lib", "--quiet"],
            ["--package", "gpuos-job", "--example", "fake_cuda_jobs"],
        ] {
            let mut build = Command::new(env!("CARGO"));
            assert!(build.arg("build").args(words).stderr(Stdio::null()).status().unwrap().success(), "{words:?}");
        }
        let preload = examples().with_file_name("libgpuos_job_preload.so");
        let linked = Command::new("ln")
            .arg("-s")
            .arg(examples().join("libfake_cuda_jobs.so"))
            .arg(folder.path().join("libcuda.so.1"))
            .status()
            .unwrap();
        assert!(linked.success());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unmodified.c");
        let program = folder.path().join("program");
        let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).arg("-ldl").status().unwrap();
        assert!(compiled.success());
        Self { folder, preload }
    }

    fn run(&self, words: &[&str], is_preloaded: bool, jobs: &str) -> Output {
        let mut command = Command::new(self.folder.path().join("program"));
        command.args(words).env("LD_LIBRARY_PATH", self.folder.path());
        if is_preloaded {
            command.env("LD_PRELOAD", &self.preload).env("GPUOS_JOBS", jobs).env("GPUOS_JOBS_STATS", "1");
        }
        command.output().unwrap()
    }
}

#[test]
fn its_waits_are_jobs_and_none_returns_early() {
    let fixture = Fixture::new();
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
fn a_form_of_a_newer_driver_is_left_alone() {
    let fixture = Fixture::new();
    let preloaded = fixture.run(&["tomorrow"], true, "on");
    let said = String::from_utf8_lossy(&preloaded.stderr);
    assert_eq!(String::from_utf8_lossy(&preloaded.stdout), "failed 0 done 1\n", "{said}");
    assert!(said.contains("1 in a form that is not known"), "{said}");
}

#[test]
fn switched_off_everything_passes_through() {
    let fixture = Fixture::new();
    let off = fixture.run(&["dlsym", "5"], true, "off");
    assert_eq!(String::from_utf8_lossy(&off.stdout), "launched 25 early 0\n");
    let said = String::from_utf8_lossy(&off.stderr);
    assert!(said.contains("25 launches, 20 waits: 0 as jobs of 0 classes (0 slept), 20 passed through"), "{said}");
}

#[test]
fn programs_without_a_gpu_are_not_touched() {
    let fixture = Fixture::new();
    let python = Command::new("/usr/bin/python3")
        .args(["-c", "import ctypes, sqlite3; print(ctypes.CDLL(None).getpid() > 0)"])
        .env("LD_PRELOAD", &fixture.preload)
        .env("GPUOS_JOBS_STATS", "1")
        .output()
        .unwrap();
    assert_eq!((python.stdout.as_slice(), python.stderr.as_slice()), (b"True\n".as_slice(), b"".as_slice()));
}
