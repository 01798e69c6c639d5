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

use std::{
    collections::HashSet,
    io, mem,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use gpuos_host::environment::monotonic_ns;
use gpuos_model::Usage;
use gpuos_recording::Recorder;
use nix::errno::Errno;

use crate::{aggregate::Totals, probe::Settings};
use call::{AtCall, call_of};
use tally::Tally;

/// What is asked of the kernel for each thread.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC;

/// How often new drivers are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why it cannot be traced so.
#[derive(Debug, thiserror::Error)]
pub enum PtraceError {
    /// The kernel refuses to attach.
    #[error("cannot attach to process {pid}: {source}{hint}", hint = hint(.source))]
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

fn hint(error: &io::Error) -> String {
    if error.raw_os_error() != Some(libc::EPERM) {
        return String::new();
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "1" => "\nhint: this kernel lets a process trace its descendants only (kernel.yama.ptrace_scope is 1): start the command with `gpuos-trace run`, or attach as root",
        "2" | "3" => "\nhint: this kernel lets root alone trace (kernel.yama.ptrace_scope)",
        _ => "\nhint: it is another user's, or is traced already (strace, gdb)",
    }
    .to_owned()
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub struct CommandEnd {
    /// Its status as `wait` gives it.
    pub status: i32,
    /// What it used.
    pub usage: Usage,
}

/// Signals that ask the tracer to end, the last of them; 0: none.
static ASKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn asked(signal: libc::c_int) {
    ASKED.store(signal, Ordering::Relaxed);
    // One that comes just before a wait must not be slept over.
    // SAFETY: may be called in a handler.
    unsafe { libc::alarm(1) };
}

extern "C" fn nothing(_: libc::c_int) {}

/// Signals are noticed by the wait that they interrupt.
fn take_signals() {
    let handle = |signal, handler: extern "C" fn(libc::c_int)| {
        // SAFETY: zero is a valid value of the structure.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        // SAFETY: a handler that does what handlers may.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        handle(signal, asked);
    }
    handle(libc::SIGALRM, nothing);
}

/// A request of ptrace.
fn request(what: libc::c_uint, thread: u32, address: usize, data: usize) -> Result<libc::c_long, Errno> {
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
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
            _ => Err(Errno::EPERM),
        },
    }
}

fn message_of(thread: u32) -> Result<u32, Errno> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG, thread, 0, (&raw mut message) as usize)?;
    Ok(message as u32)
}

/// Number of the process that a thread is of.
fn process_of(thread: u32) -> Option<u32> {
    let status = gpuos_host::proc_text::read(format!("/proc/{thread}/status")).ok()?;
    gpuos_host::proc_text::field(&status, "Tgid")?.parse().ok()
}

fn usage_of(usage: &libc::rusage) -> Usage {
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

/// A trace that goes on.
pub struct Trace<'a> {
    tally: Tally<'a>,
    /// The command, and whether its first `execve` was seen.
    command: Option<u32>,
    is_armed: bool,
    /// It stops at some calls only, by a filter.
    is_filtered: bool,
    wait_all: bool,
    /// Threads that stopped before the one that made them said so.
    early: HashSet<u32>,
    /// Threads that have entered a call and not left it.
    inside: HashSet<u32>,
    /// Threads that were attached to and have not stopped yet.
    attaching: HashSet<u32>,
    ended: Option<CommandEnd>,
    looked: Instant,
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
        pid: u32,
        wait_all: bool,
        is_filtered: bool,
    ) -> Result<Self, PtraceError> {
        take_signals();
        let mut trace = Self::new(settings, recorder, false);
        (trace.command, trace.is_armed) = (Some(pid), true);
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
        pids: &[u32],
    ) -> Result<Self, PtraceError> {
        take_signals();
        let mut trace = Self::new(settings, recorder, true);
        for pid in pids {
            trace.seize(*pid).map_err(|errno| PtraceError::Attach { pid: *pid, source: errno.into() })?;
            trace.tally.begin_process(*pid, None, monotonic_ns());
            // Until no thread is new: those that are made meanwhile are traced by who makes them.
            loop {
                let threads = gpuos_host::processes::numbers_in(&format!("/proc/{pid}/task"));
                let new: Vec<u32> = threads.into_iter().filter(|thread| !trace.tally.knows(*thread)).collect();
                if new.is_empty() {
                    break;
                }
                for thread in new {
                    // One that has ended meanwhile is not listed again; one that its maker has told of is traced.
                    if trace.seize(thread).is_ok() || process_of(thread) == Some(*pid) {
                        trace.tally.begin_thread(*pid, thread, monotonic_ns());
                    }
                }
            }
        }
        Ok(trace)
    }

    fn new(settings: &'a Settings, recorder: Option<&'a Recorder>, attaches: bool) -> Self {
        Self {
            tally: Tally::new(settings, recorder, attaches),
            command: None,
            is_armed: false,
            is_filtered: false,
            wait_all: false,
            early: HashSet::new(),
            inside: HashSet::new(),
            attaching: HashSet::new(),
            ended: None,
            looked: Instant::now(),
        }
    }

    /// Attaches to a thread, and makes it stop once.
    fn seize(&mut self, thread: u32) -> Result<(), Errno> {
        request(libc::PTRACE_SEIZE, thread, 0, OPTIONS as usize)?;
        request(libc::PTRACE_INTERRUPT, thread, 0, 0)?;
        self.attaching.insert(thread);
        Ok(())
    }

    /// Counts until what is traced has ended, or who asked wants no more.
    ///
    /// # Errors
    /// [`PtraceError::Step`].
    pub fn run(&mut self) -> Result<(), PtraceError> {
        loop {
            if self.is_over() {
                break;
            }
            let signal = ASKED.swap(0, Ordering::Relaxed);
            if signal != 0 {
                match self.command.filter(|_| self.ended.is_none()) {
                    // Ctrl-C reaches the command by itself; what is sent to the tracer alone is meant for it, too.
                    Some(command) if !matches!(signal, libc::SIGINT | libc::SIGQUIT) => {
                        // SAFETY: sends a signal to the command.
                        unsafe { libc::kill(command.cast_signed(), signal) };
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let mut status = 0;
            // SAFETY: zero is a valid value of the structure.
            let mut usage: libc::rusage = unsafe { mem::zeroed() };
            // SAFETY: writes status and usage.
            let thread = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL, &raw mut usage) };
            match Errno::result(thread) {
                Ok(thread) => self.stopped(thread.cast_unsigned(), status, &usage),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(PtraceError::Step { what: "waiting", source: errno.into() }),
            }
            if self.looked.elapsed() > LOOK_AGAIN {
                self.tally.look_again();
                self.looked = Instant::now();
            }
        }
        self.detach();
        Ok(())
    }

    fn is_over(&self) -> bool {
        match self.command {
            Some(_) => self.ended.is_some() && (!self.wait_all || self.tally.alive().is_empty()),
            None => self.tally.alive().is_empty(),
        }
    }

    /// How the command ended, and what was counted.
    #[must_use]
    pub fn finish(self) -> (Option<CommandEnd>, Totals) {
        (self.ended, self.tally.finish(monotonic_ns()))
    }

    /// A thread has stopped or ended.
    fn stopped(&mut self, thread: u32, status: libc::c_int, usage: &libc::rusage) {
        let now = monotonic_ns();
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            self.early.remove(&thread);
            self.inside.remove(&thread);
            self.attaching.remove(&thread);
            self.tally.ended(thread, status.cast_unsigned(), usage_of(usage), now);
            if Some(thread) == self.command {
                self.ended = Some(CommandEnd { status, usage: usage_of(usage) });
            }
            return;
        }
        if !libc::WIFSTOPPED(status) {
            return;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let is_command = Some(thread) == self.command;
        // What it does before its first `execve` is ours.
        if !(self.tally.knows(thread) || is_command && self.is_armed) {
            // The one that made it will say so.
            self.early.insert(thread);
            return;
        }
        let is_filter = event == libc::PTRACE_EVENT_SECCOMP;
        if is_filter || signal == libc::SIGTRAP | 0x80 {
            return self.at_call(thread, is_filter, now);
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
            libc::PTRACE_EVENT_STOP => {
                self.attaching.remove(&thread);
                // Stopped by the terminal or by a signal: it stays so, and is heard of when it goes on.
                if matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
                    let _ = request(libc::PTRACE_LISTEN, thread, 0, 0);
                } else {
                    self.resume(thread, 0);
                }
            }
            _ => self.resume(thread, 0),
        }
    }

    /// Lets a thread go on to its next stop, with a signal that it is to get.
    fn resume(&self, thread: u32, signal: libc::c_int) {
        go_on(thread, signal, !self.is_filtered || self.tally.is_in_call(thread));
    }

    /// A thread has made another, or a process.
    fn made(&mut self, by: u32, child: u32, now: u64) {
        if !self.tally.knows(by) {
            return;
        }
        match process_of(child) {
            Some(pid) if pid != child => self.tally.begin_thread(pid, child, now),
            _ => self.tally.begin_process(child, Some(by), now),
        }
        if self.early.remove(&child) {
            self.resume(child, 0);
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
        left.extend(self.early.drain());
        for thread in &left {
            let _ = request(libc::PTRACE_INTERRUPT, *thread, 0, 0);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !left.is_empty() && Instant::now() < deadline {
            let mut status = 0;
            // SAFETY: writes the status.
            let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
            if thread == 0 {
                std::thread::sleep(Duration::from_millis(1));
                // One that was early stands still already, and stops no more.
                left.retain(|thread| request(libc::PTRACE_DETACH, *thread, 0, 0).is_err() && is_there(*thread));
                continue;
            }
            if thread < 0 {
                break;
            }
            let thread = thread.cast_unsigned();
            if libc::WIFSTOPPED(status) {
                let is_signal = status >> 16 == 0 && libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80;
                let signal = if is_signal { libc::WSTOPSIG(status) } else { 0 };
                let _ = request(libc::PTRACE_DETACH, thread, 0, signal as usize);
            }
            left.remove(&thread);
        }
    }
}

fn is_there(thread: u32) -> bool {
    std::path::Path::new(&format!("/proc/{thread}")).exists()
}

/// Lets a thread go on, to the next call that it enters or leaves, or that a filter stops it at; with a signal that it is to get.
fn go_on(thread: u32, signal: libc::c_int, to_next_call: bool) {
    let how = if to_next_call { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    // It may have been killed meanwhile, and then it is heard of by the wait.
    let _ = request(how, thread, 0, signal as usize);
}
