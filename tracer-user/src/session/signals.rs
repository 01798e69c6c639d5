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
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal, sigprocmask},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// Signals that are not for the command: those that cannot be caught, faults of our own code, what `write` and the
/// terminal do to the tracer.
const KEPT: [libc::c_int; 13] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Those that do nothing by default: for a command that handles them. The live view has `SIGWINCH` for itself, and without a
/// command they are nobody's.
const WITHOUT_EFFECT: [libc::c_int; 2] = [libc::SIGWINCH, libc::SIGURG];

/// Those that the terminal's line discipline sends to the whole process group.
const OF_TERMINAL: [libc::c_int; 5] = [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGWINCH];

/// Every signal that may end or steer a program, and that a user may send to the tracer for the command; real-time ones,
/// too.
fn passed_on() -> impl Iterator<Item = libc::c_int> {
    (1..32).filter(|signal| !KEPT.contains(signal)).chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

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
    /// The command is to stop. `from_terminal`: so is the whole process group (Ctrl-Z).
    Stop {
        /// Sent by the terminal to the whole process group.
        from_terminal: bool,
    },
    /// A signal for the command. `from_terminal`: the command has it already.
    Request {
        /// Its number.
        signal: libc::c_int,
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
fn is_ignored(signal: libc::c_int) -> bool {
    disposition_of(signal) == Some(libc::SIG_IGN)
}

impl Signals {
    /// Takes these signals over from their default actions. To be called after the fork: the command
    /// keeps what the caller chose. `for_command`: those without an effect are for a command, too.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(for_command: bool) -> io::Result<Self> {
        // Stopping is decided by the command: the tracer stops when it has. A blocked signal would be queued although it is
        // ignored.
        let is_taken = |signal: &libc::c_int| !is_ignored(*signal) && (for_command || !WITHOUT_EFFECT.contains(signal));
        let set = set_of(passed_on().filter(is_taken).chain([libc::SIGCHLD]));
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
    pub fn next(&self) -> io::Result<SignalEvent> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let length = nix::unistd::read(&self.file, &mut record)?;
        if length != record.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the kernel filled the whole record, which is plain data.
        let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) };
        let signal = info.ssi_signo as libc::c_int;
        // SI_KERNEL: from the terminal's line discipline; or from the live view, which has its keys. A timer's and a limit's
        // come from the kernel, too, and are for the tracer alone.
        let from_kernel = info.ssi_code == 0x80 && OF_TERMINAL.contains(&signal);
        let from_terminal = from_kernel || info.ssi_pid == std::process::id();
        Ok(match signal {
            libc::SIGCHLD => SignalEvent::Child,
            libc::SIGTSTP => SignalEvent::Stop { from_terminal },
            signal => SignalEvent::Request { signal, from_terminal },
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

/// A set of these; nix has no names for real-time ones.
fn set_of(signals: impl Iterator<Item = libc::c_int>) -> SigSet {
    // SAFETY: plain data, for which zero is valid: the empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is ours.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: a set that the C library made.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
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
    Ok(Some((ended, usage_of(&usage))))
}

/// What a process used, as `wait4` and `waitid` tell it.
pub(crate) fn usage_of(usage: &libc::rusage) -> Usage {
    let nanoseconds =
        |time: libc::timeval| time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1000;
    Usage {
        user_ns: nanoseconds(usage.ru_utime),
        system_ns: nanoseconds(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw.cast_unsigned(),
        involuntary_switches: usage.ru_nivcsw.cast_unsigned(),
        minor_faults: usage.ru_minflt.cast_unsigned(),
        major_faults: usage.ru_majflt.cast_unsigned(),
    }
}

/// Collects every child that has ended, but the command: as the first process of a pid namespace the tracer inherits
/// orphans, and a command may hand it children of its own (`CLONE_PARENT`), whose end somebody waits to see.
pub fn reap_others(command: Option<Pid>) {
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
        for child in children.filter(|child| Some(*child) != command) {
            // `__WALL`: also those that end with another signal than `SIGCHLD`.
            let _ = waitpid(child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
        }
    }
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
    pub fn follow(&mut self, pid: Pid, is_stopped: impl Fn(Pid) -> bool) -> io::Result<()> {
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

/// Whether a process that is not traced is stopped.
pub(super) fn is_stopped(pid: Pid) -> bool {
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
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set_of(std::iter::once(number))), None);
            // SAFETY: a plain number.
            unsafe { libc::raise(number) };
            // Not reached unless the signal does not end a process.
            std::process::exit(128 + number)
        }
    }
}
