//! `gpuos-trace record -o FILE -- CMD`: `run` or `attach`, and every event in a file.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};

use super::{attach, run};
use crate::{
    bpf::{Recording, Tracer},
    cli::{AttachArgs, RecordArgs, RunArgs, TraceArgs},
    collect,
    model::run::{Clocks, Header},
    options::TraceOptions,
    record::{Recorded, Recorder, journal::Head, window::Limits},
    sink::{self, units},
    talk,
};

/// What is to be recorded besides counts, and where to.
pub(super) struct Plan {
    path: PathBuf,
    settings: Recording,
    /// The text of the `--roles` file.
    pub(super) roles: String,
    /// Keep only the last of it.
    limits: Option<Limits>,
}

pub(super) fn record(args: RecordArgs) -> Result<()> {
    let RecordArgs { mut trace, pids, sched, faults, ring, launch, last, when, memory, command } = args;
    let mut plan = Plan::new(&mut trace, Recording { ring_bytes: ring, switches: sched, faults })?;
    plan.limits = last.map(|window| Limits { window, bytes: memory as usize, triggers: when });
    if pids.is_empty() {
        run::run(RunArgs { trace, launch, command }, Some(plan))
    } else {
        attach::attach(AttachArgs { trace, pids }, Some(plan))
    }
}

impl Plan {
    fn new(trace: &mut TraceArgs, settings: Recording) -> Result<Self> {
        let Some(path) = trace.output.take() else {
            bail!("a recording needs a file\nhint: `gpuos-trace record -o FILE.parquet …`");
        };
        let asks_for_other = trace.format.is_some_and(|format| format != crate::cli::Format::Parquet);
        let is_named_other = sink::Format::by_ending(&path).is_some_and(|format| format != sink::Format::Parquet);
        if path.as_os_str() == "-" || asks_for_other || is_named_other {
            bail!(
                "a recording is a Parquet file\nhint: `-o FILE.parquet`; `gpuos-trace export` makes other formats of it"
            );
        }
        if trace.no_latency || trace.sample != 1 {
            bail!("every recorded call is timed\nhint: leave `--no-latency` and `--sample` to `run`");
        }
        let path = sink::target_of(&path).map_err(|error| {
            anyhow!("cannot write `{}`: {error}\nhint: name a file in a folder that you may write to", path.display())
        })?;
        let roles = match &trace.roles {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?,
            None => String::new(),
        };
        trace.format = None;
        Ok(Self { path, settings, roles, limits: None })
    }

    /// For the kernel side.
    pub(super) fn settings(&self) -> Recording {
        self.settings
    }

    /// Begins to record what the programs write from now on.
    pub(super) fn begin(
        &self,
        tracer: &Tracer,
        options: &TraceOptions,
        command: &[String],
        started: jiff::Timestamp,
        clocks: Clocks,
    ) -> Result<Recorder> {
        let head = Head {
            command: command.to_vec(),
            started: started.to_string(),
            clocks,
            host: collect::host(),
            devices: options.settings.devices.clone(),
            roles: self.roles.clone(),
            filter: options.filter.clone(),
            ..Head::default()
        };
        let ring = tracer.ring(self.settings.ring_bytes)?;
        match &self.limits {
            None => Recorder::begin(&self.path, ring, &head, &options.roles),
            Some(limits) => Recorder::keep_last(&self.path, ring, &head, limits.clone()),
        }
        .map_err(|error| anyhow!("{error}").context(self.path.display().to_string()))
    }

    /// Waits for what is still to be written, and says what came of it.
    pub(super) fn finish(recorder: Option<Recorder>, header: &Header, speaks: bool) -> Result<()> {
        let Some(recorder) = recorder else { return Ok(()) };
        let files = recorder.finish(header)?;
        if !speaks {
            return Ok(());
        }
        if files.is_empty() {
            talk::print("\nnothing was recorded: `--when` never came true\n");
        }
        for Recorded { path, rows, bytes } in files {
            let (events, bytes) = (units::plural(rows, "event", "events"), units::plural(bytes, "byte", "bytes"));
            talk::print(&format!("\nrecorded {events} in {bytes} to {}\n", path.display()));
        }
        Ok(())
    }
}
