//! Subcommands that read files of runs and recordings: `export`, `diff`, `fleet`, `show`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use gpuos_recording::export;
use gpuos_runs::diff::Rule;

use super::{ChoiceArgs, Pids, TableArgs};

/// Formats of other tools
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormatArg {
    /// Perfetto's own (ui.perfetto.dev): processes, threads, phases, calls with arguments, counters by role
    Perfetto,
    /// Chrome's trace events as JSON
    Chrome,
    /// speedscope.app: the calls of each thread in their order
    Speedscope,
    /// Folded stacks for flame graphs: phase;role;call and nanoseconds
    Folded,
    /// The rows as comma-separated values
    Csv,
    /// OpenTelemetry spans as JSON, a batch a line
    OtlpJson,
    /// A recording: of one that was not finished
    Parquet,
}

impl ExportFormatArg {
    /// The format of another tool; `None`: a recording.
    #[must_use]
    pub const fn other(self) -> Option<export::ExportFormat> {
        Some(match self {
            Self::Perfetto => export::ExportFormat::Perfetto,
            Self::Chrome => export::ExportFormat::Chrome,
            Self::Speedscope => export::ExportFormat::Speedscope,
            Self::Folded => export::ExportFormat::Folded,
            Self::Csv => export::ExportFormat::Csv,
            Self::OtlpJson => export::ExportFormat::OtlpJson,
            Self::Parquet => return None,
        })
    }
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpuos-trace export --to perfetto infer.parquet -o infer.pftrace")]
pub struct ExportArgs {
    /// The format
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: ExportFormatArg,

    /// Where it goes [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// A recording, or the `.part` of one that was not finished
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gpuos-trace diff before.parquet after.parquet\n  \
    gpuos-trace diff --per-unit --fail-on 'phase=work role=memory calls>+0' before.parquet after.parquet\n\n\
    Ends with status 1 where a rule does not hold.")]
pub struct DiffArgs {
    /// Calls and time for each iteration that a phase reported; what is outside of such phases is left out
    #[arg(long)]
    pub per_unit: bool,

    /// Columns that calls are told apart by: phase, role, category, syscall, device, call, detail (comma-separated) [default: a table of
    /// phase and role, and one of phase, role and call]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub by: Vec<String>,

    /// What the tables are ordered by, what changed most first
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t = DiffOrder::Calls)]
    pub sort: DiffOrder,

    /// How many lines of each table to list; 0: all, also those that did not change
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub top: usize,

    /// Fail where the second run is beyond a bound: columns with their values, and calls, errors or time with `>N`, `>+N` or `>+N%`;
    /// may be given again
    #[arg(long, value_name = "RULE")]
    pub fail_on: Vec<Rule>,

    /// The run that is compared with: a file of `run -o` or `record`
    #[arg(value_hint = ValueHint::FilePath)]
    pub first: PathBuf,

    /// The run that is compared
    #[arg(value_hint = ValueHint::FilePath)]
    pub second: PathBuf,
}

/// What differences are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffOrder {
    /// Number of calls
    Calls,
    /// Errors, and calls that a driver refused
    Errors,
    /// Time inside the calls
    Time,
}

/// Arguments of `fleet`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpuos-trace fleet --cluster west -o /data/fleet run.parquet")]
pub struct FleetArgs {
    /// Folder of the table, which is made where it is missing
    #[arg(short, long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,

    /// Name of the cluster, a folder of the table
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub cluster: String,

    /// Name of the machine, a folder of the table [default: the one that the run was on]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Kubernetes namespace of the program
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Kubernetes pod of the program
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,

    /// Container of the program
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,

    /// Number of the batch system's job, such as `$SLURM_JOB_ID`
    #[arg(long, value_name = "NUMBER")]
    pub job: Option<String>,

    /// Files that `run -o` or `record` wrote
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gpuos-trace show run.parquet\n  \
    gpuos-trace show --events --failed infer.parquet\n  \
    gpuos-trace show --slowest 10 infer.parquet")]
pub struct ShowArgs {
    /// Of a recording: print each event as a line, in place of the tables
    #[arg(long)]
    pub events: bool,

    /// Of a recording: print the N calls that took longest as lines, below the tables
    #[arg(long, value_name = "N", conflicts_with = "events")]
    pub slowest: Option<usize>,

    /// Print only these roles, categories or system calls (comma-separated)
    #[arg(short = 'e', long = "only", value_name = "WORD", value_delimiter = ',', help_heading = "Lines")]
    pub words: Vec<String>,

    /// Print only events of these processes or threads (with commas or blanks between)
    #[arg(short, long = "pid", value_name = "PID", help_heading = "Lines")]
    pub pids: Vec<Pids>,

    /// Which events are printed.
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// A file that `run -o` or `record` wrote
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,

    /// How the tables are printed
    #[command(flatten)]
    pub tables: TableArgs,
}
