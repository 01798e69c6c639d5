//! The driver's functions as the program calls them: launches leave a fingerprint, waits become jobs, and each calls its original.
//!
//! One name has several pointers: of versions, and with a default stream for each thread. Each pointer gets a place of its own, and
//! the place calls the pointer that it was given.

use std::{
    ffi::{c_int, c_uint, c_void},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    counts::{self, count, is_on},
    fingerprint::{self, Launched, launched},
    waits::{self, inside},
};

pub(crate) type Code = c_int;
pub(crate) type Handle = *mut c_void;

/// Pointers that one name may have.
pub(crate) const PLACES: usize = 4;
/// A handle: the default stream of each thread, from `cuda.h`.
const PER_THREAD: u64 = 2;

/// A function's originals: what is called, and whether its stream 0 is a thread's own.
pub(crate) struct Originals {
    pointers: [AtomicUsize; PLACES],
    per_thread: AtomicU64,
}

impl Originals {
    pub(crate) const fn new() -> Self {
        Self { pointers: [const { AtomicUsize::new(0) }; PLACES], per_thread: AtomicU64::new(0) }
    }

    /// The place of a pointer; a new one where it has none. `None`: all are taken.
    pub(crate) fn place(&self, pointer: usize, is_per_thread: bool) -> Option<usize> {
        for (place, known) in self.pointers.iter().enumerate() {
            match known.compare_exchange(0, pointer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.per_thread.fetch_or(u64::from(is_per_thread) << place, Ordering::AcqRel);
                    return Some(place);
                }
                Err(other) if other == pointer => return Some(place),
                Err(_) => {}
            }
        }
        count(&counts::UNPLACED);
        None
    }

    fn pointer(&self, place: usize) -> usize {
        self.pointers[place].load(Ordering::Acquire)
    }

    /// The stream that a handle stands for.
    fn stream(&self, place: usize, stream: Handle) -> u64 {
        let is_per_thread = self.per_thread.load(Ordering::Acquire) >> place & 1 == 1;
        if stream.is_null() && is_per_thread { PER_THREAD } else { stream as u64 }
    }
}

/// The original that stands at a place, as a function.
///
/// # Safety
/// `T` is the function's type, and the place has an original: nothing else calls a place.
pub(crate) unsafe fn original<T: Copy>(originals: &Originals, place: usize) -> T {
    const { assert!(size_of::<T>() == size_of::<usize>()) };
    let pointer = originals.pointer(place);
    // SAFETY: a function pointer is as large, and the caller says which it is.
    unsafe { std::mem::transmute_copy(&pointer) }
}

pub(crate) static LAUNCH: Originals = Originals::new();
pub(crate) static LAUNCH_EX: Originals = Originals::new();
pub(crate) static LAUNCH_GRAPH: Originals = Originals::new();
pub(crate) static STREAM_WAIT: Originals = Originals::new();
pub(crate) static CONTEXT_WAIT: Originals = Originals::new();
pub(crate) static CONTEXT_WAIT_OF: Originals = Originals::new();
pub(crate) static EVENT_RECORD: Originals = Originals::new();
pub(crate) static EVENT_WAIT: Originals = Originals::new();

type Launch = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut Handle,
    *mut Handle,
) -> Code;

pub(crate) unsafe extern "C" fn launch<const PLACE: usize>(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: Handle,
    parameters: *mut Handle,
    extra: *mut Handle,
) -> Code {
    noted(LAUNCH.stream(PLACE, stream), function as u64);
    // SAFETY: the type is that of `cuda.h`.
    let original: Launch = unsafe { original(&LAUNCH, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters, extra) }
}

/// The beginning of `CUlaunchConfig`, from `cuda.h`.
#[repr(C)]
pub(crate) struct LaunchConfig {
    sizes: [c_uint; 7],
    stream: Handle,
}

type LaunchEx = unsafe extern "C" fn(*const LaunchConfig, Handle, *mut Handle, *mut Handle) -> Code;

pub(crate) unsafe extern "C" fn launch_ex<const PLACE: usize>(
    config: *const LaunchConfig,
    function: Handle,
    parameters: *mut Handle,
    extra: *mut Handle,
) -> Code {
    if !config.is_null() {
        // SAFETY: the driver reads it, too.
        let stream = unsafe { (*config).stream };
        noted(LAUNCH_EX.stream(PLACE, stream), function as u64);
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: LaunchEx = unsafe { original(&LAUNCH_EX, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(config, function, parameters, extra) }
}

type OfStream = unsafe extern "C" fn(Handle, Handle) -> Code;

pub(crate) unsafe extern "C" fn launch_graph<const PLACE: usize>(graph: Handle, stream: Handle) -> Code {
    noted(LAUNCH_GRAPH.stream(PLACE, stream), graph as u64);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfStream = unsafe { original(&LAUNCH_GRAPH, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(graph, stream) }
}

/// A launch of the program.
fn noted(stream: u64, what: u64) {
    if !waits::is_inside() {
        count(&counts::LAUNCHES);
        launched(stream, what);
    }
}

type OfOne = unsafe extern "C" fn(Handle) -> Code;

pub(crate) unsafe extern "C" fn stream_wait<const PLACE: usize>(stream: Handle) -> Code {
    if !waits::is_inside() {
        let launched = fingerprint::take(STREAM_WAIT.stream(PLACE, stream));
        job_for(&launched.map(|one| vec![one]).unwrap_or_default());
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&STREAM_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(stream) }
}

type OfNone = unsafe extern "C" fn() -> Code;

pub(crate) unsafe extern "C" fn context_wait<const PLACE: usize>() -> Code {
    if !waits::is_inside() {
        job_for(&fingerprint::take_all().unwrap_or_default());
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfNone = unsafe { original(&CONTEXT_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original() }
}

/// From CUDA 13 on a context may be named. Another than the current one is not understood.
pub(crate) unsafe extern "C" fn context_wait_of<const PLACE: usize>(context: Handle) -> Code {
    if !waits::is_inside() {
        let launched = fingerprint::take_all().unwrap_or_default();
        job_for(if context.is_null() || context as u64 == current() { &launched } else { &[] });
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&CONTEXT_WAIT_OF, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(context) }
}

/// Events of a thread that are told apart.
const EVENTS: usize = 64;

// The events that this thread recorded last: in which stream, and after which of its launches.
thread_local!(static RECORDED: std::cell::RefCell<Vec<(u64, Launched)>> = const { std::cell::RefCell::new(Vec::new()) });

pub(crate) unsafe extern "C" fn event_record<const PLACE: usize>(event: Handle, stream: Handle) -> Code {
    if !waits::is_inside() && is_on() {
        let launched = fingerprint::look(EVENT_RECORD.stream(PLACE, stream));
        RECORDED
            .try_with(|recorded| {
                let mut recorded = recorded.borrow_mut();
                recorded.retain(|(known, _)| *known != event as u64);
                if let Some(launched) = launched {
                    if recorded.len() == EVENTS {
                        recorded.remove(0);
                    }
                    recorded.push((event as u64, launched));
                }
            })
            .ok();
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfStream = unsafe { original(&EVENT_RECORD, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(event, stream) }
}

pub(crate) unsafe extern "C" fn event_wait<const PLACE: usize>(event: Handle) -> Code {
    if !waits::is_inside() {
        let recorded = RECORDED.try_with(|recorded| {
            let mut recorded = recorded.borrow_mut();
            let place = recorded.iter().position(|(known, _)| *known == event as u64)?;
            Some(recorded.remove(place).1)
        });
        // A token behind all of the stream is one behind the event, where nothing was launched since.
        let still = |one: &Launched| fingerprint::look(one.stream) == Some(*one);
        let launched = recorded.ok().flatten().filter(still);
        if let Some(one) = launched {
            fingerprint::take(one.stream);
        }
        job_for(&launched.map(|one| vec![one]).unwrap_or_default());
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&EVENT_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    unsafe { original(event) }
}

/// The context that is current, 0 where none is.
fn current() -> u64 {
    type GetCurrent = unsafe extern "C" fn(*mut Handle) -> Code;
    let Some(function) = crate::symbols::of_driver(c"cuCtxGetCurrent") else { return 0 };
    // SAFETY: the type is that of `cuda.h`.
    let get_current: GetCurrent = unsafe { std::mem::transmute(function) };
    let mut context = std::ptr::null_mut();
    // SAFETY: writes the handle.
    let code = inside(|| unsafe { get_current(&raw mut context) });
    if code == 0 { context as u64 } else { 0 }
}

/// A wait of the program, for what it launched.
fn job_for(launched: &[Launched]) {
    count(&counts::WAITS);
    counts::tell_at_the_end();
    let context = if is_on() && !launched.is_empty() { current() } else { 0 };
    if context == 0 {
        count(&counts::PASSED);
        return;
    }
    waits::wait(context, launched);
}
