//! One loop that waits for the end, the clock and signals, reads the counts and shows them.

use std::{future::pending, io, ops::ControlFlow, os::fd::OwnedFd, time::Duration};

use gpuos_host::proc_text;
use gpuos_model::Usage;
use gpuos_recording::Recorder;
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    launch::Running,
    recording,
    signals::{Ended, JobControl, SignalEvent, Signals, is_stopped, reap, reap_others},
};
use crate::{
    aggregate::Aggregator,
    live::{self, Live, UiAction},
    probe::{AttachError, Counters, ProcessHandle, Tracer, error::LoadError},
};

/// How often counts of ended processes are taken out of the kernel's maps.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);

/// How often `--wait-all` looks whether the tree is empty.
const EMPTY_INTERVAL: Duration = Duration::from_millis(10);

/// How often new processes are looked for.
const NEWCOMERS_INTERVAL: Duration = Duration::from_secs(1);

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// With which status, or by which signal.
    pub(super) ended: Ended,
    /// What it used.
    pub(super) usage: Usage,
}

/// Whose end is waited for.
#[derive(Debug)]
pub(super) enum Watched {
    /// The command's.
    Command(Running),
    /// That of all of these.
    Processes(Vec<ProcessHandle>),
    /// Nobody's: until the user wants no more.
    Everybody,
}

/// What is done while waiting.
pub(super) struct EventLoop<'a> {
    /// Wait until the tree is empty, not only until the command has ended.
    pub(super) wait_all: bool,
    pub(super) tracer: &'a Tracer,
    pub(super) counters: &'a Counters,
    pub(super) aggregator: &'a mut Aggregator,
    pub(super) live: &'a mut Option<Live>,
    /// Takes a signal that is not meant for the command.
    pub(super) is_ours: &'a dyn Fn(libc::c_int) -> bool,
    /// Called each second.
    pub(super) newcomers: &'a mut dyn FnMut() -> io::Result<()>,
    pub(super) recorder: Option<&'a Recorder>,
    /// Slots of threads that were attached to, when tables of jobs were looked for.
    pub(super) job_slots: u64,
}

/// Opens the processes that are to be traced, to notice their end.
///
/// # Errors
/// [`AttachError::NoSuchProcess`].
pub(super) fn open_processes(pids: &[u32]) -> Result<Vec<ProcessHandle>, AttachError> {
    pids.iter().map(|&pid| ProcessHandle::open(pid).map_err(|error| why_not_there(pid, &error))).collect()
}

/// Looks whether the processes are there, where the kernel may have no descriptors of them.
///
/// # Errors
/// [`AttachError::NoSuchProcess`], [`AttachError::ThreadOf`].
pub(super) fn check_processes(pids: &[u32]) -> Result<(), AttachError> {
    for &pid in pids {
        let is_there = proc_text::read(format!("/proc/{pid}/status"))
            .is_ok_and(|status| proc_text::field(&status, "Tgid").and_then(|group| group.parse().ok()) == Some(pid));
        if !is_there {
            return Err(why_not_there(pid, &io::Error::from_raw_os_error(libc::ESRCH)));
        }
    }
    Ok(())
}

/// Why a process could not be opened.
fn why_not_there(pid: u32, error: &io::Error) -> AttachError {
    let status = proc_text::read(format!("/proc/{pid}/status")).unwrap_or_default();
    match proc_text::field(&status, "Tgid").and_then(|process| process.parse().ok()) {
        Some(process) if process != pid => AttachError::ThreadOf(pid, process),
        None if error.raw_os_error() == Some(libc::ESRCH) => AttachError::NoSuchProcess(pid),
        _ => AttachError::Load(LoadError::Other { what: "opening the process", reason: error.to_string() }),
    }
}

/// An fd that the loop waits for.
fn readable<T: std::os::fd::AsRawFd + std::os::fd::AsFd>(file: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types here own their fds and never exchange them.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(io::Error::from)
}

/// What the loop knows of the command.
struct CommandState {
    pid: Pid,
    jobs: JobControl,
    stopped: Option<Stopped>,
}

impl EventLoop<'_> {
    /// Waits for the end of whoever is watched, or until the user wants no more. Gives the signals back: those that came
    /// together with the command's end are still to be passed over.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn run(mut self, watched: Watched, signals: Signals) -> io::Result<(Option<Stopped>, Signals)> {
        let signals = readable(signals)?;
        let (mut command, exit, processes) = match watched {
            Watched::Command(Running { pid, pidfd }) => {
                let state = CommandState { pid, jobs: JobControl::default(), stopped: None };
                (Some(state), Some(readable(pidfd)?), Vec::new())
            }
            Watched::Processes(processes) => {
                (None, None, processes.into_iter().map(OwnedFd::from).map(readable).collect::<io::Result<_>>()?)
            }
            Watched::Everybody => (None, None, Vec::new()),
        };
        let all_ended = all_ended(&processes);
        tokio::pin!(all_ended);
        let mut gather = tokio::time::interval(GATHER_INTERVAL);
        let mut empty = tokio::time::interval(EMPTY_INTERVAL);
        let mut newcomers = tokio::time::interval(NEWCOMERS_INTERVAL);
        let mut view = tokio::time::interval(live::INTERVAL);
        loop {
            let stopped = command.as_ref().and_then(|command| command.stopped);
            if stopped.is_some() && (!self.wait_all || self.aggregator.tree_is_empty(self.counters)) {
                return Ok((stopped, signals.into_inner()));
            }
            let exited = async {
                match &exit {
                    Some(exit) => {
                        let _: () = exit.readable().await?.clear_ready();
                        Ok::<(), io::Error>(())
                    }
                    None => pending().await,
                }
            };
            let flow = tokio::select! {
                ready = exited, if stopped.is_none() => {
                    ready?;
                    if let Some(command) = &mut command {
                        command.stopped = reap(command.pid)?.map(|(ended, usage)| Stopped { ended, usage });
                    }
                    ControlFlow::Continue(())
                }
                ended = &mut all_ended, if !processes.is_empty() => {
                    ended?;
                    ControlFlow::Break(())
                }
                ready = signals.readable() => match ready?.try_io(|signals| signals.get_ref().next()) {
                    Ok(event) => self.take_signal(event?, command.as_mut())?,
                    Err(_would_block) => ControlFlow::Continue(()),
                },
                _ = gather.tick() => {
                    self.look_for_jobs()?;
                    self.aggregator.take_ended(self.counters)?;
                    ControlFlow::Continue(())
                }
                _ = empty.tick(), if stopped.is_some() => ControlFlow::Continue(()),
                _ = newcomers.tick() => {
                    (self.newcomers)()?;
                    ControlFlow::Continue(())
                }
                _ = view.tick(), if self.live.is_some() => self.show(command.as_ref())?,
            };
            if flow.is_break() {
                return Ok((stopped, signals.into_inner()));
            }
        }
    }

    /// Finds tables of jobs, looks at switches once there are any, and tells the recording of jobs that have ended.
    fn look_for_jobs(&mut self) -> io::Result<()> {
        let attached = self.tracer.job_slots();
        let again = std::mem::replace(&mut self.job_slots, attached) != attached;
        if self.aggregator.look_for_jobs(self.counters, again)? {
            self.tracer.watch_jobs().map_err(io::Error::other)?;
        }
        if let Some(recorder) = self.recorder {
            recording::add_jobs(recorder, self.aggregator.take_ended_jobs());
        }
        Ok(())
    }

    /// What a signal means: for the command, for the recorder, or that the user wants no more.
    fn take_signal(&self, event: SignalEvent, command: Option<&mut CommandState>) -> io::Result<ControlFlow<()>> {
        match (event, command) {
            (SignalEvent::Request { signal, .. }, _) if (self.is_ours)(signal) => {}
            (SignalEvent::Child, Some(command)) => {
                reap_others(Some(command.pid));
                command.jobs.follow(command.pid, is_stopped)?;
            }
            (SignalEvent::Stop { from_terminal }, Some(command)) => {
                if !from_terminal {
                    let _ = nix::sys::signal::kill(command.pid, Signal::SIGTSTP);
                }
                command.jobs.asked_to_stop();
                command.jobs.follow(command.pid, is_stopped)?;
            }
            // The command is gone: the user does not want to wait for the rest.
            (SignalEvent::Request { .. }, Some(CommandState { stopped: Some(_), .. })) => {
                return Ok(ControlFlow::Break(()));
            }
            // The terminal has sent it to the whole process group already.
            (SignalEvent::Request { from_terminal: true, .. }, Some(_)) => {}
            // It may just have ended.
            (SignalEvent::Request { signal, .. }, Some(command)) => {
                // SAFETY: plain numbers. nix has no names for real-time signals.
                let _ = unsafe { libc::kill(command.pid.as_raw(), signal) };
            }
            (SignalEvent::Request { .. }, None) => return Ok(ControlFlow::Break(())),
            (SignalEvent::Stop { .. }, None) => nix::sys::signal::raise(Signal::SIGSTOP)?,
            (SignalEvent::Child, None) => reap_others(None),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Shows the counts, and does what the user asks for there.
    fn show(&mut self, command: Option<&CommandState>) -> io::Result<ControlFlow<()>> {
        let Some(live) = self.live else { return Ok(ControlFlow::Continue(())) };
        let action = live.tick(self.counters, self.aggregator)?;
        let ends = match command {
            Some(CommandState { stopped: None, .. }) => {
                if action == UiAction::Interrupt {
                    // To the whole group, as the terminal would; ours is one of them.
                    let _ = nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGINT);
                }
                false
            }
            Some(_) => action == UiAction::Interrupt,
            None => action == UiAction::Interrupt || live.is_closed(),
        };
        Ok(if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// Waits until every process has ended.
async fn all_ended(processes: &[AsyncFd<OwnedFd>]) -> io::Result<()> {
    for process in processes {
        // A pidfd is readable when its process has ended, and stays so.
        let _ = process.readable().await?;
    }
    Ok(())
}
