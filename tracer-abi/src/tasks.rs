//! Who is traced: a thread is traced when it has a [`ThreadState`] in task storage.

use crate::syscalls::{CHUNKS_PER_THREAD, DIRECTORY};

/// Set by user space on the suspended child: nothing is counted before its first `execve`.
pub const STAGE_ARMED: u32 = 1;
/// Set on a child by its parent's fork: the child finds out at its first event who it is.
pub const STAGE_BORN: u32 = 2;
/// Calls are counted.
pub const STAGE_RUNNING: u32 = 3;

/// No entry was seen: an exit without one was refused before entry (seccomp) or began untraced.
pub const SLOT_NONE: u32 = 0;
/// The call in flight is counted in the `TOTALS` map: no row was free, or its number is unusual.
pub const SLOT_TOTALS: u32 = u32::MAX - 1;
/// The call in flight is not wanted.
pub const SLOT_SKIPPED: u32 = u32::MAX;

/// State of a traced thread, in the kernel's task storage; freed with the task.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ThreadState {
    /// Process id; for [`STAGE_BORN`] the parent's.
    pub process: u64,
    /// Clock (`CLOCK_MONOTONIC`, ns) at entry of the call in flight.
    pub entered_ns: u64,
    /// One of the `STAGE_` values.
    pub stage: u32,
    /// Row number + 1 of the call in flight, or one of the `SLOT_` values.
    pub slot: u32,
    /// Number of the call in flight.
    pub number: u32,
    /// Call convention of the call in flight.
    pub abi: u32,
    /// Phase slot that the rows of this thread belong to.
    pub phase: u32,
    /// Rows handed out from `chunks`.
    pub rows: u32,
    /// Chunk numbers + 1 of the rows that this thread holds; 0: none.
    pub chunks: [u32; CHUNKS_PER_THREAD],
    /// Row number + 1 by syscall number; 0: none yet.
    pub directory: [u16; DIRECTORY],
}

impl ThreadState {
    /// The state that user space gives the suspended child.
    pub const ARMED: Self = Self {
        process: 0,
        entered_ns: 0,
        stage: STAGE_ARMED,
        slot: SLOT_NONE,
        number: 0,
        abi: 0,
        phase: 0,
        rows: 0,
        chunks: [0; CHUNKS_PER_THREAD],
        directory: [0; DIRECTORY],
    };
}

/// What is known about a process, kept until user space has read it after its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Process id of the parent, 0 for the launched command.
    pub parent: u64,
    /// Clock (`CLOCK_MONOTONIC`, ns) when its first event was seen.
    pub started_ns: u64,
    /// Clock when its last thread so far exited; 0 when none has.
    pub ended_ns: u64,
    /// Context switches because the thread had to wait, summed over exited threads, like what follows.
    pub voluntary_switches: u64,
    /// Context switches because another thread was to run.
    pub involuntary_switches: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
    /// User time in nanoseconds as the tick sampled it.
    pub user_ns: u64,
    /// System time in nanoseconds as the tick sampled it.
    pub system_ns: u64,
    /// Exact time on a CPU in nanoseconds.
    pub run_ns: u64,
    /// Process number in the initial pid namespace.
    pub pid: u32,
    /// Threads alive, those not yet seen left out.
    pub threads_alive: u32,
    /// Threads that ever lived.
    pub threads: u32,
    /// The leader's exit code as `wait` returns it.
    pub exit_code: u32,
    /// Name of the command, NUL-padded.
    pub comm: [u8; 16],
}

/// Makes an id for a process that no later process shares: pid in the low 22 bits (the kernel's
/// `PID_MAX_LIMIT` is 2^22), the clock in units of 1,024 ns above.
#[inline(always)]
#[must_use]
pub const fn process_id(pid: u32, started_ns: u64) -> u64 {
    ((started_ns >> 10) << 22) | (pid as u64 & 0x3f_ffff)
}

#[cfg(not(test))]
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ThreadState, chunks) == 40);
    assert!(offset_of!(ThreadState, directory) == 72);
    assert!(size_of::<ThreadState>() == 72 + 2 * DIRECTORY);
    assert!(size_of::<ProcessRecord>() == 112 && offset_of!(ProcessRecord, comm) == 96);
};
