//! The ring of recorded events, read through shared memory as the kernel's `ringbuf.c` lays it out.
//!
//! Two numbers that only grow say how far the kernel has written and how far we have read. A record is a header of
//! eight bytes, whose first word is its length with two flags, and its bytes, rounded up to eight. The kernel maps
//! the ring twice in a row, so what is unread always lies in one piece.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};

/// Bytes of a record's header.
pub const HEADER: usize = 8;
/// Flag in the length: the record is not written yet.
const BUSY: u32 = 1 << 31;
/// Flag in the length: the record was given up.
pub const DISCARDED: u32 = 1 << 30;

/// Bytes of a record in the ring, its header included.
#[must_use]
pub const fn bytes_of(length: u32) -> usize {
    ((length & !(BUSY | DISCARDED)) as usize + HEADER).next_multiple_of(8)
}

/// The ring, and the counter of what found no place in it.
pub struct Ring {
    /// A page with the position up to which we have read.
    consumer: NonNull<AtomicU64>,
    /// A page with the position up to which the kernel has written, and the ring, twice.
    producer: NonNull<u8>,
    page: usize,
    size: usize,
    lost: Box<dyn Fn() -> u64 + Send>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Ring").field("size", &self.size).finish_non_exhaustive()
    }
}

// SAFETY: the mappings belong to this value alone.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring of the kernel of `size` bytes, a power of two. `lost` says how many events found no place in it so far.
    ///
    /// # Safety
    /// The file is a BPF ring buffer of this size, and nothing else reads from it.
    ///
    /// # Errors
    /// What the kernel says.
    pub unsafe fn map(file: &OwnedFd, size: usize, lost: impl Fn() -> u64 + Send + 'static) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as usize;
        let length = |bytes| NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput);
        let offset = libc::off_t::try_from(page).map_err(io::Error::other)?;
        // SAFETY: new mappings; the kernel checks their size.
        let consumer = unsafe {
            mmap(None, length(page)?, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0)?
        };
        // SAFETY: as above.
        let producer =
            unsafe { mmap(None, length(page + 2 * size)?, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, offset) };
        let producer = producer.inspect_err(|_| {
            // SAFETY: mapped above.
            let _ = unsafe { munmap(consumer, page) };
        })?;
        Ok(Self { consumer: consumer.cast(), producer: producer.cast(), page, size, lost: Box::new(lost) })
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Events that found no place so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        (self.lost)()
    }

    /// Gives every finished record that is there, with their headers and in one piece, to `take`; they are gone from
    /// the ring when it returns. Says how many bytes.
    ///
    /// # Errors
    /// That of `take`; the records stay then.
    pub fn drain(&mut self, take: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<usize> {
        // SAFETY: the position stands at the beginning of its page.
        let consumer = unsafe { self.consumer.as_ref() };
        // SAFETY: likewise.
        let producer = unsafe { self.producer.cast::<AtomicU64>().as_ref() };
        let begin = consumer.load(Ordering::Relaxed);
        let written = producer.load(Ordering::Acquire);
        let unread = (written.wrapping_sub(begin) as usize).min(self.size);
        let at = (begin as usize) & (self.size - 1);
        // SAFETY: the page of the position and twice the ring are mapped, and `at` is inside the first.
        let start = unsafe { self.producer.as_ptr().add(self.page + at) };
        let mut finished = 0;
        while finished + HEADER <= unread {
            // SAFETY: inside the mapping.
            let header = unsafe { start.add(finished) };
            #[expect(clippy::cast_ptr_alignment, reason = "headers lie at multiples of eight bytes")]
            // SAFETY: aligned, and mapped as long as this lives; the kernel writes it as one word.
            let length = unsafe { &*header.cast::<AtomicU32>() }.load(Ordering::Acquire);
            if length & BUSY != 0 || finished + bytes_of(length) > unread {
                break;
            }
            finished += bytes_of(length);
        }
        if finished != 0 {
            // SAFETY: inside the mapping; the kernel leaves these records alone until the position is stored.
            take(unsafe { std::slice::from_raw_parts(start, finished) })?;
            consumer.store(begin + finished as u64, Ordering::Release);
        }
        Ok(finished)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows from it any more.
        let _ = unsafe { munmap(self.consumer.cast(), self.page) };
        // SAFETY: likewise.
        let _ = unsafe { munmap(self.producer.cast(), self.page + 2 * self.size) };
    }
}
