//! A trace from its beginning to its end: what is traced is launched or attached to, the programs in the kernel count, one
//! loop waits, and at the end there is a run.
//!
//! Order: fork the command suspended, load and attach the programs, arm, release, wait, detach, read the counts.
//! Detaching comes before the last reading, so that nothing moves while it is read.

mod assemble;
mod by_ptrace;
mod event_loop;
pub mod injected;
pub mod launch;
pub mod options;
pub mod recording;
pub mod signals;
pub mod stacks;

use std::{collections::HashSet, ffi::OsString, io, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use gpuos_host::{
    diagnostics, environment,
    processes::{gpu_processes, has_gpu_open},
};
use gpuos_model::machine::Clocks;
use gpuos_recording::Recorder;
use gpuos_runs::run::{End, Run};
use gpuos_tracer_abi::ioctl::DRIVER_NONE;

use crate::{
    aggregate::Aggregator,
    live::{
        Live,
        output::{CommandSide, Output},
    },
    probe::{AttachError, Attached, Counters, ProcessHandle, Tracer, beginning_of, rights},
};
use assemble::Facts;
use event_loop::{EventLoop, Watched};
use launch::{Account, Command, SpawnOptions, Suspended};
use options::{Backend, TraceOptions};
use recording::RecordingPlan;
use signals::{Ended, Signals};
use stacks::MappingsReader;

/// What is traced.
#[derive(Debug)]
pub enum Target {
    /// A command that is launched, with all that comes of it.
    Command(Launch),
    /// Processes that run already.
    Pids(Vec<u32>),
    /// Whoever has a GPU open, now or later.
    EveryGpuProcess,
}

/// A command and how it is launched.
#[derive(Debug)]
pub struct Launch {
    /// The command line.
    pub command: Vec<OsString>,
    /// As whom it runs; `None`: as we do.
    pub user: Option<Account>,
    /// Until the tree is empty.
    pub wait_all: bool,
    /// The live view begins with a pane of the command's output.
    pub pane: bool,
    /// Added to its environment.
    pub variables: Vec<(&'static str, OsString)>,
}

/// What came of a trace.
#[derive(Debug)]
pub struct Traced {
    /// How the command ended; `None` where none was launched.
    pub ended: Option<Ended>,
    /// What was counted.
    pub run: Run,
    options: TraceOptions,
    recorder: Option<Recorder>,
    stacks: Option<stacks::Found>,
}

/// What of a target must be there before the programs are.
enum Prepared {
    Command { suspended: Suspended, output: Option<OwnedFd> },
    Processes(Vec<ProcessHandle>),
    Everybody,
}

impl Target {
    /// Forks the command suspended, or opens the processes.
    fn prepare(&self, options: &TraceOptions) -> Result<Prepared> {
        match self {
            Self::Command(launch) => {
                let (suspended, output) = launch.spawn(options, Vec::new())?;
                Ok(Prepared::Command { suspended, output })
            }
            Self::Pids(pids) => Ok(Prepared::Processes(event_loop::open_processes(pids)?)),
            Self::EveryGpuProcess => Ok(Prepared::Everybody),
        }
    }

    /// The command line for the header.
    fn command_line(&self) -> Vec<String> {
        match self {
            Self::Command(launch) => launch.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            Self::Pids(pids) => {
                let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                vec!["attach".to_owned(), "-p".to_owned(), pids]
            }
            Self::EveryGpuProcess => vec!["top".to_owned()],
        }
    }

    /// What the live view shows above all.
    fn title(&self) -> String {
        match self {
            Self::Command(_) => self.command_line().join(" "),
            Self::Pids(pids) => {
                format!("attached to {}", pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::EveryGpuProcess => "processes that have a GPU open".to_owned(),
        }
    }
}

impl Launch {
    /// The command, suspended, and the terminal of its output where the view has the other.
    fn spawn(&self, options: &TraceOptions, filter: Vec<libc::sock_filter>) -> Result<(Suspended, Option<OwnedFd>)> {
        let command = Command::find(&self.command)?;
        // The view needs the terminal for itself: the command's output is read from one of its own.
        let takes_screen = options.live && io::IsTerminal::is_terminal(&io::stderr());
        let (output, side) = if takes_screen {
            let (output, side) = Output::prepare().context("cannot make a terminal for the command's output")?;
            (Some(output), Some(side))
        } else {
            (None, None)
        };
        let spawn_options = SpawnOptions {
            account: self.user.as_ref(),
            variables: &self.variables,
            streams: side.as_ref().map_or_else(Vec::new, CommandSide::streams),
            filter,
        };
        Ok((Suspended::spawn(&command, &spawn_options)?, output))
    }
}

/// A trace that goes on: what is dropped when it fails.
struct Session {
    target: Target,
    options: TraceOptions,
    tracer: Tracer,
    counters: Counters,
    aggregator: Aggregator,
    started: jiff::Timestamp,
    clocks: Clocks,
    recorder: Option<Recorder>,
    roles_text: String,
    mappings: Option<MappingsReader>,
    attached: Vec<Attached>,
}

/// Traces until the command has ended, the processes have, or the user wants no more. `recording`: every event goes to a
/// file, too.
///
/// # Errors
/// What the person who asked can do something about; nothing was counted then.
pub fn trace(target: Target, mut options: TraceOptions, mut recording: Option<RecordingPlan>) -> Result<Traced> {
    options.settings.attaching = !matches!(target, Target::Command(_));
    options.settings.recording = recording.as_ref().map(RecordingPlan::settings);
    let needs_bpf = options.needs_bpf();
    if options.backend == Backend::Ptrace {
        by_ptrace::check(&target, needs_bpf)?;
        return by_ptrace::trace(&target, options, recording);
    }
    let prepared = target.prepare(&options)?;
    let mut tracer = match Tracer::start(&options.settings) {
        Ok(tracer) => tracer,
        Err(error) if options.backend == Backend::Auto && by_ptrace::may_do_for(&error) => {
            if let Err(reason) = by_ptrace::check(&target, needs_bpf) {
                return Err(anyhow::Error::from(error).context(reason));
            }
            diagnostics::report(&by_ptrace::says(&error));
            // The child may need a filter.
            drop(prepared);
            return by_ptrace::trace(&target, options, recording);
        }
        Err(error) => return Err(error.into()),
    };
    if let Prepared::Command { suspended, .. } = &prepared {
        tracer.arm(suspended.pid(), suspended.pidfd()?)?;
    }
    let counters = tracer.counters()?;
    // Before there are other threads, which would keep theirs.
    rights::give_up(|| counters.processes().map(drop)).context("cannot give up capabilities")?;
    let for_command = matches!(target, Target::Command(_)) && !options.live;
    let signals = Signals::take(for_command).context("cannot take signals over")?;
    let mut aggregator = Aggregator::begin(options.settings.devices.clone(), &counters, options.live)
        .context("cannot tell the kernel side of the drivers")?;
    if recording.is_some() {
        aggregator.record_jobs();
    }
    let started = jiff::Timestamp::now();
    let clocks = environment::clocks();
    let command_line = target.command_line();
    let recorder = recording
        .as_mut()
        .map(|plan| plan.begin(Some(&mut tracer), &options, &command_line, started, clocks))
        .transpose()?;
    let roots = match (&target, &prepared) {
        (Target::Pids(pids), _) => pids.clone(),
        (_, Prepared::Command { suspended, .. }) => vec![suspended.pid()],
        _ => Vec::new(),
    };
    let mappings = options.stacks.as_ref().map(|_| MappingsReader::begin(roots)).transpose();
    let mut session = Session {
        mappings: mappings.context("cannot start a thread")?,
        target,
        options,
        tracer,
        counters,
        aggregator,
        started,
        clocks,
        recorder,
        roles_text: recording.map(|plan| plan.roles).unwrap_or_default(),
        attached: Vec::new(),
    };
    let (watched, mut live) = session.release(prepared)?;
    let (ended, signals) = session.wait(watched, signals, &mut live)?;
    match (&session.target, live) {
        (Target::Command(_), Some(live)) => live.finish(),
        (_, live) => drop(live),
    }
    session.finish(ended, signals)
}

impl Session {
    /// Lets the command go, or attaches to the processes; what is to be waited for.
    fn release(&mut self, prepared: Prepared) -> Result<(Watched, Option<Live>)> {
        let title = self.target.title();
        match prepared {
            Prepared::Command { suspended, output } => {
                let mut live = self.options.live_view(title, output)?;
                if matches!(&self.target, Target::Command(launch) if launch.pane) {
                    live.iter_mut().for_each(Live::show_output);
                }
                let running = suspended.release()?;
                self.recorder.iter().for_each(Recorder::begun);
                Ok((Watched::Command(running), live))
            }
            Prepared::Processes(processes) => {
                for process in &processes {
                    let now_ns = environment::monotonic_ns();
                    if let Some(recorder) = &self.recorder {
                        recorder.add(&beginning_of(process.pid(), now_ns));
                    }
                    self.attached.push(self.tracer.attach_to(process, now_ns)?);
                }
                self.recorder.iter().for_each(Recorder::begun);
                if self.options.view.is_some() {
                    diagnostics::report(&format!("{title}; Ctrl-C ends it"));
                }
                Ok((Watched::Processes(processes), self.options.live_view(title, None)?))
            }
            Prepared::Everybody => {
                if self.options.settings.devices.drivers().iter().all(|driver| *driver == DRIVER_NONE) {
                    diagnostics::report("no driver of a GPU is loaded; waiting for processes that open one");
                }
                Ok((Watched::Everybody, self.options.live_view(title, None)?))
            }
        }
    }

    /// Waits, and counts meanwhile. Gives the signals back.
    fn wait(
        &mut self,
        watched: Watched,
        signals: Signals,
        live: &mut Option<Live>,
    ) -> Result<(Option<event_loop::Stopped>, Signals)> {
        let Self { target, tracer, counters, aggregator, recorder, .. } = self;
        let (target, tracer, counters) = (&*target, &*tracer, &*counters);
        let is_ours = |signal| recorder.as_ref().is_some_and(|recorder: &Recorder| recorder.takes(signal));
        let mut known = HashSet::new();
        let mut newcomers = || match target {
            Target::EveryGpuProcess => attach_to_newcomers(tracer, &mut known),
            Target::Command(_) | Target::Pids(_) => Ok(()),
        };
        let wait_all = matches!(target, Target::Command(launch) if launch.wait_all);
        let waiting = EventLoop {
            wait_all,
            tracer,
            counters,
            aggregator,
            live,
            is_ours: &is_ours,
            newcomers: &mut newcomers,
            recorder: recorder.as_ref(),
            job_slots: 0,
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop")?
            .block_on(waiting.run(watched, signals))
            .context("cannot wait for what is traced")
    }

    /// Detaches and reads what is left.
    fn finish(mut self, stopped: Option<event_loop::Stopped>, signals: Signals) -> Result<Traced> {
        self.recorder.iter().for_each(Recorder::at_end);
        let wall_ns = environment::monotonic_ns() - self.clocks.monotonic_ns;
        let recursion_misses = self.tracer.detach(self.aggregator.tree_is_empty(&self.counters))?;
        // The last ones may be of processes whose tables were not looked for yet.
        self.aggregator.look_for_jobs(&self.counters, true).context("cannot read the counts")?;
        if let Some(recorder) = &self.recorder {
            recording::add_jobs(recorder, self.aggregator.take_ended_jobs());
            recorder.stop(&self.tracer.calls_in_flight(&self.counters)?);
        }
        let stacks = self
            .mappings
            .take()
            .map(|mappings| self.tracer.stacks(&self.counters).map(|stacks| stacks::Found { stacks, mappings }))
            .transpose()?;
        let mut totals = self.aggregator.finish(&self.counters).context("cannot read the counts")?;
        totals.losses.recursion_misses = recursion_misses;
        if let (Some(stopped), [command]) = (&stopped, totals.processes.as_mut_slice()) {
            // The kernel's last word, where the sums over threads still miss what was not booked when they exited.
            command.usage = stopped.usage;
        }
        // Without BTF nobody knows what threads had used that have ended meanwhile.
        for process in self.attached.iter().filter(|_| self.tracer.without_btf().is_none()) {
            totals.add_usage(process.id, process.usage_of_live_threads());
        }
        // From here on the tracer can be interrupted as any program.
        drop(signals);
        let (wait_all, wants_ranges) = match &self.target {
            Target::Command(launch) => (launch.wait_all, !launch.variables.is_empty()),
            Target::Pids(_) | Target::EveryGpuProcess => (false, false),
        };
        let ended = stopped.map(|stopped| stopped.ended);
        let facts = Facts {
            command: self.target.command_line(),
            wait_all,
            backend: Backend::Bpf,
            can_wait_for_tree: ended.is_some(),
            started: self.started.to_string(),
            wall_ns,
            clocks: self.clocks,
            end: ended.map_or(End::Detached, End::from),
            totals,
            wants_ranges,
            without_btf: self.tracer.without_btf().map(str::to_owned),
            roles_text: self.roles_text,
        };
        let run = assemble::run(&self.options, facts)?;
        Ok(Traced { ended, run, options: self.options, recorder: self.recorder, stacks })
    }
}

/// Attaches to processes that have opened a GPU since the last time.
fn attach_to_newcomers(tracer: &Tracer, known: &mut HashSet<u32>) -> io::Result<()> {
    let found = gpu_processes();
    // A number that is free again may be another process's.
    known.retain(|pid| found.contains(pid));
    for pid in found {
        if !known.insert(pid) {
            continue;
        }
        let Ok(process) = ProcessHandle::open(pid) else { continue };
        // The number may have been another's when it was looked at.
        if !has_gpu_open(pid) {
            continue;
        }
        match tracer.attach_to(&process, environment::monotonic_ns()) {
            Ok(_) | Err(AttachError::NoSuchProcess(_) | AttachError::Ended(_) | AttachError::NotYours { .. }) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

impl Traced {
    /// Writes the files and prints the tables. All of it is tried, whatever comes of the rest.
    ///
    /// # Errors
    /// The first failure; the others are reported.
    pub fn publish(&mut self) -> Result<()> {
        let speaks = self.options.view.is_some();
        first_failure([
            assemble::publish(&mut self.options, &self.run),
            stacks::write(&mut self.options, self.stacks.take(), &self.run),
            recording::finish(self.recorder.take(), &self.run.header, speaks),
        ])
    }

    /// Whether a loss is a failure, and there is one.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.options.strict && self.run.header.losses.any()
    }

    /// Whether tables are printed.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.options.view.is_some()
    }
}

/// The first failure of steps that were all taken, whatever came of the others; the rest is reported here.
fn first_failure(steps: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut failures = steps.into_iter().filter_map(Result::err);
    let first = failures.next();
    failures.for_each(|failure| diagnostics::report(&format!("{failure:#}")));
    first.map_or(Ok(()), Err)
}
