//! Calls are counted in the phase that the program was in when it made them.

use std::{collections::BTreeMap, process::Command};

use crate::support::{Trace, example, is_installed, trace};
use gpuos_runs::{
    columns::column,
    group,
    phases::{Phase, Scope},
};
use gpuos_test_macros::privileged;

/// `getppid` calls by phase.
fn counted(trace: &Trace) -> BTreeMap<String, u64> {
    let groups = group::group(&trace.run.calls, &[column::SYSCALL, column::PHASE]).unwrap();
    groups.into_iter().filter(|g| g.key[0] == "getppid").map(|group| (group.key[1].clone(), group.calls)).collect()
}

fn of_program(options: &[&str], word: &str) -> Trace {
    let program = example("phase_calls");
    let trace = trace(options, &[program.as_os_str(), word.as_ref()]);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    trace
}

fn phase<'a>(trace: &'a Trace, path: &str) -> &'a Phase {
    trace.run.header.phases.iter().find(|phase| phase.path == path).unwrap_or_else(|| panic!("no phase {path}"))
}

/// What `phase_calls` does by default.
fn expected() -> BTreeMap<String, u64> {
    [
        ("", 1 + 5),
        ("init", 2 + 10),
        ("work", 3 + 20 + 160 + 7),
        ("work/range", 40),
        ("work/range/inner", 80),
        ("work/never ended", 320 + 640),
        ("work/copy", 4),
        ("again", 600),
    ]
    .map(|(path, calls)| (path.to_owned(), calls))
    .into()
}

#[privileged]
fn calls_belong_to_the_phase_they_were_made_in() {
    let nine = "getppid,read,write,close,futex,mmap,munmap,brk,openat";
    let modes: [&[&str]; 10] = [
        &[],
        &["--no-latency"],
        &["--sample", "3"],
        &["--per-thread"],
        &["--tasks-by-id"],
        &["-e", "getppid"],
        &["-e", nine],
        &["--tasks-by-id", "-e", nine],
        &["--tasks-by-id", "-e", "getppid"],
        &["-e", nine, "--no-latency"],
    ];
    for options in modes {
        let trace = of_program(options, "");
        assert_eq!(counted(&trace), expected(), "{options:?}");
        assert!(!trace.run.header.losses.any(), "{options:?} {:?}", trace.run.header.losses);
        let work = phase(&trace, "work");
        assert_eq!((work.entered, work.scope, work.iterations), (1, Scope::Process, 0));
        let copy = phase(&trace, "work/copy");
        assert_eq!((copy.iterations, copy.scope), (2, Scope::Process));
        assert!(copy.wall_ns > 0 && copy.wall_ns <= work.wall_ns && work.wall_ns <= trace.run.header.wall_ns);
        assert_eq!((phase(&trace, "again").entered, phase(&trace, "work/range").scope), (100, Scope::Thread));
        // Eleven calls of the library, twice a hundred for `again`.
        assert!(trace.stderr().contains("note: 211 phase markers of the program left out"), "{}", trace.stderr());
        assert!(!trace.stderr().contains("said nothing"), "{}", trace.stderr());
        // Nobody but the program's own calls: markers are not counted.
        assert_eq!(trace.calls("ioctl"), 0, "{options:?}");
    }
}

#[privileged]
fn what_is_too_deep_belongs_to_the_phase_around() {
    let trace = of_program(&[], "deep");
    let path = |depth: usize| vec!["down"; depth].join("/");
    let mut expected: BTreeMap<String, u64> = (1..=7).map(|depth| (path(depth), 101)).collect();
    // Five went in here, and four ends were not ours.
    expected.insert(path(8), 5 + 400);
    expected.insert(String::new(), 100);
    let counted = counted(&trace);
    assert_eq!(counted, expected);
    assert_eq!(trace.run.header.losses.phases, 4);
    assert!(
        trace.stderr().contains("LOST: 4 phases, or classes of jobs, began that were not kept"),
        "{}",
        trace.stderr()
    );
    let program = example("phase_calls");
    let strict =
        Command::new(crate::support::TRACER).args(["run", "-q", "--strict", "--"]).arg(program).arg("deep").output();
    assert_eq!(strict.unwrap().status.code(), Some(125));
}

#[privileged]
fn markers_without_meaning_do_no_harm() {
    let trace = of_program(&[], "odd");
    let label = "\u{1b}[31mred\\/\u{7}";
    assert_eq!(counted(&trace), [(String::new(), 1), (label.to_owned(), 2)].into());
    let text = trace.stderr();
    assert!(text.contains("note: 4 phase markers of the program said nothing"), "{text}");
    assert!(text.contains("\\u{1b}[31mred\\/\\u{7}") && !text.contains('\u{1b}'), "{text}");
    // The two that are no markers.
    assert_eq!((trace.calls("ioctl"), trace.group("ioctl").errors), (2, 2));
}

#[privileged]
fn labels_without_a_place_are_counted_as_lost() {
    let trace = of_program(&["--phases", "7"], "many");
    let counted = counted(&trace);
    assert_eq!(counted.values().sum::<u64>(), 40, "{counted:?}");
    assert_eq!(counted.len(), 8, "{counted:?}");
    // Three and a half pairs found a place.
    assert_eq!(trace.run.header.losses.phases, 33, "{counted:?}");
}

#[privileged]
fn c_and_python_mark_phases_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("marked.c");
    std::fs::write(
        &source,
        "#include \"gpuos_phase.h\"\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         static void calls(int n) { while (n--) syscall(SYS_getppid); }\n\
         int main(void) { errno = 5; gpuos_phase_begin(\"init\"); calls(3); gpuos_phase_switch(\"work\"); calls(4);\n\
         gpuos_thread_begin(\"mine\"); calls(5); gpuos_thread_end(); gpuos_phase_iterations(2); gpuos_phase_end(); calls(6);\n\
         gpuos_phase_begin(\"0123456789012345678901234567890123456789012345678901234567890123456789\"); calls(1);\n\
         return errno != 5; }\n",
    )
    .unwrap();
    let headers = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/phase/include");
    let program = folder.path().join("marked");
    let flags = ["-Wall", "-Wextra", "-Werror", "-I", headers, "-o"];
    let built = Command::new("cc").args(flags).arg(&program).arg(&source).status();
    assert!(built.unwrap().success());
    let long = "012345678901234567890123456789012345678901234567890123456789012";
    let expected: BTreeMap<String, u64> = [("", 6), ("init", 3), ("work", 4), ("work/mine", 5), (long, 1)]
        .map(|(path, calls)| (path.to_owned(), calls))
        .into();
    let from_c = trace(&[], &[&program]);
    assert!(from_c.output.status.success(), "{}", from_c.stderr());
    assert_eq!(counted(&from_c), expected);
    assert_eq!(phase(&from_c, "work").iterations, 2);

    assert!(is_installed("/usr/bin/python3"), "`cargo xtask setup` installs python3");
    let script = format!(
        "import sys, os\nsys.path.insert(0, {:?})\nsys.dont_write_bytecode = True\nimport gpuos_phase as p\n\
         def calls(n):\n for _ in range(n): os.getppid()\n\
         with p.phase('init'): calls(3)\n\
         p.switch('work'); calls(4)\n\
         with p.thread_range('mine'): calls(5)\n\
         p.iterations(2); p.end(); calls(6)\n\
         with p.phase('{long}' + '3456789'): calls(1)\n",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../client/phase/python"),
    );
    let from_python = trace(&[], &["/usr/bin/python3", "-c", &script]);
    assert!(from_python.output.status.success(), "{}", from_python.stderr());
    assert_eq!(counted(&from_python), expected);
}
