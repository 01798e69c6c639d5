//! A trace by ptrace, from its beginning to its end: where BPF may not be used, or where that is asked for.

use anyhow::{Context as _, Result, bail};
use gpuos_host::{diagnostics, environment};
use gpuos_recording::Recorder;
use gpuos_runs::run::End;

use super::{
    Target, Traced,
    assemble::{self, Facts},
    event_loop,
    launch::Suspended,
    options::{Backend, TraceOptions},
    recording::RecordingPlan,
    signals::Ended,
};
use crate::{
    probe::{error::LoadError, rights},
    ptrace::{self, CommandEnd, Trace, Wake},
};

/// Whether ptrace can do in place of what was refused.
pub(super) fn may_do_for(error: &LoadError) -> bool {
    match error {
        LoadError::NotPermitted { .. }
        | LoadError::InContainer
        | LoadError::NoTracepoints
        | LoadError::NoTypeInformation(_)
        | LoadError::UnknownKernel(_) => true,
        LoadError::NoSuchTracepoint(_)
        | LoadError::OfAnotherUser
        | LoadError::NoCredentials
        | LoadError::ForeignObject { .. }
        | LoadError::Refused { .. }
        | LoadError::Other { .. } => false,
    }
}

/// What a command's calls are filtered by before it begins: only where it is traced to the end of all that comes of it.
fn filter(target: &Target, options: &TraceOptions) -> Option<Vec<libc::sock_filter>> {
    match target {
        Target::Command(launch) if launch.wait_all => ptrace::filter::of(options.settings.wanted.as_ref()?),
        Target::Command(_) | Target::Pids(_) | Target::EveryGpuProcess => None,
    }
}

/// Refuses what ptrace cannot do.
pub(super) fn check(target: &Target, needs_bpf: Option<&str>) -> Result<()> {
    if let Some(option) = needs_bpf {
        bail!("`{option}` needs BPF, and tracing by ptrace is all that is left");
    }
    if matches!(target, Target::EveryGpuProcess) {
        bail!("`top` needs BPF: ptrace attaches to processes that are named");
    }
    let own = std::fs::read_link("/proc/self").ok();
    if own.is_none_or(|own| own.as_os_str() != std::process::id().to_string().as_str()) {
        bail!(
            "`/proc` does not show the processes of this pid namespace, and ptrace needs it\nhint: mount its own there (`unshare --mount-proc`)"
        );
    }
    Ok(())
}

/// Where a program has its rights from, and so how it gets those for BPF.
fn fast_way() -> &'static str {
    let is_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| std::path::Path::new(file).exists());
    if is_container {
        "start the container with `--cap-add BPF --cap-add PERFMON`"
    } else if nix::unistd::Uid::effective().is_root() {
        "run it outside of this container or user namespace"
    } else {
        "run it as root, or once `sudo setcap cap_bpf,cap_perfmon=ep` on gpuos-trace"
    }
}

/// What is said, in one line, where ptrace is used because BPF may not be.
pub(super) fn says(error: &LoadError) -> String {
    let why = error.to_string();
    let why = why.lines().next().unwrap_or_default();
    format!(
        "tracing by ptrace, as strace does: {why}; each call stops its thread twice, times hold that, and there is no --live, --api, --stacks, --auto-phases, no table by job class; for the fast way {}",
        fast_way()
    )
}

/// Traces until the command has ended, the processes have, or the user wants no more.
pub(super) fn trace(target: &Target, options: TraceOptions, mut recording: Option<RecordingPlan>) -> Result<Traced> {
    let filter = filter(target, &options);
    let is_filtered = filter.is_some();
    let suspended = match target {
        Target::Command(launch) => Some(launch.spawn(&options, filter.unwrap_or_default())?.0),
        Target::Pids(pids) => {
            event_loop::check_processes(pids)?;
            None
        }
        Target::EveryGpuProcess => None,
    };
    // Before there are other threads, which would keep theirs.
    rights::give_up_for_ptrace().context("cannot give up capabilities")?;
    let signals = Wake::take(suspended.is_some()).context("cannot take signals over")?;
    let started = jiff::Timestamp::now();
    let clocks = environment::clocks();
    let command = target.command_line();
    let begin = |plan: &mut RecordingPlan| plan.begin(None, &options, &command, started, clocks);
    let recorder = recording.as_mut().map(begin).transpose()?;
    let (stopped, totals, wall_ns) =
        count(target, suspended, &options, recorder.as_ref(), &signals, clocks.monotonic_ns, is_filtered)?;
    if let Some(recorder) = &recorder {
        recorder.stop(&[]);
    }
    let (wait_all, wants_ranges) = match target {
        Target::Command(launch) => (launch.wait_all, !launch.variables.is_empty()),
        Target::Pids(_) | Target::EveryGpuProcess => (false, false),
    };
    let ended = stopped.map(|stopped| ended(stopped.status));
    let facts = Facts {
        command,
        wait_all,
        backend: Backend::Ptrace,
        can_wait_for_tree: ended.is_some(),
        started: started.to_string(),
        wall_ns,
        clocks,
        end: ended.map_or(End::Detached, End::from),
        totals,
        wants_ranges,
        without_btf: None,
        roles_text: recording.map(|plan| plan.roles).unwrap_or_default(),
    };
    let run = assemble::run(&options, facts)?;
    Ok(Traced { ended, run, options, recorder, stacks: None })
}

/// What was counted, and how long that took.
fn count(
    target: &Target,
    mut suspended: Option<Suspended>,
    options: &TraceOptions,
    recorder: Option<&Recorder>,
    signals: &Wake,
    since_ns: u64,
    is_filtered: bool,
) -> Result<(Option<CommandEnd>, crate::aggregate::Totals, u64)> {
    let settings = &options.settings;
    let begun = || recorder.iter().for_each(|recorder| recorder.begun());
    let mut trace = match (target, &mut suspended) {
        (Target::Command(launch), Some(suspended)) => {
            let trace = Trace::of_command(settings, recorder, signals, suspended.pid(), launch.wait_all, is_filtered)?;
            suspended.start()?;
            begun();
            trace
        }
        (Target::Pids(pids), _) => {
            let trace = Trace::of_processes(settings, recorder, signals, pids)?;
            begun();
            if options.view.is_some() {
                diagnostics::report(&format!("{}; Ctrl-C ends it", target.title()));
            }
            trace
        }
        (Target::Command(_) | Target::EveryGpuProcess, _) => bail!("`top` needs BPF"),
    };
    trace.run().context("cannot wait for what is traced")?;
    recorder.iter().for_each(|recorder| recorder.at_end());
    let (ended, totals, until_ns) = trace.finish();
    let wall_ns = until_ns.saturating_sub(since_ns);
    // The command may not have been one.
    suspended.as_mut().map(Suspended::executed).transpose()?;
    Ok((ended, totals, wall_ns))
}

fn ended(status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        Ended::Killed(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status) as u8)
    }
}
