//! When the kernel has no memory left for the state of a new thread, that is counted and told.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{TRACER, privileged, skip};
use gpuos_runs::files;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A memory cgroup of our own: what the kernel allocates for the maps of a process in it counts as its memory.
struct Group {
    folder: PathBuf,
    /// The files of version 2 or 1: limit, use.
    files: [&'static str; 2],
}

impl Group {
    fn make() -> Option<Self> {
        let name = format!("gpuos-trace-test-{}", std::process::id());
        for (root, files) in [
            ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"]),
            ("/sys/fs/cgroup", ["memory.max", "memory.current"]),
        ] {
            let folder = PathBuf::from(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder, files };
            if group.folder.join(group.files[0]).exists() {
                // Version 1 can make who needs memory wait; the tracer is not to be killed.
                let _ = fs::write(group.folder.join("memory.oom_control"), "1");
                return Some(group);
            }
        }
        None
    }

    fn used(&self) -> u64 {
        fs::read_to_string(self.folder.join(self.files[1])).unwrap().trim().parse().unwrap()
    }

    fn limit(&self, bytes: &str) -> std::io::Result<()> {
        fs::write(self.folder.join(self.files[0]), bytes)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let since = Instant::now();
        while fs::remove_dir(&self.folder).is_err() && since.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn threads_for_which_there_is_no_memory_are_lost_and_counted() {
    const TEST: &str = "threads_for_which_there_is_no_memory_are_lost_and_counted";
    const THREADS: u64 = 3000;
    if !privileged(TEST) {
        return;
    }
    let Some(group) = Group::make() else {
        return skip(TEST, "no memory cgroup can be made here");
    };
    let script = format!(
        "import os,sys,threading\nthreading.stack_size(65536)\nend=threading.Event()\nsys.stdin.readline()\n\
        def work():\n os.getppid()\n end.wait()\n\
        threads=[threading.Thread(target=work) for _ in range({THREADS})]\n\
        for t in threads: t.start()\nprint('all', flush=True)\nsys.stdin.readline()\nend.set()\n\
        for t in threads: t.join()\nprint('done', flush=True)\nsys.stdin.readline()"
    );
    let mut program = Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut orders, mut answers) = (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    let enters = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.folder.display());
    let mut tracer = Command::new("sh")
        .args(["-c", &enters, "sh", TRACER, "attach", "--strict", "-p", &program.id().to_string(), "-o"])
        .arg(file.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut messages = BufReader::new(tracer.stderr.take().unwrap());
    let mut line = String::new();
    messages.read_line(&mut line).unwrap();
    assert!(line.contains("attached to"), "{line}");
    // Room for the state of some hundreds.
    let room = group.used() + (256 << 10);
    group.limit(&room.to_string()).unwrap();
    writeln!(orders, "go").unwrap();
    let mut answer = String::new();
    answers.read_line(&mut answer).unwrap();
    group.limit("-1").or_else(|_| group.limit("max")).unwrap();
    writeln!(orders, "end").unwrap();
    answers.read_line(&mut answer).unwrap();
    assert_eq!(answer, "all\ndone\n");
    kill(Pid::from_raw(tracer.id() as i32), Signal::SIGINT).unwrap();
    let said = std::io::read_to_string(messages).unwrap();
    let status = tracer.wait().unwrap();
    drop(orders);
    program.wait().unwrap();
    let run = files::read(file.path()).unwrap();
    let lost = run.header.losses.children;
    assert!(lost > 0 && lost < THREADS, "{lost}");
    assert_eq!(status.code(), Some(125), "{said}");
    assert!(said.contains("LOST: "), "{said}");
    let followed = gpuos_runs::group::group(&run.calls, &[gpuos_runs::columns::column::SYSCALL])
        .unwrap()
        .into_iter()
        .find(|group| group.key[0] == "getppid")
        .unwrap_or_default();
    assert_eq!(followed.calls + lost, THREADS);
}
