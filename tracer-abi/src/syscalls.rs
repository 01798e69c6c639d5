//! What is counted: one row per (process or thread, phase, syscall, and for some calls device and command).

use crate::ioctl::DeviceId;

/// Buckets of a latency histogram: bucket b holds durations of 2^b to 2^(b+1) − 1 ns; the last
/// (549 s and more) is open. 0 ns falls into bucket 0.
pub const BUCKETS: usize = 40;

/// System call numbers below this have an entry of their own in
/// [`ThreadState::slot_by_syscall`](crate::tasks::ThreadState::slot_by_syscall). Linux 7.2 ends at 471.
pub const SYSCALL_NUMBERS: usize = 512;

/// Rows are given to threads in chunks of this many.
pub const CHUNK_ROWS: u32 = 16;

/// Chunks a thread may hold; a row beyond 256 takes the slow path, still exact.
pub const CHUNKS_PER_THREAD: usize = 16;

/// Call convention of the machine itself (`x86_64`, aarch64).
pub const ABI_NATIVE: u32 = 0;
/// 32-bit calls on a 64-bit kernel (i386, arm): their numbers mean other calls.
pub const ABI_COMPAT: u32 = 1;

/// `sigreturn` of 32-bit programs: `arch/x86/entry/syscalls/syscall_32.tbl` and `arch/arm/tools/syscall.tbl` agree.
pub const COMPAT_SIGRETURN: u32 = 119;
/// `rt_sigreturn` there.
pub const COMPAT_RT_SIGRETURN: u32 = 173;
/// `exit` there.
pub const COMPAT_EXIT: u32 = 1;
/// `exit_group` of 32-bit arm programs.
pub const COMPAT_EXIT_GROUP_ARM: u32 = 248;
/// `exit_group` of 32-bit x86 programs.
pub const COMPAT_EXIT_GROUP_X86: u32 = 252;
/// `fork` in both tables.
pub const COMPAT_FORK: u32 = 2;
/// `clone` in both.
pub const COMPAT_CLONE: u32 = 120;
/// `vfork` in both.
pub const COMPAT_VFORK: u32 = 190;
/// `clone3` in both.
pub const COMPAT_CLONE3: u32 = 435;

/// Whose calls a row counts.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Process id as in [`tasks::process_id`](crate::tasks::process_id): unique, unlike a pid.
    pub process: u64,
    /// Thread id with `--per-thread`, else 0.
    pub thread: u32,
    /// Number of the phase at entry; 0: none.
    pub phase: u32,
    /// System call number as the program gave it.
    pub number: u32,
    /// [`ABI_NATIVE`] or [`ABI_COMPAT`].
    pub abi: u32,
    /// What the call's fd is, see [`ioctl`](crate::ioctl); 0 where nobody looked.
    pub device: DeviceId,
    /// Second argument of an `ioctl`; for an NVIDIA envelope the number that it carries. Else 0.
    pub command: u32,
    /// What tells calls of one command apart, see [`Rule`](crate::ioctl::Rule). Else 0.
    pub detail: u32,
    /// Zero.
    pub padding: u32,
}

/// What is counted about them.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCounts {
    /// Entries. A call that never returns (`exit_group`) or is still running is counted too.
    pub calls: u64,
    /// Returns that were not timed. All returns: these and the sum of `buckets`; the rest of `calls` is
    /// in flight or never returns.
    pub untimed: u64,
    /// Returns between −4095 and −1, restarts left out.
    pub errors: u64,
    /// Returns of `-ERESTART*`: a signal interrupted the call and the kernel decides what follows.
    pub restarted: u64,
    /// Returns without an error after which the status in the argument told of one.
    pub refused: u64,
    /// The last such status.
    pub status: u64,
    /// Calls that reached a watched function of the driver.
    pub driver_calls: u64,
    /// Nanoseconds in it.
    pub driver_ns: u64,
    /// Nanoseconds between entry and return, summed over the timed calls.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// Histogram of those nanoseconds, see [`BUCKETS`].
    pub buckets: [u64; BUCKETS],
}

impl RowCounts {
    /// Nothing counted yet.
    pub const ZERO: Self = Self {
        calls: 0,
        untimed: 0,
        errors: 0,
        restarted: 0,
        refused: 0,
        status: 0,
        driver_calls: 0,
        driver_ns: 0,
        total_ns: 0,
        max_ns: 0,
        buckets: [0; BUCKETS],
    };
}

impl RowCounts {
    /// Entries without a return.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let returned = self.buckets.iter().fold(self.untimed, |sum, count| sum.saturating_add(*count));
        self.calls.saturating_sub(returned)
    }
}

impl RowCounts {
    /// Adds other counts to these: every sum by `add`, every maximum by `raise`. The one list of them, for user space, where
    /// one thread adds, and for the kernel, where several do at once.
    #[inline(always)]
    pub fn merge(&mut self, more: &Self, add: impl Fn(&mut u64, u64), raise: impl Fn(&mut u64, u64)) {
        add(&mut self.calls, more.calls);
        add(&mut self.untimed, more.untimed);
        add(&mut self.errors, more.errors);
        add(&mut self.restarted, more.restarted);
        add(&mut self.refused, more.refused);
        if more.status != 0 {
            self.status = more.status;
        }
        add(&mut self.driver_calls, more.driver_calls);
        add(&mut self.driver_ns, more.driver_ns);
        add(&mut self.total_ns, more.total_ns);
        raise(&mut self.max_ns, more.max_ns);
        for bucket in 0..BUCKETS {
            add(&mut self.buckets[bucket], more.buckets[bucket]);
        }
    }
}

impl Default for RowCounts {
    fn default() -> Self {
        Self::ZERO
    }
}

/// A thread's row in the `SLOTS` array. Only that thread writes it, so nothing here is atomic.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSlot {
    /// Whose calls; `process` is 0 while the row is free. Rows of a chunk of [`CHUNK_ROWS`] are used in their order.
    pub key: RowKey,
    /// The thread that holds it, also where rows are counted by process.
    pub thread: u32,
    /// Zero.
    pub padding: u32,
    /// The counts.
    pub counts: RowCounts,
}

/// Floor of log2 of a byte; 0 for 0.
const LOG2_OF_BYTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 2;
    while value < 256 {
        table[value] = table[value / 2] + 1;
        value += 1;
    }
    table
};

/// Histogram bucket of a duration: floor of log2, at most `BUCKETS - 1`.
///
/// By a table of bytes, because BPF has no instruction that counts leading zeros.
#[inline(always)]
#[must_use]
pub fn bucket_of(nanoseconds: u64) -> usize {
    // The common durations first.
    let (shift, byte) = if nanoseconds < 1 << 8 {
        (0, nanoseconds)
    } else if nanoseconds < 1 << 16 {
        (8, nanoseconds >> 8)
    } else if nanoseconds < 1 << 24 {
        (16, nanoseconds >> 16)
    } else if nanoseconds < 1 << 32 {
        (24, nanoseconds >> 24)
    } else if nanoseconds < 1 << 40 {
        (32, nanoseconds >> 32)
    } else {
        return BUCKETS - 1;
    };
    shift + LOG2_OF_BYTE[byte as usize & 0xff] as usize
}

/// How the kernel means a return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Anything that is not an error code.
    Success,
    /// −4095 to −1.
    Error,
    /// `-ERESTARTSYS` (512), `-ERESTARTNOINTR` (513), `-ERESTARTNOHAND` (514) or
    /// `-ERESTART_RESTARTBLOCK` (516): seen by tracers, never by the program.
    Restart,
}

/// Whether a return value is an error code or a restart: one comparison for the common case.
#[inline(always)]
#[must_use]
pub const fn is_code(returned: i64) -> bool {
    returned as u64 > -4096_i64 as u64
}

/// Sorts a return value into [`CallOutcome`]. The numbers are from the kernel's `include/linux/errno.h`.
#[inline(always)]
#[must_use]
pub const fn outcome_of(returned: i64) -> CallOutcome {
    match returned {
        -516 | -514..=-512 => CallOutcome::Restart,
        -4095..=-1 => CallOutcome::Error,
        _ => CallOutcome::Success,
    }
}

#[cfg(not(test))]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<RowKey>() == 40);
    assert!(offset_of!(RowKey, thread) == 8 && offset_of!(RowKey, abi) == 20 && offset_of!(RowKey, detail) == 32);
    assert!(size_of::<RowCounts>() == 80 + 8 * BUCKETS);
    assert!(offset_of!(RowCounts, buckets) == 80);
    assert!(size_of::<CounterSlot>() == 448 && offset_of!(CounterSlot, counts) == 48);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_floors_of_log2() {
        assert_eq!(bucket_of(0), 0);
        for bit in 0..64u32 {
            let expected = (bit as usize).min(BUCKETS - 1);
            assert_eq!(bucket_of(1 << bit), expected);
            assert_eq!(
                bucket_of((1u128 << (bit + 1)) as u64).min(expected + 1),
                bucket_of((1u128 << (bit + 1)) as u64)
            );
            assert_eq!(bucket_of(((1u128 << (bit + 1)) - 1) as u64), expected);
        }
    }

    #[test]
    fn a_restart_is_not_an_error() {
        for restart in [-512, -513, -514, -516] {
            assert_eq!(outcome_of(restart), CallOutcome::Restart);
        }
        for error in [-1, -515, -517, -4095] {
            assert_eq!(outcome_of(error), CallOutcome::Error);
        }
        for success in [0, 1, -4096, i64::MIN, i64::MAX] {
            assert_eq!(outcome_of(success), CallOutcome::Success);
            assert!(!is_code(success));
        }
        assert!((-4095..=-1).all(is_code));
    }
}
