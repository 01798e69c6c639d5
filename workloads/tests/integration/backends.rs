//! `bench` as a user runs it, on every backend that can be here. On CUDA with a fake device, which says that it is one.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

fn bench(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(line.split(' '));
    command
}

/// A folder for `LD_LIBRARY_PATH` in which `library` has the name `libcuda.so`.
fn libcuda(library: PathBuf) -> tempfile::TempDir {
    assert!(library.exists(), "{} is not built; `cargo test` builds it", library.display());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(library, folder.path().join("libcuda.so")).unwrap();
    folder
}

/// The fake libcuda, which lies where this program's examples do.
fn fake() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().join("examples/libfake_cuda.so")
}

fn on_the_fake(line: &str, wrong: &str) -> Output {
    let folder = libcuda(fake());
    bench(line).env("LD_LIBRARY_PATH", folder.path()).env("GPUOS_FAKE_CUDA", wrong).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What every backend can do that can anything.
const EVERYWHERE: [&str; 16] = [
    "alloc --bytes 64K",
    "alloc --bytes 64K --batch 3",
    "alloc --bytes 64K --batch 3 --fused",
    "alloc --bytes 64K --lifetime pooled",
    "alloc --bytes 64K --free-every 4 --iters 9",
    "alloc --bytes 64K --processes 3",
    "kernel --bytes 4096",
    "kernel --bytes 4095 --iters 7",
    "kernel --bytes 4096 --iters 0",
    "kernel --bytes 4096 --batch 3 --sync-every 4",
    "kernel --bytes 4096 --batch 3 --fused --lifetime per-iter",
    "kernel --bytes 4096 --lifetime pooled --sync-every 0",
    "copy --bytes 4100",
    "copy --bytes 4100 --direction d2h --batch 2 --sync-every 3",
    "sync",
    "launch --batch 5 --iters 9",
];

/// Sizes that are no whole words, the largest number, none at all, and a device that is not there.
fn every_size_on(backend: &str, run: impl Fn(&str) -> Output) {
    let run = |line: &str| run(&format!("{line} --backend {backend}"));
    // `hipMalloc` of nothing succeeds.
    let refused: &[&str] =
        if backend.starts_with("hip") { &["18446744073709551615"] } else { &["0", "18446744073709551615"] };
    for model in ["alloc", "kernel", "copy"] {
        for bytes in [1, 3, 5, 4097] {
            let report = json(&run(&format!("{model} --bytes {bytes} --iters 3 --json")));
            assert_eq!(report["bytes"], bytes, "{model}");
        }
        for bytes in refused {
            let error = complaint(&run(&format!("{model} --bytes {bytes} --iters 3")));
            assert!(error.contains("hint: choose") && error.contains("`--bytes`"), "{model} {bytes}: {error}");
        }
    }
    let error = complaint(&run("kernel --device 9"));
    assert!(error.contains("no device 9; it has ") && error.contains("hint: "), "{error}");
}

fn everything_on(backend: &str) {
    every_size_on(backend, |line| bench(line).output().unwrap());
    for line in EVERYWHERE {
        let report = json(&bench(&format!("{line} --backend {backend} --json")).output().unwrap());
        assert_eq!(report["backend"]["name"], backend, "{line}");
        assert_eq!(report["iters"] == 0, report["latency"].is_null(), "{line}");
    }
    let calls = json(&bench(&format!("api --bytes 64K --iters 3 --backend {backend} --json")).output().unwrap());
    let steps: Vec<_> = calls["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(steps.contains(&"allocate") && steps.contains(&"launch and wait"), "{steps:?}");
    for step in calls["steps"].as_array().unwrap() {
        assert_ne!(step["latency"].is_null(), step["skipped"].is_null(), "{step}");
    }
}

/// Whether the backend is found. One that `GPUOS_REQUIRE_BACKENDS` names must be: nothing is skipped where it was installed.
fn found(backend: &str) -> bool {
    let list = json(&bench("--list --json").output().unwrap());
    let listed = list.as_array().unwrap().iter().find(|listed| listed["name"] == backend).unwrap();
    let here = listed["found"]["Ok"].is_object();
    if !here {
        let required = std::env::var("GPUOS_REQUIRE_BACKENDS").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == backend), "{backend}: {}", listed["found"]["Err"]);
        eprintln!("SKIP: {backend}: {}", listed["found"]["Err"]);
    }
    here
}

#[test]
fn the_host_does_everything() {
    everything_on("host");
    json(&bench("sync --duration-us 200 --iters 3 --backend host --json").output().unwrap());
}

#[test]
fn opencl_does_everything() {
    if found("opencl") {
        everything_on("opencl");
        json(&bench("kernel --streams 3 --iters 10 --bytes 4096 --backend opencl --json").output().unwrap());
    }
}

#[test]
fn vulkan_does_everything() {
    if found("vulkan") {
        everything_on("vulkan");
    }
}

#[test]
fn hip_on_the_cpu_does_everything() {
    if found("hip-cpu") {
        everything_on("hip-cpu");
        json(&bench("sync --duration-us 200 --iters 3 --backend hip-cpu --json").output().unwrap());
    }
}

#[test]
fn cuda_does_everything_on_the_fake() {
    let more = [
        "alloc --bytes 64K --memory managed",
        "alloc --bytes 64K --memory pinned",
        "alloc --bytes 64K --memory async-pool --sync-every 1 --pool-threshold max",
        "alloc --bytes 64K --memory async-pool --sync-every 1",
        "kernel --bytes 4096 --memory managed --wait spin",
        "kernel --bytes 4096 --memory pinned --wait block",
        "kernel --bytes 4096 --memory async-pool --lifetime per-iter --wait yield",
        "kernel --bytes 4096 --graph --batch 8",
        "kernel --bytes 4096 --streams 4 --iters 10",
        "copy --memory pinned --bytes 4096",
        "copy --memory pinned --direction d2h --bytes 4096",
        "sync --duration-us 100 --iters 3",
        "launch --graph --batch 10 --sync-every 2",
        "api --bytes 4096 --iters 2",
    ];
    for line in EVERYWHERE.iter().chain(&more) {
        let report = json(&on_the_fake(&format!("{line} --backend cuda --json"), ""));
        assert_eq!(report["backend"]["device"], "fake device, no GPU", "{line}");
    }
    every_size_on("cuda", |line| on_the_fake(line, ""));
}

#[test]
fn a_wrong_result_is_found() {
    for line in ["kernel --bytes 64 --iters 4 --warmup 1", "kernel --bytes 64 --graph --batch 4 --iters 1"] {
        let error = complaint(&on_the_fake(&format!("{line} --backend cuda"), "forgetful"));
        assert!(error.contains("wrong result: word 2 is "), "{line}: {error}");
    }
    // In memory that no iteration keeps, one more iteration is checked: the third launch.
    let error = complaint(&on_the_fake(
        "kernel --bytes 64 --lifetime per-iter --iters 2 --warmup 0 --backend cuda",
        "forgetful",
    ));
    assert!(error.contains("wrong result: word 2 is 0, not 1"), "{error}");
}

#[test]
fn a_driver_without_a_device_says_so() {
    let error = complaint(&on_the_fake("kernel --backend cuda", "no-device"));
    assert!(error.contains("cuInit: CUDA_ERROR_NO_DEVICE") && error.contains("hint: "), "{error}");
    let error = complaint(&on_the_fake("kernel --backend cuda", "empty"));
    assert!(error.contains("cuDeviceGetCount: the driver has no device") && error.contains("nvidia-smi"), "{error}");
}

#[test]
fn what_a_device_does_not_support_is_left_out_and_the_rest_measured() {
    let calls = json(&on_the_fake("api --bytes 4096 --iters 2 --backend cuda --json", "plain"));
    let steps = calls["steps"].as_array().unwrap();
    let skipped: Vec<_> = steps.iter().filter(|step| !step["skipped"].is_null()).map(|step| &step["name"]).collect();
    assert_eq!(skipped, ["allocate managed", "allocate from pool"]);
    // Nothing is freed that was not allocated.
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(!names.contains(&"free managed") && names.contains(&"free pinned") && names.contains(&"launch graph"));
    let error = complaint(&on_the_fake("alloc --memory managed --backend cuda", "plain"));
    assert!(error.contains("cuda cannot do `cuMemAllocManaged` on this device\nhint: "), "{error}");
}

#[test]
fn more_memory_than_the_cgroup_allows_is_refused() {
    // Of version 2, or of version 1; either needs root.
    let (root, limit) = if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        ("/sys/fs/cgroup", "memory.max")
    } else {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    };
    let group = PathBuf::from(format!("{root}/gpuos-bench-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || std::fs::write(group.join(limit), "104857600").is_err() {
        let _ = std::fs::remove_dir(&group);
        eprintln!("SKIP: no memory cgroup can be made here");
        return;
    }
    for line in ["cpu --bytes 200M --iters 1", "kernel --backend host --bytes 200M --iters 1"] {
        let inside = format!("echo $$ > {}/cgroup.procs; exec {} {line}", group.display(), env!("CARGO_BIN_EXE_bench"));
        let error = complaint(&Command::new("sh").args(["-c", &inside]).output().unwrap());
        assert!(error.contains("no memory for an array of 209715200 bytes\nhint: "), "{line}: {error}");
    }
    std::fs::remove_dir(&group).unwrap();
}

#[test]
fn the_report_says_what_was_looked_at() {
    for (line, words) in [
        ("kernel --backend host --bytes 4096 --fused --batch 3", "of one operation that adds 3, results checked"),
        ("kernel --backend host --bytes 4096 --lifetime per-iter --iters 0 --warmup 0", "× 0 iterations\n"),
        ("copy --backend host --bytes 4096 --iters 0 --warmup 0", "to the device × 0 iterations\n"),
        (
            "copy --backend host --bytes 4096 --fused --batch 2",
            "one operation on 2 times as many bytes, results checked",
        ),
    ] {
        let text = String::from_utf8(bench(line).output().unwrap().stdout).unwrap();
        assert!(text.contains(words), "{line}: {text}");
    }
}

#[cfg(not(feature = "infer"))]
#[test]
fn what_was_not_built_says_how_to_build_it() {
    let error = complaint(&bench("infer --model resnet18").output().unwrap());
    assert!(error.contains("infer: this `bench` was built without it") && error.contains("--all-features"), "{error}");
}

#[test]
fn too_little_memory_is_told_with_what_to_change() {
    let error = complaint(&on_the_fake("kernel --bytes 2M --backend cuda", "full"));
    assert!(error.contains("CUDA_ERROR_OUT_OF_MEMORY") && error.contains("--bytes"), "{error}");
    let error = complaint(&bench("alloc --backend host --bytes 100000G").output().unwrap());
    assert!(error.contains("mmap failed") && error.contains("--bytes"), "{error}");
    // Nothing would end a fake device: the driver of a GPU that has no such memory says so.
    let error = complaint(&on_the_fake("alloc --bytes 0 --backend cuda", ""));
    assert!(error.contains("CUDA_ERROR_INVALID_VALUE") && error.contains("--bytes"), "{error}");
    let error = complaint(&bench("kernel --backend host --bytes 20G").output().unwrap());
    assert!(error.contains("more words than a kernel can count"), "{error}");
}

#[test]
fn a_library_that_is_not_the_runtime_says_so() {
    // Any library that every system has.
    let folder = libcuda(
        ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
            .unwrap(),
    );
    let error = complaint(&bench("kernel --backend cuda").env("LD_LIBRARY_PATH", folder.path()).output().unwrap());
    assert!(error.contains("this libcuda has no `cuInit`"), "{error}");
    // One so old that all but its beginning is missing.
    let old = tempfile::tempdir().unwrap();
    let source = old.path().join("old.c");
    std::fs::write(&source, "int cuInit(unsigned flags) { return 0; }\n").unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(old.path().join("libcuda.so")).arg(&source).status();
    assert!(built.unwrap().success());
    let error = complaint(&bench("kernel --backend cuda").env("LD_LIBRARY_PATH", old.path()).output().unwrap());
    assert!(error.contains("this libcuda has no `cu") && !error.contains("`cuInit`"), "{error}");
    let foreign = bench("kernel --backend hip-cpu").env("GPUOS_HIP_CPU_LIBRARY", "libm.so.6").output().unwrap();
    let error = complaint(&foreign);
    assert!(error.contains("libm.so.6 has no `hipGetErrorName`"), "{error}");
    let absent = bench("kernel --backend hip-cpu").env("GPUOS_HIP_CPU_LIBRARY", "/nowhere/x.so").output().unwrap();
    assert!(complaint(&absent).contains("ROCm/HIP-CPU"));
}

#[test]
fn hip_does_everything_or_says_by_its_own_name_that_there_is_no_gpu() {
    let output = bench("kernel --backend hip").output().unwrap();
    if output.status.success() {
        everything_on("hip");
        return;
    }
    let error = complaint(&output);
    assert!(error.contains("hipErrorNoDevice") || error.contains("no library from libamdhip64.so.7"), "{error}");
}

#[test]
fn what_a_backend_cannot_do_is_an_error_that_says_what_it_can() {
    for (line, words) in [
        ("sync --wait spin --backend host", "host cannot do `--wait spin`"),
        ("kernel --memory managed --backend host", "its kinds of memory: device"),
        ("kernel --graph --backend opencl", "opencl cannot do `--graph`"),
        ("sync --duration-us 5 --backend opencl", "opencl cannot do `--duration-us`"),
        ("copy --memory pinned --backend opencl", "its kinds of memory for copies: pageable"),
        ("kernel --memory pageable --backend host", "host cannot do `--memory pageable`"),
        ("alloc --lifetime once --backend host", "allocates nothing"),
        ("kernel --device 1 --backend host", "no device 1; it has 1"),
    ] {
        let error = complaint(&bench(line).output().unwrap());
        assert!(error.contains(words) && error.contains("hint: "), "{line}: {error}");
    }
}

#[test]
fn the_list_has_every_backend_of_the_command_line() {
    let list = json(&bench("--list --json").output().unwrap());
    let names: Vec<_> = list.as_array().unwrap().iter().map(|listed| listed["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cuda", "hip", "hip-cpu", "opencl", "vulkan", "metal", "host"]);
    let host = list.as_array().unwrap().iter().find(|listed| listed["name"] == "host").unwrap();
    assert_eq!(host["capabilities"]["memory"], serde_json::json!(["device"]));
    let text = bench("--list").output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("this CPU"));
}

#[test]
fn processes_end_with_the_one_that_started_them() {
    let mut first = bench("launch --backend host --iters 100000000000 --processes 3").spawn().unwrap();
    let children = || {
        let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", first.id())).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    let patience = std::time::Duration::from_mins(1);
    while children().len() < 2 {
        assert!(begun.elapsed() < patience, "the others were not started");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let others = children();
    first.kill().unwrap();
    first.wait().unwrap();
    // Whoever reaps them may be slow: one that has ended does nothing any more.
    let runs = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    };
    while others.iter().any(runs) {
        assert!(begun.elapsed() < patience, "they run on: {others:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_process_that_fails_is_a_failure_of_all() {
    // Both ask for a device that is not there.
    let output = bench("launch --backend host --device 7 --iters 1 --processes 2").output().unwrap();
    assert!(complaint(&output).contains("no device 7"), "{}", complaint(&output));
}

#[test]
fn through_every_arm_the_work_is_the_same() {
    for via in ["native", "identity", "completion", "arena", "all"] {
        for line in [
            "alloc --bytes 64K --iters 20",
            "alloc --bytes 64K --iters 9 --free-every 3 --sync-every 1",
            "kernel --bytes 64K --iters 20 --lifetime per-iter",
            "kernel --bytes 64K --iters 20 --sync-every 3",
            "sync --iters 20 --duration-us 50",
            "copy --bytes 64K --iters 20 --direction d2h",
        ] {
            let has_arena = line.starts_with("alloc") || line.contains("per-iter");
            if (via == "arena" && !has_arena) || (via == "completion" && line.starts_with("alloc")) {
                continue;
            }
            // `bench` checks what was computed.
            let report = json(&bench(&format!("{line} --backend host --via {via} --json")).output().unwrap());
            assert_eq!(report["via"], via, "{line}");
        }
    }
    let many = complaint(&bench("launch --backend vulkan --via all").output().unwrap());
    assert!(many.contains("vulkan"), "{many}");
}
