//! Waits as jobs: the class of what was launched, a token behind it, and the wait of the library.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use gpuos_job::{
    backend::{Backend, Stream, cuda::Cuda, hip::Hip},
    class::{Class, ClassOptions, Unknown},
    context::Context,
    identity, job,
};

use crate::{
    counts,
    fingerprint::{self, Launched},
    runtimes,
};

/// Classes that are told apart; of more the one that was used longest ago goes.
const CLASSES: usize = 1024;

thread_local!(static IS_INSIDE: Cell<bool> = const { Cell::new(false) });

/// Whether this thread is in a call of this library, which looks symbols up for itself.
pub(crate) fn is_inside() -> bool {
    IS_INSIDE.try_with(Cell::get).unwrap_or(true)
}

/// Does something that calls the runtime for this library itself, or in the program's place: what the runtime calls meanwhile is its
/// own.
pub(crate) fn inside<T>(what: impl FnOnce() -> T) -> T {
    let before = IS_INSIDE.try_with(|is_inside| is_inside.replace(true)).unwrap_or(true);
    let result = what();
    IS_INSIDE.try_with(|is_inside| is_inside.set(before)).ok();
    result
}

/// Contexts of jobs by contexts of CUDA and devices of HIP; `None` where there can be none.
type Contexts = HashMap<u64, Option<Arc<Context>>>;
static CONTEXTS: LazyLock<Mutex<Contexts>> = LazyLock::new(Mutex::default);
/// By context and fingerprint, with the time of their last use.
type Classes = HashMap<(u64, u64), (Arc<Class>, u64)>;
static CLASSES_OF: LazyLock<Mutex<Classes>> = LazyLock::new(Mutex::default);

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn context(of: u64) -> Option<Arc<Context>> {
    if let Some(known) = locked(&CONTEXTS).get(&of) {
        return known.clone();
    }
    // Without the lock: the loader has one of its own.
    let backend: Option<Box<dyn Backend>> = inside(|| {
        if !runtimes::is_of_hip(of) {
            return Cuda::load("libcuda.so.1").ok().map(|cuda| Box::new(cuda) as Box<dyn Backend>);
        }
        // The library that the program has, and no other.
        let file = OsStr::from_bytes(runtimes::hip_file()?.to_bytes());
        Hip::load(file).ok().map(|hip| Box::new(hip) as Box<dyn Backend>)
    });
    let made = backend.map(|backend| Context::new(backend, false));
    locked(&CONTEXTS).entry(of).or_insert(made).clone()
}

/// Contexts of CUDA are destroyed, and with them the memory that tokens are in; a new one may have the same handle.
pub(crate) fn forget_contexts() {
    fingerprint::forget();
    locked(&CLASSES_OF).clear();
    // What they would give back is gone.
    locked(&CONTEXTS).drain().for_each(|(_, context)| std::mem::forget(context));
}

fn class(context: &Context, of: u64, launched: &Launched) -> Arc<Class> {
    let Launched { fingerprint, launches, range, since, .. } = *launched;
    let mut classes = locked(&CLASSES_OF);
    if let Some((known, used)) = classes.get_mut(&(of, fingerprint)) {
        *used = since;
        return Arc::clone(known);
    }
    if classes.len() >= CLASSES
        && let Some(oldest) = classes.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
    {
        classes.remove(&oldest);
    }
    // As the driver's own wait does by default: a sleep may only be what is known to be no later.
    let label = range.map_or_else(|| label(fingerprint, launches), |range| range.label());
    let unknown = Unknown::Spin;
    let class = context.class(ClassOptions { label, unknown, ..ClassOptions::default() });
    classes.insert((of, fingerprint), (Arc::clone(&class), since));
    class
}

/// What people tell a class by whose launches are in no range.
fn label(fingerprint: u64, launches: u64) -> String {
    let word = if launches == 1 { "launch" } else { "launches" };
    format!("{launches} {word} #{:08x}", fingerprint as u32)
}

/// How many classes there are, and how many sleeps to a predicted time they have had.
pub(crate) fn learnt() -> (usize, u64) {
    let classes = locked(&CLASSES_OF);
    (classes.len(), classes.values().map(|(class, _)| class.stats().sleeps).sum())
}

/// Jobs that are behind what the program waits for; their end is known when this is dropped.
#[derive(Default)]
pub(crate) struct Waited {
    jobs: Vec<u64>,
    has_entered: bool,
    /// All that was launched has ended well.
    pub(crate) is_over: bool,
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.has_entered {
            identity::leave();
        }
        inside(|| {
            for job in self.jobs.drain(..) {
                end(job);
            }
        });
    }
}

/// Waits for a job as its class has learnt, and ends it. False: it failed, which is the driver's to say.
fn end(job: u64) -> bool {
    let is_done = job::wait(job, None).is_ok();
    job::end(job).ok();
    is_done
}

/// Makes jobs of what was launched in some streams of the current context, and waits for them where that is wanted. Whatever goes
/// wrong, the driver's own wait follows and says it.
pub(crate) fn wait(of: u64, launched: &[Launched]) -> Waited {
    let mut waited = Waited::default();
    let generation = fingerprint::generation();
    let Some(context) = context(of) else {
        counts::count(&counts::PASSED);
        return waited;
    };
    let jobs = inside(|| {
        let begin = |one: &Launched| {
            let class = class(&context, of, one);
            // Another thread may have destroyed a stream.
            let job =
                (fingerprint::generation() == generation).then(|| job::begin(&context, &class, Stream(one.stream)));
            let job = job?.ok()?;
            if job::submit_since(job, one.since).is_err() {
                job::end(job).ok();
                return None;
            }
            if !counts::parts().wait && !waited.has_entered {
                class.enter();
                waited.has_entered = true;
            }
            Some(job)
        };
        launched.iter().map(begin).collect::<Vec<Option<u64>>>()
    });
    let are_all = jobs.iter().all(Option::is_some);
    counts::count(if are_all { &counts::JOBS } else { &counts::PASSED });
    let known: Vec<u64> = jobs.into_iter().flatten().collect();
    if counts::parts().wait {
        // Every one is waited for and ended, whatever became of others.
        let failed = inside(|| known.into_iter().filter(|job| !end(*job)).count());
        waited.is_over = are_all && failed == 0;
    } else {
        waited.jobs = known;
    }
    waited
}
