//! Waits as jobs: the class of what was launched, a token behind it, and the wait of the library.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use gpuos_job::{
    backend::{Backend, Stream, cuda::Cuda, hip::Hip},
    class::{Class, ClassOptions, Unknown},
    context::Context,
    identity, job,
};

use crate::{counts, fingerprint::Launched};

/// Classes that are told apart; what is launched in further ways is not understood.
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

/// Whom streams belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A context of CUDA.
    Cuda(u64),
    /// A device of HIP.
    Hip(i32),
}

/// Contexts of jobs; `None` where there can be none.
type Contexts = HashMap<Owner, Option<Arc<Context>>>;
static CONTEXTS: LazyLock<Mutex<Contexts>> = LazyLock::new(Mutex::default);
/// By owner and fingerprint.
type Classes = HashMap<(Owner, u64), Arc<Class>>;
static CLASSES_OF: LazyLock<Mutex<Classes>> = LazyLock::new(Mutex::default);

fn context(of: Owner) -> Option<Arc<Context>> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = contexts.entry(of).or_insert_with(|| {
        let backend: Option<Box<dyn Backend>> = inside(|| match of {
            Owner::Cuda(_) => Cuda::load("libcuda.so.1").ok().map(|cuda| Box::new(cuda) as Box<dyn Backend>),
            Owner::Hip(_) => Hip::load_first().ok().map(|hip| Box::new(hip) as Box<dyn Backend>),
        });
        backend.map(|backend| Context::new(backend, false))
    });
    made.clone()
}

fn class(context: &Context, of: Owner, launched: &Launched) -> Option<Arc<Class>> {
    let Launched { fingerprint, launches, range, .. } = *launched;
    let mut classes = CLASSES_OF.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = classes.get(&(of, fingerprint)) {
        return Some(Arc::clone(known));
    }
    if classes.len() >= CLASSES {
        return None;
    }
    // As the driver's own wait does by default: a sleep may only be what is known to be no later.
    let label = range.map_or_else(|| label(fingerprint, launches), |range| range.label());
    let unknown = Unknown::Spin;
    let class = context.class(ClassOptions { label, unknown, ..ClassOptions::default() });
    classes.insert((of, fingerprint), Arc::clone(&class));
    Some(class)
}

/// What people tell a class by whose launches are in no range.
fn label(fingerprint: u64, launches: u64) -> String {
    let word = if launches == 1 { "launch" } else { "launches" };
    format!("{launches} {word} #{:08x}", fingerprint as u32)
}

/// How many classes there are, and how many sleeps to a predicted time they have had.
pub(crate) fn learnt() -> (usize, u64) {
    let classes = CLASSES_OF.lock().unwrap_or_else(PoisonError::into_inner);
    (classes.len(), classes.values().map(|class| class.stats().sleeps).sum())
}

/// Jobs that are behind what the program waits for; their end is known when this is dropped.
#[derive(Default)]
pub(crate) struct Waited {
    jobs: Vec<u64>,
    has_entered: bool,
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.has_entered {
            identity::leave();
        }
        inside(|| self.jobs.drain(..).for_each(end));
    }
}

/// Waits for a job as its class has learnt, and ends it. A failure is the runtime's to say.
fn end(job: u64) {
    job::wait(job, None).ok();
    job::end(job).ok();
}

/// Makes jobs of what was launched in some streams, and waits for them where that is wanted. Whatever goes wrong, the runtime's own
/// wait follows and says it.
pub(crate) fn wait(of: Owner, launched: &[Launched]) -> Waited {
    let mut waited = Waited::default();
    let Some(context) = context(of) else {
        counts::count(&counts::PASSED);
        return waited;
    };
    let jobs = inside(|| {
        let begin = |one: &Launched| {
            let class = class(&context, of, one)?;
            let job = job::begin(&context, &class, Stream(one.stream)).ok()?;
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
    counts::count(if jobs.iter().all(Option::is_some) { &counts::JOBS } else { &counts::PASSED });
    let known = jobs.into_iter().flatten();
    if counts::parts().wait {
        inside(|| known.for_each(end));
    } else {
        waited.jobs = known.collect();
    }
    waited
}
