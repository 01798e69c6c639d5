//! Collects a run: one loop that waits for the command, the clock and signals, and snapshots.

mod environment;
mod gather;

use std::{io, time::Duration};

use nix::unistd::Pid;
use tokio::io::{Interest, unix::AsyncFd};

pub use environment::{clocks, host, user};
pub use gather::{Finished, Gathered};

use crate::{
    bpf::Counters,
    launch::Running,
    signals::{Arrived, Ended, Signals, look_at_child},
};

/// How often counts of ended processes are taken out of the kernel's maps.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);

/// How often `--wait-all` looks whether the tree is empty.
const EMPTY_INTERVAL: Duration = Duration::from_millis(10);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The command ended (and, with `--wait-all`, its tree).
    Ended(Ended),
    /// The user asked twice; the command still runs, or its tree does.
    ByUser(Option<Ended>),
}

/// Waits until the command has ended, or the user wants no more.
///
/// # Errors
/// What the kernel says.
pub async fn until_end(
    running: &Running,
    signals: Signals,
    wait_all: bool,
    counters: &Counters,
    gathered: &mut Gathered,
) -> io::Result<Stopped> {
    // SAFETY: `Signals` owns its descriptor and never exchanges it.
    let signals = unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) }.map_err(io::Error::from)?;
    let mut gather = tokio::time::interval(GATHER_INTERVAL);
    let mut empty = tokio::time::interval(EMPTY_INTERVAL);
    let mut interrupts = 0;
    // It may have ended before its signal could be taken over.
    let mut ended = look_at_child(running.pid)?;
    loop {
        if let Some(ended) = ended
            && (!wait_all || gathered.tree_is_empty(counters))
        {
            return Ok(Stopped::Ended(ended));
        }
        tokio::select! {
            ready = signals.readable() => {
                let mut ready = ready?;
                match ready.try_io(|signals| signals.get_ref().next()) {
                    Ok(Ok(Arrived::Child)) => if ended.is_none() { ended = look_at_child(running.pid)?; },
                    Ok(Ok(Arrived::Request { signal, from_terminal })) => {
                        if signal == nix::sys::signal::Signal::SIGINT {
                            interrupts += 1;
                        }
                        if interrupts > 1 || ended.is_some() {
                            return Ok(Stopped::ByUser(ended));
                        }
                        pass_on(running.pid, signal, from_terminal);
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => {}
                }
            }
            _ = gather.tick() => gathered.take_ended(counters)?,
            _ = empty.tick(), if ended.is_some() => {}
        }
    }
}

/// The terminal has sent its signals to the whole process group already.
fn pass_on(pid: Pid, signal: nix::sys::signal::Signal, from_terminal: bool) {
    if !from_terminal {
        // It may just have ended.
        let _ = nix::sys::signal::kill(pid, signal);
    }
}
