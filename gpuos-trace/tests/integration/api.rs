//! `--api`: which system calls one call of a GPU library's function makes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{TRACER, attached, privileged, skip};
use gpuos_recording::{RecordingError, file::Recording, rows};
use gpuos_runs::{columns::column, files, group, phases::Scope};
use gpuos_tracer::probe::has_uprobes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A library in place of the real one: what its functions ask of the system is known.
const LIBRARY: &str = "#include <unistd.h>\n#include <sys/syscall.h>\n\
    static void calls(int n) { while (n--) syscall(SYS_getppid); }\n\
    int clFinish(void *queue) { calls(3); return 0; }\n\
    int clFlush(void *queue) { return 0; }\n\
    int clCreateBuffer(void *context) { calls(2); clFinish(0); calls(1); return 0; }\n\
    int clEnqueueNDRangeKernel(void *queue) { calls(7); return 0; }\n";

/// Two threads, a child, and calls outside of the library.
const PROGRAM: &str = "#include <pthread.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n#include <sys/wait.h>\n\
    int clFinish(void *); int clFlush(void *); int clCreateBuffer(void *); int clEnqueueNDRangeKernel(void *);\n\
    static void *work(void *p) { for (int i = 0; i < 100; i++) clFinish(0); return 0; }\n\
    int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); work(0); pthread_join(t, 0);\n\
    for (int i = 0; i < 10; i++) { clCreateBuffer(0); clFlush(0); clEnqueueNDRangeKernel(0); syscall(SYS_getppid); }\n\
    if (!fork()) { clFinish(0); _exit(0); } wait(0); return 0; }\n";

/// Whether functions can be watched here: from Linux 6.6 on.
fn can_watch(test: &str) -> bool {
    if !privileged(test) {
        return false;
    }
    if !has_uprobes() {
        skip(test, "this kernel is older than 6.6 or has no uprobes");
    }
    has_uprobes()
}

/// Traces the program with its own library, and expects it to succeed.
fn traced(options: &[&str], file: &Path, program: &Path) -> String {
    let output = Command::new(TRACER)
        .args(options)
        .args(["--api", "-o"])
        .arg(file)
        .arg("--")
        .arg(program)
        .env("LD_LIBRARY_PATH", program.parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn compile(source: &Path, to: &Path, flags: &[&str]) {
    let built = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-Wall", "-Werror", "-o"])
        .arg(to)
        .arg(source)
        .args(flags)
        .status();
    assert!(built.unwrap().success());
}

/// The program, with the library in a folder of its own.
fn build(folder: &Path) -> PathBuf {
    let (library, program) = (folder.join("libOpenCL.so.1"), folder.join("program"));
    for (name, text) in [("library.c", LIBRARY), ("program.c", PROGRAM)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    // As optimizers do, the nested call would be inlined.
    compile(&folder.join("library.c"), &library, &["-shared", "-fPIC", "-Wl,-soname,libOpenCL.so.1"]);
    compile(&folder.join("program.c"), &program, &[library.to_str().unwrap(), "-pthread"]);
    program
}

#[test]
fn calls_are_counted_by_the_function_they_were_made_in() {
    if !can_watch("calls_are_counted_by_the_function_they_were_made_in") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path());
    let file = folder.path().join("run.json");
    for options in [&["run"][..], &["run", "--no-latency"], &["run", "--api-launches"]] {
        let text = traced(options, &file, &program);
        let run = files::read(&file).unwrap();
        assert!(!run.header.losses.any());
        let entered: BTreeMap<_, _> =
            run.header.phases.iter().map(|phase| (phase.path.as_str(), phase.entered)).collect();
        assert!(run.header.phases.iter().all(|phase| phase.scope == Scope::Function && phase.own_ns > 0));
        let nested = "clCreateBuffer()/clFinish()";
        let mut functions = vec![("clFinish()", 201), ("clCreateBuffer()", 10), (nested, 10), ("clFlush()", 10)];
        let mut expected = vec![("clFinish()", 603), ("clCreateBuffer()", 30), (nested, 30)];
        if options.contains(&"--api-launches") {
            functions.push(("clEnqueueNDRangeKernel()", 10));
            expected.extend([("clEnqueueNDRangeKernel()", 70), ("", 10)]);
        } else {
            expected.push(("", 80));
        }
        assert_eq!(entered, functions.into_iter().collect());
        let groups = group::group(&run.calls, &[column::SYSCALL, column::PHASE]).unwrap();
        let counted: BTreeMap<&str, u64> = groups
            .iter()
            .filter(|group| group.key[0] == "getppid")
            .map(|group| (group.key[1].as_str(), group.calls))
            .collect();
        assert_eq!(counted, expected.into_iter().collect());
        // The kernel's own way back from a probe is no call of the program.
        assert!(groups.iter().all(|group| !group.key[0].contains("probe")));
        let line = text.lines().find(|line| line.starts_with(" clFinish()")).unwrap();
        assert!(line.contains(" 211 ") && line.contains("3.00 getppid"), "{text}");
    }
}

#[test]
fn a_recording_has_the_functions_too() {
    if !can_watch("a_recording_has_the_functions_too") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path());
    let file = folder.path().join("recording.parquet");
    traced(&["record", "-q"], &file, &program);
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    let recording = Recording::open(&file).unwrap().unwrap();
    recording
        .read(|rows| {
            let text = |name: &str| rows.column(name).unwrap().str().unwrap().clone();
            let (event, syscall, phase) =
                (text(rows::column::EVENT), text(rows::column::SYSCALL), text(rows::column::PHASE));
            for row in 0..rows.height() {
                let what = [&event, &syscall].map(|column| column.get(row).unwrap());
                if what[1] == "getppid" || what[0].starts_with("phase") {
                    *counted.entry((what.concat(), phase.get(row).unwrap().to_owned())).or_default() += 1;
                }
            }
            Ok::<_, RecordingError>(())
        })
        .unwrap();
    let of = |what: &str, phase: &str| counted.get(&(what.to_owned(), phase.to_owned())).copied().unwrap_or_default();
    assert_eq!((of("phase begin", "clFinish()"), of("phase end", "clFinish()")), (201, 201));
    assert_eq!(of("callgetppid", "clFinish()"), 603);
    assert_eq!(of("callgetppid", "clCreateBuffer()/clFinish()"), 30);
    assert_eq!(of("callgetppid", ""), 80);
}

#[test]
fn probes_that_go_invent_nothing() {
    if !can_watch("probes_that_go_invent_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let (source, program, file) =
        (folder.path().join("loop.c"), folder.path().join("loop"), folder.path().join("run.json"));
    std::fs::write(
        &source,
        "#include <unistd.h>\nint clFinish(void *);\nint main(void) { for (;;) { clFinish(0); usleep(200); } }\n",
    )
    .unwrap();
    compile(&source, &program, &[folder.path().join("libOpenCL.so.1").to_str().unwrap()]);
    let mut child = Command::new(&program).env("LD_LIBRARY_PATH", folder.path()).spawn().unwrap();
    let mut tracer = Command::new(TRACER);
    let tracer = tracer.args(["attach", "--api", "--strict", "-p", &child.id().to_string(), "-o"]).arg(&file);
    let mut tracer = attached(tracer.env("LD_LIBRARY_PATH", folder.path()));
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(tracer.id() as i32), Signal::SIGINT).unwrap();
    let status = tracer.wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.success(), "{status}");
    let run = files::read(&file).unwrap();
    let paths: Vec<&str> = run.header.phases.iter().map(|phase| phase.path.as_str()).collect();
    assert_eq!(paths, ["clFinish()"]);
}

#[test]
fn a_real_library_is_watched() {
    if !can_watch("a_real_library_is_watched") {
        return;
    }
    let script =
        "import ctypes\nn=ctypes.c_uint()\nctypes.CDLL('libOpenCL.so.1').clGetPlatformIDs(0,None,ctypes.byref(n))";
    let trace = crate::support::trace(&["--api"], &["/usr/bin/python3", "-c", script]);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    let phases = &trace.run.header.phases;
    let platforms = phases.iter().find(|phase| phase.path == "clGetPlatformIDs()").expect("the function");
    assert_eq!(platforms.entered, 1);
    // It looks for drivers on disk.
    let groups = group::group(&trace.run.calls, &[column::PHASE, column::SYSCALL]).unwrap();
    assert!(groups.iter().any(|group| group.key == ["clGetPlatformIDs()", "openat"] && group.calls > 0));
}
