//! Signals of the tracer while a command runs: what the terminal sends reaches the command by
//! itself, what another process sends to the tracer is passed on, and job control is mirrored.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use gpuos_host::{fds::new_fd, proc_text};
use gpuos_model::Usage;
use gpuos_runs::run::End;
use nix::{
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal, sigprocmask},
    unistd::Pid,
};

/// Signals that end or steer a program and that a user may send to the tracer.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// Reads the tracer's signals from an fd, so that they arrive between other events.
#[derive(Debug)]
pub struct Signals {
    file: OwnedFd,
    previous: SigSet,
}

/// A signal as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalEvent {
    /// The command stopped or continued.
    Child,
    /// The terminal wants the process group to stop (Ctrl-Z).
    Stop,
    /// A signal for the command. `from_terminal`: the command has it already.
    Request {
        /// Its number.
        signal: Signal,
        /// Sent by the terminal to the whole process group.
        from_terminal: bool,
    },
}

/// What happens at a signal: `SIG_DFL`, `SIG_IGN`, or the address of a handler. `None` for what is no signal.
pub(super) fn disposition_of(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes the old action and sets none.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    (result == 0).then_some(action.sa_sigaction)
}

/// Whether the caller had this signal ignored, as `nohup` does.
fn is_ignored(signal: Signal) -> bool {
    disposition_of(signal as libc::c_int) == Some(libc::SIG_IGN)
}

impl Signals {
    /// Takes these signals over from their default actions. To be called after the fork: the command
    /// keeps what the caller chose.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        // Stopping is decided by the command: the tracer stops when it has.
        for signal in PASSED_ON.into_iter().chain([Signal::SIGTSTP]) {
            // A blocked signal would be queued although it is ignored.
            if !is_ignored(signal) {
                set.add(signal);
            }
        }
        set.add(Signal::SIGCHLD);
        // Where SIGCHLD is ignored, the kernel reaps children by itself and tells nobody.
        // SAFETY: the default needs no handler.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        // A file size limit is to be an error of `write`.
        // SAFETY: to ignore needs no handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
        let mut previous = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut previous))?;
        // SAFETY: the set is valid.
        let result = unsafe { libc::signalfd(-1, set.as_ref(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        // SAFETY: what this call returns is new.
        let file = unsafe { new_fd(result.into()) }?;
        Ok(Self { file, previous })
    }

    /// The next signal that arrived.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of all signals few are not for the command")]
    pub fn next(&self) -> io::Result<SignalEvent> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let length = nix::unistd::read(&self.file, &mut record)?;
        if length != record.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the kernel filled the whole record, which is plain data.
        let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) };
        Ok(match Signal::try_from(info.ssi_signo as i32)? {
            Signal::SIGCHLD => SignalEvent::Child,
            Signal::SIGTSTP => SignalEvent::Stop,
            // SI_KERNEL: from the terminal's line discipline; or from the live view, which has its keys.
            signal => {
                let from_view = info.ssi_pid == std::process::id();
                SignalEvent::Request { signal, from_terminal: info.ssi_code == 0x80 || from_view }
            }
        })
    }
}

impl Drop for Signals {
    /// From here on a signal ends the tracer as it would any program; not so one that the terminal sent
    /// to the command and to us, and that is still pending.
    fn drop(&mut self) {
        while self.next().is_ok() {}
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.previous), None);
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
    /// By this signal, real-time ones included.
    Killed(i32),
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Exited(status) => Self::Exited(status),
            Ended::Killed(signal) => Self::Killed(signal),
        }
    }
}

/// Collects the command when it has ended, with what it and the children it waited for have used.
///
/// # Errors
/// What the kernel says.
pub fn reap(pid: Pid) -> io::Result<Option<(Ended, Usage)>> {
    // SAFETY: plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG;
    // The raw call, because only it gives the usage.
    // SAFETY: the kernel fills both.
    let result =
        unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, pid.as_raw(), &raw mut info, flags, &raw mut usage) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled it for a child, or left zeros.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel filled it for a child.
    let status = unsafe { info.si_status() };
    let ended = if info.si_code == libc::CLD_EXITED { Ended::Exited(status as u8) } else { Ended::Killed(status) };
    let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Ok(Some((
        ended,
        Usage {
            user_ns: nanoseconds(usage.ru_utime),
            system_ns: nanoseconds(usage.ru_stime),
            voluntary_switches: usage.ru_nvcsw as u64,
            involuntary_switches: usage.ru_nivcsw as u64,
            minor_faults: usage.ru_minflt as u64,
            major_faults: usage.ru_majflt as u64,
        },
    )))
}

/// Job control: when the terminal stopped the process group and the command obeyed, so does the
/// tracer, and a shell that continues its job continues both.
#[derive(Debug, Default)]
pub struct JobControl {
    asked: Option<Instant>,
}

impl JobControl {
    /// The terminal's request is answered within this time, or not at all.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The terminal sent its stop signal.
    pub fn asked_to_stop(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// Stops the tracer when the command has stopped on the terminal's request. A command that
    /// somebody else stopped is none of our business: who did so does not know of the tracer and
    /// would not continue it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn follow(&mut self, pid: Pid) -> io::Result<()> {
        if self.asked.is_none_or(|asked| asked.elapsed() > Self::PATIENCE) || !is_stopped(pid) {
            return Ok(());
        }
        self.asked = None;
        raise(Signal::SIGSTOP)?;
        // Continued again. The shell continued the whole process group, or only the tracer.
        if is_stopped(pid) {
            kill(pid, Signal::SIGCONT)?;
        }
        Ok(())
    }
}

fn is_stopped(pid: Pid) -> bool {
    proc_text::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| proc_text::state(&stat) == Some('T'))
}

/// Ends the tracer as the command ended, so that its caller sees no difference.
#[expect(clippy::exit, reason = "the one place where the tracer's status is the command's")]
pub fn end_like(ended: Ended) -> ! {
    match ended {
        Ended::Exited(status) => std::process::exit(status.into()),
        Ended::Killed(number) => {
            // The command may have left a core file; the tracer must not overwrite it.
            // SAFETY: plain numbers.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
            // SAFETY: the default action needs no handler.
            unsafe { libc::signal(number, libc::SIG_DFL) };
            // SAFETY: plain data, for which zero is valid: the empty set.
            let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: the set is ours. Real-time signals, which nix has no names for, are numbers, too.
            unsafe { libc::sigaddset(&raw mut set, number) };
            // SAFETY: the set is valid.
            unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
            // SAFETY: a plain number.
            unsafe { libc::raise(number) };
            // Not reached unless the signal does not end a process.
            std::process::exit(128 + number)
        }
    }
}
