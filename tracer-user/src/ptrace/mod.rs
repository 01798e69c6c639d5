//! Tracing without BPF: every thread stops at each of its calls and is looked at, as strace does. It needs no right but to trace
//! one's own processes, and costs each call two stops.
//!
//! One thread does all of it, because the kernel lets only the one that attached ask and resume. `tally.rs` counts what is seen;
//! `device.rs` and `phases.rs` do what the kernel side's rooms of these names do.

mod call;
mod device;
mod fds;
pub(crate) mod filter;
mod phases;
mod tally;
mod wake;

use std::{
    collections::HashSet,
    io, mem,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use gpuos_host::{environment::monotonic_ns, proc_text};
use gpuos_model::Usage;
use gpuos_recording::Recorder;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, raise},
    unistd::Pid,
};

use crate::{
    aggregate::Totals,
    probe::Settings,
    session::signals::{JobControl, SignalEvent, usage_of},
};
use call::{AtCall, call_of};
use tally::Tally;
pub use wake::Wake;

/// What is asked of the kernel for each thread.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT;

/// And where a filter stops it: without a tracer such a call fails with `ENOSYS`, so the command ends with its tracer.
const FILTER_OPTIONS: libc::c_int = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;

/// How often new drivers are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why it cannot be traced so.
#[derive(Debug, thiserror::Error)]
pub enum PtraceError {
    /// The kernel refuses to attach.
    #[error("cannot attach to process {pid}: {source}{hint}", hint = hint(*.pid, .source))]
    Attach {
        /// Which.
        pid: u32,
        /// The kernel's word.
        source: io::Error,
    },
    /// A step of tracing failed.
    #[error("cannot trace by ptrace: {what}: {source}")]
    Step {
        /// Which.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Why the kernel does not let a process be traced.
fn hint(pid: u32, error: &io::Error) -> String {
    if error.raw_os_error() != Some(libc::EPERM) {
        return String::new();
    }
    let number = |pid: &str, key| {
        let status = proc_text::read(format!("/proc/{pid}/status")).unwrap_or_default();
        proc_text::field(&status, key).and_then(|value| value.split_whitespace().next()?.parse::<u32>().ok())
    };
    let why = match number(&pid.to_string(), "TracerPid") {
        _ if pid == std::process::id() => "a process cannot trace itself".to_owned(),
        Some(tracer) if tracer != 0 => format!("process {tracer} traces it already, and only one can"),
        _ if number("self", "TracerPid").is_some_and(|tracer| tracer != 0) => {
            "gpuos-trace is traced itself (strace, gdb), and so is what it starts".to_owned()
        }
        _ if number(&pid.to_string(), "Kthread") == Some(1) => "it is a thread of the kernel".to_owned(),
        _ => match proc_text::read("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default().trim() {
            "1" => "this kernel lets a process trace its descendants only (kernel.yama.ptrace_scope is 1): start the command with `gpuos-trace run`, or attach as root".to_owned(),
            "2" | "3" => "this kernel lets root alone trace (kernel.yama.ptrace_scope)".to_owned(),
            _ => "it is another user's, or has other rights than its user".to_owned(),
        },
    };
    format!("\nhint: {why}")
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub struct CommandEnd {
    /// Its status as `wait` gives it.
    pub status: i32,
    /// What it used.
    pub usage: Usage,
}

/// The type of a request, which is each C library's own.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// A request of ptrace.
fn request(what: Request, thread: u32, address: usize, data: usize) -> Result<libc::c_long, Errno> {
    // SAFETY: the callers pass what the request wants.
    Errno::result(unsafe { libc::ptrace(what, thread.cast_signed(), address, data) })
}

/// Whether this process may trace what it starts.
///
/// # Errors
/// What the kernel says: `EPERM` where Yama or a seccomp filter forbids it.
pub fn may_trace() -> Result<(), Errno> {
    use nix::{
        sys::wait::{WaitStatus, waitpid},
        unistd::{ForkResult, fork},
    };
    // SAFETY: the child makes two system calls, which are safe after a fork.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let errno = nix::sys::ptrace::traceme().err().map_or(0, |errno| errno as i32);
            // SAFETY: ends the child, and runs nothing of the parent's.
            unsafe { libc::_exit(errno) }
        }
        ForkResult::Parent { child } => {
            let WaitStatus::Exited(_, errno) = waitpid(child, None)? else { return Err(Errno::EPERM) };
            if errno == 0 { Ok(()) } else { Err(Errno::from_raw(errno)) }
        }
    }
}

fn message_of(thread: u32) -> Result<u32, Errno> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG, thread, 0, (&raw mut message) as usize)?;
    Ok(message as u32)
}

fn status_of(thread: u32) -> Option<String> {
    proc_text::read(format!("/proc/{thread}/status")).ok()
}

/// Number of the process that a thread is of.
fn process_of(thread: u32) -> Option<u32> {
    proc_text::field(&status_of(thread)?, "Tgid")?.parse().ok()
}

/// A trace that goes on.
pub struct Trace<'a> {
    tally: Tally<'a>,
    /// The command, and whether its first `execve` was seen.
    command: Option<u32>,
    is_armed: bool,
    /// It stops at some calls only, by a filter.
    is_filtered: bool,
    wait_all: bool,
    /// Threads that stopped before the one that made them said so, which may have been killed meanwhile.
    adopted: HashSet<u32>,
    /// Threads that have entered a call and not left it.
    inside: HashSet<u32>,
    ended: Option<CommandEnd>,
    looked: Instant,
    recorder: Option<&'a Recorder>,
    signals: &'a Wake,
    jobs: JobControl,
    /// The command was stopped by a signal, and not continued.
    command_is_stopped: bool,
    /// When counting ended.
    over_ns: Option<u64>,
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("command", &self.command).finish_non_exhaustive()
    }
}

impl<'a> Trace<'a> {
    /// Of a child that waits to execute its command: it is to be released when this has returned. `is_filtered`: it will have the
    /// filter of [`filter::of`].
    ///
    /// # Errors
    /// [`PtraceError::Attach`].
    pub fn of_command(
        settings: &'a Settings,
        recorder: Option<&'a Recorder>,
        signals: &'a Wake,
        pid: u32,
        wait_all: bool,
        is_filtered: bool,
    ) -> Result<Self, PtraceError> {
        let mut trace = Self::new(settings, recorder, signals, Some(pid));
        (trace.wait_all, trace.is_filtered) = (wait_all, is_filtered);
        trace.seize(pid).map_err(|errno| PtraceError::Attach { pid, source: errno.into() })?;
        Ok(trace)
    }

    /// Of processes that run already, with all their threads.
    ///
    /// # Errors
    /// [`PtraceError::Attach`].
    pub fn of_processes(
        settings: &'a Settings,
        recorder: Option<&'a Recorder>,
        signals: &'a Wake,
        pids: &[u32],
    ) -> Result<Self, PtraceError> {
        let mut trace = Self::new(settings, recorder, signals, None);
        for pid in pids {
            trace.seize(*pid).map_err(|errno| PtraceError::Attach { pid: *pid, source: errno.into() })?;
            trace.tally.begin_process(*pid, None, monotonic_ns());
            // Until no thread is new: those that are made meanwhile are traced by who makes them.
            loop {
                let threads = gpuos_host::processes::numbers_in(&format!("/proc/{pid}/task"));
                let new: Vec<u32> = threads.into_iter().filter(|thread| !trace.tally.knows(*thread)).collect();
                if new.iter().all(|thread| has_ended(*thread)) {
                    break;
                }
                for thread in new {
                    // One that has ended is not listed again soon; one that its maker will tell of is traced already.
                    if trace.seize(thread).is_ok() || process_of(thread) == Some(*pid) && !has_ended(thread) {
                        trace.tally.begin_thread(*pid, thread, monotonic_ns());
                    }
                }
            }
        }
        Ok(trace)
    }

    fn new(settings: &'a Settings, recorder: Option<&'a Recorder>, signals: &'a Wake, command: Option<u32>) -> Self {
        let attaches = command.is_none();
        Self {
            tally: Tally::new(settings, recorder, attaches),
            command,
            is_armed: !attaches,
            is_filtered: false,
            wait_all: false,
            adopted: HashSet::new(),
            inside: HashSet::new(),
            ended: None,
            looked: Instant::now(),
            recorder,
            signals,
            jobs: JobControl::default(),
            command_is_stopped: false,
            over_ns: None,
        }
    }

    /// Attaches to a thread, and makes it stop once.
    fn seize(&self, thread: u32) -> Result<(), Errno> {
        let options = if self.is_filtered { OPTIONS | FILTER_OPTIONS } else { OPTIONS };
        request(libc::PTRACE_SEIZE, thread, 0, options as usize)?;
        request(libc::PTRACE_INTERRUPT, thread, 0, 0)?;
        Ok(())
    }

    /// Counts until what is traced has ended, or who asked wants no more.
    ///
    /// # Errors
    /// [`PtraceError::Step`].
    pub fn run(&mut self) -> Result<(), PtraceError> {
        'trace: while !self.is_over() {
            while let Some(event) = self.signals.next() {
                if self.take_signal(event)?.is_break() {
                    break 'trace;
                }
            }
            let mut status = 0;
            // SAFETY: zero is a valid value of the structure.
            let mut usage: libc::rusage = unsafe { mem::zeroed() };
            // SAFETY: writes status and usage.
            let thread = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL, &raw mut usage) };
            match Errno::result(thread) {
                Ok(thread) => self.stopped(thread.cast_unsigned(), status, &usage)?,
                // A signal.
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(PtraceError::Step { what: "waiting", source: errno.into() }),
            }
            if self.looked.elapsed() > LOOK_AGAIN {
                self.tally.look_again();
                self.looked = Instant::now();
            }
        }
        self.over_ns = Some(monotonic_ns());
        self.detach();
        Ok(())
    }

    /// Does what a signal asks for.
    fn take_signal(&mut self, event: SignalEvent) -> Result<ControlFlow<()>, PtraceError> {
        let pid = self.command.map(|pid| Pid::from_raw(pid.cast_signed()));
        match (event, pid) {
            (SignalEvent::Request { signal, .. }, _) if self.recorder.is_some_and(|it| it.takes(signal)) => {}
            (SignalEvent::Child, _) => {}
            (SignalEvent::Stop { from_terminal }, Some(command)) => {
                if !from_terminal {
                    let _ = kill(command, Signal::SIGTSTP);
                }
                self.jobs.asked_to_stop();
                self.follow()?;
            }
            (SignalEvent::Stop { .. }, None) => {
                let _ = raise(Signal::SIGSTOP);
            }
            (SignalEvent::Request { signal, .. }, Some(_)) if self.ended.is_some() => {
                // What runs on is of no use without its tracer.
                if self.is_filtered {
                    self.tally.processes().for_each(|pid| send(pid, signal));
                } else {
                    return Ok(ControlFlow::Break(()));
                }
            }
            // The terminal has sent it to the whole process group already.
            (SignalEvent::Request { from_terminal: true, .. }, Some(_)) => {}
            (SignalEvent::Request { signal, .. }, Some(command)) => send(command.as_raw().cast_unsigned(), signal),
            (SignalEvent::Request { .. }, None) => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Stops where the command has, as the terminal wants it.
    fn follow(&mut self) -> Result<(), PtraceError> {
        let Some(command) = self.command.filter(|_| self.command_is_stopped) else { return Ok(()) };
        let followed = self.jobs.follow(Pid::from_raw(command.cast_signed()), |_| true);
        followed.map_err(|source| PtraceError::Step { what: "stopping with the command", source })
    }

    fn is_over(&self) -> bool {
        match self.command {
            Some(_) => self.ended.is_some() && (!self.wait_all || self.tally.alive().is_empty()),
            None => self.tally.alive().is_empty(),
        }
    }

    /// How the command ended, what was counted, and until when by the monotonic clock.
    #[must_use]
    pub fn finish(self) -> (Option<CommandEnd>, Totals, u64) {
        let over_ns = self.over_ns.unwrap_or_else(monotonic_ns);
        (self.ended, self.tally.finish(over_ns), over_ns)
    }

    /// A thread has stopped or ended.
    fn stopped(&mut self, thread: u32, status: libc::c_int, usage: &libc::rusage) -> Result<(), PtraceError> {
        let now = monotonic_ns();
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            self.inside.remove(&thread);
            self.tally.ended(thread, status.cast_unsigned(), usage_of(usage), now);
            if Some(thread) == self.command {
                self.ended = Some(CommandEnd { status, usage: usage_of(usage) });
            }
            return Ok(());
        }
        if !libc::WIFSTOPPED(status) {
            return Ok(());
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let is_command = Some(thread) == self.command;
        // What it does before its first `execve` is ours.
        if !(self.tally.knows(thread) || is_command && self.is_armed) {
            self.adopt(thread, now);
        }
        if is_command {
            self.command_is_stopped = false;
        }
        let is_filter = event == libc::PTRACE_EVENT_SECCOMP;
        if is_filter || signal == libc::SIGTRAP | 0x80 {
            self.at_call(thread, is_filter, now);
            return Ok(());
        }
        match event {
            0 => self.resume(thread, signal),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                if let Ok(child) = message_of(thread) {
                    self.made(thread, child, now);
                }
                self.resume(thread, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                let before = message_of(thread).unwrap_or(thread);
                if self.inside.remove(&before) {
                    self.inside.insert(thread);
                }
                // Its `execve` may be none of the calls that it is stopped at.
                if self.is_armed && Some(thread) == self.command {
                    self.is_armed = false;
                    self.tally.begin_process(thread, None, now);
                }
                if self.tally.knows(thread) {
                    self.tally.executed(thread, before, now);
                }
                self.resume(thread, 0);
            }
            libc::PTRACE_EVENT_EXIT => {
                self.tally.ends(thread);
                self.resume(thread, 0);
            }
            libc::PTRACE_EVENT_STOP => {
                // Stopped by the terminal or by a signal: it stays so, and is heard of when it goes on.
                if matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                    let _ = request(libc::PTRACE_LISTEN, thread, 0, 0);
                    self.command_is_stopped = is_command;
                    self.follow()?;
                } else {
                    self.resume(thread, 0);
                }
            }
            _ => self.resume(thread, 0),
        }
        Ok(())
    }

    /// Lets a thread go on to its next stop, with a signal that it is to get.
    fn resume(&self, thread: u32, signal: libc::c_int) {
        go_on(thread, signal, !self.is_filtered || self.tally.is_in_call(thread));
    }

    /// A thread stops that is not known: who made it has not said so yet, or never will, because it was killed.
    fn adopt(&mut self, thread: u32, now: u64) {
        let Some(status) = status_of(thread) else { return };
        let number = |key| proc_text::field(&status, key).and_then(|value| value.parse::<u32>().ok());
        match number("Tgid") {
            Some(pid) if pid != thread => self.tally.begin_thread(pid, thread, now),
            _ => self.tally.begin_process(thread, number("PPid"), now),
        }
        self.adopted.insert(thread);
    }

    /// A thread has made another, or a process.
    fn made(&mut self, by: u32, child: u32, now: u64) {
        // It may have ended again.
        if self.adopted.remove(&child) {
            return self.tally.set_parent(child, by);
        }
        if self.tally.knows(child) || !self.tally.knows(by) {
            return;
        }
        match process_of(child) {
            Some(pid) if pid != child => self.tally.begin_thread(pid, child, now),
            _ => self.tally.begin_process(child, Some(by), now),
        }
    }

    /// A thread stops where a call begins or ends, or where the filter says so (`is_filter`).
    fn at_call(&mut self, thread: u32, is_filter: bool, now: u64) {
        // It may have been killed meanwhile.
        let Ok(at) = call_of(thread, self.inside.contains(&thread)) else { return self.resume(thread, 0) };
        match at {
            Some(AtCall::Entry { is_compat, number, arguments }) => {
                // gVisor stops a thread again after the filter's stop, where the call begins.
                if !is_filter {
                    self.inside.insert(thread);
                }
                // Both stops tell the same: the entry is counted once.
                if self.tally.is_in_call(thread) {
                    return self.resume(thread, 0);
                }
                if self.is_armed && Some(thread) == self.command {
                    let executes = matches!(i64::from(number), libc::SYS_execve | libc::SYS_execveat);
                    if !executes {
                        return self.resume(thread, 0);
                    }
                    self.is_armed = false;
                    self.tally.begin_process(thread, None, now);
                }
                self.tally.entered(thread, is_compat, number, arguments, now);
                // The program's own filter wants a tracer of its own, which is not there.
                if is_filter && message_of(thread).is_ok_and(|from| from != filter::OURS) {
                    call::refuse(thread);
                }
                self.tally.resumed(thread, monotonic_ns());
            }
            Some(AtCall::Exit { returned }) => {
                self.inside.remove(&thread);
                self.tally.returned(thread, returned, now);
            }
            None => {}
        }
        self.resume(thread, 0);
    }

    /// Lets every thread go on untraced.
    fn detach(&mut self) {
        let mut left: HashSet<u32> = self.tally.alive().into_iter().collect();
        let mut gone: HashSet<u32> = HashSet::new();
        for thread in &left {
            let _ = request(libc::PTRACE_INTERRUPT, *thread, 0, 0);
        }
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() && Instant::now() < deadline {
            let mut status = 0;
            // SAFETY: writes the status.
            let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
            if thread == 0 {
                // One whose process lives on is not heard of, and one that waits for the program of a `vfork` stops later.
                left.retain(|thread| !has_ended(*thread));
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if thread < 0 {
                break;
            }
            let thread = thread.cast_unsigned();
            if libc::WIFSTOPPED(status) {
                let event = status >> 16;
                let makes = [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK, libc::PTRACE_EVENT_CLONE];
                if makes.contains(&event)
                    && let Ok(child) = message_of(thread)
                    && !gone.contains(&child)
                {
                    left.insert(child);
                }
                let is_signal = event == 0 && libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80;
                let signal = if is_signal { libc::WSTOPSIG(status) } else { 0 };
                let _ = request(libc::PTRACE_DETACH, thread, 0, signal as usize);
            }
            left.remove(&thread);
            gone.insert(thread);
        }
    }
}

/// As long is waited for threads that do not stop; the kernel lets them go when the tracer ends.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a thread is a zombie, or gone.
fn has_ended(thread: u32) -> bool {
    proc_text::read(format!("/proc/{thread}/stat"))
        .map_or(true, |stat| matches!(proc_text::state(&stat), Some('Z' | 'X')))
}

/// Sends a signal; who it is for may just have ended.
fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: plain numbers. nix has no names for real-time signals.
    let _ = unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Lets a thread go on, to the next call that it enters or leaves, or that a filter stops it at; with a signal that it is to get.
fn go_on(thread: u32, signal: libc::c_int, to_next_call: bool) {
    let how = if to_next_call { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    // It may have been killed meanwhile, and then it is heard of by the wait.
    let _ = request(how, thread, 0, signal as usize);
}
