//! The command line of gpuos-trace: the tracer, and with the feature `study` what experiments need beside it.

mod completions;
#[cfg(feature = "study")]
mod study;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, error::ContextKind};
use gpuos_tracer::{
    cli::TracerCommand,
    cmd::{self, TRACER_FAILED},
};

/// Shows what a GPU program asks of the operating system
#[derive(Debug, Parser)]
#[command(name = "gpuos-trace", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Tables and messages go to standard error, data to standard output.\n\
    Exit status: the command's own; 125 when the tracer fails, 126 when the command cannot be executed, 127 when it is not found.")]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Command {
    #[command(flatten)]
    Tracer(TracerCommand),
    #[cfg(feature = "study")]
    #[command(flatten)]
    Study(study::StudyCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Tracer(command) => cmd::run(command),
        #[cfg(feature = "study")]
        Command::Study(command) => study::run(command).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => completions::print::<Cli>(shell).map(|()| ExitCode::SUCCESS),
    }
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli.command).unwrap_or_else(|error| cmd::report_failure(&error)),
        Err(mut error) => {
            // An option that is unknown is none of the command's: behind `--` it would be its name.
            error.remove(ContextKind::Suggested);
            // clap's own status for bad options is 2, which a traced command may return as well.
            let status = if error.use_stderr() { TRACER_FAILED } else { 0 };
            let _ = error.print();
            ExitCode::from(status)
        }
    }
}
