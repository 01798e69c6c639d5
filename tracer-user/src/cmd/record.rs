//! `gpuos-trace record -o FILE -- CMD`: `run` or `attach`, and every event in a file.

use std::io::{self, Write};

use anyhow::{Context as _, Result, anyhow, bail};
use gpuos_decode::syscalls;
use gpuos_host::files;
use gpuos_recording::{
    Lines,
    print::{FirstDescriptors, OF_DESCRIPTORS, Printer},
    window::Limits,
};
use gpuos_runs::files::FileFormat;

use super::{attach, options, run};
use crate::{
    cli::{ChoiceArgs, FormatArg, Pids, RecordArgs, TraceArgs},
    output::OutputFormat,
    probe::RecordingSettings,
    session::recording::RecordingPlan,
};

pub(super) fn record(args: RecordArgs) -> Result<()> {
    let RecordArgs {
        mut trace,
        pids,
        sched,
        faults,
        paths,
        print,
        choice,
        ring,
        launch,
        last,
        when,
        memory,
        command,
        ..
    } = args;
    let pids = Pids::all(&pids);
    let settings = RecordingSettings { ring_bytes: ring, switches: sched, faults, paths: paths || print };
    if !print
        && (choice.json
            || choice.failed
            || choice.device.is_some()
            || choice.phase.is_some()
            || choice.slower.is_some())
    {
        bail!(
            "lines are printed with `--print`\nhint: a file has every event, and `gpuos-trace show --events` chooses from it"
        );
    }
    let is_kept = trace.output.as_ref().is_some_and(|path| path.as_os_str() != "-");
    let first = match () {
        // What is not recorded is not followed.
        () if is_kept && !trace.events.is_empty() => FirstDescriptors::NotFollowed,
        () if pids.is_empty() => FirstDescriptors::Ours,
        () => FirstDescriptors::Theirs,
    };
    let lines = print.then(|| lines(&trace, &choice, first));
    let mut recording = plan(&mut trace, settings, lines)?;
    recording.limits = last.map(|window| Limits { window, bytes: memory as usize, triggers: when });
    let mut options = options::trace(trace)?;
    if print {
        options.view = None;
        options.says_notes = true;
    }
    if let (Some(lines), Some(wanted)) = (&mut recording.lines, &mut options.settings.wanted) {
        let names = wanted.iter().filter_map(|number| syscalls::by_number(*number));
        lines.choice.calls = names.map(|call| call.name.to_owned()).collect();
        if !is_kept {
            // These are not printed; what is, is said by what they open.
            wanted.extend(OF_DESCRIPTORS.iter().filter_map(|name| Some(syscalls::by_name(name)?.number)));
            wanted.sort_unstable();
            wanted.dedup();
        }
    }
    if pids.is_empty() {
        let launch = options::launch(&mut options, &launch, command)?;
        run::launched(launch, options, Some(recording))
    } else {
        attach::attached(pids, options, Some(recording))
    }
}

/// Where the recording goes. The output is the recording's then, not that of the counts.
fn plan(trace: &mut TraceArgs, settings: RecordingSettings, lines: Option<Lines>) -> Result<RecordingPlan> {
    if trace.no_latency || trace.sample != 1 {
        bail!("every recorded call is timed\nhint: leave `--no-latency` and `--sample` to `run`");
    }
    let Some(path) = trace.output.take().filter(|path| lines.is_none() || path.as_os_str() != "-") else {
        if lines.is_some() {
            return Ok(RecordingPlan { path: None, lines, settings, roles: String::new(), limits: None });
        }
        bail!("a recording needs a file\nhint: `gpuos-trace record -o FILE.parquet …`, or `--print` for lines");
    };
    let asks_for_other = trace.format.is_some_and(|format| format != FormatArg::Parquet);
    let is_named_other =
        OutputFormat::by_ending(&path).is_some_and(|format| format != OutputFormat::File(FileFormat::Parquet));
    if path.as_os_str() == "-" || asks_for_other || is_named_other {
        bail!(
            "a recording is a Parquet file\nhint: `-o FILE.parquet`; `gpuos-trace export` makes other formats of it; lines of `--print` go to standard error, or by `-o -` to standard output: `-o - > FILE`"
        );
    }
    let path = files::target_of(&path).map_err(|error| {
        anyhow!("cannot write `{}`: {error}\nhint: name a file in a folder that you may write to", path.display())
    })?;
    let roles = match &trace.roles {
        Some(path) => files::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?,
        None => String::new(),
    };
    trace.format = None;
    Ok(RecordingPlan { path: Some(path), lines, settings, roles, limits: None })
}

/// Lines of what is traced, to standard output where that is the output, else to standard error.
fn lines(trace: &TraceArgs, choice: &ChoiceArgs, first: FirstDescriptors) -> Lines {
    let is_output = trace.output.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let to: Box<dyn Write + Send> = if is_output { Box::new(io::stdout()) } else { Box::new(io::stderr()) };
    // What is counted and recorded is chosen in the kernel.
    let ends_when_closed = first == FirstDescriptors::Theirs && (trace.output.is_none() || is_output);
    Lines {
        printer: Printer::new(0, choice.json, first),
        choice: options::choice(choice, Vec::new(), Vec::new()),
        to,
        ends_when_closed,
    }
}
