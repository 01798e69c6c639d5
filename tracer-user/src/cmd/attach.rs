//! `gpuos-trace attach -p PID`: count what running processes do, until Ctrl-C or their end.

use anyhow::{Result, anyhow};

use super::{STRICT, options};
use crate::{
    cli::{AttachArgs, Pids},
    session::{self, Target},
};

pub(super) fn attach(args: AttachArgs) -> Result<()> {
    attached(Pids::all(&args.pids), options::trace(args.trace)?, None)
}

/// Traces processes that run already, and publishes what came of it.
pub(super) fn attached(
    mut pids: Vec<u32>,
    options: session::options::TraceOptions,
    recording: Option<session::recording::RecordingPlan>,
) -> Result<()> {
    pids.sort_unstable();
    pids.dedup();
    let mut traced = session::trace(Target::Pids(pids), options, recording)?;
    traced.publish()?;
    if traced.has_failed() { Err(anyhow!(STRICT)) } else { Ok(()) }
}
