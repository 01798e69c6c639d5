//! `gpuos-trace run -- CMD`: launch, count, and say what was counted.

use anyhow::{Result, anyhow};
use gpuos_host::diagnostics;

use super::{STRICT, options};
use crate::{
    cli::RunArgs,
    session::{
        self, Target,
        signals::{Ended, end_like},
    },
};

pub(super) fn run(args: RunArgs) -> Result<()> {
    let mut options = options::trace(args.trace)?;
    let launch = options::launch(&mut options, &args.launch, args.command)?;
    launched(launch, options, None)
}

/// Traces a command, publishes what came of it, and ends as the command did.
pub(super) fn launched(
    launch: session::Launch,
    options: session::options::TraceOptions,
    recording: Option<session::recording::RecordingPlan>,
) -> Result<()> {
    let is_ours = launch.user.is_none();
    let mut traced = session::trace(Target::Command(launch), options, recording)?;
    traced.publish()?;
    if traced.speaks() && is_ours && std::env::var_os("SUDO_USER").is_some() {
        diagnostics::print("note: the command ran as root; `-u $USER` runs it as you\n");
    }
    let Some(ended) = traced.ended else { return Ok(()) };
    if traced.has_failed() {
        return Err(anyhow!("{STRICT}; the command itself {}", ended_words(ended)));
    }
    end_like(ended)
}

fn ended_words(ended: Ended) -> String {
    match ended {
        Ended::Exited(status) => format!("exited with status {status}"),
        Ended::Killed(signal) => format!("was killed by signal {signal}"),
    }
}
