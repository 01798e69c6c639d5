//! Waits as jobs: the class of what was launched, a token behind it, and the wait of the library.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use gpuos_job::{
    backend::{Stream, cuda::Cuda},
    class::{Class, ClassOptions, Unknown},
    context::Context,
    job,
};

use crate::{counts, fingerprint::Launched};

/// Classes that are told apart; what is launched in further ways is not understood.
const CLASSES: usize = 1024;

thread_local!(static IS_INSIDE: Cell<bool> = const { Cell::new(false) });

/// Whether this thread is in a call of this library, which looks symbols up for itself.
pub(crate) fn is_inside() -> bool {
    IS_INSIDE.try_with(Cell::get).unwrap_or(true)
}

/// Does something that calls the driver for this library itself.
pub(crate) fn inside<T>(what: impl FnOnce() -> T) -> T {
    let before = IS_INSIDE.try_with(|is_inside| is_inside.replace(true)).unwrap_or(true);
    let result = what();
    IS_INSIDE.try_with(|is_inside| is_inside.set(before)).ok();
    result
}

/// Contexts of jobs by contexts of CUDA; `None` where there can be none.
type Contexts = HashMap<u64, Option<Arc<Context>>>;
static CONTEXTS: LazyLock<Mutex<Contexts>> = LazyLock::new(Mutex::default);
/// By context and fingerprint.
type Classes = HashMap<(u64, u64), Arc<Class>>;
static CLASSES_OF: LazyLock<Mutex<Classes>> = LazyLock::new(Mutex::default);

fn context(of: u64) -> Option<Arc<Context>> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = contexts.entry(of).or_insert_with(|| {
        let cuda = inside(|| Cuda::load("libcuda.so.1"));
        cuda.ok().map(|cuda| Context::new(Box::new(cuda), false))
    });
    made.clone()
}

fn class(context: &Context, of: u64, launched: &Launched) -> Option<Arc<Class>> {
    let Launched { fingerprint, launches, .. } = *launched;
    let mut classes = CLASSES_OF.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = classes.get(&(of, fingerprint)) {
        return Some(Arc::clone(known));
    }
    if classes.len() >= CLASSES {
        return None;
    }
    // As the driver's own wait does by default: a sleep may only be what is known to be no later.
    let (label, unknown) = (label(fingerprint, launches), Unknown::Spin);
    let class = context.class(ClassOptions { label, unknown, ..ClassOptions::default() });
    classes.insert((of, fingerprint), Arc::clone(&class));
    Some(class)
}

/// What people tell a class by.
fn label(fingerprint: u64, launches: u64) -> String {
    let word = if launches == 1 { "launch" } else { "launches" };
    format!("{launches} {word} #{:08x}", fingerprint as u32)
}

/// How many classes there are, and how many sleeps to a predicted time they have had.
pub(crate) fn learnt() -> (usize, u64) {
    let classes = CLASSES_OF.lock().unwrap_or_else(PoisonError::into_inner);
    (classes.len(), classes.values().map(|class| class.stats().sleeps).sum())
}

/// Waits for what was launched in some streams of the current context, as jobs. Whatever goes wrong, the driver's own wait
/// follows and says it.
pub(crate) fn wait(current: u64, launched: &[Launched]) {
    let Some(context) = context(current) else {
        counts::count(&counts::PASSED);
        return;
    };
    let jobs = inside(|| {
        let begin = |one: &Launched| {
            let class = class(&context, current, one)?;
            let job = job::begin(&context, &class, Stream(one.stream)).ok()?;
            if job::submit_since(job, one.since).is_err() {
                job::end(job).ok();
                return None;
            }
            Some(job)
        };
        let jobs: Vec<Option<u64>> = launched.iter().map(begin).collect();
        let known: Vec<u64> = jobs.iter().flatten().copied().collect();
        for job in &known {
            // A failure is the driver's to say.
            job::wait(*job, None).ok();
            job::end(*job).ok();
        }
        known.len()
    });
    counts::count(if jobs == launched.len() { &counts::JOBS } else { &counts::PASSED });
}
