//! The table that this process shares with whoever traces it: the layout of `gpuos_tracer_abi::jobs` in atomic words.

use std::{
    mem::offset_of,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use gpuos_tracer_abi::{
    jobs::{
        BUCKETS, CLASSES, JobCounts, JobRecord, JobSlot, JobTableHead, MAGIC, RECORDS, SLOTS, TABLE, TABLE_VERSION,
        offsets,
    },
    phases::LABEL,
};

/// See [`JobTableHead`].
#[repr(C)]
pub(crate) struct SharedHead {
    magic: AtomicU64,
    version: AtomicU32,
    pub(crate) classes: AtomicU32,
    pub(crate) recorded: AtomicU64,
    pub(crate) classes_lost: AtomicU64,
    pub(crate) threads_lost: AtomicU64,
    padding: [u64; 3],
}

/// See [`JobSlot`].
#[repr(C, align(64))]
pub(crate) struct SharedSlot {
    pub(crate) class: AtomicU32,
    pub(crate) thread: AtomicU32,
    pub(crate) since_ns: AtomicU64,
    pub(crate) labels: AtomicU64,
}

/// See [`JobCounts`].
#[repr(C)]
pub(crate) struct SharedCounts {
    pub(crate) begun: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) durations: [AtomicU32; BUCKETS],
    pub(crate) lateness: [AtomicU32; BUCKETS],
}

/// See [`JobRecord`].
#[repr(C)]
pub(crate) struct SharedRecord {
    pub(crate) number: AtomicU64,
    pub(crate) submitted_ns: AtomicU64,
    pub(crate) known_ns: AtomicU64,
    pub(crate) looked_ns: AtomicU64,
    pub(crate) class: AtomicU32,
    pub(crate) submitter: AtomicU32,
    pub(crate) knower: AtomicU32,
    pub(crate) failed: AtomicU32,
}

/// All of it.
#[repr(C)]
pub(crate) struct SharedTable {
    pub(crate) head: SharedHead,
    pub(crate) slots: [SharedSlot; SLOTS],
    pub(crate) labels: [[AtomicU8; LABEL]; CLASSES],
    pub(crate) counts: [SharedCounts; CLASSES],
    pub(crate) records: [SharedRecord; RECORDS],
}

const _: () = {
    assert!(size_of::<SharedTable>() == offsets::END);
    assert!(offset_of!(SharedTable, slots) == offsets::SLOT && offset_of!(SharedTable, labels) == offsets::LABELS);
    assert!(offset_of!(SharedTable, counts) == offsets::COUNTS && offset_of!(SharedTable, records) == offsets::RECORD);
    assert!(offset_of!(SharedHead, threads_lost) == offset_of!(JobTableHead, threads_lost));
    assert!(offset_of!(SharedSlot, labels) == offset_of!(JobSlot, labels));
    assert!(offset_of!(SharedCounts, lateness) == offset_of!(JobCounts, lateness));
    assert!(offset_of!(SharedRecord, failed) == offset_of!(JobRecord, failed));
};

/// The table of this process, made by the first who asks; `None` where the system gives no memory that has a name. It stays for as
/// long as the process lives: threads store to it without asking.
pub(crate) fn table() -> Option<&'static SharedTable> {
    static MADE: OnceLock<Option<&SharedTable>> = OnceLock::new();
    *MADE.get_or_init(|| {
        (*MARK.get_or_init(mark))?;
        let table = map()?;
        table.head.version.store(TABLE_VERSION, Ordering::Relaxed);
        table.head.magic.store(MAGIC, Ordering::Release);
        Some(table)
    })
}

/// A word that is 1 in the process that made the table and 0 in its children, also in those that are made past the C library.
static MARK: OnceLock<Option<&AtomicU32>> = OnceLock::new();

/// Whether the table is this process's own.
#[inline]
pub(crate) fn is_ours() -> bool {
    MARK.get().is_some_and(|mark| mark.is_some_and(|mark| mark.load(Ordering::Relaxed) == 1))
}

fn mark() -> Option<&'static AtomicU32> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping; nothing is replaced.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU32>(), protection, flags, -1, 0) };
    // SAFETY: a page of our own, which a child gets empty.
    if page == libc::MAP_FAILED || unsafe { libc::madvise(page, size_of::<AtomicU32>(), libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: it stays mapped, and is an aligned word.
    let word = unsafe { &*page.cast::<AtomicU32>() };
    word.store(1, Ordering::Relaxed);
    Some(word)
}

fn map() -> Option<&'static SharedTable> {
    let name = std::ffi::CString::new(TABLE).ok()?;
    // SAFETY: reads the name. The descriptor stays open: a tracer takes the table from there.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: sets the size of a file of our own.
    if fd < 0 || unsafe { libc::ftruncate(fd, offsets::END as libc::off_t) } != 0 {
        return None;
    }
    let (protection, length) = (libc::PROT_READ | libc::PROT_WRITE, offsets::END);
    // SAFETY: a new mapping; nothing is replaced.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
    // SAFETY: a page of zeros is a table; nothing unmaps it; others change it by atomic operations only.
    (base != libc::MAP_FAILED).then(|| unsafe { &*base.cast::<SharedTable>() })
}
