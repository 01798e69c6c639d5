//! What a run is: the header that every file carries, and the table of counts.

use gpuos_decode::devices::Devices;
use gpuos_model::{
    Usage,
    machine::{Clocks, Host, User},
};
use gpuos_tracer_abi::{ABI_VERSION, tasks::ProcessRecord};
use polars_core::frame::DataFrame;
use serde::{Deserialize, Serialize};

use crate::{jobs::JobClass, losses::Losses, phases::Phase};

/// Version of the file schema, described in `docs/file-format.md`. Raised when a reader must change.
pub const SCHEMA_VERSION: u32 = 4;

/// A finished run, freshly collected or read from a file.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was run, where, how, and what was lost.
    pub header: Header,
    /// One row per (process, thread, phase, system call): see [`frame`](crate::frame).
    pub calls: DataFrame,
}

/// What every file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Version of gpuos-trace.
    pub tool_version: String,
    /// [`gpuos_tracer_abi::ABI_VERSION`].
    pub abi_version: u32,
    /// The traced command line, word by word.
    pub command: Vec<String>,
    /// How it was traced.
    pub mode: Mode,
    /// When the command was released, RFC 3339 in UTC.
    pub started: String,
    /// Nanoseconds from then until tracing ended.
    pub wall_ns: u64,
    /// Clocks at the start, to place the run beside other recordings.
    pub clocks: Clocks,
    /// The machine.
    pub host: Host,
    /// Version of NVIDIA's driver, where there was one.
    #[serde(default)]
    pub nvidia_driver: Option<String>,
    /// Its drivers, by whose numbers calls were named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
    /// Who ran it.
    pub user: User,
    /// How the command ended.
    pub end: End,
    /// What could not be counted. All zero in a good run.
    pub losses: Losses,
    /// What is worth knowing about the run, in sentences.
    pub notes: Vec<String>,
    /// Functions of drivers that were watched.
    #[serde(default)]
    pub driver_functions: Vec<DriverFunction>,
    /// Phases that the program marked.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Classes of jobs of its programs; what was called for them stands in the rows of their phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobClass>,
    /// Every process of the tree, the launched command first.
    pub processes: Vec<Process>,
}

/// How a run was traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// False with `--no-latency`: times, maxima and histograms are absent.
    pub timed: bool,
    /// Every Nth call of a thread was timed; 1: every call.
    #[serde(default = "every_call")]
    pub sample: u32,
    /// Rows are by thread.
    pub per_thread: bool,
    /// How calls were looked at: `bpf`, or `ptrace`, where times hold the stops.
    #[serde(default = "bpf")]
    pub backend: String,
    /// Traced until the tree was empty, not only until the command ended.
    pub wait_all: bool,
    /// The `-e` words; empty: every call was counted.
    pub filter: Vec<String>,
    /// The file of `--roles`.
    pub roles: Option<String>,
    /// Phases were inferred from calls on GPU devices.
    #[serde(default)]
    pub auto_phases: bool,
    /// Of a recording: what is in that file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roles_text: String,
}

impl Default for Header {
    /// One of this version, of a run in which nothing happened.
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            command: Vec::new(),
            mode: Mode::default(),
            started: String::new(),
            wall_ns: 0,
            clocks: Clocks::default(),
            host: Host::default(),
            nvidia_driver: None,
            devices: None,
            user: User::default(),
            end: End::default(),
            losses: Losses::default(),
            notes: Vec::new(),
            driver_functions: Vec::new(),
            phases: Vec::new(),
            jobs: Vec::new(),
            processes: Vec::new(),
        }
    }
}

impl Default for Mode {
    /// Every call timed, by process, until the command ends.
    fn default() -> Self {
        Self {
            timed: true,
            sample: every_call(),
            per_thread: false,
            backend: bpf(),
            wait_all: false,
            filter: Vec::new(),
            roles: None,
            auto_phases: false,
            roles_text: String::new(),
        }
    }
}

fn every_call() -> u32 {
    1
}

fn bpf() -> String {
    "bpf".to_owned()
}

fn one() -> u64 {
    1
}

/// A function of a driver, and what traced threads did there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFunction {
    /// Its name.
    pub name: String,
    /// Entries.
    pub calls: u64,
    /// Returns.
    pub returns: u64,
    /// Entries outside of a system call.
    pub outside: u64,
    /// Nanoseconds in it, where no other watched function called it.
    pub total_ns: u64,
}

/// How the launched command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With this exit status.
    Exited(u8),
    /// By this signal number.
    Killed(i32),
    /// Not: the trace of running processes was ended.
    #[default]
    Detached,
    /// The recording does not have it: it was cut off, or is a window of a flight recorder.
    NotRecorded,
}

/// A process of the traced tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Unique, unlike a pid.
    pub id: u64,
    /// Id of the parent, 0 for the launched command.
    pub parent: u64,
    /// Number in the initial pid namespace.
    pub pid: u32,
    /// Name of the command when it ended (or last executed).
    pub command: String,
    /// How many processes this row stands for: 1, or more where ended ones were too many to keep apart.
    #[serde(default = "one")]
    pub stands_for: u64,
    /// Threads it ever had.
    pub threads: u32,
    /// Threads that still ran at the end of the trace; their switches, faults and times are not in the sums.
    pub threads_alive: u32,
    /// `CLOCK_MONOTONIC` at its first event.
    pub started_ns: u64,
    /// From there to its end, or to the end of the trace.
    pub wall_ns: u64,
    /// What it used.
    #[serde(flatten)]
    pub usage: Usage,
    /// Exit code as `wait` returns it; meaningless while threads are alive.
    pub exit_code: u32,
}

impl Process {
    /// Adds another process of the same command, which then has no row of its own.
    pub fn absorb(&mut self, other: &Self) {
        self.stands_for += other.stands_for;
        self.threads += other.threads;
        self.started_ns = self.started_ns.min(other.started_ns);
        self.wall_ns += other.wall_ns;
        self.usage += other.usage;
    }

    /// From the kernel's record; `now` on `CLOCK_MONOTONIC` ends a process that still runs.
    #[must_use]
    pub fn from_record(id: u64, record: &ProcessRecord, now: u64) -> Self {
        let length = record.comm.iter().position(|&byte| byte == 0).unwrap_or(record.comm.len());
        let end = if record.threads_alive == 0 { record.ended_ns } else { now };
        let usage = &record.usage;
        let (user_ns, system_ns) = cpu_times(usage.user_ns, usage.system_ns, usage.run_ns);
        Self {
            id,
            parent: record.parent,
            pid: record.pid,
            command: String::from_utf8_lossy(&record.comm[..length]).into_owned(),
            stands_for: 1,
            threads: record.threads,
            threads_alive: record.threads_alive,
            started_ns: record.started_ns,
            wall_ns: end.saturating_sub(record.started_ns),
            usage: Usage {
                user_ns,
                system_ns,
                voluntary_switches: usage.voluntary_switches,
                involuntary_switches: usage.involuntary_switches,
                minor_faults: usage.minor_faults,
                major_faults: usage.major_faults,
            },
            exit_code: record.exit_code,
        }
    }
}

/// Splits run time in the proportion in which the tick saw user and system time, as the
/// kernel's `cputime_adjust` does for `getrusage`.
fn cpu_times(user: u64, system: u64, run: u64) -> (u64, u64) {
    match (user, system) {
        _ if run == 0 => (user, system),
        (_, 0) => (run, 0),
        (0, _) => (0, run),
        _ => {
            let system = (u128::from(run) * u128::from(system) / (u128::from(user) + u128::from(system))) as u64;
            (run - system, system)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_add_up_to_the_run_time() {
        assert_eq!(cpu_times(0, 0, 500), (500, 0));
        assert_eq!(cpu_times(0, 8, 500), (0, 500));
        assert_eq!(cpu_times(3, 1, 1000), (750, 250));
        assert_eq!(cpu_times(3, 1, 0), (3, 1));
        assert_eq!(cpu_times(u64::MAX / 2, u64::MAX / 2, u64::MAX).0 as f64 / u64::MAX as f64, 0.5);
    }

    #[test]
    fn a_header_survives_json() {
        let process = Process::from_record(
            7,
            &ProcessRecord {
                comm: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
                started_ns: 5,
                threads_alive: 1,
                ..Default::default()
            },
            25,
        );
        assert_eq!((process.command.as_str(), process.wall_ns), ("bench", 20));
        let header = Header {
            command: vec!["true".into()],
            started: "2026-01-01T00:00:00Z".into(),
            wall_ns: 1,
            end: End::Exited(0),
            processes: vec![process],
            ..Header::default()
        };
        let text = serde_json::to_string(&header).unwrap();
        assert_eq!(serde_json::from_str::<Header>(&text).unwrap(), header);
    }
}
