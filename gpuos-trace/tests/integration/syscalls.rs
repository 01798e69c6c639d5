//! Every call is counted, once, under its right name.

use crate::support::{trace, trace_known};
use gpuos_runs::run::End;
use gpuos_test_macros::privileged;

#[privileged]
fn loops_are_counted_exactly() {
    for times in [0, 1, 1000, 100_000] {
        let trace = trace_known(&[], &["getppid", &times.to_string()]);
        assert_eq!(trace.calls("getppid"), times);
        assert_eq!(trace.group("getppid").latency.count(), times);
    }
    let ioctl = trace_known(&[], &["ioctl", "5000"]).group("ioctl");
    assert_eq!((ioctl.calls, ioctl.errors), (5000, 5000));
    let trace = trace_known(&[], &["mmap", "3000"]);
    assert!(trace.calls("mmap") >= 3000 && trace.calls("munmap") >= 3000);
    let baseline = trace_known(&[], &["mmap", "0"]);
    assert_eq!(trace.calls("mmap") - baseline.calls("mmap"), 3000);
    assert_eq!(trace.calls("munmap") - baseline.calls("munmap"), 3000);
}

#[privileged]
fn counting_without_times_is_as_exact() {
    let trace = trace_known(&["--no-latency"], &["ioctl", "1234"]);
    let ioctl = trace.group("ioctl");
    assert_eq!((ioctl.calls, ioctl.errors, ioctl.total_ns, ioctl.latency.count()), (1234, 1234, 0, 0));
    assert!(!trace.stderr().contains(" p99"), "{}", trace.stderr());
    // With a filter of many calls, and of few.
    for filter in ["bookkeeping", "getppid"] {
        assert_eq!(trace_known(&["--no-latency", "-e", filter], &["forks", "50"]).calls("getppid"), 150);
    }
    let exits = trace_known(&["--no-latency"], &["forks", "50"]);
    assert_eq!((exits.calls("exit_group"), exits.group("exit_group").unfinished), (51, 51));
}

#[privileged]
fn a_filter_counts_only_what_it_names() {
    let trace = trace_known(&["-e", "getppid,ioctl"], &["getppid", "77"]);
    assert_eq!(trace.calls("getppid"), 77);
    assert_eq!(trace.calls("mmap") + trace.calls("execve") + trace.calls("exit_group"), 0);
    let trace = trace_known(&["-e", "memory"], &["mmap", "10"]);
    assert!(trace.calls("mmap") >= 10 && trace.calls("getppid") == 0 && trace.calls("openat") == 0);
}

#[privileged]
fn the_first_and_the_last_call_are_there_and_nothing_before() {
    let trace = trace(&[], &["/bin/true"]);
    assert_eq!(trace.calls("execve"), 1);
    assert_eq!(trace.group("execve").errors, 0);
    // It never returns: counted at entry, shown as unfinished, in no histogram.
    let exit = trace.group("exit_group");
    assert_eq!((exit.calls, exit.unfinished, exit.latency.count()), (1, 1, 0));
    // The child's wait on the pipe came before its execve.
    assert_eq!(trace.run.header.processes.len(), 1);
    assert_eq!(trace.run.header.processes[0].command, "true");
    assert_eq!(trace.run.header.end, End::Exited(0));
}

#[privileged]
#[cfg(target_arch = "x86_64")]
fn calls_through_the_32_bit_entry_are_counted_apart() {
    let trace = trace_known(&[], &["compat", "500"]);
    // 64 is getppid in the 32-bit table and semget in the 64-bit one.
    let compat = trace.group("compat_64");
    assert_eq!((compat.calls, compat.errors, compat.latency.count()), (500, 0, 500));
    assert_eq!(trace.calls("semget"), 0);
    // Refused by seccomp, it is still not a 64-bit call.
    let refused = trace_known(&[], &["refused-compat", "10"]);
    assert_eq!((refused.group("compat_64").errors, refused.calls("semget")), (10, 0));
    assert!(trace.stderr().contains("500 calls came through the 32-bit entry"), "{}", trace.stderr());
    let filtered = trace_known(&["-e", "ipc,read,write,open,close,mmap,munmap,brk"], &["compat", "500"]);
    assert_eq!((filtered.calls("compat_64"), filtered.calls("semget")), (0, 0));
    assert!(filtered.stderr().contains("500 32-bit calls were left out"), "{}", filtered.stderr());
}

#[privileged]
fn unusual_numbers_keep_their_number() {
    let group = trace_known(&[], &["unusual", "321"]).group("syscall_5000");
    assert_eq!((group.calls, group.errors), (321, 321));
}

#[privileged]
fn a_restart_is_no_error() {
    // On the fast path, and on the slow one.
    for options in [&[][..], &["--rows", "16"]] {
        let trace = trace_known(options, &["interrupted", "10"]);
        let (sleep, restart) = (trace.group("nanosleep"), trace.group("restart_syscall"));
        // Each sleep is interrupted, then ended by EINTR (a handler ran), or restarted.
        assert_eq!(sleep.calls, 10);
        assert_eq!((sleep.restarted, sleep.errors + restart.errors), (10, 0), "{sleep:?}");
        // Whatever the interrupted code had in its return register is not an error of rt_sigreturn.
        let signal_return = trace.group("rt_sigreturn");
        assert_eq!((signal_return.calls, signal_return.errors), (10, 0));
    }
}

#[privileged]
fn calls_that_seccomp_refuses_are_counted() {
    let group = trace_known(&[], &["refused", "40"]).group("getppid");
    assert_eq!((group.calls, group.errors, group.unfinished), (40, 40, 0));
}

#[privileged]
fn a_call_in_flight_at_the_end_is_counted() {
    let trace = trace_known(&[], &["in-flight"]);
    let pause = trace.group("pause");
    // The thread is killed inside: the call ends with a restart that never happens, or not at all.
    assert_eq!((pause.calls, pause.errors), (1, 0));
    assert_eq!(pause.restarted + pause.unfinished, 1);
}

#[privileged]
fn more_calls_than_a_thread_has_rows_stay_exact() {
    // Sixteen rows: the first chunk is the last, everything after it goes the slower way.
    let trace = trace_known(&["--rows", "16"], &["getppid", "1000"]);
    assert_eq!(trace.calls("getppid"), 1000);
    let reference = trace_known(&[], &["getppid", "1000"]);
    for name in ["mmap", "openat", "read", "close", "execve", "exit_group"] {
        assert_eq!(trace.calls(name), reference.calls(name), "{name}");
    }
    assert!(trace.stderr().contains("slower path"), "{}", trace.stderr());
}

#[privileged]
fn a_thread_that_makes_very_many_different_calls_stays_exact() {
    // More than the 128 rows that a thread can have: numbers that every kernel refuses, each three times.
    let trace = trace_known(&[], &["many-numbers", "200"]);
    let groups = gpuos_runs::group::group(&trace.run.calls, &["syscall"]).unwrap();
    let refused: Vec<_> = groups.iter().filter(|group| group.calls == 3 && group.errors == 3).collect();
    assert!(refused.len() >= 200, "{}", refused.len());
}

/// Exit status and messages of a strict run.
fn trace_strictly(options: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(crate::support::TRACER)
        .args(["run", "--strict"])
        .args(options)
        .args(["--", "/bin/true"])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[privileged]
fn a_full_table_of_processes_is_a_loss_and_their_calls_are_kept() {
    let program = crate::support::known_calls();
    let trace = trace(&["--processes", "1"], &[program.to_str().unwrap(), "tree", "1", "20"]);
    assert!(trace.run.header.losses.process_records > 0);
    assert_eq!(trace.calls("getppid"), 60);
    assert!(trace.stderr().contains("processes have no record"), "{}", trace.stderr());
}

#[privileged]
fn sampling_counts_every_call() {
    let group = trace_known(&["--sample", "10"], &["getppid", "5000"]).group("getppid");
    assert_eq!(group.calls, 5000);
    assert!((495..=505).contains(&group.latency.count()), "{}", group.latency.count());
    assert!(group.estimated_total_ns() > 5 * group.total_ns);
}

#[privileged]
fn few_calls_are_counted_by_their_own_tracepoints() {
    // Errors, forks and threads as without.
    let ioctl = trace_known(&["-e", "ioctl"], &["ioctl", "5000"]).group("ioctl");
    assert_eq!((ioctl.calls, ioctl.errors, ioctl.latency.count()), (5000, 5000, 5000));
    assert_eq!(trace_known(&["-e", "getppid"], &["forks", "200"]).calls("getppid"), 600);
    assert_eq!(trace_known(&["-e", "getppid"], &["threads", "5000", "4"]).calls("getppid"), 20_000);
    let refused = trace_known(&["-e", "getppid"], &["refused", "40"]).group("getppid");
    assert_eq!((refused.calls, refused.errors), (40, 40));
    for options in
        [&["-e", "getppid"][..], &["-e", "getppid", "--tasks-by-id"], &["-e", "getppid", "--no-latency"], &[]]
    {
        let children = trace_known(options, &["refused-children", "20"]).group("getppid");
        assert_eq!((children.calls, children.errors), (100, 100), "{options:?}");
    }
    // An exec returns as another call than it was made as, from its own tracepoint's view.
    for (filter, of_command, of_program) in [("execve", 1, 0), ("execveat", 0, 1), ("execve,execveat", 1, 1)] {
        let trace = trace_known(&["-e", filter], &["execveat", "1"]);
        let finished = |call: &str| trace.calls(call) - trace.group(call).unfinished;
        assert_eq!((finished("execve"), finished("execveat")), (of_command, of_program), "{filter}");
    }
    // This one's own tracepoint would not tell of its return.
    let signal_return = trace_known(&["-e", "rt_sigreturn"], &["interrupted", "5"]).group("rt_sigreturn");
    assert_eq!((signal_return.calls, signal_return.unfinished), (5, 0));
    // Eight are too many for that: the general way.
    let many = "getppid,read,write,open,openat,close,mmap,munmap";
    assert_eq!(trace_known(&["-e", many], &["getppid", "300"]).calls("getppid"), 300);
}

#[privileged]
fn the_command_can_run_as_somebody_else() {
    let trace =
        trace(&["-u", "nobody"], &["sh", "-c", "id -u; id -g; echo $HOME $USER; cat /proc/self/status | grep CapEff"]);
    let text = String::from_utf8_lossy(&trace.output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "65534");
    assert!(lines[2].ends_with(" nobody") && lines[3].ends_with("0000000000000000"), "{text}");
    let unknown = std::process::Command::new(crate::support::TRACER)
        .args(["run", "-u", "no-such-user", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no user `no-such-user`"));
}

#[privileged]
fn a_full_table_of_totals_is_a_loss_and_is_shown() {
    let trace = trace(&["--totals", "1"], &["/bin/true"]);
    assert!(trace.run.header.losses.calls > 0);
    assert!(trace.stderr().contains("LOST: "), "{}", trace.stderr());
    // A loss is a failure when asked for; the counts are written all the same.
    let strict = trace_strictly(&["--totals", "1"]);
    assert_eq!(strict.0, Some(125));
    assert!(strict.1.contains("`--strict`") && strict.1.contains("exited with status 0"), "{}", strict.1);
    assert_eq!(trace_strictly(&[]).0, Some(0));
    // What was lost and what was kept is everything.
    let whole = crate::support::trace(&[], &["/bin/true"]);
    let sum = |trace: &crate::support::Trace| gpuos_runs::group::summarize(&trace.run.calls, &[]).unwrap().calls;
    assert_eq!(sum(&trace) + trace.run.header.losses.calls, sum(&whole));
}

#[privileged]
fn an_io_uring_is_mentioned() {
    for options in [&[][..], &["-e", "memory"]] {
        let trace = trace_known(options, &["io-uring"]);
        assert_eq!(trace.calls("io_uring_setup"), u64::from(options.is_empty()));
        assert!(trace.stderr().contains("1 io_uring was set up"), "{}", trace.stderr());
    }
}

#[privileged]
fn what_a_process_used_is_what_the_kernel_says() {
    // 200 sleeps are as many voluntary switches, but for a timer that runs out at once; 64 MiB written are 16,384 page faults.
    let script = "import time,resource\nfor _ in range(200): time.sleep(0.001)\nb=bytearray(64<<20)\n\
        for i in range(0,len(b),4096): b[i]=1\nu=resource.getrusage(resource.RUSAGE_SELF)\n\
        print(u.ru_nvcsw,u.ru_nivcsw,u.ru_minflt,u.ru_majflt,u.ru_utime+u.ru_stime)";
    let trace = trace(&[], &["/usr/bin/python3", "-c", script]);
    let said: Vec<f64> =
        String::from_utf8_lossy(&trace.output.stdout).split_whitespace().map(|word| word.parse().unwrap()).collect();
    let process = &trace.run.header.processes[0];
    // Between the program's own look and its end there is a little more of everything.
    let near = |counted: u64, said: f64, slack: f64| (counted as f64) >= said && (counted as f64) <= said + slack;
    assert!(near(process.usage.voluntary_switches, said[0], 20.0) && said[0] >= 100.0, "{process:?} {said:?}");
    assert!(near(process.usage.involuntary_switches, said[1], 200.0), "{process:?} {said:?}");
    assert!(near(process.usage.minor_faults, said[2], 500.0), "{process:?} {said:?}");
    assert!(near(process.usage.major_faults, said[3], 50.0), "{process:?} {said:?}");
    assert!((process.usage.user_ns + process.usage.system_ns) as f64 >= said[4] * 1e9 && process.wall_ns > 20_000_000);
}

#[privileged]
fn cpu_time_of_short_processes_is_what_the_kernel_says() {
    // 60 processes of 2 ms each, far below a tick of the scheduler's account; a second for the kernel to
    // free the last of them.
    let script = "import os,time,resource\nfor _ in range(60):\n  p=os.fork()\n  if p==0:\n    t=time.process_time()\n    \
        while time.process_time()-t<0.002: pass\n    os._exit(0)\n  os.waitpid(p,0)\n\
        time.sleep(1)\nu=resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(u.ru_utime+u.ru_stime)";
    let trace = trace(&[], &["/usr/bin/python3", "-c", script]);
    let said: f64 = String::from_utf8_lossy(&trace.output.stdout).trim().parse().unwrap();
    let children = &trace.run.header.processes[1..];
    assert_eq!(children.len(), 60);
    let counted =
        children.iter().map(|process| process.usage.user_ns + process.usage.system_ns).sum::<u64>() as f64 / 1e9;
    assert!((counted - said).abs() <= 0.02 * said, "counted {counted} s, the kernel says {said} s");
}

#[privileged]
fn the_exit_code_is_the_processes_not_the_leaders() {
    let trace = trace_known(&[], &["leader-leaves-first", "3"]);
    assert_eq!(trace.run.header.end, End::Exited(3));
    assert_eq!(trace.run.header.processes[0].exit_code, 3 << 8);
}
