//! Jobs: the table in which a program says what each of its threads works for, and what became of its jobs.
//!
//! A program that has jobs makes the table in memory of its own, a memfd with the name [`TABLE`], and tells the kernel side once
//! for each thread where that thread's [`JobSlot`] is (a marker with [`OPERATION_SLOT`]). From then on a change of what the
//! thread works for is a store, and the kernel side looks at the slot when the thread calls or stops. The tracer finds the table
//! among the mappings of the process, also when it comes later, and reads what was counted.

use crate::phases::LABEL;

/// Operation of a marker: [`Marker::count`](crate::phases::Marker::count) is the address of the calling thread's
/// [`JobSlot`], 0 when it has none any more.
pub const OPERATION_SLOT: u32 = 6;

/// Name of the memfd.
pub const TABLE: &str = "gpuos-jobs";
/// First word of a table: `gpuosjob` in ASCII.
pub const MAGIC: u64 = u64::from_le_bytes(*b"gpuosjob");
/// Version of this layout.
pub const TABLE_VERSION: u32 = 1;
/// Threads that have a slot at a time.
pub const SLOTS: usize = 512;
/// Classes of a process, each with a number from 1 on; none is taken back.
pub const CLASSES: usize = 256;
/// The last jobs that ended.
pub const RECORDS: usize = 4096;

/// What a thread works for. It has a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug, Default)]
#[cfg_attr(feature = "pod", derive(Clone, Copy))]
pub struct JobSlot {
    /// Number of the class; 0: none.
    pub class: u32,
    /// The thread, as `gettid` says; 0: the slot is free.
    pub thread: u32,
    /// When the class became this one, `CLOCK_MONOTONIC` nanoseconds; 0 where the thread did not look at the clock.
    pub since_ns: u64,
    /// Address of the labels of the classes.
    pub labels: u64,
}

/// Beginning of a table.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTableHead {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`TABLE_VERSION`].
    pub version: u32,
    /// Classes that there are.
    pub classes: u32,
    /// Jobs that were recorded since the beginning; [`RECORDS`] of them are kept.
    pub recorded: u64,
    /// Classes that found no place: their jobs are in no counts.
    pub classes_lost: u64,
    /// Threads that found no slot: what they call belongs to no class.
    pub threads_lost: u64,
    /// 0.
    pub padding: [u64; 3],
}

/// What was counted of a class.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCounts {
    /// Jobs that began.
    pub begun: u64,
    /// Jobs whose work was done.
    pub done: u64,
    /// Jobs that failed, or were cancelled.
    pub failed: u64,
    /// The most memory that its jobs had at once, bytes.
    pub bytes: u64,
    /// Jobs that were done, by the time from submission until that was known; see [`bucket_of`].
    pub durations: [u32; BUCKETS],
    /// Jobs that were done, by the time since the previous poll: their end was known at most that much later.
    pub lateness: [u32; BUCKETS],
}

impl Default for JobCounts {
    fn default() -> Self {
        Self { begun: 0, done: 0, failed: 0, bytes: 0, durations: [0; BUCKETS], lateness: [0; BUCKETS] }
    }
}

/// A job that has ended.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number among those that were recorded, from 1; written last, and 0 while the rest is written.
    pub number: u64,
    /// When it was submitted, `CLOCK_MONOTONIC` nanoseconds.
    pub submitted_ns: u64,
    /// When its end was known.
    pub known_ns: u64,
    /// When a look last found that it had not ended; the time of its submission where none did.
    pub looked_ns: u64,
    /// Its class.
    pub class: u32,
    /// The thread that submitted it, as `gettid` says.
    pub submitter: u32,
    /// The thread that knew first.
    pub knower: u32,
    /// 1: it failed.
    pub failed: u32,
}

/// Where the parts of a table are, in bytes from its beginning.
pub mod offsets {
    use super::{CLASSES, JobCounts, JobRecord, JobSlot, LABEL, RECORDS, SLOTS};

    /// [`SLOTS`](super::SLOTS) of [`JobSlot`].
    pub const SLOT: usize = 64;
    /// [`CLASSES`](super::CLASSES) labels of [`LABEL`](crate::phases::LABEL) bytes, each ended by a NUL.
    pub const LABELS: usize = SLOT + SLOTS * size_of::<JobSlot>();
    /// As many [`JobCounts`].
    pub const COUNTS: usize = LABELS + CLASSES * LABEL;
    /// [`RECORDS`](super::RECORDS) of [`JobRecord`]: the one with number n is at (n − 1) mod [`RECORDS`](super::RECORDS).
    pub const RECORD: usize = COUNTS + CLASSES * size_of::<JobCounts>();
    /// Bytes of all of it.
    pub const END: usize = RECORD + RECORDS * size_of::<JobRecord>();
}

/// Bits of a value that its bucket keeps below the highest.
const FINE: u32 = 3;
/// Buckets of [`bucket_of`]: beyond 2^40 ns, 18 minutes, all are in the last.
pub const BUCKETS: usize = ((40 - FINE as usize) + 1) << FINE;

/// The bucket of a time in nanoseconds: eight for each power of two, so that a bucket's ends are within 13 % of each other.
#[must_use]
pub const fn bucket_of(ns: u64) -> usize {
    let highest = (ns | 1).ilog2();
    if highest < FINE {
        return ns as usize;
    }
    let power = highest - FINE;
    let bucket = ((power as usize + 1) << FINE) + ((ns >> power) as usize & ((1 << FINE) - 1));
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The smallest time of a bucket, nanoseconds.
#[must_use]
pub const fn bucket_start(bucket: usize) -> u64 {
    let row = bucket >> FINE;
    if row == 0 {
        return bucket as u64;
    }
    ((1 << FINE) + (bucket as u64 & ((1 << FINE) - 1))) << (row - 1)
}

#[cfg(not(test))]
const _: () = {
    assert!(size_of::<JobSlot>() == 64 && core::mem::offset_of!(JobSlot, labels) == 16);
    assert!(size_of::<JobTableHead>() == 64);
    assert!(size_of::<JobCounts>() == 32 + 8 * BUCKETS);
    assert!(size_of::<JobRecord>() == 48);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_begins_at_or_before_it() {
        let mut before = None;
        for exponent in 0..45 {
            for part in 0..16_u64 {
                let ns = (1_u64 << exponent) + (((1_u64 << exponent) * part) >> 4);
                let bucket = bucket_of(ns);
                assert!(bucket_start(bucket) <= ns, "{ns} is in {bucket}, which begins at {}", bucket_start(bucket));
                if bucket + 1 < BUCKETS {
                    assert!(ns < bucket_start(bucket + 1), "{ns} is in {bucket}");
                }
                assert!(before <= Some(bucket));
                before = Some(bucket);
            }
        }
        assert_eq!((bucket_of(0), bucket_of(7), bucket_of(8), bucket_of(u64::MAX)), (0, 7, 8, BUCKETS - 1));
    }
}
