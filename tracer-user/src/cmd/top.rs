//! `gpuos-trace top`: what all processes of this machine that have a GPU open ask of the system, while they do.

use std::{collections::HashSet, io};

use anyhow::{Context as _, Result, anyhow};

use gpuos_tracer_abi::ioctl::DRIVER_NONE;

use crate::{
    bpf::{AttachError, Tracer},
    cli::TopArgs,
    collect::{self, Gathered},
    live::processes::gpu_processes,
    options::TraceOptions,
    signals::Signals,
    talk,
};

pub(super) fn top(args: TopArgs) -> Result<()> {
    if collect::in_pid_namespace() {
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
    let mut options = TraceOptions::from_args(args.trace)?;
    options.settings.attaching = true;
    options.live = true;
    let mut tracer = Tracer::start(&options.settings)?;
    let counters = tracer.counters()?;
    let mut gathered = Gathered::begin(options.settings.devices.clone(), &counters, true)
        .context("cannot tell the kernel side of the drivers")?;
    let signals = Signals::take().context("cannot take signals over")?;
    let mut known: HashSet<u32> = HashSet::new();
    let attach = || -> io::Result<()> {
        let found = gpu_processes();
        // A number that is free again may be another process's.
        known.retain(|pid| found.contains(pid));
        for pid in found {
            if !known.insert(pid) {
                continue;
            }
            match tracer.attach_to(pid, collect::clocks().monotonic_ns) {
                Ok(_) | Err(AttachError::NoSuchProcess(_) | AttachError::Ended(_)) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    };
    if options.settings.devices.drivers().iter().all(|driver| *driver == DRIVER_NONE) {
        talk::say("no driver of a GPU is loaded; waiting for processes that open one");
    }
    let mut live = options.live_view("processes that have a GPU open".to_owned(), None)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(collect::until_detached(Vec::new(), signals, &counters, &mut gathered, &mut live, |_| false, attach))
        .context("cannot go on")?;
    drop(live);
    tracer.detach(gathered.tree_is_empty(&counters))?;
    Ok(())
}
