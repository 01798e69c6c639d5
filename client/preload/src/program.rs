//! What the program does, whatever its runtime: it launches, records events, and waits.

use std::cell::RefCell;

use crate::{
    counts::{self, count, is_on},
    fingerprint::{self, Launched},
    waits::{self, Owner, Waited},
};

/// A handle: the default stream of each thread, from `cuda.h` and `hip_runtime_api.h`.
const PER_THREAD: u64 = 2;
/// Events of a thread that are told apart.
const EVENTS: usize = 64;

// The events that this thread recorded last: in which stream, and after which of its launches.
thread_local!(static RECORDED: RefCell<Vec<(u64, Launched)>> = const { RefCell::new(Vec::new()) });

/// The stream that a handle stands for, in a function whose stream 0 is a thread's own or not.
pub(crate) fn stream_of(handle: u64, is_per_thread: bool) -> u64 {
    if handle == 0 && is_per_thread { PER_THREAD } else { handle }
}

/// It launches something.
pub(crate) fn launches(stream: u64, what: u64) {
    if !waits::is_inside() {
        count(&counts::LAUNCHES);
        fingerprint::launched(stream, what);
    }
}

/// It records an event.
pub(crate) fn records(event: u64, stream: u64) {
    if waits::is_inside() || !is_on() {
        return;
    }
    let launched = fingerprint::look(stream);
    RECORDED
        .try_with(|recorded| {
            let mut recorded = recorded.borrow_mut();
            recorded.retain(|(known, _)| *known != event);
            if let Some(launched) = launched {
                if recorded.len() == EVENTS {
                    recorded.remove(0);
                }
                recorded.push((event, launched));
            }
        })
        .ok();
}

/// It is about to wait for a stream. What is returned is dropped when the runtime's own wait is over.
pub(crate) fn waits_for_stream(owner: impl FnOnce() -> Option<Owner>, stream: u64) -> Waited {
    if waits::is_inside() {
        return Waited::default();
    }
    waits_for(owner, fingerprint::take(stream).as_slice())
}

/// It is about to wait for all of its streams; `is_understood`: those of the owner.
pub(crate) fn waits_for_all(owner: impl FnOnce() -> Option<Owner>, is_understood: impl FnOnce() -> bool) -> Waited {
    if waits::is_inside() {
        return Waited::default();
    }
    let launched = fingerprint::take_all().unwrap_or_default();
    waits_for(owner, if is_understood() { &launched } else { &[] })
}

/// It is about to wait for an event.
pub(crate) fn waits_for_event(owner: impl FnOnce() -> Option<Owner>, event: u64) -> Waited {
    if waits::is_inside() {
        return Waited::default();
    }
    let recorded = RECORDED.try_with(|recorded| {
        let mut recorded = recorded.borrow_mut();
        let place = recorded.iter().position(|(known, _)| *known == event)?;
        Some(recorded.remove(place).1)
    });
    // A token behind all of the stream is one behind the event, where nothing was launched since.
    let still = |one: &Launched| fingerprint::look(one.stream) == Some(*one);
    let launched = recorded.ok().flatten().filter(still);
    if let Some(one) = launched {
        fingerprint::take(one.stream);
    }
    waits_for(owner, launched.as_slice())
}

fn waits_for(owner: impl FnOnce() -> Option<Owner>, launched: &[Launched]) -> Waited {
    count(&counts::WAITS);
    counts::tell_at_the_end();
    let owner = if is_on() && !launched.is_empty() { owner() } else { None };
    let Some(owner) = owner else {
        count(&counts::PASSED);
        return Waited::default();
    };
    waits::wait(owner, launched)
}
