//! Events as lines: while they happen (`record --print`) and of a recording (`show --events`), as people who type strace read
//! them.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{TRACER, example};
use gpuos_test_macros::privileged;

fn output(words: &[&str]) -> Output {
    Command::new(TRACER).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `show --events` prints of a recording.
fn shown(file: &Path, options: &[&str]) -> Vec<String> {
    let mut show = Command::new(TRACER);
    let output = show.args(["show", "--events"]).args(options).arg(file).output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// A call from its name on, without its time.
fn call(line: &str) -> Option<String> {
    let start = line.find('(')?;
    let name = line[..start].rfind(' ').map_or(0, |space| space + 1);
    let end = line.rfind(" <").unwrap_or(line.len());
    Some(line[name..end].to_owned())
}

#[privileged]
fn calls_about_files_are_written_as_strace_writes_them() {
    let script = "unset LD_LIBRARY_PATH LANG LC_ALL; cat /etc/hostname /nowhere/at/all; cd /usr; cat share/../../etc/hostname < /etc/passwd > /dev/null; exec 7</etc/hostname; cat <&7";
    let of_strace = Command::new("strace")
        .args(["-f", "-y", "-s", "200", "-e", "trace=openat,close,dup2,read", "sh", "-c", script])
        .output()
        .unwrap();
    let ours = output(&["record", "--print", "-e", "trace=openat,close,dup2,read", "--", "sh", "-c", script]);
    // Pipes have other numbers in each run. Without what is not read here: the content of buffers (and addresses, which are other ones), the current folder, where a link
    // leads; and without what stands in columns.
    let bare = |line: String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let line = words.join(" ").replace("AT_FDCWD</usr>", "AT_FDCWD").replace("</usr/lib/x86_64", "</lib/x86_64");
        let line = line
            .strip_prefix("openat(AT_FDCWD<")
            .map_or(line.clone(), |rest| format!("openat(AT_FDCWD{}", rest.split_once('>').unwrap().1));
        let is_read = line.starts_with("read(");
        let line = match (line.find("pipe:["), line.find("]>")) {
            (Some(start), Some(end)) if start < end => line.replace(&line[start..=end], "a pipe"),
            _ => line,
        };
        let second = line.find(", ").filter(|_| is_read);
        match second {
            Some(second) => {
                let length = line.rfind(") = ").and_then(|end| line[..end].rfind(", ")).unwrap_or(second);
                format!("{}{}", &line[..second], &line[length..])
            }
            None => line,
        }
    };
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = text(bytes);
        let calls = text.lines().filter(|line| !line.contains("resumed>") && !line.contains("<unfinished"));
        let calls = calls.filter_map(|line| {
            let line = line.strip_prefix("[pid ").and_then(|line| line.split_once("] ")).map_or(line, |(_, line)| line);
            call(line)
        });
        let is_ours =
            |line: &String| line.starts_with(['o', 'c', 'd', 'r']) && line.contains(" = ") && !line.contains("share/");
        calls.map(bare).filter(is_ours).collect()
    };
    let (mut expected, mut found) = (lines(&of_strace.stderr), lines(&ours.stderr));
    expected.sort();
    found.sort();
    assert!(expected.len() > 30, "{expected:?}");
    // Calls of two processes at once strace writes in two parts, which are left out here.
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).collect();
    assert!(missing.is_empty(), "not among ours: {missing:#?}\nours: {found:#?}");
    assert!(
        found
            .iter()
            .any(|line| line
                == "openat(AT_FDCWD, \"/nowhere/at/all\", O_RDONLY) = -1 ENOENT (No such file or directory)")
    );
    assert!(found.iter().any(|line| line.starts_with("dup2(7</etc/hostname>, 0")), "{found:#?}");
}

#[privileged]
fn lines_come_while_the_command_runs_and_its_end_is_one_of_them() {
    let mut tracer = Command::new(TRACER)
        .args(["record", "--print", "-o", "-", "--", "sh", "-c", "test -e /etc/hostname; sleep 3; exit 7"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tracer.stdout.take().unwrap()).lines();
    let seen = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"/etc/hostname\"")).unwrap();
    // The command must still run when its lines are read: it sleeps longer than that takes.
    assert!(tracer.try_wait().unwrap().is_none(), "{seen}");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("clock_nanosleep(CLOCK_REALTIME, 0, ")), "{rest:#?}");
    assert!(rest.last().is_some_and(|line| line.ends_with("+++ exited with 7 +++")), "{:?}", rest.last());
    assert_eq!(tracer.wait().unwrap().code(), Some(7));
}

#[privileged]
fn a_closed_reader_leaves_the_command_alone() {
    let mut tracer = Command::new(TRACER)
        .args([
            "record",
            "--print",
            "-o",
            "-",
            "--",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8; do cat /etc/hostname > /dev/null; done; exit 4",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 100];
    tracer.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = tracer.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(4), ""));
}

#[privileged]
fn an_attached_trace_ends_with_its_reader() {
    for backend in ["bpf", "ptrace"] {
        let mut worker =
            Command::new("sh").args(["-c", "while :; do cat /dev/null; sleep 0.02; done"]).spawn().unwrap();
        // A tracer that goes on is ended with 124.
        let mut tracer = Command::new("timeout")
            .args(["20", TRACER, "record", "--print", "-o", "-", "--backend", backend, "-p"])
            .arg(worker.id().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = [0; 100];
        tracer.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let ended = tracer.wait().unwrap();
        let still_runs = worker.try_wait().unwrap().is_none();
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!((ended.code(), still_runs), (Some(0), true), "{backend}");
    }
}

#[privileged]
fn lines_are_chosen_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let script = format!("{} && cat /nowhere; sleep 0.2", example("phase_calls").display());
    let recorded = Command::new(TRACER)
        .args(["record", "-q", "--paths", "--print", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(recorded.status.success());
    // Printed and recorded are the same, but for what `/proc` told meanwhile.
    let all = shown(&file, &[]);
    let without_files = |lines: &[String]| {
        lines.iter().map(|line| line.split(['(', '<']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let printed: Vec<String> = text(&recorded.stderr)
        .lines()
        .filter(|line| !line.starts_with("cat: ") && !line.starts_with("note: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(without_files(&printed), without_files(&all));
    let names = |options: &[&str]| -> Vec<String> {
        let lines = shown(&file, options);
        let mut names: Vec<_> =
            lines.iter().filter_map(|line| Some(call(line)?.split('(').next()?.to_owned())).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(names(&["-e", "getppid"]), ["getppid"]);
    assert_eq!(names(&["-e", "trace=getppid", "--phase", "work/range"]), ["getppid"]);
    assert!(
        shown(&file, &["--phase", "work", "-e", "getppid"]).len()
            > shown(&file, &["--phase", "work/range", "-e", "getppid"]).len()
    );
    let files = names(&["-e", "%file"]);
    assert!(
        files.contains(&"openat".to_owned())
            && files.contains(&"execve".to_owned())
            && !files.contains(&"read".to_owned()),
        "{files:?}"
    );
    assert!(!names(&["-e", "!openat"]).contains(&"openat".to_owned()));
    assert!(names(&["-e", "/^open"]).iter().all(|name| name.starts_with("open")));
    let failed = shown(&file, &["--failed"]);
    assert!(
        !failed.is_empty() && failed.iter().all(|line| line.contains(" = -1 E") || line.contains("(ERESTART")),
        "{failed:#?}"
    );
    let slow = names(&["--slower", "100ms"]);
    assert!(slow.contains(&"clock_nanosleep".to_owned()) && !slow.contains(&"getppid".to_owned()), "{slow:?}");
    // By a process, and by one that is not there.
    let pid =
        all.iter().find(|line| line.contains("executes cat")).and_then(|line| line.split_whitespace().nth(1)).unwrap();
    let of_one = shown(&file, &["-p", pid]);
    assert!(of_one.iter().all(|line| line.split_whitespace().nth(1) == Some(pid)) && of_one.len() > 10);
    assert!(shown(&file, &["-p", "4194303"]).is_empty());
    assert!(shown(&file, &["--device", "nvidia"]).is_empty());
    // Objects have what the lines have.
    for line in shown(&file, &["--json", "-e", "openat"]) {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(
            object["syscall"] == "openat" && object["arguments"].as_str().unwrap().starts_with("AT_FDCWD, "),
            "{line}"
        );
    }
    let slowest = Command::new(TRACER).args(["show", "--slowest", "3"]).arg(&file).output().unwrap();
    let slowest = text(&slowest.stdout);
    let (_, lines) = slowest.split_once("the 3 slowest calls\n").unwrap();
    let lasted = |line: &str| -> f64 { line.rsplit_once('<').unwrap().1.trim_end_matches('>').parse().unwrap() };
    let times: Vec<f64> = lines.lines().map(lasted).collect();
    assert!(times.len() == 3 && times.is_sorted_by(|one, next| one >= next) && times[0] >= 0.2, "{times:?}");
}

#[privileged]
fn what_cannot_be_printed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("run.parquet");
    assert!(output(&["run", "-q", "-o", counts.to_str().unwrap(), "--", "true"]).status.success());
    for (words, said) in [
        (vec!["show", "--events", counts.to_str().unwrap()], "holds counts, and no events"),
        (vec!["show", "--failed", counts.to_str().unwrap()], "lines are chosen with `--events`"),
        (vec!["record", "--failed", "-o", "x.parquet", "--", "true"], "lines are printed with `--print`"),
        (vec!["record", "--", "true"], "or `--print` for lines"),
        (vec!["record", "--print", "-e", "opennat", "--", "true"], "did you mean `openat`"),
        (vec!["record", "--print", "-e", "/(", "--", "true"], "no regular expression"),
    ] {
        let output = output(&words);
        assert!(!output.status.success() && text(&output.stderr).contains(said), "{words:?}: {}", text(&output.stderr));
    }
}
