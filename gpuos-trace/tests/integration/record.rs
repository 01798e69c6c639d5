//! Recordings hold what was counted, event by event, and what is missing is said.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::{TRACER, example, known_calls, privileged};
use gpuos_recording::{RecordingError, counts::Counts, file::Recording, rows::column, table::word};
use gpuos_runs::run::End;
use gpuos_test_macros::privileged;

/// One row, as far as the tests look.
#[derive(Clone, Debug)]
struct Row {
    event: String,
    time: u64,
    duration: Option<u64>,
    pid: u32,
    thread: u32,
    comm: String,
    phase: String,
    syscall: String,
    first: u64,
    returned: Option<i64>,
    error: String,
}

fn rows(path: &Path) -> Vec<Row> {
    let recording = Recording::open(path).unwrap().expect("a recording");
    let mut rows = Vec::new();
    recording
        .read(|frame| {
            let text = |name: &str, row: usize| frame.column(name).unwrap().str().unwrap().get(row).unwrap().to_owned();
            let short = |name: &str, row: usize| frame.column(name).unwrap().u32().unwrap().get(row).unwrap();
            for row in 0..frame.height() {
                rows.push(Row {
                    event: text(column::EVENT, row),
                    time: frame.column(column::TIME)?.u64()?.get(row).unwrap(),
                    duration: frame.column(column::DURATION)?.u64()?.get(row),
                    pid: short(column::PID, row),
                    thread: short(column::THREAD, row),
                    comm: text(column::COMM, row),
                    phase: text(column::PHASE, row),
                    syscall: text(column::SYSCALL, row),
                    first: frame.column(column::ARGUMENT_0)?.u64()?.get(row).unwrap(),
                    returned: frame.column(column::RETURNED)?.i64()?.get(row),
                    error: text(column::ERROR, row),
                });
            }
            Ok::<_, RecordingError>(())
        })
        .unwrap();
    rows
}

fn calls<'a>(rows: &'a [Row], syscall: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.syscall == syscall).collect()
}

fn record<S: AsRef<OsStr>>(file: &Path, options: &[&str], command: &[S]) -> Output {
    let output =
        Command::new(TRACER).arg("record").args(options).arg("-o").arg(file).arg("--").args(command).output().unwrap();
    assert!(output.status.code() != Some(125), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The tables of a summary: what is before the notes, without what the recording adds.
fn tables(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.starts_with("note: ") && !line.starts_with("recorded "));
    lines.map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

/// Each end of a call comes after the one before in its thread.
fn assert_order(rows: &[Row]) {
    let mut last: HashMap<u32, u64> = HashMap::new();
    for row in rows.iter().filter(|row| row.event == word::CALL) {
        let end = row.time + row.duration.unwrap_or(0);
        let before = last.insert(row.thread, end).unwrap_or(0);
        // A number may be given again to a thread that began later.
        assert!(end >= before, "{row:?} ended before {before}");
    }
}

#[privileged]
fn the_events_add_up_to_the_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let known = known_calls();
    let known = known.to_str().unwrap();
    let phases = example("phase_calls");
    let commands: Vec<Vec<&str>> = vec![
        vec![known, "getppid", "20000"],
        vec![known, "ioctl", "1000"],
        vec![known, "threads", "2000", "4"],
        vec![known, "tree", "3", "3"],
        vec![known, "exec-chain", "4"],
        vec![known, "exec-from-thread"],
        vec![known, "vfork", "20"],
        vec![known, "unusual", "30"],
        vec![known, "refused", "20"],
        vec![known, "compat", "20"],
        vec![known, "interrupted", "5"],
        vec![known, "in-flight"],
        vec![known, "abort"],
        vec![phases.to_str().unwrap()],
        vec!["sh", "-c", "ls / | sort | head -3; cat /proc/self/stat > /dev/null; sleep 0.02 & wait"],
    ];
    let modes: [&[&str]; 4] = [&[], &["--tasks-by-id"], &["-e", "getppid,exit_group"], &["-e", "memory,getppid"]];
    // Under emulation one mode for each command.
    let is_short = std::env::var("GPUOS_ROUNDS").is_ok_and(|rounds| rounds == "1");
    for (at, command) in commands.iter().enumerate() {
        for (_, mode) in modes.iter().enumerate().filter(|(mode, _)| !is_short || at % modes.len() == *mode) {
            let mut options = vec!["--top", "0", "--wait-all"];
            options.extend(*mode);
            let output = record(&file, &options, command);
            let shown = Command::new(TRACER).args(["show", "--top", "0"]).arg(&file).output().unwrap();
            let counted: Vec<_> = tables(&output.stderr);
            // What the command itself says comes first.
            let begin = counted.iter().position(|line| *line == command.join(" ")).unwrap_or(0);
            assert_eq!(counted[begin..], tables(&shown.stdout), "{command:?} {mode:?}");
            assert_order(&rows(&file));
        }
    }
}

#[privileged]
fn a_recording_tells_who_did_what_when() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let script = "import ctypes, threading, os\n\
        def work():\n ctypes.CDLL(None).prctl(15, b'worker', 0, 0, 0)\n os.close(4096)\n\
        def guarded():\n  try: work()\n  except OSError: pass\n\
        t = threading.Thread(target=guarded); t.start(); t.join()\n\
        os.spawnvp(os.P_WAIT, 'true', ['true'])\n";
    record(&file, &["--sched", "--faults"], &["/usr/bin/python3", "-c", script]);
    let rows = rows(&file);
    let of = |event: &str| rows.iter().filter(|row| row.event == event).collect::<Vec<_>>();
    assert_eq!(of(word::PROCESS).len(), 2);
    assert_eq!(of(word::EXEC).len(), 2);
    assert_eq!(of(word::THREAD).len(), 1);
    assert_eq!(of(word::END).len(), 3);
    assert_eq!(of(word::NAME).iter().map(|row| row.comm.as_str()).collect::<Vec<_>>(), ["worker"]);
    let close = calls(&rows, "close").into_iter().find(|row| row.first == 4096).expect("the failing close").clone();
    assert_eq!((close.returned, close.error.as_str(), close.comm.as_str()), (Some(-9), "EBADF", "worker"));
    assert!(close.thread != close.pid);
    let exits = calls(&rows, "exit_group");
    assert_eq!(exits.iter().map(|row| row.event.as_str()).collect::<Vec<_>>(), [word::UNFINISHED; 2]);
    assert!(exits.iter().all(|row| row.returned.is_none()));
    // The wait for the child, and the time off the CPU in it.
    let wait = calls(&rows, "wait4").into_iter().next().expect("a wait").clone();
    let (from, to) = (wait.time, wait.time + wait.duration.unwrap());
    let waited = of(word::OFF_CPU)
        .into_iter()
        .any(|row| row.thread == wait.thread && row.time >= from && row.time + row.duration.unwrap() <= to);
    assert!(waited, "{wait:?}");
    let header = Recording::open(&file).unwrap().unwrap().header;
    let faults: u64 = header.processes.iter().map(|process| process.usage.minor_faults).sum();
    let seen = of(word::FAULT).len() as u64;
    // Faults that the kernel itself takes for the program are not among those of user mode; major ones are.
    let major: u64 = header.processes.iter().map(|process| process.usage.major_faults).sum();
    assert!(seen > faults / 2 && seen <= faults + major, "{seen} of {faults} and {major}");
    assert!(header.clocks.monotonic_ns <= rows[0].time && header.clocks.realtime_ns > 0);
}

#[privileged]
fn phases_are_in_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    record(&file, &[], &[example("phase_calls")]);
    let rows = rows(&file);
    let marks: Vec<_> = rows
        .iter()
        .filter(|row| row.event == word::PHASE_BEGIN || row.event == word::PHASE_END)
        .map(|row| (row.event.as_str(), row.phase.as_str()))
        .take(4)
        .collect();
    assert_eq!(marks[0], (word::PHASE_BEGIN, "init"));
    assert_eq!(marks[1], (word::PHASE_END, "init"));
    assert_eq!(marks[2], (word::PHASE_BEGIN, "work"));
    let again = rows.iter().filter(|row| row.event == word::PHASE_BEGIN && row.phase == "again").count();
    let ended = rows.iter().filter(|row| row.event == word::PHASE_END && row.phase == "again").count();
    assert_eq!((again, ended), (100, 100));
    let iterations: u64 = rows.iter().filter(|row| row.event == word::ITERATIONS).map(|row| row.first).sum();
    assert_eq!(iterations, 2);
}

#[privileged]
fn phases_end_with_who_began_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    for options in [&[][..], &["--tasks-by-id"]] {
        record(&file, options, &[example("phase_calls").to_str().unwrap(), "leave"]);
        let rows = rows(&file);
        let of = |event: &str, phase: &str| -> Vec<&Row> {
            rows.iter().filter(|row| row.event == event && row.phase == phase).collect()
        };
        let executed = rows.iter().rfind(|row| row.event == word::EXEC && row.pid == rows[0].pid).unwrap();
        for phase in ["outer", "outer/inner", "outer/inner/of a thread", "outer/inner/mine"] {
            let (begun, ended) = (of(word::PHASE_BEGIN, phase), of(word::PHASE_END, phase));
            // Once before the second program, once in it.
            assert_eq!((begun.len(), ended.len()), (2, 2), "{options:?} {phase}");
            assert!(ended[0].time <= executed.time && begun[1].time > executed.time, "{options:?} {phase}");
            assert_eq!(ended[0].thread, begun[0].thread, "{options:?} {phase}");
        }
        let getppid = |phase: &str| rows.iter().filter(|row| row.syscall == "getppid" && row.phase == phase).count();
        let counted = ["outer/inner", "outer/inner/of a thread", "outer/inner/mine"].map(getppid);
        assert_eq!(counted, [2 * 7, 2 * 3, 2 * 4], "{options:?}");
        // What the kernel side has added up is what the rows say.
        let header = Recording::open(&file).unwrap().unwrap().header;
        let lasted = |phase: &str| -> u64 {
            of(word::PHASE_BEGIN, phase)
                .iter()
                .zip(of(word::PHASE_END, phase))
                .map(|(begin, end)| end.time - begin.time)
                .sum()
        };
        for phase in header.phases.iter().filter(|phase| phase.path != "outer/inner") {
            assert!(
                phase.wall_ns.abs_diff(lasted(&phase.path)) < 2_000_000,
                "{options:?} {}: {} {}",
                phase.path,
                phase.wall_ns,
                lasted(&phase.path)
            );
        }
    }
}

#[privileged]
fn what_finds_no_place_in_the_ring_is_counted_and_dated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let command = [known_calls().into_os_string(), "threads".into(), "300000".into(), "2".into()];
    let output = record(&file, &["--ring", "64K"], &command);
    let recording = Recording::open(&file).unwrap().unwrap();
    let mut counts = Counts::new(&recording.header);
    recording.read(|frame| counts.add(frame).map_err(RecordingError::from)).unwrap();
    let lost = recording.header.losses.events;
    assert!(lost > 0 && counts.lost == lost, "{lost} {}", counts.lost);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("LOST: {}", separated(lost))));
    // Calls are among the counts all the same; the recording has the others.
    let rows = rows(&file);
    let seen = calls(&rows, "getppid").len() as u64;
    assert!(seen + lost >= 600_000 && seen < 600_000, "{seen} {lost}");
    assert_order(&rows);
    let gap = rows.iter().find(|row| row.event == word::LOST).unwrap();
    assert!(gap.first > 0 && gap.duration.unwrap() > 0 && gap.duration.unwrap() < recording.header.wall_ns);
    let strict = Command::new(TRACER)
        .args(["record", "-q", "--strict", "--ring", "64K", "-o"])
        .arg(&file)
        .arg("--")
        .args(&command)
        .output()
        .unwrap();
    assert_eq!(strict.status.code(), Some(125), "{}", String::from_utf8_lossy(&strict.stderr));
}

/// As tables write numbers.
fn separated(number: u64) -> String {
    gpuos_model::units::count(number)
}

#[privileged]
fn a_running_process_is_recorded_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let mut program = Command::new(known_calls())
        .args(["on-demand", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(program.stdout.take().unwrap());
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    let mut tracer = Command::new(TRACER)
        .args(["record", "-p", &program.id().to_string(), "-o"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut messages = BufReader::new(tracer.stderr.take().unwrap());
    line.clear();
    messages.read_line(&mut line).unwrap();
    assert!(line.contains("attached to"), "{line}");
    let mut input = program.stdin.take().unwrap();
    writeln!(input, "7").unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    // All of its threads wait again: the kernel says in which call.
    let waits = |thread: &str| {
        let call = std::fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", program.id())).unwrap_or_default();
        call.split_whitespace().next().is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let threads = || std::fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
    crate::support::wait_until("it waits", || {
        threads().all(|thread| waits(thread.unwrap().file_name().to_str().unwrap()))
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(tracer.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(tracer.wait().unwrap().success());
    drop(input);
    program.wait().unwrap();
    let rows = rows(&file);
    assert_eq!(rows[0].event, word::PROCESS);
    assert_eq!((rows[0].pid, rows[0].comm.as_str()), (program.id(), "known_calls"));
    // Three threads, the leader and its child, seven each.
    assert_eq!(calls(&rows, "getppid").len(), 5 * 7);
    // The leader waits for the next line, the threads at the barrier.
    let waiting = rows.iter().filter(|row| row.event == word::UNFINISHED);
    let mut waiting: Vec<_> = waiting.map(|row| (row.thread == row.pid, row.syscall.as_str())).collect();
    waiting.retain(|(_, syscall)| *syscall != "exit_group");
    assert!(waiting.contains(&(true, "read")), "{waiting:?}");
    assert!(waiting.iter().filter(|(leader, call)| !leader && *call == "futex").count() == 3, "{waiting:?}");
}

#[privileged]
fn a_killed_recorder_leaves_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let journal = folder.path().join("recording.parquet.part");
    let mut tracer = Command::new(TRACER)
        .args(["record", "-q", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "while :; do sleep 0.01; done"])
        .envs([("SUDO_UID", "65534"), ("SUDO_GID", "65533")])
        .process_group_of_its_own()
        .spawn()
        .unwrap();
    crate::support::wait_until("something is written", || {
        std::fs::metadata(&journal).is_ok_and(|data| data.len() >= 40_000)
    });
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(tracer.id() as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert!(!file.exists());
    // Whoever called sudo can read it without.
    let owner = std::fs::metadata(&journal).unwrap();
    assert_eq!((owner.uid(), owner.gid(), owner.mode() & 0o777), (65534, 65533, 0o600));
    let shown = Command::new(TRACER).args(["show", "--top", "0"]).arg(&journal).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("note: this recording was not finished: it ends ") && text.contains(" execve "), "{text}");
    // Cut anywhere, what is before is still there.
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &bytes[..bytes.len() - 3]).unwrap();
    let shown = Command::new(TRACER).arg("show").arg(&journal).output().unwrap();
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("not finished"));
    // It is not overwritten.
    let again = Command::new(TRACER).args(["record", "-o"]).arg(&file).args(["--", "true"]).output().unwrap();
    let text = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(125) && text.contains("recording.parquet.part` is there"), "{text}");
}

trait Grouped {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl Grouped for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}

#[privileged]
fn a_full_disk_ends_the_recording_and_not_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1M none {0} && {1} record -o {0}/r.parquet -- {2} getppid 200000; echo status $?; ls {0}; {1} show {0}/r.parquet.part",
        folder.path().display(),
        TRACER,
        known_calls().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("status 125\nr.parquet.part\n"), "{text}\n{errors}");
    assert!(text.contains("this recording was not finished"), "{text}\n{errors}");
    assert!(errors.contains("the recording ended early: No space left on device"), "{errors}");
    // Said when it happened, before the tables; and the ring is not what was too small.
    let at = |words: &str| errors.find(words).unwrap_or_else(|| panic!("no `{words}`: {errors}"));
    assert!(at("the recording ends here: cannot write") < at("exit status"), "{errors}");
    assert!(!errors.contains("LOST"), "{errors}");
    // The counts do not need the disk.
    assert!(errors.contains("200,0"), "{errors}");
}

#[privileged]
fn a_failure_elsewhere_costs_no_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    std::fs::create_dir(folder.path().join("full")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=16k none {path}/full; head -c 16384 /dev/zero > {path}/full/x; {TRACER} record --stacks {path}/full/s.folded -o {path}/r.parquet -- {} getppid 50",
        known_calls().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && errors.contains("cannot write"), "{errors}");
    assert_eq!(calls(&rows(&folder.path().join("r.parquet")), "getppid").len(), 50, "{errors}");
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let say = |arguments: &[&str]| {
        let output = Command::new(TRACER).current_dir(folder.path()).arg("record").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(say(&["--", "true"]).contains("a recording needs a file"));
    assert!(say(&["-o", "-", "--", "true"]).contains("a recording is a Parquet file"));
    assert!(say(&["-o", "r", "--format", "csv", "--", "true"]).contains("a recording is a Parquet file"));
    assert!(say(&["-o", "r.csv", "--", "true"]).contains("a recording is a Parquet file"));
    assert!(say(&["-o", "r", "--no-latency", "--", "true"]).contains("every recorded call is timed"));
    assert!(say(&["-o", "r", "--ring", "100K", "--", "true"]).contains("power of two"));
    assert!(say(&["-o", "r", "-p", "1", "--", "true"]).contains("cannot be used with"));
    assert!(say(&["-o", "r"]).contains("required"));
    // Nothing but a file is replaced.
    std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
    for path in ["/dev/null", "link", "."] {
        assert!(say(&["-o", path, "--", "true"]).contains(&format!("cannot write `{path}`")), "{path}");
    }
    if privileged("what_cannot_be_recorded_is_refused") {
        // A command that cannot be executed leaves no file behind.
        std::fs::write(folder.path().join("text"), "#!/no/such/shell\n").unwrap();
        std::fs::set_permissions(folder.path().join("text"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let failed = Command::new(TRACER)
            .current_dir(folder.path())
            .args(["record", "-o", "r.parquet", "--", "./text"])
            .output()
            .unwrap();
        assert!(!failed.status.success());
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["link", "text"]);
        // Somebody's unfinished recording is noticed before the command runs.
        std::fs::write(folder.path().join("q.parquet.part"), "").unwrap();
        for last in [&[][..], &["--last", "5s"]] {
            let words = [last, &["-o", "q.parquet", "--", "touch", "ran"]].concat();
            assert!(say(&words).contains("q.parquet.part` is there"));
        }
        assert!(!folder.path().join("ran").exists());
        assert!(say(&["-o", "no/such/folder/r", "--", "true"]).contains("cannot write `no/such/folder/r`"));
    }
}

#[privileged]
fn a_flight_recorder_keeps_the_last_and_writes_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("last.parquet");
    let second = folder.path().join("last-2.parquet");
    let known = known_calls();
    let known = known.to_str().unwrap();
    // What is older than the window is gone; what is in it knows its process.
    // Wide enough for an emulated machine. Some shells execute their last command: this one is to end by itself.
    let script = format!("{known} getppid 300; sleep 5; {known} ioctl 20; exit 0");
    record(&file, &["--last", "4s"], &["sh", "-c", &script]);
    let last = rows(&file);
    assert_eq!((calls(&last, "getppid").len(), calls(&last, "ioctl").len()), (0, 20));
    assert!(calls(&last, "ioctl").iter().all(|row| row.comm == "known_calls"));
    assert!(last.iter().any(|row| row.event == word::UNFINISHED && row.comm == "sh"));
    assert!(!second.exists());
    // A call that takes long, once; and nothing at the end.
    std::fs::remove_file(&file).unwrap();
    record(&file, &["--last", "10s", "--when", "slower=60ms"], &["sh", "-c", "sleep 0.1 & sleep 0.02; wait; ls /"]);
    let slow = rows(&file);
    let longest = slow.iter().filter_map(|row| row.duration).max().unwrap();
    assert!(longest > 60_000_000, "{longest}");
    std::fs::remove_file(&file).unwrap();
    let _ = std::fs::remove_file(&second);
    record(&file, &["--last", "10s", "--when", "slower=10s,status"], &["true"]);
    assert!(!file.exists());
    // What fires all the time writes once in a window, and at the end.
    record(
        &file,
        &["--last", "10s", "--when", "error"],
        &["sh", "-c", "for i in 1 2 3 4 5; do ls /no; sleep 0.05; done"],
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&second).unwrap();
    // The end of a phase.
    record(&file, &["--last", "10s", "--when", "phase=init"], &[example("phase_calls")]);
    let init = rows(&file);
    assert!(init.iter().any(|row| row.event == word::PHASE_END && row.phase == "init"));
    // A signal, and what comes after it.
    std::fs::remove_file(&file).unwrap();
    let mut tracer = Command::new(TRACER)
        .args(["record", "-q", "--last", "10s", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "sleep 0.1; echo ready; read line; ls / > /dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = nix::unistd::Pid::from_raw(tracer.id() as i32);
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing is written");
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    tracer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(tracer.wait().unwrap().success());
    let (before, after) = (rows(&file), std::fs::read_dir(folder.path()).unwrap().count());
    assert!(before.iter().any(|row| row.comm == "sleep") && !before.iter().any(|row| row.comm == "ls"));
    assert!(after >= 2);
}

#[privileged]
fn a_phase_that_is_open_when_the_window_begins_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("last.parquet");
    // A phase that was open when the window begins: it begins there, and is as long as the window has it.
    let python = "import sys; sys.path.insert(0, '{0}/../client/phase/python'); import gpuos_phase, time, os
gpuos_phase.begin('serve')
time.sleep(3)
[os.getppid() for _ in range(9)]"
        .replace("{0}", env!("CARGO_MANIFEST_DIR"));
    record(&file, &["--last", "1s"], &["python3", "-c", &python]);
    let begins: Vec<_> = rows(&file).into_iter().filter(|row| row.event == word::PHASE_BEGIN).collect();
    assert!(begins.len() == 1 && begins[0].phase == "serve", "{begins:?}");
    let header = Recording::open(&file).unwrap().unwrap().header;
    let serve = header.phases.iter().find(|phase| phase.path == "serve").unwrap();
    assert!(serve.entered == 1 && serve.wall_ns > 500_000_000 && serve.wall_ns < 2_900_000_000, "{serve:?}");
    assert_eq!((header.end, header.processes[0].threads), (End::NotRecorded, 1));
}

#[privileged]
fn calls_in_flight_are_there_in_a_container_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    // Nothing that outlives the tracer may hold its output, which this test reads to the end.
    let script = "sleep 60 >/dev/null 2>&1 & echo $! > pid; sleep 0.2";
    for enters in [false, true] {
        let mut command = if enters { Command::new("unshare") } else { Command::new(TRACER) };
        if enters {
            command.args(["--pid", "--fork", "--mount-proc", TRACER]);
        }
        let output = command
            .args(["record", "-q", "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if !enters {
            Command::new("sh").args(["-c", "kill $(cat pid)"]).current_dir(folder.path()).status().unwrap();
        }
        let rows = rows(&file);
        let sleeps: Vec<&Row> = rows.iter().filter(|row| row.syscall.contains("nanosleep")).collect();
        let ended = sleeps.iter().filter(|row| row.event == word::CALL).count();
        assert_eq!((sleeps.len(), ended), (2, 1), "{enters}");
        let unfinished = sleeps.iter().find(|row| row.event == word::UNFINISHED).unwrap();
        let begun = rows.iter().find(|row| row.event == word::PROCESS && row.pid == unfinished.pid);
        assert!(begun.is_some() && unfinished.thread == unfinished.pid, "{enters}");
    }
}
