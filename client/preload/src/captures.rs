//! Whether the program captures a stream just now: meanwhile nothing is asked of the driver that it would not ask itself, since much
//! of that ends a capture, in whatever thread it is.

use std::{
    ffi::{c_int, c_uint, c_void},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    calls::{Code, Handle, Originals, original},
    waits::inside,
};

static OPEN: AtomicU64 = AtomicU64::new(0);

pub(crate) static BEGIN: Originals = Originals::new();
pub(crate) static BEGIN_TO_GRAPH: Originals = Originals::new();
pub(crate) static END: Originals = Originals::new();

type Begin = unsafe extern "C" fn(Handle, c_int) -> Code;
type BeginToGraph = unsafe extern "C" fn(Handle, Handle, *const c_void, *const c_void, usize, c_uint) -> Code;
type End = unsafe extern "C" fn(Handle, *mut Handle) -> Code;

/// Whether one is open.
pub(crate) fn are_open() -> bool {
    OPEN.load(Ordering::Acquire) > 0
}

/// Before it begins: what another thread does meanwhile must not end it.
fn begins(begin: impl FnOnce() -> Code) -> Code {
    OPEN.fetch_add(1, Ordering::AcqRel);
    let code = inside(begin);
    if code != 0 {
        OPEN.fetch_sub(1, Ordering::AcqRel);
    }
    code
}

pub(crate) unsafe extern "C" fn begin<const PLACE: usize>(stream: Handle, mode: c_int) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: Begin = unsafe { original(&BEGIN, PLACE) };
    // SAFETY: as the program calls it.
    begins(|| unsafe { original(stream, mode) })
}

pub(crate) unsafe extern "C" fn begin_to_graph<const PLACE: usize>(
    stream: Handle,
    graph: Handle,
    dependencies: *const c_void,
    data: *const c_void,
    count: usize,
    mode: c_uint,
) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: BeginToGraph = unsafe { original(&BEGIN_TO_GRAPH, PLACE) };
    // SAFETY: as the program calls it.
    begins(|| unsafe { original(stream, graph, dependencies, data, count, mode) })
}

pub(crate) unsafe extern "C" fn end<const PLACE: usize>(stream: Handle, graph: *mut Handle) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: End = unsafe { original(&END, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(stream, graph) });
    // Also one that has failed is over; of one that is none nothing is counted below 0.
    OPEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| open.checked_sub(1)).ok();
    code
}
