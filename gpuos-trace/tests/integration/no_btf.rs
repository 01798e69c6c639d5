//! A kernel that shows no type information: calls are counted as ever, and fds are followed from the path that
//! was opened to the call that closes them. Here it has some, over which an empty folder is mounted.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::TRACER;
use gpuos_runs::{columns::column, files, group, run::Run};
use gpuos_test_macros::privileged;
use gpuos_tracer_abi::tasks::EXIT_UNKNOWN;

/// `gpuos-trace` with these words where no type information is shown.
fn hidden(words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh", TRACER])
        .args(words);
    command
}

fn trace(options: &[&str], command: &[&str]) -> (Output, Run) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.parquet");
    let words = [&["run"], options, &["-o", file.to_str().unwrap(), "--"], command].concat();
    let output = hidden(&words).output().unwrap();
    let run = files::read(&file).unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output, run)
}

/// Calls of the command that no driver has, by device.
fn by_device(run: &Run) -> BTreeMap<String, u64> {
    let groups = group::group(&run.calls, &[column::DEVICE, column::COMMAND_NAME]).unwrap();
    let ours = groups.into_iter().filter(|group| group.key[1] == "_IOC(_IOC_NONE, 0xee, 0x5a, 0x0)");
    ours.map(|group| (group.key[0].clone(), group.calls)).collect()
}

/// What a script calls on an fd, so many times.
const CALLS: &str = "\
import fcntl, os, socket, sys, threading
def call(fd, times):
    for _ in range(times):
        try: fcntl.ioctl(fd, 0xee5a)
        except OSError: pass
";

#[privileged]
fn calls_are_counted_as_ever() {
    let known = crate::support::known_calls();
    let known = known.to_str().unwrap();
    for options in [&[][..], &["--no-latency"], &["--sample", "7"], &["-e", "getppid"], &["--per-thread"]] {
        for (words, expected) in
            [(&["getppid", "1000"][..], 1000), (&["threads", "4", "250"], 1000), (&["forks", "20"], 60)]
        {
            let (output, run) = trace(options, &[&[known], words].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(!run.header.losses.any(), "{:?}", run.header.losses);
            let groups = group::group(&run.calls, &[column::SYSCALL]).unwrap();
            let calls = groups.iter().find(|group| group.key[0] == "getppid").map(|group| group.calls);
            assert_eq!(calls, Some(expected), "{options:?} {words:?}");
            let said = |note: &String| note.starts_with("fallback: this kernel shows no type information");
            assert!(run.header.notes.iter().any(said), "{:?}", run.header.notes);
        }
    }
}

#[privileged]
#[cfg(target_arch = "x86_64")]
fn calls_of_32_bits_are_told_apart() {
    let (_, run) = trace(&[], &[crate::support::known_calls().to_str().unwrap(), "compat", "7"]);
    let groups = group::group(&run.calls, &[column::SYSCALL]).unwrap();
    // `getppid` of the 32-bit table.
    let calls = groups.iter().find(|group| group.key[0] == "compat_64").map(|group| group.calls);
    assert_eq!(calls, Some(7));
}

#[privileged]
fn fds_are_followed() {
    let script = format!(
        "{CALLS}\
null = os.open('/dev/null', os.O_RDONLY)
call(null, 1)
zero = os.open('/dev/zero', os.O_RDONLY)
call(zero, 10)
call(os.dup(zero), 20)
os.dup2(zero, 50); call(50, 30)
os.dup2(zero, 51, inheritable=False); call(51, 40)
call(fcntl.fcntl(zero, fcntl.F_DUPFD, 60), 50)
call(fcntl.fcntl(zero, fcntl.F_DUPFD_CLOEXEC, 61), 60)
thread = threading.Thread(target=call, args=(zero, 100)); thread.start(); thread.join()
os.close(zero); pair = socket.socketpair()
assert zero in [one.fileno() for one in pair]
call(zero, 3)
os.dup2(null, 50); call(50, 1)
os.closerange(50, 70); call(50, 3)
call(os.open('/dev/null', os.O_PATH), 3)
call(os.open('/proc/self/status', os.O_RDONLY), 3)
full = os.open('/dev/full', os.O_RDONLY); os.set_inheritable(full, True)
random = os.open('/dev/random', os.O_RDONLY)
fcntl.fcntl(random, fcntl.F_SETFD, 0)
urandom = os.open('/dev/urandom', os.O_RDONLY); os.set_inheritable(urandom, True)
fcntl.fcntl(urandom, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
numbers = [str(fd) for fd in (null, full, random, urandom)]
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]] + numbers)"
    );
    let then = format!(
        "{CALLS}\
null, full, random, urandom = map(int, sys.argv[1:])
call(full, 7); call(random, 9); call(null, 3); call(urandom, 3)"
    );
    let wanted = [
        ("full".to_owned(), 7),
        ("not known".to_owned(), 6 * 3),
        ("null".to_owned(), 2),
        ("random".to_owned(), 9),
        ("zero".to_owned(), 310),
    ];
    for options in [&[][..], &["--no-latency"], &["-e", "ioctl"], &["--per-thread"]] {
        let (output, run) = trace(options, &["/usr/bin/python3", "-c", &script, &then]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(by_device(&run), BTreeMap::from(wanted.clone()), "{options:?}");
    }
}

/// And what the scripts below have besides: libc, and a device that is open.
const PRELUDE: &str = "import ctypes\nlibc = ctypes.CDLL(None)\nzero = os.open('/dev/zero', os.O_RDONLY)\n";

/// Calls by device of a script, which has [`CALLS`] as its argument, too.
fn devices_of(what: &str, script: &str) -> BTreeMap<String, u64> {
    let (output, run) = trace(&[], &["/usr/bin/python3", "-c", &format!("{CALLS}{PRELUDE}{script}"), CALLS]);
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    by_device(&run)
}

/// What makes a number lead to something else than the table says. `syscall` is that of libc.
const SURPRISES: [(&str, &str); 10] = [
    (
        "a flag of a number that another program has",
        "fcntl.fcntl(zero, fcntl.F_DUPFD_CLOEXEC, 40)
then = 'kept = [socket.socket() for _ in range(60)]; fcntl.fcntl(40, fcntl.F_SETFD, 1); call(40, 5)'
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1] + then])",
    ),
    ("a path through what is open", "call(os.open('/dev/stdin', os.O_RDONLY), 5)"),
    (
        "another root",
        "import tempfile\nroot = tempfile.mkdtemp()\nos.mkdir(root + '/dev')\nos.mknod(root + '/dev/zero', 0o20666, os.makedev(1, 7))
os.chroot(root)\ncall(os.open('/dev/zero', os.O_RDONLY), 5)",
    ),
    (
        "other mounts",
        "assert libc.unshare(0x20000) == 0\nassert libc.mount(b'/dev/full', b'/dev/zero', None, 4096, None) == 0
call(os.open('/dev/zero', os.O_RDONLY), 5)",
    ),
    (
        "a path that begins elsewhere",
        "import tempfile\nroot = tempfile.mkdtemp()\nos.mkdir(root + '/dev')\nopen(root + '/dev/zero', 'w').close()
how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0x10)
fd = libc.syscall(437, os.open(root, os.O_RDONLY), b'/dev/zero', how, ctypes.c_size_t(24))\nassert fd >= 0\ncall(fd, 5)",
    ),
    (
        "a node that is gone",
        "import time\npath = '/dev/gpuos-trace-test'\nos.mknod(path, 0o20666, os.makedev(1, 5))\ntime.sleep(0.5)
os.unlink(path)\ntime.sleep(0.5)\nopen(path, 'w').close()\nfd = os.open(path, os.O_RDONLY)\nos.unlink(path)\ncall(fd, 5)",
    ),
    ("a long range", "os.dup2(zero, 4000)\nassert libc.syscall(436, 3, 0xffffffff, 0) == 0\ncall(4000, 5)"),
    (
        "a table of its own",
        "own, ready, done = [], threading.Event(), threading.Event()
def thread():
    assert libc.unshare(0x400) == 0
    own.append(socket.socket()); ready.set(); done.wait(); call(own[0].fileno(), 5)
thread = threading.Thread(target=thread); thread.start(); ready.wait()
while os.open('/dev/zero', os.O_RDONLY) != own[0].fileno(): pass
done.set(); thread.join()",
    ),
    (
        "a ring",
        "parameters = (ctypes.c_uint32 * 30)()\nassert libc.syscall(425, 1, parameters) >= 0\ncall(zero, 5)",
    ),
    (
        "a command of which the kernel takes a half",
        "fcntl.fcntl(zero, fcntl.F_DUPFD, 40)\nassert libc.syscall(72, 40, ctypes.c_uint64(1 << 32 | 2), 1) == 0
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1] + 'call(40, 5)'])",
    ),
];

#[privileged]
fn what_is_not_understood_is_not_known() {
    for (what, script) in SURPRISES {
        assert_eq!(devices_of(what, script), BTreeMap::from([("not known".to_owned(), 5)]), "{what}");
    }
}

/// What leaves everything known that is opened, or was open.
const HARMLESS: [(&str, &str); 6] = [
    ("a ring that is refused", "assert libc.syscall(425, 0, None) < 0\ncall(zero, 5)"),
    ("a root that is refused", "assert libc.chroot(b'/nowhere') < 0\ncall(os.open('/dev/zero', os.O_RDONLY), 5)"),
    ("a child", "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\ncall(zero, 5)"),
    (
        "what is opened after a range was closed",
        "assert libc.syscall(436, 20, 30, 0) == 0\ncall(os.open('/dev/zero', os.O_RDONLY), 5)",
    ),
    ("a network of its own", "assert libc.unshare(0x40000000) == 0\ncall(os.open('/dev/zero', os.O_RDONLY), 5)"),
    (
        "another program, after a table of its own",
        "assert libc.unshare(0x400) == 0
then = 'call(os.open(\"/dev/zero\", os.O_RDONLY), 5)'
os.execv(sys.executable, [sys.executable, '-c', sys.argv[1] + then])",
    ),
];

#[privileged]
fn what_is_harmless_leaves_it_known() {
    for (what, script) in HARMLESS {
        assert_eq!(devices_of(what, script), BTreeMap::from([("zero".to_owned(), 5)]), "{what}");
    }
}

/// Calls by device of a program that attaching meets in a call, and that goes on once there is a line for it.
fn attached(before: &str, after: &str) -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let script = format!("{CALLS}{PRELUDE}{before}\nprint('ready', flush=True)\n{after}");
    let mut program = Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(program.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = program.id().to_string();
    let mut tracer = hidden(&["attach", "-p", &pid, "-o", file.to_str().unwrap()]);
    let mut tracer = tracer.stderr(Stdio::piped()).spawn().unwrap();
    let mut messages = BufReader::new(tracer.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ctrl-C ends it") {
        line.clear();
        assert_ne!(messages.read_line(&mut line).unwrap(), 0);
    }
    program.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(program.wait().unwrap().success());
    let mut rest = String::new();
    messages.read_to_string(&mut rest).unwrap();
    assert!(tracer.wait().unwrap().success(), "{rest}");
    by_device(&files::read(Path::new(&file)).unwrap())
}

#[privileged]
fn what_was_open_before_is_known_too() {
    let calls = attached(
        "path = os.open('/dev/zero', os.O_PATH)",
        "sys.stdin.readline(); call(zero, 5); call(path, 2); call(0, 1)",
    );
    assert_eq!(calls, BTreeMap::from([("not known".to_owned(), 3), ("zero".to_owned(), 5)]));
    // A ring may close fds.
    let calls =
        attached("assert libc.syscall(425, 1, (ctypes.c_uint32 * 30)()) >= 0", "sys.stdin.readline(); call(zero, 5)");
    assert_eq!(calls, BTreeMap::from([("not known".to_owned(), 5)]));
    // The call that it is in has arguments that nobody has seen: they look like those of a duplicate of fd 0.
    let calls = attached(
        "import struct, tempfile, time
lock = tempfile.TemporaryFile()
holder = os.fork()
if holder == 0:
    os.close(1); fcntl.lockf(lock, fcntl.LOCK_EX); sys.stdin.readline(); os._exit(0)
time.sleep(0.3)
null = os.dup2(os.open('/dev/full', os.O_RDONLY), 0)",
        "fcntl.lockf(lock, fcntl.LOCK_EX); call(0, 5); call(zero, 2)",
    );
    assert_eq!(calls, BTreeMap::from([("full".to_owned(), 5), ("zero".to_owned(), 2)]));
}

#[privileged]
fn what_is_not_known_is_not_made_up() {
    let (output, run) = trace(&[], &["sh", "-c", "sh -c 'exit 7'; sh -c 'kill -9 $$'; sh -c 'exit 0'; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    let mut codes: Vec<u32> = run.header.processes.iter().map(|process| process.exit_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 3 << 8, 7 << 8, EXIT_UNKNOWN]);
    // The first thread ends well, and a signal the process.
    let script = "import ctypes, os, threading, time\n\
        threading.Thread(target=lambda: (time.sleep(0.2), os.kill(os.getpid(), 9))).start()\n\
        ctypes.CDLL(None).syscall(60, 0)";
    let (_, killed) = trace(&[], &["/usr/bin/python3", "-c", script]);
    assert_eq!(killed.header.processes[0].exit_code, EXIT_UNKNOWN);
    assert!(run.header.processes.iter().all(|process| !process.usage.is_known()));
    // From inside of a container there is no way but ptrace.
    let inside = |words: &[&str]| {
        let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
        Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", script, "sh", TRACER])
            .args(words)
            .output()
            .unwrap()
    };
    let output = inside(&["run", "--backend", "bpf", "--", "true"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(
        text.contains("only root outside of containers can trace") && text.contains("CONFIG_DEBUG_INFO_BTF"),
        "{text}"
    );
}

#[privileged]
fn it_is_recorded_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.parquet");
    let script = format!("{CALLS}\nos.stat('/'); call(os.open('/dev/zero', os.O_RDONLY), 5)");
    let words = ["record", "-q", "-o", file.to_str().unwrap(), "--", "/usr/bin/python3", "-c", &script];
    let output = hidden(&words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = Command::new(TRACER).args(["show", "--top", "0", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("zero") && text.contains("fallback: this kernel shows no type information"), "{text}");
}
