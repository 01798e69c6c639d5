//! Memory of jobs: regions that a class keeps. A job takes one, cuts from it, and gives it back when its work is done; the next
//! job of the class needs no call of the runtime.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    backend::Backend,
    error::{Error, Result, Status},
};

/// Bytes of a region where the class does not say: a large page.
const REGION: usize = 2 << 20;
/// Where allocations begin unless asked otherwise: as CUDA's own do.
const ALIGNMENT: usize = 256;
/// The number of ended jobs after which memory that none of them needed goes back to the runtime.
const EPOCH: u32 = 256;

/// Device memory of one job at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where.
    pub address: u64,
    /// How much.
    pub bytes: usize,
    /// The job that had it last.
    last: u64,
}

/// Whole pages, so that debugging can take each region's rights away.
const PAGES: usize = 1 << 16;

/// The size of a region that holds this number of bytes.
fn rounded(bytes: usize) -> usize {
    if bytes <= REGION { bytes.next_power_of_two() } else { bytes.checked_next_multiple_of(REGION).unwrap_or(bytes) }
}

/// What was counted, since the class was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaStats {
    /// Bytes that all jobs had at once, at most.
    pub high_water: u64,
    /// Regions that were taken from those kept.
    pub hits: u64,
    /// Regions that the runtime was asked for.
    pub growths: u64,
    /// Jobs that needed more than one region.
    pub spills: u64,
    /// Regions that went back to the runtime.
    pub trims: u64,
    /// Regions that were written after their job had ended; counted when a context debugs.
    pub used_after_end: u64,
}

#[derive(Debug)]
struct Kept {
    free: Vec<Region>,
    /// Bytes of the next new region.
    size: usize,
    taken: usize,
    taken_bytes: u64,
    /// Most regions taken at once in this epoch and in the last.
    peaks: [usize; 2],
    /// Most bytes of a job that needed more than one, in this epoch and in the last.
    needs: [usize; 2],
    /// As the class said.
    least: usize,
    ends: u32,
    is_closed: bool,
    stats: ArenaStats,
}

/// The regions of a class.
#[derive(Debug)]
pub struct Arena {
    kept: Mutex<Kept>,
    debug: bool,
}

/// What a job has.
#[derive(Debug, Default)]
pub struct Memory {
    regions: Vec<Region>,
    /// Of the last one.
    used: usize,
}

impl Memory {
    /// Whether an address is in it.
    pub fn has(&self, address: u64) -> bool {
        self.regions.iter().any(|region| region.has(address))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    fn bytes(&self) -> usize {
        self.regions.iter().map(|region| region.bytes).sum()
    }
}

impl Region {
    fn has(&self, address: u64) -> bool {
        (self.address..self.address + self.bytes as u64).contains(&address)
    }
}

impl Arena {
    /// One that has nothing yet. `bytes` is what a job is likely to need; 0 where that is not known.
    pub fn new(bytes: usize, debug: bool) -> Self {
        let size = if bytes == 0 { REGION } else { rounded(bytes) };
        let kept = Kept {
            free: Vec::new(),
            size,
            taken: 0,
            taken_bytes: 0,
            peaks: [0; 2],
            needs: [0; 2],
            least: size,
            ends: 0,
            is_closed: false,
            stats: ArenaStats::default(),
        };
        Self { kept: Mutex::new(kept), debug }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted.
    pub fn stats(&self) -> ArenaStats {
        self.kept().stats
    }

    /// Memory for a job; `alignment` is a power of two, or 0 for that of the runtime.
    ///
    /// # Errors
    /// [`Status::Invalid`], [`Status::Memory`], [`Status::UsedAfterEnd`], or what the runtime says.
    pub fn alloc(
        &self,
        backend: &dyn Backend,
        memory: &mut Memory,
        job: u64,
        bytes: usize,
        alignment: usize,
    ) -> Result<u64> {
        let alignment = if alignment == 0 { ALIGNMENT } else { alignment };
        if bytes == 0 || !alignment.is_power_of_two() || alignment > REGION {
            return Err(Error::new(Status::Invalid, format!("{bytes} bytes, aligned to {alignment}")));
        }
        if let Some(last) = memory.regions.last() {
            let start = (last.address + memory.used as u64).next_multiple_of(alignment as u64) - last.address;
            if let Some(end) = (start as usize).checked_add(bytes).filter(|end| *end <= last.bytes) {
                memory.used = end;
                return Ok(last.address + start);
            }
        }
        let needed =
            bytes.checked_add(alignment).ok_or_else(|| Error::new(Status::Memory, format!("{bytes} bytes")))?;
        let region = self.take(backend, needed, job, memory.regions.len() == 1)?;
        let start = region.address.next_multiple_of(alignment as u64) - region.address;
        memory.regions.push(region);
        memory.used = start as usize + bytes;
        Ok(region.address + start)
    }

    fn take(&self, backend: &dyn Backend, needed: usize, job: u64, is_spill: bool) -> Result<Region> {
        let mut kept = self.kept();
        kept.stats.spills += u64::from(is_spill);
        let least = needed;
        let needed = needed.max(kept.size);
        let fits = |least: usize| move |region: &Region| region.bytes >= least;
        let place = kept.free.iter().position(fits(needed));
        let region = if let Some(place) = place {
            let region = kept.free.swap_remove(place);
            kept.stats.hits += 1;
            if self.debug && !backend.unpoison(region.address, region.bytes)? {
                kept.stats.used_after_end += 1;
                // It is not kept: whoever writes there may go on doing so.
                let what =
                    format!("job {:#x} has ended, and its memory at {:#x} was written", region.last, region.address);
                return Err(Error::new(Status::UsedAfterEnd, what));
            }
            Region { last: job, ..region }
        } else {
            kept.stats.growths += 1;
            self.release_outgrown(backend, &mut kept)?;
            let bytes = needed.checked_next_multiple_of(PAGES);
            let bytes = bytes.ok_or_else(|| Error::new(Status::Memory, format!("{needed} bytes")))?;
            match backend.allocate(bytes) {
                // It has no more: a smaller one that is enough for this, or what is left once the others are back.
                Err(error) if error.status == Status::Memory && !kept.free.is_empty() => {
                    if let Some(place) = kept.free.iter().position(fits(least)) {
                        let region = kept.free.swap_remove(place);
                        if self.debug && !backend.unpoison(region.address, region.bytes)? {
                            kept.stats.used_after_end += 1;
                        }
                        Region { last: job, ..region }
                    } else {
                        self.keep(backend, &mut kept, 0)?;
                        let bytes = least.next_multiple_of(PAGES);
                        Region { address: backend.allocate(bytes)?, bytes, last: job }
                    }
                }
                grown => Region { address: grown?, bytes, last: job },
            }
        };
        kept.taken += 1;
        kept.taken_bytes += region.bytes as u64;
        kept.stats.high_water = kept.stats.high_water.max(kept.taken_bytes);
        kept.peaks[0] = kept.peaks[0].max(kept.taken);
        Ok(region)
    }

    /// Takes back what a job had, once its work is done.
    ///
    /// # Errors
    /// What the runtime says to a debugging context.
    pub fn give_back(&self, backend: &dyn Backend, memory: &mut Memory) -> Result<()> {
        if memory.regions.is_empty() {
            return Ok(());
        }
        let mut kept = self.kept();
        if memory.regions.len() > 1 {
            // The next job of the class has it in one.
            let needed = rounded(memory.bytes());
            kept.needs[0] = kept.needs[0].max(needed);
            kept.size = kept.size.max(needed);
        }
        memory.used = 0;
        for region in memory.regions.drain(..) {
            kept.taken -= 1;
            kept.taken_bytes -= region.bytes as u64;
            if self.debug {
                backend.poison(region.address, region.bytes)?;
            }
            kept.free.push(region);
        }
        kept.ends += 1;
        if kept.is_closed {
            self.keep(backend, &mut kept, 0)?;
        } else if kept.ends == EPOCH {
            kept.ends = 0;
            let needed = kept.peaks.into_iter().max().unwrap_or_default();
            self.keep(backend, &mut kept, needed)?;
            kept.peaks = [kept.taken, kept.peaks[0]];
            // What no job needed for a while, the next one does not get.
            kept.size = kept.least.max(kept.needs[0]).max(kept.needs[1]);
            kept.needs = [0, kept.needs[0]];
        }
        Ok(())
    }

    /// Gives back to the runtime what is smaller than jobs of the class are: it would be kept beside what they get.
    fn release_outgrown(&self, backend: &dyn Backend, kept: &mut Kept) -> Result<()> {
        let size = kept.size;
        let (outgrown, free) = std::mem::take(&mut kept.free).into_iter().partition(|region| region.bytes < size);
        kept.free = free;
        for region in outgrown {
            self.release(backend, kept, &region)?;
        }
        Ok(())
    }

    fn release(&self, backend: &dyn Backend, kept: &mut Kept, region: &Region) -> Result<()> {
        if self.debug && !backend.unpoison(region.address, region.bytes)? {
            kept.stats.used_after_end += 1;
        }
        backend.release(region.address, region.bytes);
        kept.stats.trims += 1;
        Ok(())
    }

    /// Gives back to the runtime what is kept beyond `regions`, taken ones counted; the smallest first.
    fn keep(&self, backend: &dyn Backend, kept: &mut Kept, regions: usize) -> Result<()> {
        kept.free.sort_by_key(|region| std::cmp::Reverse(region.bytes));
        while kept.taken + kept.free.len() > regions
            && let Some(region) = kept.free.pop()
        {
            self.release(backend, kept, &region)?;
        }
        Ok(())
    }

    /// Gives back all that no job has; returns how many bytes.
    ///
    /// # Errors
    /// What the runtime says to a debugging context.
    pub fn trim(&self, backend: &dyn Backend) -> Result<u64> {
        let mut kept = self.kept();
        let bytes = kept.free.iter().map(|region| region.bytes as u64).sum();
        self.keep(backend, &mut kept, 0)?;
        Ok(bytes)
    }

    /// Gives back all that no job has, and the rest when its job ends.
    ///
    /// # Errors
    /// As [`Arena::trim`].
    pub fn close(&self, backend: &dyn Backend) -> Result<()> {
        self.kept().is_closed = true;
        self.trim(backend).map(drop)
    }

    /// The job that had this address last, where no job has it now.
    pub fn ended(&self, address: u64) -> Option<u64> {
        self.kept().free.iter().find(|region| region.has(address)).map(|region| region.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::host::Host;

    #[test]
    fn memory_of_a_job_is_cut_from_one_region_and_comes_again() {
        let arena = Arena::new(1 << 16, false);
        let mut memory = Memory::default();
        let mut alloc = |bytes, alignment| arena.alloc(&Host, &mut memory, 1, bytes, alignment).unwrap();
        let [first, second, third] = [alloc(100, 0), alloc(1000, 0), alloc(8, 64)];
        assert_eq!((second - first, third - second), (256, 1024));
        assert!(memory.has(first) && memory.has(third) && !memory.has(first - 1));
        arena.give_back(&Host, &mut memory).unwrap();
        assert_eq!(arena.ended(second), Some(1));
        let again = arena.alloc(&Host, &mut memory, 2, 100, 0).unwrap();
        assert_eq!(again, first);
        let stats = arena.stats();
        assert_eq!((stats.growths, stats.hits, stats.spills, stats.high_water), (1, 1, 0, 1 << 16));
        assert_eq!(arena.alloc(&Host, &mut memory, 2, 0, 0).unwrap_err().status, Status::Invalid);
        assert_eq!(arena.alloc(&Host, &mut memory, 2, 8, 48).unwrap_err().status, Status::Invalid);
        for bytes in [usize::MAX, usize::MAX - 8, usize::MAX - 300, usize::MAX - 70_000] {
            assert_eq!(arena.alloc(&Host, &mut memory, 2, bytes, 0).unwrap_err().status, Status::Memory, "{bytes}");
        }
    }

    #[test]
    fn what_jobs_have_outgrown_is_not_kept_beside_what_they_get() {
        let arena = Arena::new(1 << 16, false);
        let mut memory = Memory::default();
        let held = || {
            let kept = arena.kept();
            kept.taken_bytes + kept.free.iter().map(|region| region.bytes as u64).sum::<u64>()
        };
        let mut most = 0;
        for job in 0..5 {
            for _ in 0..16 {
                arena.alloc(&Host, &mut memory, job, 1 << 20, 0).unwrap();
                most = most.max(held());
            }
            arena.give_back(&Host, &mut memory).unwrap();
        }
        // Sixteen regions, then one; never both.
        assert!(most <= 18 << 20, "{most}");
        assert_eq!(arena.stats().trims, 16);
    }

    #[test]
    fn a_job_that_needs_more_spills_once_and_the_next_does_not() {
        let arena = Arena::new(1 << 16, false);
        let mut memory = Memory::default();
        for job in 0..3 {
            for _ in 0..4 {
                arena.alloc(&Host, &mut memory, job, 40_000, 0).unwrap();
            }
            arena.give_back(&Host, &mut memory).unwrap();
        }
        let stats = arena.stats();
        assert_eq!(stats.spills, 1, "{stats:?}");
    }

    #[test]
    fn one_large_job_does_not_make_all_that_follow_large() {
        let arena = Arena::new(1 << 16, false);
        let mut memory = Memory::default();
        for _ in 0..2 {
            arena.alloc(&Host, &mut memory, 1, 40 << 20, 0).unwrap();
        }
        arena.give_back(&Host, &mut memory).unwrap();
        for _ in 0..3 * EPOCH {
            arena.alloc(&Host, &mut memory, 2, 100, 0).unwrap();
            arena.give_back(&Host, &mut memory).unwrap();
        }
        let before = arena.stats().high_water;
        let mut many: Vec<Memory> = (0..8).map(|_| Memory::default()).collect();
        for memory in &mut many {
            arena.alloc(&Host, memory, 3, 100, 0).unwrap();
        }
        assert!(arena.stats().high_water < before + (1 << 20), "{:?}", arena.stats());
    }

    #[test]
    fn what_no_job_needs_any_more_goes_back() {
        let arena = Arena::new(4096, false);
        let mut many: Vec<Memory> = (0..8).map(|_| Memory::default()).collect();
        for memory in &mut many {
            arena.alloc(&Host, memory, 1, 100, 0).unwrap();
        }
        for memory in &mut many {
            arena.give_back(&Host, memory).unwrap();
        }
        // From then on one at a time: after an epoch in which no more were needed, and the one before it, one is kept.
        for _ in 0..3 * EPOCH {
            arena.alloc(&Host, &mut many[0], 2, 100, 0).unwrap();
            arena.give_back(&Host, &mut many[0]).unwrap();
        }
        assert_eq!(arena.stats().trims, 7);
        assert!(arena.trim(&Host).unwrap() > 0);
        assert_eq!((arena.stats().trims, arena.trim(&Host).unwrap()), (8, 0));
    }
}
