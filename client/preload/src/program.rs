//! What the program does: it launches and waits.

use crate::{
    captures,
    counts::{self, count, is_on},
    fingerprint::{self, Launched},
    runtimes::{self, Runtime},
    waits::{self, Waited},
};

/// A handle: the default stream of each thread, from `cuda.h` and `hip_runtime_api.h`.
const PER_THREAD: u64 = 2;

/// The stream that a handle stands for, in a function whose stream 0 is a thread's own or not.
pub(crate) fn stream_of(handle: u64, is_per_thread: bool) -> u64 {
    if handle == 0 && is_per_thread { PER_THREAD } else { handle }
}

/// It launches something.
pub(crate) fn launches(runtime: Runtime, stream: u64, what: u64) {
    if waits::is_inside() || !is_on() {
        return;
    }
    count(&counts::LAUNCHES);
    if let Some(context) = runtimes::current(runtime) {
        fingerprint::launched(context, stream, what);
    }
}

/// It is about to wait for a stream. What is returned says what is left to do, and is dropped when that is over.
pub(crate) fn waits_for_stream(runtime: Runtime, stream: u64) -> Waited {
    if waits::is_inside() {
        return Waited::default();
    }
    waits_for(runtime, |context| fingerprint::take(context, stream).into_iter().collect())
}

/// It is about to wait for all that a context does; of several threads none knows all of that. `is_current`: of the current one.
pub(crate) fn waits_for_all(runtime: Runtime, is_current: impl FnOnce(u64) -> bool) -> Waited {
    if waits::is_inside() {
        return Waited::default();
    }
    let mut waited = waits_for(runtime, |context| {
        let launched = fingerprint::take_all(context);
        if is_current(context) && !fingerprint::are_several_threads() { launched } else { Vec::new() }
    });
    // There may be more than launches.
    waited.is_over = false;
    waited
}

/// It is about to copy from a device of CUDA, in a stream, to this address of the host. Where that is memory which the driver does not
/// know, the copy waits for all before it.
pub(crate) fn waits_in_copy(stream: u64, to: u64) -> Waited {
    let runtime = Runtime::Cuda;
    let is_something_before =
        || runtimes::current(runtime).is_some_and(|context| fingerprint::has(context, stream)) && !captures::are_open();
    if waits::is_inside() || !is_on() || !is_something_before() || !runtimes::is_pageable(to) {
        return Waited::default();
    }
    waits_for(runtime, |context| fingerprint::take(context, stream).into_iter().collect())
}

/// It is about to wait for an event: that is the driver's, since nothing is known of what is behind it in its stream.
pub(crate) fn waits_for_event() {
    if !waits::is_inside() {
        count(&counts::WAITS);
        count(&counts::PASSED);
        counts::tell_at_the_end();
    }
}

fn waits_for(runtime: Runtime, launched: impl FnOnce(u64) -> Vec<Launched>) -> Waited {
    count(&counts::WAITS);
    counts::tell_at_the_end();
    // What is not wanted now is not launched since the last wait either.
    let context = if is_on() { runtimes::current(runtime) } else { None };
    let launched = context.map(launched).unwrap_or_default();
    match context {
        Some(context) if !launched.is_empty() && !captures::are_open() => waits::wait(context, &launched),
        _ => {
            count(&counts::PASSED);
            Waited::default()
        }
    }
}
