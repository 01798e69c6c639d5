//! Signals of the tracer while a command runs: what the terminal sends reaches the command by
//! itself, what another process sends to the tracer is passed on, and job control is mirrored.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

/// Signals that end or steer a program and that a user may send to the tracer.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Reads the tracer's signals from a descriptor, so that they arrive between other events.
#[derive(Debug)]
pub struct Signals {
    file: OwnedFd,
}

/// A signal as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// The command stopped, continued or ended.
    Child,
    /// A signal for the command. `from_terminal`: the command has it already.
    Request {
        /// Which.
        signal: Signal,
        /// Sent by the terminal to the whole process group.
        from_terminal: bool,
    },
}

impl Signals {
    /// Takes these signals over from their default actions. To be called after the fork.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in PASSED_ON {
            set.add(signal);
        }
        set.add(Signal::SIGCHLD);
        // Stopping is decided by the command: the tracer stops when it has.
        set.add(Signal::SIGTSTP);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        // SAFETY: the set is valid; what the call returns is a new descriptor.
        let file = unsafe {
            let fd = libc::signalfd(-1, set.as_ref(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { file })
    }

    /// The next signal that arrived.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
            let length = nix::unistd::read(&self.file, &mut record)?;
            if length != record.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // SAFETY: the kernel filled the whole record, which is plain data.
            let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) };
            match Signal::try_from(info.ssi_signo as i32)? {
                Signal::SIGCHLD => return Ok(Arrived::Child),
                Signal::SIGTSTP => {}
                // SI_KERNEL: from the terminal's line discipline.
                signal => return Ok(Arrived::Request { signal, from_terminal: info.ssi_code == 0x80 }),
            }
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(Signal),
}

/// Looks at the command after SIGCHLD. While it is stopped, so is the tracer: a shell that sees
/// its job stopped can continue both.
///
/// # Errors
/// What the kernel says.
pub fn look_at_child(pid: Pid) -> io::Result<Option<Ended>> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::Pid(pid), flags)? {
            WaitStatus::Exited(_, status) => return Ok(Some(Ended::Exited(status as u8))),
            WaitStatus::Signaled(_, signal, _) => return Ok(Some(Ended::Killed(signal))),
            // Not for a plain SIGSTOP: who sends that to the command alone does not know of the tracer
            // and would not continue it.
            WaitStatus::Stopped(_, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) => {
                raise(Signal::SIGSTOP)?;
                // Continued again. The shell continued the whole process group, or only the tracer.
                if is_stopped(pid) {
                    kill(pid, Signal::SIGCONT)?;
                }
            }
            WaitStatus::Stopped(..) => {}
            _ => return Ok(None),
        }
    }
}

fn is_stopped(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// Ends the tracer as the command ended, so that its caller sees no difference.
pub fn end_like(ended: Ended) -> ! {
    match ended {
        Ended::Exited(status) => std::process::exit(status.into()),
        Ended::Killed(signal) => {
            // The command may have left a core file; the tracer must not overwrite it.
            let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
            // SAFETY: the default action needs no handler.
            let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
            let mut set = SigSet::empty();
            set.add(signal);
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
            let _ = raise(signal);
            // SIGKILL and the like always end it; anything else that did not:
            std::process::exit(128 + signal as i32)
        }
    }
}
