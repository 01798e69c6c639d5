//! Signals of the tracer while its thread waits for stops: another thread reads them, and wakes it.
//!
//! A wait that asks for both would take two more calls at each stop, which is a fifth of its price.

use std::{
    io, mem,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction},
    unistd::{Pid, getpid, gettid},
};

use crate::session::signals::{SignalEvent, Signals};

/// A wake-up may come just before the wait: it is sent again after this time.
const AGAIN: Duration = Duration::from_millis(5);

/// Signals that came, for the thread that made this.
#[derive(Debug)]
pub struct Wake {
    events: Receiver<SignalEvent>,
    is_heard: Arc<AtomicBool>,
    /// The other thread ends when this is closed, and gives the signals back.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<Signals>>,
}

extern "C" fn nothing(_: libc::c_int) {}

/// `SIGCHLD` interrupts a wait, and stops do not send it.
fn handle_child(handler: SigHandler) -> nix::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_NOCLDSTOP, SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGCHLD, &action) }.map(drop)
}

impl Wake {
    /// Takes the signals over, before other threads are there, which would not leave them to this. `for_command`: as
    /// [`Signals::take`] has it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(for_command: bool) -> io::Result<Self> {
        let signals = Signals::take(for_command)?;
        let (end, ends) = UnixStream::pair()?;
        let (sender, events) = channel();
        let is_heard = Arc::new(AtomicBool::new(true));
        let waiter = gettid();
        let heard = Arc::clone(&is_heard);
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || pass_on(signals, &ends, &sender, &heard, waiter))?;
        handle_child(SigHandler::Handler(nothing))?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&child), None)?;
        Ok(Self { events, is_heard, end: Some(end), thread: Some(thread) })
    }

    /// The next signal that came.
    pub(super) fn next(&self) -> Option<SignalEvent> {
        let event = self.events.try_recv().ok();
        if event.is_some() {
            self.is_heard.store(true, Ordering::Release);
        }
        event
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        mem::drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // They are given back to this thread, as they were taken.
            let _ = thread.join();
        }
        let _ = handle_child(SigHandler::SigDfl);
    }
}

/// What the other thread does.
fn pass_on(
    signals: Signals,
    ends: &UnixStream,
    sender: &Sender<SignalEvent>,
    is_heard: &AtomicBool,
    waiter: Pid,
) -> Signals {
    loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() != Some(false) {
            return signals;
        }
        while let Ok(event) = signals.next() {
            if event == SignalEvent::Child {
                continue;
            }
            is_heard.store(false, Ordering::Release);
            if sender.send(event).is_err() {
                return signals;
            }
            let closed = || {
                let mut fds = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::try_from(AGAIN).unwrap_or(PollTimeout::ZERO)) != Ok(0)
            };
            while !is_heard.load(Ordering::Acquire) {
                // SAFETY: sends a signal to a thread of this process, which joins this one before it ends.
                unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), waiter.as_raw(), libc::SIGCHLD) };
                if closed() {
                    return signals;
                }
            }
        }
    }
}
