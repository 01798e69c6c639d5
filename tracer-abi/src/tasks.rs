//! Who is traced: a thread is traced when it has a [`ThreadState`] in task storage.

use crate::{
    events::PATH,
    ioctl::{Pending, ROW_TABLE},
    phases::Used,
    syscalls::{CHUNKS_PER_THREAD, SYSCALL_NUMBERS},
};

/// Set by user space on the suspended child: nothing is counted before its first `execve`.
pub const STAGE_ARMED: u32 = 1;
/// Set on a child by its parent's fork: the child finds out at its first event who it is.
pub const STAGE_BORN: u32 = 2;
/// Set by user space on a thread that runs already: `process` is its own, and what it used before does
/// not count.
pub const STAGE_ATTACHED: u32 = 5;
/// Calls are counted.
pub const STAGE_RUNNING: u32 = 3;
/// The thread has exited; its last microseconds are still to be added when the kernel frees it.
pub const STAGE_ENDED: u32 = 4;

/// No entry was seen: an exit without one was refused before entry (seccomp) or began untraced.
pub const SLOT_NONE: u32 = 0;
/// The call in flight is counted in the `TOTALS` map: no row was free, or its number is unusual.
pub const SLOT_TOTALS: u32 = u32::MAX - 1;
/// The call in flight is on a device whose driver has a rule for it: what is to be done at its return stands in
/// [`ThreadState::pending`], and its row in [`Pending::slot`](crate::ioctl::Pending::slot).
pub const SLOT_RULED: u32 = u32::MAX - 2;
/// The call in flight is not wanted.
pub const SLOT_SKIPPED: u32 = u32::MAX;

/// What a thread, or all of a process, has used.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskUsage {
    /// Context switches because the thread had to wait.
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
    /// Time on a CPU in nanoseconds.
    pub run_ns: u64,
}

impl TaskUsage {
    /// Nothing yet.
    pub const ZERO: Self = Self {
        voluntary_switches: 0,
        involuntary_switches: 0,
        minor_faults: 0,
        major_faults: 0,
        user_ns: 0,
        system_ns: 0,
        run_ns: 0,
    };

    /// Adds another's.
    pub const fn merge(&mut self, other: &Self) {
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.run_ns += other.run_ns;
    }

    /// What was used since an earlier reading; 0 where a counter went back.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
        }
    }
}

/// State of a traced thread, in the kernel's task storage; freed with the task.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug)]
pub struct ThreadState {
    /// Process id; for [`STAGE_BORN`] the parent's.
    pub process: u64,
    /// Clock (`CLOCK_MONOTONIC`, ns) at entry of the call in flight, 0 when it is not timed; for
    /// [`STAGE_BORN`] the time of the fork.
    pub entered_ns: u64,
    /// One of the `STAGE_` values.
    pub stage: u32,
    /// Row number + 1 of the call in flight, or one of the `SLOT_` values.
    pub slot: u32,
    /// Number of the call in flight.
    pub number: u32,
    /// Call convention of the call in flight.
    pub abi: u32,
    /// Number of the phase that its calls belong to; 0: none.
    pub phase: u32,
    /// Rows handed out from `chunks`.
    pub rows: u32,
    /// Its number when it was first seen; `execve` may give it the leader's later.
    pub thread: u32,
    /// Calls since the last one that was timed, with `--sample`.
    pub untimed: u32,
    /// Value of the `PHASE_CHANGES` counter at which `phase` was right.
    pub phase_changes: u32,
    /// Phases of its own that are open; while there is one, those of the process do not matter.
    pub own_phases: u32,
    /// Begins inside those that were not kept: as many ends mean nothing.
    pub own_ignored: u32,
    /// Watched functions of drivers that it is in, one inside the other.
    pub hook_depth: u32,
    /// Clock when it entered the outermost.
    pub hook_since_ns: u64,
    /// Clock when the innermost phase of its own began or went on.
    pub own_since_ns: u64,
    /// Clock when it stopped running, where switches are recorded; 0: it runs.
    pub stopped_ns: u64,
    /// State in which it did.
    pub stopped_state: u32,
    /// Class of jobs that it worked for when it was last looked at; 0: none.
    pub job: u32,
    /// Number of the phase that its calls belong to when it works for no job; while it does, `phase` is the class's.
    pub phase_outside: u32,
    /// On kernels without type information, of the call in flight: when it opens, its process's generation; when it
    /// duplicates, the device of what it duplicates.
    pub at_entry: u32,
    /// Address of its [`JobSlot`](crate::jobs::JobSlot); 0: none.
    pub job_slot: u64,
    /// Not 0 while what it works for changes, where a switch must not look.
    pub is_changing: u32,
    /// 0.
    pub padding: u32,
    /// Clock when its class was last charged at a tick or a switch.
    pub charged_ns: u64,
    /// Clock when it last began to run, once switches are looked at; 0: not known.
    pub runs_since_ns: u64,
    /// Its time on a CPU by then.
    pub run_before_ns: u64,
    /// Of what it used, what is in the sums of classes already, or belongs to none.
    pub charged: Used,
    /// Arguments of the call in flight: the first four where calls are recorded, all on kernels without type information.
    pub arguments: [u64; 6],
    /// What it had used when that was last added to its process.
    pub settled: TaskUsage,
    /// Chunk numbers + 1 of the rows that this thread holds; 0: none.
    pub chunks: [u32; CHUNKS_PER_THREAD],
    /// The path that the call in flight is about, where paths are recorded.
    pub path: [u8; PATH],
    /// Bytes of it, its NUL included; 0: it is about none, or that could not be read.
    pub path_length: u64,
    /// The device call in flight, and what earlier ones left.
    pub pending: Pending,
    /// Row number + 1 by a hash of call, device, command, detail and phase; 0: none yet.
    pub row_table: [u16; ROW_TABLE],
    /// Row number + 1 by syscall number; 0: none yet; [`SLOT_BY_DEVICE`](crate::ioctl::SLOT_BY_DEVICE): look in `row_table`. A row of another phase is looked for there, too.
    pub slot_by_syscall: [u16; SYSCALL_NUMBERS],
}

impl ThreadState {
    /// The arguments that a record of a call holds.
    #[inline(always)]
    #[must_use]
    pub const fn first_arguments(&self) -> [u64; 4] {
        let [first, second, third, fourth, ..] = self.arguments;
        [first, second, third, fourth]
    }

    /// The state that user space gives a thread that runs already. The call that it may be in is not counted.
    /// `used` is what it had used before.
    #[must_use]
    pub const fn attached(process: u64, thread: u32, used: TaskUsage) -> Self {
        Self { process, thread, settled: used, stage: STAGE_ATTACHED, slot: SLOT_SKIPPED, ..Self::ARMED }
    }

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
        thread: 0,
        untimed: 0,
        phase_changes: 0,
        own_phases: 0,
        own_ignored: 0,
        hook_depth: 0,
        hook_since_ns: 0,
        own_since_ns: 0,
        stopped_ns: 0,
        stopped_state: 0,
        job: 0,
        phase_outside: 0,
        job_slot: 0,
        is_changing: 0,
        padding: 0,
        charged_ns: 0,
        runs_since_ns: 0,
        run_before_ns: 0,
        charged: Used::ZERO,
        at_entry: 0,
        arguments: [0; 6],
        settled: TaskUsage::ZERO,
        chunks: [0; CHUNKS_PER_THREAD],
        path: [0; PATH],
        path_length: 0,
        pending: Pending::NONE,
        row_table: [0; ROW_TABLE],
        slot_by_syscall: [0; SYSCALL_NUMBERS],
    };
}

/// What is known about a process, kept until user space has read it after its end.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Process id of the parent, 0 for the launched command.
    pub parent: u64,
    /// Clock (`CLOCK_MONOTONIC`, ns) when its first event was seen.
    pub started_ns: u64,
    /// Clock when its last thread so far exited; 0 when none has.
    pub ended_ns: u64,
    /// Clock when its innermost phase began or went on; 0 while that is its parent's.
    pub phase_since_ns: u64,
    /// Clock until which its GPUs are being set up, where phases are inferred.
    pub set_up_until_ns: u64,
    /// Sum over its exited threads.
    pub usage: TaskUsage,
    /// Process number in the initial pid namespace.
    pub pid: u32,
    /// Threads alive, those not yet seen left out.
    pub threads_alive: u32,
    /// Threads that ever lived.
    pub threads: u32,
    /// Exit code as `wait` returns it, or [`EXIT_UNKNOWN`].
    pub exit_code: u32,
    /// Children and threads that it has made and that have not been seen yet.
    pub unborn: u32,
    /// Number of its innermost phase; 0: none. A child begins in its parent's.
    pub phase: u32,
    /// Begins inside that were not kept: as many ends mean nothing.
    pub phases_ignored: u32,
    /// Number of the phase that it was born in and has not ended; 0: none. It began in an ancestor, which counts its time.
    pub inherited_phase: u32,
    /// How often one of its threads has said where its slot is, for what it works for.
    pub job_slots: u32,
    /// 0.
    pub padding: u32,
    /// Name of the command, NUL-padded.
    pub comm: [u8; 16],
}

/// How a process ended is not known: a signal ended it, on a kernel without type information.
pub const EXIT_UNKNOWN: u32 = u32::MAX;

/// Makes an id for a process that no later process shares: pid in the low 22 bits (the kernel's
/// `PID_MAX_LIMIT` is 2^22), the clock in units of 1,024 ns above.
#[inline(always)]
#[must_use]
pub const fn process_id(pid: u32, started_ns: u64) -> u64 {
    ((started_ns >> 10) << 22) | (pid as u64 & 0x3f_ffff)
}

/// Clock when the process with this id began, to 1,024 ns, for who knows a moment at which it lived.
#[must_use]
pub const fn started_ns(process: u64, lived_ns: u64) -> u64 {
    // As much of the clock is in an id: 52 days.
    const KNOWN: u64 = (1 << 52) - 1;
    let started = (lived_ns & !KNOWN) | ((process >> 22) << 10);
    if started > lived_ns { started.wrapping_sub(KNOWN + 1) } else { started }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_its_process_began() {
        let days = 24 * 3600 * 1_000_000_000;
        for began in [0, 1024 * 77, 51 * days, 53 * days, 200 * days] {
            let id = process_id(4711, began);
            for later in [0, 5_000, 40 * days] {
                let started = started_ns(id, began + 1023 + later);
                assert!(started <= began && began - started < 1024, "{began} {later} {started}");
            }
        }
    }
}

#[cfg(not(test))]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<TaskUsage>() == 56);
    assert!(offset_of!(ThreadState, settled) == 232);
    assert!(offset_of!(ThreadState, chunks) == 288);
    assert!(offset_of!(ThreadState, pending) == 352 + PATH + 8);
    assert!(offset_of!(ThreadState, slot_by_syscall) == 392 + PATH + 8 + 2 * ROW_TABLE);
    assert!(size_of::<ThreadState>() == 392 + PATH + 8 + 2 * ROW_TABLE + 2 * SYSCALL_NUMBERS);
    assert!(size_of::<ProcessRecord>() == 152 && offset_of!(ProcessRecord, comm) == 136);
};
