//! One file per verb of the command line.

mod attach;
mod check;
mod completions;
mod export;
mod ioctls;
mod outcome;
mod record;
mod report;
mod run;
mod show;
mod stacks;
mod sweep;
mod top;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    cli::{Cli, Verb},
    launch::LaunchError,
    sink::table::Look,
    talk,
};

/// Exit status of the tracer's own failures.
const TRACER_FAILED: u8 = 125;

/// Does what the command line says. Returns only when the traced command decides nothing.
pub fn dispatch(cli: Cli) -> ExitCode {
    let done = match cli.verb {
        Verb::Run(args) => run::run(args, None),
        Verb::Attach(args) => attach::attach(args, None),
        Verb::Record(args) => record::record(args),
        Verb::Top(args) => top::top(args),
        Verb::Check(args) => return check::check(&args),
        Verb::Ioctls(args) => ioctls::ioctls(&args),
        Verb::Show(args) => show::show(&args),
        Verb::Export(args) => export::export(&args),
        Verb::Sweep(args) => sweep::sweep(&args),
        Verb::Report(args) => report::report(&args),
        Verb::Compare(args) => report::compare(&args),
        Verb::Completions { shell } => completions::print(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk::say(&explain(&error));
            ExitCode::from(error.downcast_ref::<LaunchError>().map_or(TRACER_FAILED, LaunchError::exit_code))
        }
    }
}

/// The error and its causes, without those that a message already contains, in front of the hint.
fn explain(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let (message, hint) =
        text.split_once("\nhint:").map_or((text.as_str(), None), |(message, hint)| (message, Some(hint)));
    let mut message = message.to_owned();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    hint.map_or_else(|| message.clone(), |hint| format!("{message}\nhint:{hint}"))
}

/// How the terminal behind a stream looks; a stream that is none gets plain tables of 120 columns.
fn look_of(stream: &(impl IsTerminal + std::os::fd::AsFd), choice: anstream::ColorChoice) -> Look {
    if !stream.is_terminal() {
        return Look { width: 120, color: choice == anstream::ColorChoice::Always };
    }
    let width = terminal_size::terminal_size_of(stream).map_or(80, |(width, _)| usize::from(width.0));
    Look { width, color: choice != anstream::ColorChoice::Never }
}

/// Data on standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
