//! `gpuos-trace top`: what all processes of this machine that have a GPU open ask of the system, while they do.

use anyhow::{Result, anyhow};
use gpuos_host::environment;

use super::options;
use crate::{
    cli::TopArgs,
    session::{self, Target},
};

pub(super) fn top(args: TopArgs) -> Result<()> {
    if environment::in_pid_namespace() {
        return Err(anyhow!(
            "`top` looks for processes in /proc, and here that shows those of a container only\nhint: run it outside of the container, or use `gpuos-trace run --live -- CMD`"
        ));
    }
    if args.trace.stacks.is_some() || args.trace.output.is_some() || args.trace.format.is_some() {
        return Err(anyhow!("`top` writes no file\nhint: `gpuos-trace attach -p PID` with the same options does"));
    }
    if args.trace.strict {
        return Err(anyhow!(
            "`top` shows losses and has no end to fail at\nhint: `gpuos-trace attach -p PID --strict`"
        ));
    }
    let mut options = options::trace(args.trace)?;
    options.live = true;
    session::trace(Target::EveryGpuProcess, options, None).map(drop)
}
