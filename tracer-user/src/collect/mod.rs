//! Collects a run: one loop that waits for the command, the clock and signals, and snapshots.

pub(crate) mod environment;
mod gather;

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::io::{Interest, unix::AsyncFd};

pub use environment::{clocks, host, in_pid_namespace, linker_cache, user};
pub use gather::{Finished, Gathered};

use crate::{
    bpf::{AttachError, Counters, error::LoadError, while_there},
    launch::Running,
    live::{self, Live, Wish},
    model::run::CommandUsage,
    signals::{Arrived, Ended, JobControl, Signals, reap},
};

/// How often counts of ended processes are taken out of the kernel's maps.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);

/// How often `--wait-all` looks whether the tree is empty.
const EMPTY_INTERVAL: Duration = Duration::from_millis(10);

/// How often new processes are looked for.
const NEWCOMERS_INTERVAL: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How the command ended.
    pub ended: Ended,
    /// What it used.
    pub usage: CommandUsage,
}

/// Waits until the command has ended and, with `wait_all`, its tree or the user's patience. Gives the
/// signals back: those that came together with the command's end are still to be passed over. `is_ours` takes a signal
/// that is not meant for the command.
///
/// # Errors
/// What the kernel says.
pub async fn until_end(
    running: Running,
    signals: Signals,
    wait_all: bool,
    counters: &Counters,
    gathered: &mut Gathered,
    live: &mut Option<Live>,
    is_ours: impl Fn(Signal) -> bool,
) -> io::Result<(Stopped, Signals)> {
    let pid = running.pid;
    // SAFETY: both own their descriptors and never exchange them.
    let (signals, exit) = unsafe {
        (
            AsyncFd::register_with_interest(signals, Interest::READABLE).map_err(io::Error::from)?,
            AsyncFd::register_with_interest(running.pidfd, Interest::READABLE).map_err(io::Error::from)?,
        )
    };
    let mut gather = tokio::time::interval(GATHER_INTERVAL);
    let mut empty = tokio::time::interval(EMPTY_INTERVAL);
    let mut view = tokio::time::interval(live::INTERVAL);
    let mut jobs = JobControl::default();
    let mut stopped: Option<Stopped> = None;
    loop {
        if let Some(stopped) = stopped
            && (!wait_all || gathered.tree_is_empty(counters))
        {
            return Ok((stopped, signals.into_inner()));
        }
        tokio::select! {
            ready = exit.readable(), if stopped.is_none() => {
                ready?.clear_ready();
                stopped = reap(pid)?.map(|(ended, usage)| Stopped { ended, usage });
            }
            ready = signals.readable() => match ready?.try_io(|signals| signals.get_ref().next()) {
                Ok(Ok(Arrived::Child)) => jobs.follow(pid)?,
                Ok(Ok(Arrived::Stop)) => {
                    jobs.asked_to_stop();
                    jobs.follow(pid)?;
                }
                Ok(Ok(Arrived::Request { signal, .. })) if is_ours(signal) => {}
                Ok(Ok(Arrived::Request { signal, from_terminal })) => match stopped {
                    // The command is gone: the user does not want to wait for the rest.
                    Some(stopped) => return Ok((stopped, signals.into_inner())),
                    // The terminal has sent it to the whole process group already.
                    None if from_terminal => {}
                    // It may just have ended.
                    None => drop(nix::sys::signal::kill(pid, signal)),
                },
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            },
            _ = gather.tick() => gathered.take_ended(counters)?,
            _ = empty.tick(), if stopped.is_some() => {}
            _ = view.tick(), if live.is_some() => {
                if show(live, counters, gathered)? == Wish::Interrupt {
                    match stopped {
                        Some(stopped) => return Ok((stopped, signals.into_inner())),
                        // To the whole group, as the terminal would; ours is one of them.
                        None => drop(nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGINT)),
                    }
                }
            }
        }
    }
}

/// Opens the processes that are to be traced, to notice their end.
///
/// # Errors
/// [`AttachError::NoSuchProcess`].
pub fn watch(pids: &[u32]) -> Result<Vec<OwnedFd>, AttachError> {
    pids.iter()
        .map(|&pid| {
            // SAFETY: two integers; what the call returns is a new descriptor.
            let open = || unsafe {
                let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
                if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
            };
            while_there(pid, open).map_err(|error| why_not_there(pid, &error))
        })
        .collect()
}

/// Why a process could not be opened.
fn why_not_there(pid: u32, error: &io::Error) -> AttachError {
    let status = crate::proc_text::read(format!("/proc/{pid}/status")).unwrap_or_default();
    match crate::proc_text::field(&status, "Tgid").and_then(|process| process.parse().ok()) {
        Some(process) if process != pid => AttachError::ThreadOf(pid, process),
        None if error.raw_os_error() == Some(libc::ESRCH) => AttachError::NoSuchProcess(pid),
        _ => AttachError::Load(LoadError::Other { what: "opening the process", reason: error.to_string() }),
    }
}

/// Waits until the user wants no more, or none of the processes is left; without processes to watch, until the user
/// wants no more. `newcomers` is called each second. Gives the signals back.
///
/// # Errors
/// What the kernel says.
pub async fn until_detached(
    watched: Vec<OwnedFd>,
    signals: Signals,
    counters: &Counters,
    gathered: &mut Gathered,
    live: &mut Option<Live>,
    is_ours: impl Fn(Signal) -> bool,
    mut newcomers: impl FnMut() -> io::Result<()>,
) -> io::Result<Signals> {
    // SAFETY: all own their descriptors and never exchange them.
    let (signals, watched) = unsafe {
        let watched: Result<Vec<AsyncFd<OwnedFd>>, _> =
            watched.into_iter().map(|fd| AsyncFd::register_with_interest(fd, Interest::READABLE)).collect();
        (
            AsyncFd::register_with_interest(signals, Interest::READABLE).map_err(io::Error::from)?,
            watched.map_err(io::Error::from)?,
        )
    };
    let all_ended = async {
        for process in &watched {
            // A pidfd is readable when its process has ended, and stays so.
            let _ = process.readable().await?;
        }
        Ok::<(), io::Error>(())
    };
    tokio::pin!(all_ended);
    let mut gather = tokio::time::interval(GATHER_INTERVAL);
    let mut view = tokio::time::interval(live::INTERVAL);
    let mut look = tokio::time::interval(NEWCOMERS_INTERVAL);
    loop {
        tokio::select! {
            ended = &mut all_ended, if !watched.is_empty() => {
                ended?;
                return Ok(signals.into_inner());
            }
            ready = signals.readable() => match ready?.try_io(|signals| signals.get_ref().next()) {
                Ok(Ok(Arrived::Request { signal, .. })) if is_ours(signal) => {}
                Ok(Ok(Arrived::Request { .. })) => return Ok(signals.into_inner()),
                Ok(Ok(Arrived::Stop)) => nix::sys::signal::raise(Signal::SIGSTOP)?,
                Ok(Ok(Arrived::Child)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            },
            _ = gather.tick() => gathered.take_ended(counters)?,
            _ = look.tick() => newcomers()?,
            _ = view.tick(), if live.is_some() => {
                let wish = show(live, counters, gathered)?;
                if wish == Wish::Interrupt || live.as_ref().is_some_and(Live::is_closed) {
                    return Ok(signals.into_inner());
                }
            }
        }
    }
}

/// Shows the counts, where there is a view.
fn show(live: &mut Option<Live>, counters: &Counters, gathered: &mut Gathered) -> io::Result<Wish> {
    live.as_mut().map_or(Ok(Wish::GoOn), |live| live.tick(counters, gathered))
}
