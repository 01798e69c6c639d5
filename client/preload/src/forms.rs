//! What the runtimes' functions are called, and which form of a function a program was given.
//!
//! `dlsym` finds a symbol, which has one form. `cuGetProcAddress` finds the newest form that a version of CUDA has: from 13.0 on
//! `cuCtxSynchronize` has an argument, from 12.0 on `cuGetProcAddress` itself has five. A form that is not in the table here, because
//! a newer driver brought it, is left alone and counted.

use std::ffi::{CStr, c_int};

use crate::{
    calls::{
        self, CONTEXT_WAIT, CONTEXT_WAIT_OF, COPY_OUT, Code, EVENT_WAIT, Handle, Kind, LAUNCH, LAUNCH_EX, LAUNCH_GRAPH,
        LAUNCH_OF_HIP, Originals, RESET_OF_HIP, STREAM_DESTROY, STREAM_WAIT, original,
    },
    captures,
    counts::{self, count},
    memory::{self, ALLOCATE, DESTROY_CONTEXT, EXPORT, FREE, RELEASE_PRIMARY, RESET_PRIMARY},
    runtimes::{self, Runtime},
    waits::{self, inside},
};

/// A form of a function, from CUDA's `cudaTypedefs.h`: `PFN_NAME_vSINCE` and `PFN_NAME_vSINCE_ptsz`.
struct Form {
    name: &'static str,
    /// The version of CUDA that brought it.
    since: c_int,
    /// The version that brought it with a default stream for each thread; 0: it has no stream.
    per_thread_since: c_int,
    /// Its symbol.
    symbol: &'static str,
}

const fn form(name: &'static str, since: c_int, per_thread_since: c_int, symbol: &'static str) -> Form {
    Form { name, since, per_thread_since, symbol }
}

/// Forms of one name: the newest last.
static FORMS: [Form; 20] = [
    form("cuLaunchKernel", 4000, 7000, "cuLaunchKernel"),
    form("cuLaunchKernelEx", 11060, 11060, "cuLaunchKernelEx"),
    form("cuGraphLaunch", 10000, 10000, "cuGraphLaunch"),
    form("cuStreamSynchronize", 2000, 7000, "cuStreamSynchronize"),
    form("cuCtxSynchronize", 2000, 0, "cuCtxSynchronize"),
    form("cuCtxSynchronize", 13000, 0, "cuCtxSynchronize_v2"),
    form("cuStreamDestroy", 4000, 0, "cuStreamDestroy_v2"),
    form("cuStreamBeginCapture", 10010, 10010, "cuStreamBeginCapture_v2"),
    form("cuStreamBeginCaptureToGraph", 12030, 12030, "cuStreamBeginCaptureToGraph"),
    form("cuStreamEndCapture", 10000, 10000, "cuStreamEndCapture"),
    form("cuEventSynchronize", 2000, 0, "cuEventSynchronize"),
    form("cuMemcpyDtoHAsync", 3020, 7000, "cuMemcpyDtoHAsync_v2"),
    form("cuGetProcAddress", 11030, 0, "cuGetProcAddress"),
    form("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
    form("cuMemAlloc", 3020, 0, "cuMemAlloc_v2"),
    form("cuMemFree", 3020, 0, "cuMemFree_v2"),
    form("cuCtxDestroy", 4000, 0, "cuCtxDestroy_v2"),
    form("cuDevicePrimaryCtxRelease", 11000, 0, "cuDevicePrimaryCtxRelease_v2"),
    form("cuDevicePrimaryCtxReset", 11000, 0, "cuDevicePrimaryCtxReset_v2"),
    form("cuIpcGetMemHandle", 4010, 0, "cuIpcGetMemHandle"),
];

/// HIP's functions, each of one form; those that end with `_spt` have a default stream for each thread.
static OF_HIP: [&str; 11] = [
    "hipModuleLaunchKernel",
    "hipLaunchKernel",
    "hipGraphLaunch",
    "hipStreamSynchronize",
    "hipDeviceSynchronize",
    "hipEventSynchronize",
    "hipStreamDestroy",
    "hipStreamBeginCapture",
    "hipStreamEndCapture",
    "hipDeviceReset",
    "hipDevicePrimaryCtxReset",
];

static GET_PROC: Originals = Originals::new();
static GET_PROC_V2: Originals = Originals::new();

/// A flag: stream 0 is a thread's own.
const PER_THREAD_FLAG: u64 = 2;
/// A flag: it is that of all.
const LEGACY_FLAG: u64 = 1;

macro_rules! places {
    ($originals:expr, $pointer:expr, $kind:expr, $function:path) => {{
        use $function as function;
        let places = [
            function::<0> as *const () as usize,
            function::<1> as *const () as usize,
            function::<2> as *const () as usize,
            function::<3> as *const () as usize,
        ];
        // One of ours is none of the driver's.
        if places.contains(&$pointer) {
            $pointer
        } else {
            $originals.place($pointer, $kind).map_or($pointer, |place| places[place])
        }
    }};
}

/// Whether a symbol is one of those here.
pub(crate) fn is_symbol(name: &CStr) -> bool {
    let name = name.to_bytes();
    let name = name.strip_suffix(b"_ptsz").unwrap_or(name);
    if name.starts_with(b"hip") {
        let name = name.strip_suffix(b"_spt").unwrap_or(name);
        return OF_HIP.iter().any(|symbol| symbol.as_bytes() == name);
    }
    name.starts_with(b"cu") && FORMS.iter().any(|form| form.symbol.as_bytes() == name)
}

/// What a program gets for a symbol of a runtime: a place of this library, or the function itself.
pub(crate) fn exchange(symbol: &str, pointer: usize, is_per_thread: bool) -> usize {
    let runtime = if symbol.starts_with("hip") { Runtime::Hip } else { Runtime::Cuda };
    let (symbol, is_per_thread) = match symbol.strip_suffix("_ptsz").or_else(|| symbol.strip_suffix("_spt")) {
        Some(symbol) => (symbol, true),
        None => (symbol, is_per_thread),
    };
    let kind = Kind { runtime, is_per_thread };
    match symbol {
        "cuLaunchKernel" | "hipModuleLaunchKernel" => places!(LAUNCH, pointer, kind, calls::launch),
        "cuLaunchKernelEx" => places!(LAUNCH_EX, pointer, kind, calls::launch_ex),
        "hipLaunchKernel" => places!(LAUNCH_OF_HIP, pointer, kind, calls::launch_of_hip),
        "cuGraphLaunch" | "hipGraphLaunch" => places!(LAUNCH_GRAPH, pointer, kind, calls::launch_graph),
        "cuStreamSynchronize" | "hipStreamSynchronize" => places!(STREAM_WAIT, pointer, kind, calls::stream_wait),
        "cuCtxSynchronize" | "hipDeviceSynchronize" => places!(CONTEXT_WAIT, pointer, kind, calls::context_wait),
        "cuCtxSynchronize_v2" => places!(CONTEXT_WAIT_OF, pointer, kind, calls::context_wait_of),
        "cuStreamDestroy_v2" | "hipStreamDestroy" => places!(STREAM_DESTROY, pointer, kind, calls::stream_destroy),
        "cuStreamBeginCapture_v2" | "hipStreamBeginCapture" => places!(captures::BEGIN, pointer, kind, captures::begin),
        "cuStreamBeginCaptureToGraph" => {
            places!(captures::BEGIN_TO_GRAPH, pointer, kind, captures::begin_to_graph)
        }
        "cuStreamEndCapture" | "hipStreamEndCapture" => places!(captures::END, pointer, kind, captures::end),
        "cuEventSynchronize" | "hipEventSynchronize" => places!(EVENT_WAIT, pointer, kind, calls::event_wait),
        "cuMemcpyDtoHAsync_v2" => places!(COPY_OUT, pointer, kind, calls::copy_out),
        "hipDeviceReset" => places!(RESET_OF_HIP, pointer, kind, calls::reset_of_hip),
        "hipDevicePrimaryCtxReset" => places!(RESET_PRIMARY, pointer, kind, memory::reset_primary),
        "cuMemAlloc_v2" => places!(ALLOCATE, pointer, kind, memory::allocate),
        "cuMemFree_v2" => places!(FREE, pointer, kind, memory::free),
        "cuCtxDestroy_v2" => places!(DESTROY_CONTEXT, pointer, kind, memory::destroy_context),
        "cuDevicePrimaryCtxRelease_v2" => places!(RELEASE_PRIMARY, pointer, kind, memory::release_primary),
        "cuDevicePrimaryCtxReset_v2" => places!(RESET_PRIMARY, pointer, kind, memory::reset_primary),
        "cuIpcGetMemHandle" => places!(EXPORT, pointer, kind, memory::export),
        "cuGetProcAddress" => places!(GET_PROC, pointer, kind, get_proc),
        "cuGetProcAddress_v2" => places!(GET_PROC_V2, pointer, kind, get_proc_v2),
        _ => pointer,
    }
}

/// What a program gets for a name of the driver in a version of CUDA. `ask` says what the driver has for the name in a version.
fn exchange_form(
    name: &str,
    version: c_int,
    flags: u64,
    pointer: usize,
    ask: impl FnOnce(c_int) -> Option<usize>,
) -> usize {
    if !FORMS.iter().any(|form| form.name == name) {
        return pointer;
    }
    let newest = FORMS.iter().rev().find(|form| form.name == name && form.since <= version);
    let known = newest.filter(|form| {
        let has_own_stream = flags & PER_THREAD_FLAG != 0 && form.per_thread_since != 0;
        let since = if has_own_stream && form.per_thread_since <= version { form.per_thread_since } else { form.since };
        since == version || ask(since) == Some(pointer)
    });
    let Some(form) = known else {
        count(&counts::UNKNOWN);
        counts::tell_at_the_end();
        return pointer;
    };
    let is_per_thread = flags & PER_THREAD_FLAG != 0 && form.per_thread_since != 0 && form.per_thread_since <= version;
    exchange(form.symbol, pointer, is_per_thread)
}

type GetProc = unsafe extern "C" fn(*const i8, *mut Handle, c_int, u64) -> Code;
type GetProcV2 = unsafe extern "C" fn(*const i8, *mut Handle, c_int, u64, *mut c_int) -> Code;

unsafe extern "C" fn get_proc<const PLACE: usize>(
    name: *const i8,
    to: *mut Handle,
    version: c_int,
    flags: u64,
) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: GetProc = unsafe { original(&GET_PROC, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(name, to, version, flags) });
    let flags = effective(flags, GET_PROC.is_per_thread(PLACE));
    // SAFETY: name and flags are the program's.
    let ask = |version| answer(|to| unsafe { original(name, to, version, flags) });
    // SAFETY: what the driver has filled.
    unsafe { exchanged(code, name, to, (version, flags), ask) };
    code
}

unsafe extern "C" fn get_proc_v2<const PLACE: usize>(
    name: *const i8,
    to: *mut Handle,
    version: c_int,
    flags: u64,
    status: *mut c_int,
) -> Code {
    // SAFETY: the type is that of `cuda.h`.
    let original: GetProcV2 = unsafe { original(&GET_PROC_V2, PLACE) };
    // SAFETY: as the program calls it.
    let code = inside(|| unsafe { original(name, to, version, flags, status) });
    let flags = effective(flags, GET_PROC_V2.is_per_thread(PLACE));
    // SAFETY: name and flags are the program's; the status may be left out.
    let ask = |version| answer(|to| unsafe { original(name, to, version, flags, std::ptr::null_mut()) });
    // SAFETY: what the driver has filled.
    unsafe { exchanged(code, name, to, (version, flags), ask) };
    code
}

/// The flags that say which default stream is meant: without one of them that of the function itself, whose `_ptsz` form has one
/// for each thread.
const fn effective(flags: u64, is_per_thread: bool) -> u64 {
    if is_per_thread && flags & (LEGACY_FLAG | PER_THREAD_FLAG) == 0 { flags | PER_THREAD_FLAG } else { flags }
}

/// What the driver finds.
fn answer(ask: impl FnOnce(*mut Handle) -> Code) -> Option<usize> {
    let mut found = std::ptr::null_mut();
    let code = inside(|| ask(&raw mut found));
    (code == 0 && !found.is_null()).then_some(found as usize)
}

/// Gives the program a place in exchange for what the driver found.
///
/// # Safety
/// Name and pointer are those of a call that the driver has answered.
unsafe fn exchanged(
    code: Code,
    name: *const i8,
    to: *mut Handle,
    (version, flags): (c_int, u64),
    ask: impl FnOnce(c_int) -> Option<usize>,
) {
    if code != 0 || name.is_null() || to.is_null() || waits::is_inside() {
        return;
    }
    // SAFETY: as the caller promises.
    let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else { return };
    // SAFETY: as above.
    let found = unsafe { *to };
    if found.is_null() {
        return;
    }
    runtimes::find();
    let exchanged = exchange_form(name, version, flags, found as usize, ask);
    // SAFETY: as above.
    unsafe { *to = exchanged as Handle };
}
