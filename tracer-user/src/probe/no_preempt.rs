//! System calls on maps that nobody interrupts, where an interruption would lose events.
//!
//! While a map is read or written by system call, no program on perf's tracepoints runs on that CPU
//! (`bpf_disable_instrumentation`): if the caller is preempted then, the events of whoever runs in its place are missed.
//! So the calling thread is kept running (`SCHED_FIFO`) for as long as such a call lasts, and no longer: a thread that
//! never gives its CPU away is interrupted by the kernel itself after a while, for the sake of the others.

use std::sync::atomic::{AtomicBool, Ordering};

static WANTED: AtomicBool = AtomicBool::new(false);

/// From now on calls on maps are to be kept running.
pub(super) fn want() {
    WANTED.store(true, Ordering::Relaxed);
}

/// Whether they are.
pub(super) fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// As long as this lives, this thread is not preempted by ordinary ones. Where that is refused (no `CAP_SYS_NICE`),
/// it is, and what is missed is counted.
#[derive(Debug)]
pub(super) struct NoPreempt(bool);

/// Begins, where it is wanted.
pub(super) fn begin() -> NoPreempt {
    // SAFETY: one integer. A policy that the caller chose is left alone.
    let is_ordinary =
        || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } == libc::c_long::from(libc::SCHED_OTHER);
    NoPreempt(is_wanted() && is_ordinary() && schedule(libc::SCHED_FIFO, 1))
}

impl Drop for NoPreempt {
    fn drop(&mut self) {
        if self.0 {
            schedule(libc::SCHED_OTHER, 0);
        }
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    // By the system call: musl's function of this name refuses.
    // SAFETY: `struct sched_param` of the kernel is one integer.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}
