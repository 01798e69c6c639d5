//! The tracer's part of the command line: clap's structs and nothing else. `cmd/options.rs` turns them into plain values.

mod files;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Subcommand, ValueEnum, ValueHint};
use gpuos_decode::version::Version;
use gpuos_recording::window;

pub use files::{DiffArgs, DiffOrder, ExportArgs, ExportFormatArg, FleetArgs, ShowArgs};

use crate::probe::{Settings, defaults};

/// What the tracer does: one file of `cmd` for each.
#[derive(Debug, Subcommand)]
pub enum TracerCommand {
    /// Run a command and count every system call of its process tree
    Run(RunArgs),
    /// Count every system call of running processes, until Ctrl-C or their end
    Attach(AttachArgs),
    /// Record every event of a command, or of running processes, with its time
    Record(RecordArgs),
    /// Show what all processes that have a GPU open ask of the system, while they do
    Top(TopArgs),
    /// Say whether this machine can be traced, and what is missing
    Check(CheckArgs),
    /// Print the tables of a file that `run -o` or `record` wrote
    Show(ShowArgs),
    /// Set two runs side by side, and say whether the second asks for more
    Diff(DiffArgs),
    /// Write a recording in a format that other tools open
    Export(ExportArgs),
    /// Add runs to a table of many machines: Parquet that engines such as DuckDB query
    Fleet(FleetArgs),
    /// List and search the built-in tables of GPU driver commands
    Ioctls(IoctlsArgs),
}

/// What is counted and where it goes.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Count only these roles, categories or system calls (comma-separated), filtered in the kernel; also as for strace:
    /// `trace=openat`, `%file`, `%memory`, `/regex`, and what follows a `!` is left out
    #[arg(short = 'e', long = "events", value_name = "WORD", value_delimiter = ',')]
    pub events: Vec<String>,

    /// Write the counts to a file; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// Format of the output file [default: by its ending]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<FormatArg>,

    /// Count by thread, not by process
    #[arg(long)]
    pub per_thread: bool,

    /// How calls are looked at: by BPF, or where that may not be used by ptrace, which needs no right and stops at each call
    #[arg(long, value_enum, value_name = "WAY", default_value_t = BackendArg::Auto)]
    pub backend: BackendArg,

    /// Count only: no times, no histograms, at a lower cost
    #[arg(long)]
    pub no_latency: bool,

    /// Time every Nth call of each thread only; all are counted
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "no_latency")]
    pub sample: u32,

    /// Show the counts while they grow: on a terminal a screen, else a line a second
    #[arg(long)]
    pub live: bool,

    /// Fail (exit status 125) when anything was lost
    #[arg(long)]
    pub strict: bool,

    /// Change the role or category of calls (a TOML file with the tables `roles` and `categories`)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub roles: Option<PathBuf>,

    /// How the tables are printed
    #[command(flatten)]
    pub tables: TableArgs,

    /// Print no tables
    #[arg(short, long)]
    pub quiet: bool,

    /// Rows for live threads; a thread holds sixteen at a time, one for each system call that it makes [default: 2048 for
    /// each processor, 16384 to 65520]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=i64::from(Settings::MOST_ROWS)), hide_short_help = true)]
    pub rows: Option<u32>,

    /// How many (process, system call) pairs of ended threads the kernel keeps until they are read
    #[arg(long, value_name = "N", default_value_t = defaults::TOTALS, value_parser = clap::value_parser!(u32).range(1..=16_777_216), hide_short_help = true)]
    pub totals: u32,

    /// Follow tasks by number, as on kernels that have no better way
    #[arg(long, hide_short_help = true)]
    pub tasks_by_id: bool,

    /// How many threads can be alive at a time where tasks are followed by number
    #[arg(long, value_name = "N", default_value_t = defaults::THREADS, value_parser = clap::value_parser!(u32).range(1..=4_194_304), hide_short_help = true)]
    pub threads: u32,

    /// How many objects of NVIDIA's driver are remembered by their class
    #[arg(long, value_name = "N", default_value_t = defaults::OBJECTS, value_parser = clap::value_parser!(u32).range(1..=16_777_216), hide_short_help = true)]
    pub objects: u32,

    /// Watch the drivers' own functions, too: how much of a call is spent in the driver (needs kprobes)
    #[arg(long)]
    pub driver_hooks: bool,

    /// Say which system calls each call of CUDA's, HIP's or OpenCL's library makes: those that allocate, free, copy, wait
    /// and set up (uprobes: each costs microseconds; needs root)
    #[arg(long)]
    pub api: bool,

    /// Write where in the programs calls are made: user stacks, folded as for flame graphs (needs frame pointers)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "no_latency")]
    pub stacks: Option<PathBuf>,

    /// How many different stacks are kept
    #[arg(long, value_name = "N", default_value_t = defaults::STACKS, value_parser = clap::value_parser!(u32).range(1..=1_048_576), hide_short_help = true)]
    pub stacks_kept: u32,

    /// With `--api`, also those that launch kernels
    #[arg(long, requires = "api")]
    pub api_launches: bool,

    /// How many different phases are kept apart
    #[arg(long, value_name = "N", default_value_t = defaults::PHASES, value_parser = clap::value_parser!(u32).range(1..=65_536), hide_short_help = true)]
    pub phases: u32,

    /// Decode calls on NVIDIA devices as those of this driver version [default: the version that is loaded]
    #[arg(long, value_name = "VERSION", value_parser = driver_version, hide_short_help = true)]
    pub nvidia_driver: Option<Version>,

    /// Print what the programs in the kernel say of their work
    #[cfg(feature = "bpf-log")]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub bpf_log: Option<log::LevelFilter>,

    /// How many processes the kernel keeps until they are read
    #[arg(long, value_name = "N", default_value_t = defaults::PROCESSES, value_parser = clap::value_parser!(u32).range(1..=16_777_216), hide_short_help = true)]
    pub processes: u32,
}

#[cfg(feature = "bpf-log")]
fn level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "a level is off, error, warn, info, debug or trace".to_owned())
}

fn driver_version(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "a version is numbers joined by dots, such as 580.159.04".to_owned())
}

/// How a command is launched.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Run the command as this user, by name or number
    #[arg(short, long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,

    /// Take the program's NVTX ranges as phases, without a change of the program
    #[arg(long)]
    pub nvtx: bool,

    /// Take its roctx ranges; programs that load roctx by dlopen go past this
    #[arg(long)]
    pub roctx: bool,

    /// Make jobs of what the program launches on CUDA or HIP between two waits, without a change of the program, and let its waits
    /// sleep until shortly before the end
    #[arg(
        long,
        value_name = "PARTS",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_values = ["identity", "wait"]
    )]
    pub jobs: Vec<JobPart>,

    /// Infer phases from calls on GPU devices: before the GPU, set-up, steady state, teardown
    #[arg(long)]
    pub auto_phases: bool,

    /// Go on until every descendant has ended, not only the command
    #[arg(long)]
    pub wait_all: bool,

    /// Show the end of the command's output in a pane of the live view from the beginning (`o` does later); all of it is
    /// printed when the view is over
    #[arg(long, requires = "live")]
    pub pane: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo gpuos-trace run -- python3 infer.py\n  \
    sudo gpuos-trace run -o run.parquet -- ./bench kernel --bytes 64M\n  \
    sudo gpuos-trace run -e ioctl,memory -- ./bench alloc")]
pub struct RunArgs {
    /// What is counted and where it goes.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// How the command is launched.
    #[command(flatten)]
    pub launch: LaunchArgs,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// Numbers of processes, as people and `pidof` write them: with commas or blanks between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pids(Vec<u32>);

impl std::str::FromStr for Pids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty());
        let number = |word: &str| match word.parse() {
            Ok(number @ 1..) => Ok(number),
            _ => Err(format!("`{word}` is no number of a process")),
        };
        let pids = words.map(number).collect::<Result<Vec<u32>, String>>()?;
        if pids.is_empty() { Err("no process is named".to_owned()) } else { Ok(Self(pids)) }
    }
}

impl Pids {
    /// All numbers of all words.
    pub fn all(lists: &[Self]) -> Vec<u32> {
        lists.iter().flat_map(|list| list.0.iter().copied()).collect()
    }
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo gpuos-trace attach -p 1234,1235 -o server.parquet")]
pub struct AttachArgs {
    /// What is counted and where it goes.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// Processes, by number, with commas or blanks between, as `"$(pidof NAME)"` gives them; all their threads and later children
    /// are counted
    #[arg(short, long = "pid", value_name = "PID", required = true)]
    pub pids: Vec<Pids>,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo gpuos-trace record -o infer.parquet -- python3 infer.py\n  \
    sudo gpuos-trace record -o server.parquet --sched -p 1234")]
#[command(
    mut_arg("output", |argument| argument.help("Write the recording to a Parquet file")),
    mut_arg("format", |argument| argument.hide(true)),
    mut_arg("no_latency", |argument| argument.hide(true)),
    mut_arg("sample", |argument| argument.hide(true))
)]
pub struct RecordArgs {
    /// What is recorded and where it goes.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// Record running processes in place of a command (with commas or blanks between), until Ctrl-C or their end
    #[arg(short, long = "pid", value_name = "PID", conflicts_with_all = ["user", "nvtx", "roctx", "jobs", "wait_all", "pane"])]
    pub pids: Vec<Pids>,

    /// Record also when threads do not run, and why
    #[arg(long)]
    pub sched: bool,

    /// Record also page faults
    #[arg(long)]
    pub faults: bool,

    /// Record also the paths that calls are about, up to 191 bytes of each
    #[arg(long)]
    pub paths: bool,

    // What strace needs and is always so here.
    #[arg(short = 'f', hide = true, action = ArgAction::Count)]
    follow: u8,
    #[arg(short = 'y', hide = true, action = ArgAction::Count)]
    descriptors: u8,
    #[arg(short = 't', hide = true, action = ArgAction::Count)]
    times: u8,
    #[arg(short = 'T', hide = true, action = ArgAction::Count)]
    durations: u8,

    /// Print each event as a line, with paths, while it happens: on standard error, with `-o -` on standard output. Tables are left
    /// to `show`
    #[arg(long, conflicts_with_all = ["last", "live"])]
    pub print: bool,

    /// Which events are printed.
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// Keep only the last events in memory, such as 30s, and write them at SIGUSR1, at the end, or when `--when` says so
    #[arg(long, value_name = "TIME", value_parser = window::duration_of)]
    pub last: Option<Duration>,

    /// Write what `--last` keeps when this happens: `slower=10ms`, `error`, `status` (of a driver), `phase=PATH` (its end)
    #[arg(long, value_name = "EVENT", value_delimiter = ',', requires = "last")]
    pub when: Vec<window::Trigger>,

    /// Memory for `--last`, a power of two with K, M or G; the oldest events go first
    #[arg(long, value_name = "BYTES", default_value = defaults::MEMORY, value_parser = power_of_two_bytes)]
    pub memory: u32,

    /// Memory between the kernel and the recorder, a power of two with K, M or G
    #[arg(long, value_name = "BYTES", default_value = defaults::RING, value_parser = power_of_two_bytes)]
    pub ring: u32,

    /// How the command is launched.
    #[command(flatten)]
    pub launch: LaunchArgs,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "pids", conflicts_with = "pids", value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// Which events are printed as lines, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct ChoiceArgs {
    /// Print only calls on devices whose name begins so, such as nvidia-uvm
    #[arg(long, value_name = "NAME", help_heading = "Lines")]
    pub device: Option<String>,

    /// Print only what is in this phase, or inside it
    #[arg(long, value_name = "PATH", help_heading = "Lines")]
    pub phase: Option<String>,

    /// Print only calls that failed, or that the driver refused
    #[arg(long, help_heading = "Lines")]
    pub failed: bool,

    /// Print only calls that took longer, such as 1ms
    #[arg(long, value_name = "TIME", value_parser = window::duration_of, help_heading = "Lines")]
    pub slower: Option<Duration>,

    /// Print objects of JSON, one a line
    #[arg(long, help_heading = "Lines")]
    pub json: bool,
}

fn power_of_two_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text).ok();
    let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (Settings::SMALLEST_RING..=1 << 30).contains(bytes))
        .ok_or_else(|| "it is a power of two of bytes, from 64K to 1G".to_owned())
}

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo gpuos-trace top")]
#[command(
    mut_arg("output", |argument| argument.hide(true)),
    mut_arg("format", |argument| argument.hide(true)),
    mut_arg("stacks", |argument| argument.hide(true)),
    mut_arg("strict", |argument| argument.hide(true)),
    mut_arg("live", |argument| argument.hide(true)),
    mut_arg("quiet", |argument| argument.hide(true))
)]
pub struct TopArgs {
    /// What is counted.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print the findings as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ioctls`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gpuos-trace ioctls\n  \
    gpuos-trace ioctls --driver 570 UVM_MAP\n  \
    gpuos-trace ioctls --table kfd")]
pub struct IoctlsArgs {
    /// Only commands of this version of NVIDIA's driver: 570, or 570.211.01
    #[arg(long, value_name = "VERSION", value_parser = driver_version)]
    pub driver: Option<Version>,

    /// Only this table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Words that must all be in the name, number (0x2a), role or meaning
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
}

/// How tables are printed.
#[derive(Clone, Debug, Args)]
pub struct TableArgs {
    /// How many lines of each table to list; 0: all
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub top: usize,

    /// What the tables are ordered by, the largest first
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t = OrderArg::Calls)]
    pub sort: OrderArg,

    /// Tables of what was called for this class of jobs alone; may be given again
    #[arg(long = "job", value_name = "CLASS")]
    pub job_classes: Vec<String>,
}

/// What `--jobs` does with the waits and the memory of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JobPart {
    /// Its jobs are seen, by class
    Identity,
    /// Its waits sleep until shortly before the end
    Wait,
    /// Device memory that it frees is kept for the next block of the same size
    Arena,
}

/// Columns to order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OrderArg {
    /// Number of calls
    Calls,
    /// Time inside the calls
    Total,
    /// Number of errors
    Errors,
    /// The longest call
    Max,
}

/// How calls are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// By BPF where that may be used, else by ptrace
    Auto,
    /// By programs in the kernel
    Bpf,
    /// By stopping at each call, as strace does
    Ptrace,
}

/// File formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Apache Parquet, compressed, the header in its metadata
    Parquet,
    /// One JSON document
    Json,
    /// Comma-separated values, the header in comment lines
    Csv,
    /// The tables as text
    Table,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_as_people_and_pidof_write_them() {
        let all = |text: &str| text.parse().map(|one: Pids| one.0);
        assert_eq!(all("17"), Ok(vec![17]));
        assert_eq!(all("17,18, 19 20\n"), Ok(vec![17, 18, 19, 20]));
        assert_eq!(all("17 x"), Err("`x` is no number of a process".to_owned()));
        assert!(all("0").is_err() && all("-1").is_err() && all("").is_err() && all(" , ").is_err());
    }
}
