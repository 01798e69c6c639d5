//! `run --jobs`: an unmodified program on a fake driver waits through jobs, and its sleeps are counted.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::TRACER;
use gpuos_runs::{columns::column, files, group};
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
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&program).args([source, "-ldl"]).status();
    assert!(compiled.unwrap().success());
    program
}

#[privileged]
fn waits_of_an_unmodified_program_sleep_to_a_predicted_time() {
    let folder = tempfile::tempdir().unwrap();
    let program = built(folder.path());
    let sleeps = |options: &[&str]| {
        let file = folder.path().join("run.parquet");
        let mut trace = Command::new(TRACER);
        trace.args(["run", "--quiet", "--per-thread", "-o"]).arg(&file).args(options).arg("--").arg(&program);
        let output = trace.args(["procaddress", "60"]).env("LD_LIBRARY_PATH", folder.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "launched 300 early 0\n", "{output:?}");
        let calls = group::with_callers(&files::read(&file).unwrap()).unwrap();
        let groups = group::group(&calls, &[column::SYSCALL, group::CALLER]).unwrap();
        let of_caller = groups.iter().find(|one| one.key == ["clock_nanosleep", group::IS_CALLER]);
        of_caller.map_or(0, |group| group.calls)
    };
    // The fake's own wait for an event sleeps, too; those for streams and the context are predicted sleeps with jobs alone.
    let (bare, with_jobs) = (sleeps(&[]), sleeps(&["--jobs"]));
    assert!(with_jobs > 0 && bare != with_jobs, "{bare} and {with_jobs}");
}
