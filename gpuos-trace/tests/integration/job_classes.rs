//! What a program calls and uses while it works for a class of jobs is charged to that class, and its jobs are counted.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use crate::support::{TRACER, Trace, attached, example, trace};
use gpuos_runs::{
    columns::column,
    files::{self, FileFormat},
    group,
    jobs::JobClass,
    phases::Scope,
};
use gpuos_test_macros::privileged;

fn of_program(options: &[&str], words: &[&str]) -> Trace {
    let program = example("job_calls");
    let mut command = vec![program.as_os_str()];
    command.extend(words.iter().map(std::ffi::OsStr::new));
    let trace = trace(options, &command);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    assert!(!trace.run.header.losses.any(), "{options:?} {:?}", trace.run.header.losses);
    trace
}

/// `getppid` calls by phase.
fn counted(trace: &Trace) -> BTreeMap<String, u64> {
    let groups = group::group(&trace.run.calls, &[column::SYSCALL, column::PHASE]).unwrap();
    groups.into_iter().filter(|g| g.key[0] == "getppid").map(|group| (group.key[1].clone(), group.calls)).collect()
}

fn class<'a>(trace: &'a Trace, label: &str) -> &'a JobClass {
    trace.run.header.jobs.iter().find(|class| class.label == label).unwrap_or_else(|| panic!("no class {label}"))
}

#[privileged]
fn calls_belong_to_the_class_that_their_thread_works_for() {
    let expected: BTreeMap<String, u64> = [
        ("", 1 + 1024 + 2048),
        ("a", 2 + 8 + 4096),
        ("b\\/c", 4 + 512),
        ("work/a", 16 + 256),
        ("work/range", 64),
        ("work/range/a", 32 + 128),
    ]
    .map(|(path, calls)| (path.to_owned(), calls))
    .into();
    let options: [&[&str]; 7] = [
        &[],
        &["--no-latency"],
        &["--sample", "3"],
        &["--per-thread"],
        &["--tasks-by-id"],
        &["-e", "getppid"],
        &["-e", "getppid,read,write,close,futex,mmap,munmap,brk,openat"],
    ];
    for options in options {
        let trace = of_program(options, &["enter"]);
        assert_eq!(counted(&trace), expected, "{options:?}");
        let of_jobs = trace.run.header.phases.iter().filter(|phase| phase.scope == Scope::Job);
        let labels: Vec<_> = of_jobs.map(|phase| (phase.path.as_str(), phase.job.as_deref())).collect();
        assert!(
            labels.contains(&("work/range/a", Some("a"))) && labels.contains(&("b\\/c", Some("b/c"))),
            "{labels:?}"
        );
        // The program has seen one class of each label, its child none.
        assert_eq!((class(&trace, "a").processes, class(&trace, "b/c").processes), (1, 1));
        // Its table of phases has none of them, and no call is missing there.
        assert!(!trace.stderr().contains("range/a"), "{}", trace.stderr());
    }
}

#[privileged]
fn a_class_without_a_label_is_a_class() {
    let trace = of_program(&[], &["nameless"]);
    assert_eq!(counted(&trace), BTreeMap::from([("(no label)".to_owned(), 5)]));
}

#[privileged]
fn what_a_process_computes_belongs_to_its_classes() {
    let trace = of_program(&[], &["compute"]);
    let (a, b) = (class(&trace, "a").used.cpu_ns, class(&trace, "b/c").used.cpu_ns);
    let usage = &trace.run.header.processes[0].usage;
    let all = usage.user_ns + usage.system_ns;
    // All but its start and its end.
    assert!(a + b <= all + all / 50 && a + b >= all - all / 10, "{a} + {b} of {all}");
    assert!(a > 0 && b > a, "{a} {b}");
}

#[privileged]
fn jobs_are_counted_by_class() {
    let trace = of_program(&[], &["jobs", "300"]);
    let a = class(&trace, "a");
    assert_eq!((a.begun, a.done, a.failed), (300, 299, 1));
    let (duration, lateness) = (a.duration.unwrap(), a.lateness.unwrap());
    assert!(duration.p50_ns >= 1_000_000 - 1_000_000 / 8 && duration.p99_ns >= duration.p50_ns, "{duration:?}");
    assert!(lateness.p50_ns <= duration.p50_ns, "{lateness:?}");
    // Waits, and what was called while their work was issued.
    assert!(counted(&trace)["a"] == 300 && a.used.voluntary_switches >= 250 && a.bytes > 0, "{a:?}");
    assert!(trace.stderr().contains("job class"), "{}", trace.stderr());
    // What is shown of a file is the same.
    for ending in ["parquet", "json"] {
        let mut file = tempfile::Builder::new().suffix(&format!(".{ending}")).tempfile().unwrap();
        FileFormat::by_ending(file.path()).unwrap().write(&trace.run, &mut file).unwrap();
        let shown = Command::new(TRACER).arg("show").arg(file.path()).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let table =
            |text: &str| text.lines().skip_while(|line| !line.contains("job class")).take(2).collect::<String>();
        assert!(table(&shown).contains(" 299 ") && table(&shown) == table(&trace.stderr()), "{shown}");
    }
}

#[privileged]
fn a_tracer_that_comes_later_sees_what_threads_work_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut program = Command::new(example("job_calls"));
    let mut child = program.arg("wait").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = child.id().to_string();
    let mut command = Command::new(TRACER);
    let mut tracer = attached(command.args(["attach", "-p", &pid, "-o"]).arg(&file));
    writeln!(child.stdin.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(tracer.wait().unwrap().success());
    let run = files::read(&file).unwrap();
    let trace = Trace { output: Command::new("true").output().unwrap(), run };
    let expected: BTreeMap<String, u64> = [(String::new(), 25), ("a".to_owned(), 50)].into();
    assert_eq!(counted(&trace), expected);
    assert_eq!(class(&trace, "a").processes, 1);
}

/// A program that says that its slot is wherever it likes, and whose table is none.
const HOSTILE: &str = "
import ctypes, os, struct, time
libc = ctypes.CDLL(None, use_errno=True)
def slot(address):
    marker = ctypes.create_string_buffer(struct.pack('IIQ64s', 6, 1, address, b''), 80)
    libc.ioctl(-1, ctypes.c_ulong(0x47505553), marker)
for address in (8, 2**64 - 8, 2**63, 1):
    slot(address)
    [os.getppid() for _ in range(10)]
own = ctypes.create_string_buffer(64)
slot(ctypes.addressof(own))
for number, labels in ((1, 8), (256, 2**64 - 64), (257, 0), (2**32 - 1, 1), (7, 0)):
    struct.pack_into('IIQQ', own, 0, number, 0, 2**64 - 1, labels)
    [os.getppid() for _ in range(10)]
slot(0)
for content in (b'', b'gpuosjob', b'gpuosjob' + struct.pack('IIQQQQQQ', 1, 2**32 - 1, 2**64 - 1, 2**64 - 1, 0, 0, 0, 0)):
    table = os.memfd_create('gpuos-jobs')
    os.write(table, content)
slot(ctypes.addressof(own))
own.raw = bytes(64)
time.sleep(0.3)
[os.getppid() for _ in range(10)]
";

#[privileged]
fn a_program_can_lie_about_itself_only() {
    let trace = trace(&[], &["/usr/bin/python3", "-c", HOSTILE]);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    // Whatever its slot says, every call is counted.
    assert_eq!(counted(&trace).values().sum::<u64>(), 10 * 10);
    assert!(trace.run.header.jobs.iter().all(|class| class.begun == 0), "{:?}", trace.run.header.jobs);
    assert_eq!(trace.run.header.losses.calls, 0);
}
