//! One file per verb of the command line.

mod completions;
mod run;
mod show;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Result;

use crate::{
    cli::{Cli, Verb},
    launch::LaunchError,
    sink::table::Look,
};

/// Exit status of the tracer's own failures.
const TRACER_FAILED: u8 = 125;

/// Does what the command line says. Returns only when the traced command decides nothing.
pub fn dispatch(cli: Cli) -> ExitCode {
    let done = match cli.verb {
        Verb::Run(args) => run::run(args),
        Verb::Show(args) => show::show(&args),
        Verb::Completions { shell } => completions::print(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpuos-trace: {error:#}");
            ExitCode::from(error.downcast_ref::<LaunchError>().map_or(TRACER_FAILED, LaunchError::exit_code))
        }
    }
}

/// How the terminal behind a stream looks; a stream that is none gets plain tables of 120 columns.
fn look_of(stream: &(impl IsTerminal + std::os::fd::AsFd), choice: anstream::ColorChoice) -> Look {
    if !stream.is_terminal() {
        return Look { width: 120, color: choice == anstream::ColorChoice::Always };
    }
    let width = terminal_size::terminal_size_of(stream).map_or(80, |(width, _)| usize::from(width.0));
    Look { width, color: choice != anstream::ColorChoice::Never }
}

/// Whether `run` or `show` may print tables: a full terminal or closed pipe is no failure of the tool.
fn print(mut stream: impl std::io::Write, text: &str) -> Result<()> {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
