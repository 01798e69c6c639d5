//! `run --jobs`: an unmodified program on a fake driver waits through jobs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::TRACER;
use gpuos_runs::files;
use gpuos_test_macros::privileged;

/// What the program, the fake driver and the preloaded library are built to.
fn built(folder: &Path) -> PathBuf {
    for words in [["--package", "gpuos-job-preload", "--lib"], ["--package", "gpuos-job", "--example"]] {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet"]).args(words);
        if words[2] == "--example" {
            build.arg("fake_cuda_jobs");
        }
        assert!(build.status().unwrap().success(), "{words:?}");
    }
    let fake = Path::new(TRACER).with_file_name("examples/libfake_cuda_jobs.so");
    std::os::unix::fs::symlink(fake, folder.join("libcuda.so.1")).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/preload/tests/unmodified.c");
    let program = folder.join("program");
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&program).args([source, "-ldl", "-lpthread"]).status();
    assert!(compiled.unwrap().success());
    program
}

#[privileged]
fn waits_of_an_unmodified_program_are_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let program = built(folder.path());
    let file = folder.path().join("run.parquet");
    let said = |options: &[&str]| {
        let mut trace = Command::new(TRACER);
        trace
            .args(["run", "--quiet", "-o"])
            .arg(&file)
            .args(options)
            .arg("--")
            .arg(&program)
            .args(["procaddress", "600"]);
        trace.env("LD_LIBRARY_PATH", folder.path()).env("GPUOS_JOBS_STATS", "1");
        let output = trace.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "launched 3000 early 0\n", "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!said(&[]).contains("gpuos-jobs"));
    let with_jobs = said(&["--jobs"]);
    assert!(with_jobs.contains("3000 launches, 2400 waits: 1200 as jobs of 3 classes"), "{with_jobs}");
    // It is traced meanwhile, and what it waits for is in jobs of classes that can be told: one wait of two is of two.
    let run = files::read(&file).unwrap();
    assert!(run.calls.height() > 10);
    let classes = &run.header.jobs;
    assert_eq!(classes.iter().map(|class| class.done).sum::<u64>(), 1800, "{classes:?}");
    assert!(classes.len() == 3 && classes.iter().all(|class| class.label.contains("launch")), "{classes:?}");
    assert!(with_jobs.contains(" slept") && !with_jobs.contains("(0 slept)"), "{with_jobs}");
    // Its jobs are seen, and its waits are the driver's.
    let seen = said(&["--jobs=identity"]);
    assert!(seen.contains("2400 waits: 1200 as jobs of 3 classes (0 slept)"), "{seen}");
    assert_eq!(files::read(&file).unwrap().header.jobs.iter().map(|class| class.done).sum::<u64>(), 1800);
}

#[privileged]
fn what_is_launched_in_a_range_is_told_by_its_label() {
    let folder = tempfile::tempdir().unwrap();
    let program = built(folder.path());
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "gpuos-nvtx"]).status();
    assert!(built.unwrap().success());
    let file = folder.path().join("run.parquet");
    // As NVTX does with the library that its variable names; ranges by roctx's functions, which it has as well.
    let nvtx = Path::new(TRACER).with_file_name("libgpuos_nvtx.so");
    let output = Command::new(TRACER)
        .args(["run", "--quiet", "--jobs", "--nvtx", "-o"])
        .arg(&file)
        .arg("--")
        .arg(&program)
        .args(["ranges", "600"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("RANGES", nvtx)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "launched 1200 early 0\n", "{output:?}");
    let run = files::read(&file).unwrap();
    let done: Vec<_> = run.header.jobs.iter().map(|class| (class.label.as_str(), class.done)).collect();
    // Two kinds of work in one range are one class of the table.
    assert_eq!(done, [("batch", 1200)]);
}
