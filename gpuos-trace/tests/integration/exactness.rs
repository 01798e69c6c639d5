//! The same known programs again and again: on one CPU and on two, idle and under load, by task storage and, every
//! other round, by numbers of tasks. Three rounds here;
//! `GPUOS_ROUNDS=50 cargo xtask test -- exactly_every_time` for more.

use std::process::{Child, Command, Stdio};

use crate::support::{known_calls, trace};
use gpuos_test_macros::privileged;

/// Program and options, the call that is counted, how many there must be.
pub(crate) const PROGRAMS: [(&[&str], &str, u64); 11] = [
    (&["getppid", "20000"], "getppid", 20_000),
    (&["ioctl", "5000"], "ioctl", 5000),
    (&["threads", "3000", "4"], "getppid", 12_000),
    (&["nested-threads", "30"], "getppid", 62),
    (&["forks", "100"], "getppid", 300),
    (&["tree", "3", "4"], "getppid", 252),
    (&["exec-chain", "10"], "getppid", 55),
    (&["exec-from-thread"], "getppid", 7),
    (&["vfork", "10"], "execve", 11),
    (&["interrupted", "3"], "nanosleep", 3),
    (&["daemon", "9"], "getppid", 9),
];

/// Busy processes, ended when dropped.
struct Load(Vec<Child>);

impl Load {
    fn start(processes: usize) -> Self {
        let busy =
            || Command::new(known_calls()).args(["getppid", "100000000000"]).stdout(Stdio::null()).spawn().unwrap();
        Self((0..processes).map(|_| busy()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[privileged]
fn known_programs_are_counted_exactly_every_time() {
    let rounds: u32 = std::env::var("GPUOS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let program = known_calls();
    let program = program.to_str().unwrap();
    // Where there is one CPU, everything is on one.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let placements: &[bool] = if cpus == 1 { &[false] } else { &[true, false] };
    for round in 0..rounds {
        let options: &[&str] =
            if round % 2 == 0 { &["--wait-all", "--strict"] } else { &["--wait-all", "--strict", "--tasks-by-id"] };
        for load in [0, 4] {
            let _load = Load::start(load);
            for &one_cpu in placements {
                for (words, call, expected) in PROGRAMS {
                    let prefix: &[&str] = if one_cpu { &["taskset", "1", program] } else { &[program] };
                    let trace = trace(options, &[prefix, words].concat());
                    assert!(trace.output.status.success(), "{}", trace.stderr());
                    // `taskset` executes once more.
                    let expected = expected + u64::from(one_cpu && call == "execve");
                    assert_eq!(trace.calls(call), expected, "{words:?} round {round} load {load} one CPU {one_cpu}");
                }
            }
        }
    }
}
