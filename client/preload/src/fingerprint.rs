//! What a thread has launched in each stream since it waited last: how much, and a fingerprint of it.
//!
//! The memory of a thread is plain: it has no destructor, which the C library would register under the loader's lock.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use gpuos_job::clock;

use crate::ranges::Range;

/// Streams of a thread that are told apart; what is launched in further ones is not understood.
const STREAMS: usize = 16;

/// What was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    /// The context that was current.
    pub(crate) context: u64,
    pub(crate) stream: u64,
    pub(crate) fingerprint: u64,
    pub(crate) launches: u64,
    /// When the first was.
    pub(crate) since: u64,
    /// In which range that was.
    pub(crate) range: Option<Range>,
}

#[derive(Clone, Copy)]
struct Streams {
    launched: [Option<Launched>; STREAMS],
    /// There were more than are told apart.
    is_incomplete: bool,
    /// Of which generation they are.
    generation: u64,
}

impl Streams {
    const NONE: Self = Self { launched: [None; STREAMS], is_incomplete: false, generation: 0 };

    /// What is left of it: nothing once a stream or a context was destroyed.
    fn current(&mut self) -> &mut Self {
        let generation = GENERATION.load(Ordering::Acquire);
        if self.generation != generation {
            *self = Self { generation, is_incomplete: true, ..Self::NONE };
        }
        self
    }

    fn of(&mut self, context: u64, stream: u64) -> Option<&mut Option<Launched>> {
        let is_it = |one: &Option<Launched>| one.is_some_and(|one| one.context == context && one.stream == stream);
        self.launched.iter_mut().find(|one| is_it(one))
    }
}

thread_local!(static STREAMS_OF_THREAD: RefCell<Streams> = const { RefCell::new(Streams::NONE) });

/// Rises when a stream or a context is destroyed: its handle may be another's from then on.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The first thread that launched, and whether another has.
static FIRST: AtomicU64 = AtomicU64::new(0);
static ARE_SEVERAL: AtomicBool = AtomicBool::new(false);

/// A stream or a context is destroyed: nothing that was launched in it is known any more.
pub(crate) fn forget() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

/// The generation that what was launched belongs to.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// Whether more than one thread has launched: then no thread knows all that a context does.
pub(crate) fn are_several_threads() -> bool {
    ARE_SEVERAL.load(Ordering::Relaxed)
}

/// FNV-1a, over words.
const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0100_0000_01b3)
}

/// The beginning of a fingerprint.
const START: u64 = 0xcbf2_9ce4_8422_2325;

/// A launch of a function, or of a graph.
pub(crate) fn launched(context: u64, stream: u64, what: u64) {
    STREAMS_OF_THREAD
        .try_with(|of_thread| {
            let Ok(mut streams) = of_thread.try_borrow_mut() else { return };
            let streams = streams.current();
            if let Some(Some(one)) = streams.of(context, stream) {
                one.fingerprint = mix(one.fingerprint, what);
                one.launches += 1;
                return;
            }
            note_thread(std::ptr::from_ref(of_thread) as u64);
            let Some(free) = streams.launched.iter_mut().find(|one| one.is_none()) else {
                streams.is_incomplete = true;
                return;
            };
            let range = Range::innermost();
            let of_range = range.iter().flat_map(Range::bytes).fold(START, |hash, byte| mix(hash, u64::from(*byte)));
            let (fingerprint, since) = (mix(of_range, what), clock::now());
            *free = Some(Launched { context, stream, fingerprint, launches: 1, since, range });
        })
        .ok();
}

/// A thread, by where its memory is.
fn note_thread(this: u64) {
    if ARE_SEVERAL.load(Ordering::Relaxed) {
        return;
    }
    if FIRST.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire).is_err_and(|first| first != this) {
        ARE_SEVERAL.store(true, Ordering::Relaxed);
    }
}

fn with<T>(what: impl FnOnce(&mut Streams) -> T) -> Option<T> {
    let done = STREAMS_OF_THREAD.try_with(|streams| streams.try_borrow_mut().ok().map(|mut all| what(all.current())));
    done.ok().flatten()
}

/// Whether anything was launched in a stream since the last wait for it.
pub(crate) fn has(context: u64, stream: u64) -> bool {
    with(|streams| streams.of(context, stream).is_some()).unwrap_or(false)
}

/// What was launched in a stream since the last wait for it; it begins anew.
pub(crate) fn take(context: u64, stream: u64) -> Option<Launched> {
    with(|streams| streams.of(context, stream).and_then(Option::take)).flatten()
}

/// What was launched in all streams of a context since the last wait; it begins anew. Empty where not all of it is known.
pub(crate) fn take_all(context: u64) -> Vec<Launched> {
    let taken = with(|streams| {
        let is_incomplete = std::mem::take(&mut streams.is_incomplete);
        let of_context = |one: &&mut Option<Launched>| one.is_some_and(|one| one.context == context);
        let taken: Vec<Launched> = streams.launched.iter_mut().filter(of_context).filter_map(Option::take).collect();
        if is_incomplete { Vec::new() } else { taken }
    });
    taken.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// One test at a time: what one forgets, all do.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn what_is_launched_in_another_order_stream_or_context_is_something_else() {
        let _alone = alone();
        take_all(1);
        let of = |launches: &[(u64, u64)]| {
            launches.iter().for_each(|(stream, what)| launched(1, *stream, *what));
            take_all(1).into_iter().map(|one| Launched { since: 0, ..one }).collect::<Vec<_>>()
        };
        let one = of(&[(1, 10), (1, 20)]);
        assert_eq!(one, of(&[(1, 10), (1, 20)]));
        assert_ne!(one, of(&[(1, 20), (1, 10)]));
        assert_ne!(one[0].fingerprint, of(&[(1, 10)])[0].fingerprint);
        // What goes on in another stream does not change it.
        let both = of(&[(1, 10), (2, 30), (1, 20)]);
        assert_eq!((both.len(), both[0]), (2, one[0]));
        launched(1, 0, 10);
        launched(2, 0, 10);
        launched(2, 0, 10);
        assert_eq!((take_all(2)[0].launches, take(1, 0).unwrap().launches, take(1, 0)), (2, 1, None));
        // What a destroyed stream had is not known any more, and so not all is.
        launched(1, 7, 10);
        forget();
        launched(1, 8, 10);
        assert_eq!((take(1, 7), take_all(1)), (None, Vec::new()));
    }

    #[test]
    fn more_streams_than_are_told_apart_are_not_understood() {
        let _alone = alone();
        (0..20).for_each(|stream| launched(1, stream, 1));
        assert_eq!(take_all(1), []);
        launched(1, 1, 1);
        assert_eq!(take_all(1).len(), 1);
    }
}
