//! The runtimes' functions as the program calls them: launches leave a fingerprint, waits become jobs, and each calls its original.
//!
//! One name has several pointers: of versions, and with a default stream for each thread. Each pointer gets a place of its own, and
//! the place calls the pointer that it was given.

use std::{
    ffi::{c_int, c_uint, c_void},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    counts::{self, count},
    fingerprint, program,
    runtimes::{self, Runtime},
    waits::{self, inside},
};

pub(crate) type Code = c_int;
pub(crate) type Handle = *mut c_void;

/// Pointers that one name may have.
pub(crate) const PLACES: usize = 4;

/// What is known of an original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Whose it is.
    pub(crate) runtime: Runtime,
    /// Its stream 0 is a thread's own.
    pub(crate) is_per_thread: bool,
}

/// A function's originals: what is called, and of which kind it is.
pub(crate) struct Originals {
    pointers: [AtomicUsize; PLACES],
    per_thread: AtomicU64,
    hip: AtomicU64,
}

impl Originals {
    pub(crate) const fn new() -> Self {
        Self {
            pointers: [const { AtomicUsize::new(0) }; PLACES],
            per_thread: AtomicU64::new(0),
            hip: AtomicU64::new(0),
        }
    }

    /// The place of a pointer; a new one where it has none. `None`: all are taken.
    pub(crate) fn place(&self, pointer: usize, kind: Kind) -> Option<usize> {
        for (place, known) in self.pointers.iter().enumerate() {
            match known.compare_exchange(0, pointer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.per_thread.fetch_or(u64::from(kind.is_per_thread) << place, Ordering::AcqRel);
                    self.hip.fetch_or(u64::from(kind.runtime == Runtime::Hip) << place, Ordering::AcqRel);
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

    /// Whether the place's function has a default stream for each thread.
    pub(crate) fn is_per_thread(&self, place: usize) -> bool {
        self.per_thread.load(Ordering::Acquire) >> place & 1 == 1
    }

    /// Whose the place's function is.
    pub(crate) fn runtime(&self, place: usize) -> Runtime {
        if self.hip.load(Ordering::Acquire) >> place & 1 == 1 { Runtime::Hip } else { Runtime::Cuda }
    }

    /// The stream that a handle stands for.
    fn stream(&self, place: usize, stream: Handle) -> u64 {
        program::stream_of(stream as u64, self.is_per_thread(place))
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
pub(crate) static LAUNCH_OF_HIP: Originals = Originals::new();
pub(crate) static RESET_OF_HIP: Originals = Originals::new();
pub(crate) static STREAM_DESTROY: Originals = Originals::new();
pub(crate) static EVENT_WAIT: Originals = Originals::new();
pub(crate) static COPY_OUT: Originals = Originals::new();

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
    program::launches(LAUNCH.runtime(PLACE), LAUNCH.stream(PLACE, stream), function as u64);
    // SAFETY: the type is that of `cuda.h`.
    let original: Launch = unsafe { original(&LAUNCH, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe {
        original(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters, extra)
    })
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
        program::launches(LAUNCH_EX.runtime(PLACE), LAUNCH_EX.stream(PLACE, stream), function as u64);
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: LaunchEx = unsafe { original(&LAUNCH_EX, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(config, function, parameters, extra) })
}

/// `dim3` of `hip_runtime_api.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Size {
    sizes: [c_uint; 3],
}

type LaunchOfHip = unsafe extern "C" fn(Handle, Size, Size, *mut Handle, usize, Handle) -> Code;

pub(crate) unsafe extern "C" fn launch_of_hip<const PLACE: usize>(
    function: Handle,
    grid: Size,
    block: Size,
    arguments: *mut Handle,
    shared: usize,
    stream: Handle,
) -> Code {
    program::launches(Runtime::Hip, LAUNCH_OF_HIP.stream(PLACE, stream), function as u64);
    // SAFETY: the type is that of `hip_runtime_api.h`.
    let original: LaunchOfHip = unsafe { original(&LAUNCH_OF_HIP, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(function, grid, block, arguments, shared, stream) })
}

type OfStream = unsafe extern "C" fn(Handle, Handle) -> Code;

pub(crate) unsafe extern "C" fn launch_graph<const PLACE: usize>(graph: Handle, stream: Handle) -> Code {
    program::launches(LAUNCH_GRAPH.runtime(PLACE), LAUNCH_GRAPH.stream(PLACE, stream), graph as u64);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfStream = unsafe { original(&LAUNCH_GRAPH, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(graph, stream) })
}

pub(crate) type OfOne = unsafe extern "C" fn(Handle) -> Code;

pub(crate) unsafe extern "C" fn stream_wait<const PLACE: usize>(stream: Handle) -> Code {
    let waited = program::waits_for_stream(STREAM_WAIT.runtime(PLACE), STREAM_WAIT.stream(PLACE, stream));
    // The driver's own wait would wait for what came after the call, too.
    if waited.is_over
        && let Some(code) = runtimes::outcome(STREAM_WAIT.runtime(PLACE), stream)
    {
        return code;
    }
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&STREAM_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(stream) });
    drop(waited);
    code
}

pub(crate) unsafe extern "C" fn stream_destroy<const PLACE: usize>(stream: Handle) -> Code {
    fingerprint::forget();
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&STREAM_DESTROY, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(stream) })
}

pub(crate) type OfNone = unsafe extern "C" fn() -> Code;

pub(crate) unsafe extern "C" fn context_wait<const PLACE: usize>() -> Code {
    let waited = program::waits_for_all(CONTEXT_WAIT.runtime(PLACE), |_| true);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfNone = unsafe { original(&CONTEXT_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original() });
    drop(waited);
    code
}

/// From CUDA 13 on a context may be named. Another than the current one is not understood.
pub(crate) unsafe extern "C" fn context_wait_of<const PLACE: usize>(context: Handle) -> Code {
    let waited = program::waits_for_all(Runtime::Cuda, |current| context.is_null() || context as u64 == current);
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&CONTEXT_WAIT_OF, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(context) });
    drop(waited);
    code
}

/// HIP's device is reset: nothing of it is known any more.
pub(crate) unsafe extern "C" fn reset_of_hip<const PLACE: usize>() -> Code {
    waits::forget_contexts();
    // SAFETY: the type is that of `hip_runtime_api.h`.
    let original: OfNone = unsafe { original(&RESET_OF_HIP, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original() })
}

pub(crate) unsafe extern "C" fn event_wait<const PLACE: usize>(event: Handle) -> Code {
    program::waits_for_event();
    // SAFETY: the type is that of `cuda.h`.
    let original: OfOne = unsafe { original(&EVENT_WAIT, PLACE) };
    // SAFETY: as the program calls it.
    inside(|| unsafe { original(event) })
}

type CopyOut = unsafe extern "C" fn(*mut c_void, u64, usize, Handle) -> Code;

/// A copy into pageable memory returns when all before it in its stream is done and it is: a wait by another name.
pub(crate) unsafe extern "C" fn copy_out<const PLACE: usize>(
    to: *mut c_void,
    from: u64,
    bytes: usize,
    stream: Handle,
) -> Code {
    // A copy of nothing may return at once.
    let waited = if bytes == 0 {
        waits::Waited::default()
    } else {
        program::waits_in_copy(COPY_OUT.stream(PLACE, stream), to as u64)
    };
    // SAFETY: the type is that of `cuda.h`.
    let original: CopyOut = unsafe { original(&COPY_OUT, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(to, from, bytes, stream) });
    drop(waited);
    code
}
