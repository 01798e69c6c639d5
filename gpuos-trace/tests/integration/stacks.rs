//! `--stacks`: where in a program calls are made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::support::TRACER;
use gpuos_test_macros::privileged;

/// Calls at known places. The pause lets the tracer see what is mapped where.
const PROGRAM: &str = "#include <pthread.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
    #define APART __attribute__((noinline, noclone))\n\
    static long raw(long n) {  long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(n) : \"rcx\", \"r11\", \"memory\"); return r; }\n\
    APART void leaf(int n) { while (n--) raw(SYS_getppid); __asm__ volatile(\"\"); }\n\
    APART void middle(int n) { leaf(n); __asm__ volatile(\"\"); }\n\
    static void *work(void *p) { middle(5); return 0; }\n\
    int main(void) { usleep(300000); middle(10); leaf(3); middle(10);\n\
    pthread_t t; pthread_create(&t, 0, work, 0); pthread_join(t, 0); usleep(100000); return 0; }\n";

fn compile(folder: &Path, flags: &[&str]) -> PathBuf {
    let (source, program) = (folder.join("program.c"), folder.join("program"));
    std::fs::write(&source, PROGRAM).unwrap();
    let status = Command::new("cc").arg("-o").arg(&program).arg(&source).args(flags).arg("-pthread").status();
    assert!(status.unwrap().success());
    program
}

/// Calls of `getppid` by the functions around them, the innermost four.
fn getppid(folded: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in std::fs::read_to_string(folded).unwrap().lines() {
        let (stack, calls) = line.rsplit_once(' ').unwrap();
        let parts: Vec<&str> = stack.split(';').collect();
        let (call, frames) = parts.split_last().unwrap();
        if *call == "getppid" {
            let inner = frames[1..].iter().skip(frames.len().saturating_sub(5)).copied().collect::<Vec<_>>().join(";");
            *found.entry(inner).or_default() += calls.parse::<u64>().unwrap();
        }
    }
    found
}

const WITH_FRAMES: [&str; 3] =
    ["-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-optimize-sibling-calls"];

fn traced(folder: &Path, options: &[&str], program: &Path) -> Output {
    let output = Command::new(TRACER)
        .args(options)
        .args(["--top", "1", "--stacks"])
        .arg(folder.join("stacks.folded"))
        .arg("--")
        .arg(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Two stacks can have one place in the kernel's table, and addresses are others in each run; then the second has none, and is
/// counted as that (ADR 12). Not three times.
fn with_every_stack<T>(attempt: impl Fn() -> (T, BTreeMap<String, u64>)) -> (T, BTreeMap<String, u64>) {
    let all_found = |attempt: &(T, BTreeMap<String, u64>)| !attempt.1.contains_key("[no stack]");
    (0..3).map(|_| attempt()).find(all_found).expect("a run in which every stack has its place")
}

#[privileged]
fn calls_are_counted_by_the_functions_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), &WITH_FRAMES);
    for options in [&["run"][..], &["run", "--tasks-by-id"], &["run", "-e", "getppid"]] {
        let (output, found) = with_every_stack(|| {
            (traced(folder.path(), options, &program), getppid(&folder.path().join("stacks.folded")))
        });
        assert_eq!(found.get("main;middle;leaf;raw").copied(), Some(20), "{options:?} {found:?}");
        // The outermost of the four is the C library's.
        assert_eq!(
            found.iter().filter(|(path, _)| path.ends_with(";main;leaf;raw")).map(|(_, calls)| calls).sum::<u64>(),
            3
        );
        assert_eq!(found.get("work;middle;leaf;raw").copied(), Some(5), "{found:?}");
        assert_eq!(found.values().sum::<u64>(), 28);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("call sites of ") && text.contains("stacks.folded"), "{text}");
    }
}

#[privileged]
fn code_without_frame_pointers_is_said_to_be_that() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), &["-O1", "-fomit-frame-pointer"]);
    let output = traced(folder.path(), &["run"], &program);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("was compiled without frame pointers"), "{text}");
}

#[privileged]
fn a_loss_of_stacks_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), &WITH_FRAMES);
    let output = traced(folder.path(), &["run", "--stacks-kept", "1"], &program);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("LOST: ") && text.contains("found no place"), "{text}");
    let strict = Command::new(TRACER)
        .args(["run", "-q", "--strict", "--stacks-kept", "1", "--stacks"])
        .arg(folder.path().join("stacks.folded"))
        .arg("--")
        .arg(&program)
        .output()
        .unwrap();
    assert_eq!(strict.status.code(), Some(125), "{}", String::from_utf8_lossy(&strict.stderr));
}

#[privileged]
fn running_processes_have_stacks_too() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), &WITH_FRAMES);
    let file = folder.path().join("stacks.folded");
    let (said, found) = with_every_stack(|| {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec \"$0\"", program.to_str().unwrap()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut tracer = Command::new(TRACER)
            .args(["attach", "-p", &child.id().to_string(), "--stacks"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut messages = std::io::BufReader::new(tracer.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut messages, &mut line).unwrap();
        assert!(line.contains("attached to"), "{line}");
        drop(child.stdin.take());
        child.wait().unwrap();
        let said = std::io::read_to_string(messages).unwrap();
        assert!(tracer.wait().unwrap().success(), "{said}");
        (said, getppid(&file))
    });
    assert_eq!(found.get("main;middle;leaf;raw").copied(), Some(20), "{said}");
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_run() {
    let output = Command::new(TRACER).args(["run", "--stacks", "/no/such/folder/file", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot write `/no/such/folder/file`") && text.contains("hint: "), "{text}");
}

#[privileged]
fn a_program_that_is_exchanged_costs_its_names_alone() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), &WITH_FRAMES);
    let kept = folder.path().join("kept");
    std::fs::rename(&program, &kept).unwrap();
    for exchange in ["truncate -s 5000 program", "rm program; mkfifo program", "cp kept other; mv other program"] {
        let ((), found) = with_every_stack(|| {
            std::fs::remove_file(&program).ok();
            std::fs::copy(&kept, &program).unwrap();
            let output = Command::new(TRACER)
                .args(["run", "-q", "--stacks", "stacks.folded", "--", "sh", "-c", &format!("./program; {exchange}")])
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{exchange}: {}", String::from_utf8_lossy(&output.stderr));
            ((), getppid(&folder.path().join("stacks.folded")))
        });
        // The shell's one is its own.
        let of_program = found.iter().filter(|(path, _)| path.contains("[program]")).map(|(_, calls)| calls);
        assert_eq!(of_program.sum::<u64>(), 28, "{exchange}: {found:?}");
        assert!(!found.keys().any(|path| path.contains("leaf")), "{exchange}: {found:?}");
    }
}
