//! The same commands under `strace -f -c` and under us: every difference has a name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

use crate::support::trace;
use gpuos_runs::{columns::column, group};
use gpuos_test_macros::privileged;

/// Calls and errors by name.
type Counts = BTreeMap<String, (u64, u64)>;

/// Differences that are meant: call, what differs, why.
const MEANT: [(&str, &str, &str); 6] = [
    ("exit_group", "calls", "strace counts when a call returns, and this one never does; we count entries"),
    ("exit", "calls", "likewise, for the end of a thread"),
    (
        "rt_sigreturn",
        "errors",
        "it returns what the interrupted code had in its register; strace takes that for an error",
    ),
    ("rt_sigreturn", "calls", "SIGCHLDs of children that end together arrive as one; how many do depends on speed"),
    ("futex", "calls", "how often threads meet on a lock depends on speed, and strace slows them a hundredfold"),
    ("futex", "errors", "likewise"),
];

/// Calls of a program (by its name, or words of its command line) whose number depends on speed.
const BY_SPEED: [(&str, &[&str], &str); 5] = [
    (
        "done; wait",
        &["wait4", "rt_sigsuspend", "rt_sigprocmask"],
        "a shell asks for children that have ended and sleeps when there is none; how many have ended depends on speed",
    ),
    (
        "import threading",
        &["mmap", "munmap", "mprotect", "madvise"],
        "a thread takes the stack and the heap of one before it only if that is gone by then",
    ),
    (
        "node",
        &["mmap", "munmap", "mprotect", "madvise", "brk", "read", "write", "epoll_pwait", "epoll_wait", "sched_yield"],
        "its engine compiles and collects garbage on threads of their own, by the clock",
    ),
    (
        "go",
        &[
            "nanosleep",
            "clone",
            "clone3",
            "exit",
            "mmap",
            "munmap",
            "mprotect",
            "madvise",
            "sigaltstack",
            "rt_sigprocmask",
            "gettid",
            "set_robust_list",
            "rseq",
            "sched_yield",
            "getpid",
            "tgkill",
            "rt_sigreturn",
            "epoll_pwait",
        ],
        "a thread of its runtime naps and looks around until the program ends, and starts others when it waits",
    ),
    (
        "gpuos-trace",
        &[
            "epoll_wait",
            "write",
            "read",
            "bpf",
            "openat",
            "close",
            "statx",
            "mmap",
            "munmap",
            "mprotect",
            "madvise",
            "futex",
        ],
        "it looks at its maps and for new drivers ten times a second; its threads that load programs meet in the allocator",
    ),
];
fn under_strace(script: &str, folder: &Path) -> Counts {
    let log = folder.join("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls,errors", "-o"])
        .arg(&log)
        .args(["sh", "-c", &format!("cd {} && {script}", folder.display())])
        // Streams of the same kind as ours: programs ask what they are.
        .output()
        .expect("strace is installed by `cargo xtask setup --tests`")
        .status;
    assert!(status.success(), "{script}: {status}");
    let text = std::fs::read_to_string(log).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
        (name != "total").then(|| (name.to_owned(), (calls, words.next().map_or(0, |errors| errors.parse().unwrap()))))
    });
    let counts: Counts = rows.collect();
    assert!(counts.len() > 5, "{text}");
    counts
}

fn under_us(script: &str, folder: &Path) -> Counts {
    let trace = trace(&["-q"], &["sh", "-c", &format!("cd {} && {script}", folder.display())]);
    assert!(trace.output.status.success(), "{script}: {}", trace.stderr());
    assert!(!trace.run.header.losses.any());
    let groups = group::group(&trace.run.calls, &[column::SYSCALL]).unwrap();
    // strace counts an interrupted call as an error.
    groups.into_iter().map(|group| (group.key[0].clone(), (group.calls, group.errors + group.restarted))).collect()
}

/// Compares several runs of each: where the runs of one tracer already differ (the program depends on
/// timing), the ranges must touch; elsewhere the numbers must be equal.
fn compare(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    // Once without anybody, so that caches and files that the command makes are there.
    let warm = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(warm.unwrap().success(), "{script}");
    let mut ours = vec![];
    let mut theirs = vec![];
    for round in 0..6 {
        ours.push(under_us(script, folder.path()));
        theirs.push(under_strace(script, folder.path()));
        if round > 0 && differences(script, &ours, &theirs).is_empty() {
            return;
        }
    }
    panic!("{script}\n{}", differences(script, &ours, &theirs).join("\n"));
}

fn differences(script: &str, ours: &[Counts], theirs: &[Counts]) -> Vec<String> {
    let names: BTreeSet<&String> = ours.iter().chain(theirs).flat_map(BTreeMap::keys).collect();
    let mut found = vec![];
    for name in names {
        type Part = fn(&(u64, u64)) -> u64;
        for (what, part) in [("calls", (|c| c.0) as Part), ("errors", (|c| c.1) as Part)] {
            let range = |runs: &[Counts]| {
                let values: Vec<u64> = runs.iter().map(|run| run.get(name).map_or(0, part)).collect();
                (*values.iter().min().unwrap(), *values.iter().max().unwrap())
            };
            let (us, them) = (range(ours), range(theirs));
            let program = script.split_whitespace().next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
            let meant = MEANT.iter().any(|(call, part, _)| call == name && *part == what)
                || BY_SPEED.iter().any(|(of, calls, _)| {
                    (*of == program || of.contains(' ') && script.contains(of)) && calls.contains(&name.as_str())
                });
            if !meant && (us.0 > them.1 || them.0 > us.1) {
                found.push(format!("{name} {what}: ours {us:?}, strace's {them:?}"));
            }
        }
    }
    found
}

#[privileged]
fn ordinary_commands_are_counted_as_strace_counts_them() {
    for script in [
        "true",
        "ls -l /usr/bin",
        "cat /etc/passwd | sort | uniq | wc -l",
        "/usr/bin/python3 -c 'import json, os, subprocess; print(json.dumps(dict(os.environ)))'",
        "/usr/bin/python3 -c 'import threading; t=[threading.Thread(target=print, args=(i,)) for i in range(4)]; [x.start() or x.join() for x in t]'",
        "/usr/bin/python3 -c 'import subprocess; [subprocess.run([\"true\"]) for _ in range(5)]'",
        "/usr/bin/python3 -c 'import multiprocessing as m; p=m.Process(target=print); p.start(); p.join()'",
        "echo 'int main(void){return 0;}' > a.c && gcc -o a a.c && ./a",
        "printf 'all: a b c\\na b c:\\n\\techo $@ > $@.out\\n' > Makefile && make -B -j3",
        "tar cf a.tar -C /etc alternatives && tar tf a.tar",
        "gzip -c /etc/services > s.gz 2>/dev/null || gzip -c /etc/passwd > s.gz; gzip -t s.gz",
        "find /etc -name '*.conf' 2>/dev/null | head -n 5",
        "find /usr/share/doc -maxdepth 2 -name 'copyright' -exec head -c 1 {} + | wc -c",
        "grep -r include /usr/include/linux/types.h",
        "for i in 1 2 3 4 5; do (echo $i | sed s/1/2/) & done; wait",
        // Without the maintenance that git leaves to a process of its own, which outlives the command: strace waits for it.
        "rm -rf r && git init -q r && cd r && git -c maintenance.auto=false -c user.name=a -c user.email=b commit -q --allow-empty -m c && git log",
        "dd if=/dev/zero of=z bs=4k count=500 2>/dev/null && sha256sum z",
        "timeout 5 sh -c 'sleep 0.05'",
        "seq 1 1000 | xargs -n 100 echo | wc -l",
        "awk 'BEGIN { for (i = 0; i < 1000; i++) s += i; print s }'",
        "perl -e 'print join(\",\", sort { $a <=> $b } map { $_ * 7 % 13 } 1..20)'",
        "bash -c 'mapfile -t l < /etc/passwd; echo ${#l[@]}; coproc cat; echo hi >&${COPROC[1]}; exec {COPROC[1]}>&-; wait'",
        "mkfifo p 2>/dev/null; (echo x > p &) ; cat p",
        "env -i /bin/echo hello",
        "nice -n 5 stat /etc/passwd",
        "cp -r /etc/alternatives c && diff -r /etc/alternatives c; rm -rf c",
        "id; date; uname -a; df / > /dev/null",
        "sort -R /etc/passwd | shuf | tail -n 3 | tee t | cat",
        "trap : TERM; kill -TERM $$; true",
        "node -e 'require(\"child_process\").execFileSync(\"true\")'",
        "go version",
        // A tokio program: our own.
        &format!("{} run -q -- true", crate::support::TRACER),
    ] {
        let program = script.split_whitespace().next().unwrap();
        if matches!(program, "node" | "go") && !crate::support::is_installed(program) {
            continue;
        }
        compare(script);
    }
}
