//! One file per subcommand.

mod attach;
mod check;
mod diff;
mod export;
mod fleet;
mod ioctls;
mod options;
mod record;
mod run;
mod show;
mod top;

use std::process::ExitCode;

use anyhow::Result;
use gpuos_host::diagnostics;

use crate::{cli::TracerCommand, session::launch::LaunchError};

/// Exit status of the tracer's own failures: a traced command may return any smaller one.
pub const TRACER_FAILED: u8 = 125;

/// Why `--strict` fails.
const STRICT: &str =
    "events were lost, and `--strict` was given\nhint: the lines that begin with LOST say what, and how to avoid it";

/// Does what the command line says. Returns only when the traced command decides nothing.
///
/// # Errors
/// What went wrong, for [`report_failure`].
pub fn run(command: TracerCommand) -> Result<ExitCode> {
    match command {
        TracerCommand::Run(args) => run::run(args)?,
        TracerCommand::Attach(args) => attach::attach(args)?,
        TracerCommand::Record(args) => record::record(args)?,
        TracerCommand::Top(args) => top::top(args)?,
        TracerCommand::Check(args) => return Ok(check::check(&args)),
        TracerCommand::Ioctls(args) => ioctls::ioctls(&args)?,
        TracerCommand::Show(args) => show::show(&args)?,
        TracerCommand::Diff(args) => return diff::diff(&args),
        TracerCommand::Export(args) => export::export(&args)?,
        TracerCommand::Fleet(args) => fleet::fleet(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what went wrong, and with which status to end.
#[must_use]
pub fn report_failure(error: &anyhow::Error) -> ExitCode {
    diagnostics::report(&explain(error));
    ExitCode::from(error.downcast_ref::<LaunchError>().map_or(TRACER_FAILED, LaunchError::exit_code))
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
