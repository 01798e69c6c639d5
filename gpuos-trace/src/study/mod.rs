//! What experiments need beside the tracer: sweeps over the cells of a plan, and reports of what a dataset shows.

mod pressures;
mod report;
mod sweep;
mod sweep_command;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueHint};

/// One file for each, or two.
#[derive(Debug, Subcommand)]
pub(crate) enum StudyCommand {
    /// Run the cells of a plan, with and without the tracer, into a dataset
    Sweep(SweepArgs),
    /// Say what a dataset shows: verdicts on how calls scale, and plots
    Report(ReportArgs),
    /// Set the stacks of one or more datasets side by side
    Compare(CompareArgs),
    /// Rank what presses on the system: mechanisms that interventions confirmed × what real models pay
    Pressures(PressuresArgs),
}

/// What a sweep runs.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The plan, such as `study/phase1/plans/quick.toml`
    #[arg(value_name = "PLAN.toml", value_hint = ValueHint::FilePath)]
    pub(crate) plan: PathBuf,

    /// Folder of the dataset
    #[arg(short, long, value_name = "DATASET", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,

    /// Go on with a dataset of the same plan
    #[arg(long)]
    pub(crate) resume: bool,

    /// The program with the workloads [default: `bench` beside this one, or in PATH]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) bench: Option<PathBuf>,

    /// End a run that takes longer; its cell has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) limit: u64,
}

/// What is reported.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders of datasets of one kind of machine, judged as one: such as a sweep, and the inference of real models
    #[arg(value_name = "DATASET", required = true, value_hint = ValueHint::DirPath)]
    pub(crate) datasets: Vec<PathBuf>,

    /// Folder of the report: `report.md`, `report.html`, `verdicts.json` and plots
    #[arg(short, long, value_name = "REPORT", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
}

/// What is compared.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Folders of datasets; the backends of one are compared, too
    #[arg(value_name = "DATASET", required = true, value_hint = ValueHint::DirPath)]
    pub(crate) datasets: Vec<PathBuf>,

    /// Folder of the comparison: `comparison.md`, `comparison.html`, `comparison.json`
    #[arg(short, long, value_name = "COMPARISON", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
}

/// What is ranked.
#[derive(Debug, Args)]
pub(crate) struct PressuresArgs {
    /// Which pressures there are, such as `study/phase2/pressures.toml`
    #[arg(value_name = "PRESSURES.toml", value_hint = ValueHint::FilePath)]
    pub(crate) pressures: PathBuf,

    /// Folder of a dataset with interventions; may be given again
    #[arg(long, value_name = "DATASET", required = true, value_hint = ValueHint::DirPath)]
    pub(crate) mechanisms: Vec<PathBuf>,

    /// Folder of the sessions of real models, as `study/phase2/sessions.sh` leaves them
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) sessions: PathBuf,

    /// Write the list as JSON, too
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// Does it.
pub(crate) fn run(command: StudyCommand) -> Result<()> {
    match command {
        StudyCommand::Sweep(args) => sweep_command::sweep(&args),
        StudyCommand::Report(args) => report::report(&args),
        StudyCommand::Compare(args) => report::compare(&args),
        StudyCommand::Pressures(args) => pressures::pressures(&args),
    }
}
