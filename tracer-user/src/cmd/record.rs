//! `gpuos-trace record -o FILE -- CMD`: `run` or `attach`, and every event in a file.

use anyhow::{Context as _, Result, anyhow, bail};
use gpuos_host::files;
use gpuos_recording::window::Limits;
use gpuos_runs::files::FileFormat;

use super::{attach, options, run};
use crate::{
    cli::{FormatArg, RecordArgs, TraceArgs},
    output::OutputFormat,
    probe::RecordingSettings,
    session::recording::RecordingPlan,
};

pub(super) fn record(args: RecordArgs) -> Result<()> {
    let RecordArgs { mut trace, pids, sched, faults, paths, ring, launch, last, when, memory, command } = args;
    let mut recording = plan(&mut trace, RecordingSettings { ring_bytes: ring, switches: sched, faults, paths })?;
    recording.limits = last.map(|window| Limits { window, bytes: memory as usize, triggers: when });
    let mut options = options::trace(trace)?;
    if pids.is_empty() {
        let launch = options::launch(&mut options, &launch, command)?;
        run::launched(launch, options, Some(recording))
    } else {
        attach::attached(pids, options, Some(recording))
    }
}

/// Where the recording goes. The output is the recording's then, not that of the counts.
fn plan(trace: &mut TraceArgs, settings: RecordingSettings) -> Result<RecordingPlan> {
    let Some(path) = trace.output.take() else {
        bail!("a recording needs a file\nhint: `gpuos-trace record -o FILE.parquet …`");
    };
    let asks_for_other = trace.format.is_some_and(|format| format != FormatArg::Parquet);
    let is_named_other =
        OutputFormat::by_ending(&path).is_some_and(|format| format != OutputFormat::File(FileFormat::Parquet));
    if path.as_os_str() == "-" || asks_for_other || is_named_other {
        bail!("a recording is a Parquet file\nhint: `-o FILE.parquet`; `gpuos-trace export` makes other formats of it");
    }
    if trace.no_latency || trace.sample != 1 {
        bail!("every recorded call is timed\nhint: leave `--no-latency` and `--sample` to `run`");
    }
    let path = files::target_of(&path).map_err(|error| {
        anyhow!("cannot write `{}`: {error}\nhint: name a file in a folder that you may write to", path.display())
    })?;
    let roles = match &trace.roles {
        Some(path) => files::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?,
        None => String::new(),
    };
    trace.format = None;
    Ok(RecordingPlan { path, settings, roles, limits: None })
}
