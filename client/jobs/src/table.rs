//! Handles: a number for each job, class and context, so that one that is no more there is an error and nothing worse.

use std::sync::{
    Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::{
    error::{Error, Result, Status},
    job::Job,
};

/// Jobs of a chunk.
const CHUNK: usize = 1024;
/// Chunks.
const CHUNKS: usize = 64;

#[derive(Default)]
struct Slot {
    generation: u32,
    job: Option<Job>,
}

struct Jobs {
    chunks: [OnceLock<Box<[Mutex<Slot>]>>; CHUNKS],
    free: Mutex<Vec<u32>>,
    made: AtomicU32,
}

static JOBS: Jobs =
    Jobs { chunks: [const { OnceLock::new() }; CHUNKS], free: Mutex::new(Vec::new()), made: AtomicU32::new(0) };

fn slot(index: u32) -> Option<MutexGuard<'static, Slot>> {
    let chunk = JOBS.chunks.get(index as usize / CHUNK)?.get()?;
    Some(chunk[index as usize % CHUNK].lock().unwrap_or_else(PoisonError::into_inner))
}

/// Of a handle: the generation, never 0, and the place.
const fn parts(handle: u64) -> (u32, u32) {
    ((handle >> 32) as u32, handle as u32)
}

/// Gives a job its handle.
pub(crate) fn insert(job: Job) -> Result<u64> {
    let index = JOBS.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let index = if let Some(index) = index {
        index
    } else {
        let index = JOBS.made.fetch_add(1, Ordering::Relaxed);
        if index as usize >= CHUNK * CHUNKS {
            JOBS.made.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Status::TooMany, format!("{} jobs", CHUNK * CHUNKS)));
        }
        let chunk = &JOBS.chunks[index as usize / CHUNK];
        chunk.get_or_init(|| (0..CHUNK).map(|_| Mutex::default()).collect());
        index
    };
    let mut slot = slot(index).ok_or_else(|| Error::new(Status::Internal, "a slot without a chunk"))?;
    slot.generation = slot.generation.wrapping_add(1).max(1);
    slot.job = Some(job);
    Ok(u64::from(slot.generation) << 32 | u64::from(index))
}

/// Does something with a job, while no other thread does.
pub(crate) fn with<T>(handle: u64, what: impl FnOnce(&mut Job) -> Result<T>) -> Result<T> {
    refuse_forked()?;
    let (generation, index) = parts(handle);
    let stale = || Error::new(Status::Stale, format!("no job {handle:#x}"));
    let mut slot = slot(index).ok_or_else(stale)?;
    if slot.generation != generation {
        return Err(stale());
    }
    what(slot.job.as_mut().ok_or_else(stale)?)
}

/// The first job of which something is true.
pub(crate) fn find(is_wanted: impl Fn(&Job) -> bool) -> Option<u64> {
    (0..JOBS.made.load(Ordering::Relaxed)).find_map(|index| {
        let slot = slot(index)?;
        let found = slot.job.as_ref().is_some_and(&is_wanted);
        found.then_some(u64::from(slot.generation) << 32 | u64::from(index))
    })
}

/// Takes a job away, when `may` says so; its handle is stale from then on.
pub(crate) fn remove(handle: u64, may: impl FnOnce(&mut Job) -> Result<()>) -> Result<Job> {
    with(handle, may)?;
    let (generation, index) = parts(handle);
    let stale = || Error::new(Status::Stale, format!("no job {handle:#x}"));
    let mut slot = slot(index).ok_or_else(stale)?;
    if slot.generation != generation {
        return Err(stale());
    }
    let job = slot.job.take().ok_or_else(stale)?;
    drop(slot);
    JOBS.free.lock().unwrap_or_else(PoisonError::into_inner).push(index);
    Ok(job)
}

/// Handles of classes or contexts: few, never used again, and with a number for their kind.
pub(crate) struct Names<T> {
    kind: u8,
    all: Mutex<Vec<Option<Arc<T>>>>,
}

impl<T> Names<T> {
    pub(crate) const fn new(kind: u8) -> Self {
        Self { kind, all: Mutex::new(Vec::new()) }
    }

    /// A handle has the kind in its highest byte, then three bytes of the thing's own (see [`mark_of`]), then the place.
    fn place(&self, handle: u64) -> Option<usize> {
        if (handle >> 56) as u8 != self.kind {
            return None;
        }
        (handle as u32).checked_sub(1).map(|place| place as usize)
    }

    /// The thing's own mark in its handle, without a look at the thing; `None` for a handle of another kind.
    pub(crate) fn mark_of(&self, handle: u64) -> Option<u32> {
        ((handle >> 56) as u8 == self.kind).then_some((handle >> 32) as u32 & 0xff_ffff)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Option<Arc<T>>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it a handle, with a mark of at most three bytes.
    pub(crate) fn insert(&self, thing: Arc<T>, mark: u32) -> u64 {
        let mut all = self.all();
        all.push(Some(thing));
        u64::from(self.kind) << 56 | u64::from(mark & 0xff_ffff) << 32 | all.len() as u64
    }

    pub(crate) fn get(&self, handle: u64) -> Result<Arc<T>> {
        refuse_forked()?;
        let found = self.place(handle).and_then(|place| self.all().get(place).cloned().flatten());
        found.ok_or_else(|| Error::new(Status::Stale, format!("nothing of this kind has the handle {handle:#x}")))
    }

    pub(crate) fn remove(&self, handle: u64) -> Result<Arc<T>> {
        refuse_forked()?;
        let mut all = self.all();
        let found = self.place(handle).and_then(|place| all.get_mut(place)).and_then(Option::take);
        found.ok_or_else(|| Error::new(Status::Stale, format!("nothing of this kind has the handle {handle:#x}")))
    }
}

static HAS_FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn forked() {
    HAS_FORKED.store(true, Ordering::Relaxed);
}

/// From now on a child of this process is told so: it has neither the device's state nor the threads.
pub(crate) fn notice_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function stores a word, which is allowed between fork and exec.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
}

/// Whether this is a child of the process that the library was used in.
pub(crate) fn has_forked() -> bool {
    HAS_FORKED.load(Ordering::Relaxed)
}

pub(crate) fn refuse_forked() -> Result<()> {
    if has_forked() {
        return Err(Error::new(Status::Forked, "begin anew after exec"));
    }
    Ok(())
}
