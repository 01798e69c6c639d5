//! Functions of the runtimes, CUDA's driver and HIP, that this library calls itself. They are found when the program finds its own,
//! so that neither a launch nor a wait needs the loader, whose lock a thread of the program may hold.

use std::{
    ffi::{CStr, CString, c_int, c_uint, c_void},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    calls::{Code, Handle, OfNone, OfOne},
    symbols,
    waits::inside,
};

/// Whose functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// NVIDIA's driver.
    Cuda,
    /// AMD's HIP, whose devices have one context each.
    Hip,
}

/// In place of the handle of a context: a device of HIP.
const OF_HIP: u64 = 1 << 63;
/// AMD's library.
const HIP_FILE: &str = "libamdhip64.so";

/// A function; 0 before it was found.
struct Function {
    name: &'static CStr,
    found: AtomicUsize,
}

impl Function {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicUsize::new(0) }
    }

    fn get(&self) -> Option<usize> {
        match self.found.load(Ordering::Acquire) {
            0 => None,
            found => Some(found),
        }
    }
}

static GET_CURRENT: Function = Function::new(c"cuCtxGetCurrent");
static PUSH: Function = Function::new(c"cuCtxPushCurrent_v2");
static POP: Function = Function::new(c"cuCtxPopCurrent_v2");
static SYNCHRONIZE: Function = Function::new(c"cuCtxSynchronize");
static QUERY: Function = Function::new(c"cuStreamQuery");
static FREE: Function = Function::new(c"cuMemFree_v2");
static ATTRIBUTE: Function = Function::new(c"cuPointerGetAttribute");

/// Looks for them once: called where the program itself looks for functions of the driver.
pub(crate) fn find() {
    for function in [&GET_CURRENT, &PUSH, &POP, &SYNCHRONIZE, &QUERY, &FREE, &ATTRIBUTE] {
        if function.get().is_none()
            && let Some(found) = symbols::of_driver(function.name)
        {
            function.found.store(found as usize, Ordering::Release);
        }
    }
}

static GET_DEVICE: Function = Function::new(c"hipGetDevice");
static QUERY_OF_HIP: Function = Function::new(c"hipStreamQuery");

/// AMD's library as it was loaded.
static HIP: OnceLock<CString> = OnceLock::new();

/// The file that HIP's functions are from, where a program was found to have some.
pub(crate) fn hip_file() -> Option<&'static CStr> {
    HIP.get().map(CString::as_c_str)
}

/// The same for HIP, in the library that a program was found to have; the first is it.
pub(crate) fn find_hip(file: &CStr) {
    let file = HIP.get_or_init(|| file.to_owned());
    for function in [&GET_DEVICE, &QUERY_OF_HIP] {
        if function.get().is_none()
            && let Some(found) = symbols::of_library(file, function.name)
        {
            function.found.store(found as usize, Ordering::Release);
        }
    }
}

/// Whether a file is AMD's library.
pub(crate) fn is_hip(file: &CStr) -> bool {
    let name = file.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.starts_with(HIP_FILE.as_bytes())
}

/// Whether a function that was found by a name is a runtime's; what is needed of that is found then.
pub(crate) fn has(name: &CStr, function: *mut c_void) -> bool {
    if name.to_bytes().starts_with(b"cu") {
        let is_it = symbols::of_driver(name) == Some(function);
        if is_it {
            find();
        }
        return is_it;
    }
    // SAFETY: plain data.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    if unsafe { libc::dladdr(function, &raw mut info) } == 0 || info.dli_fname.is_null() {
        return false;
    }
    // SAFETY: the loader's own text.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    let is_it = is_hip(file) && HIP.get().is_none_or(|known| known.as_c_str() == file);
    if is_it {
        find_hip(file);
    }
    is_it
}

/// Whether what stands for a context is a device of HIP.
pub(crate) const fn is_of_hip(context: u64) -> bool {
    context & OF_HIP != 0
}

/// The context that is current, or the device of HIP, where one is.
pub(crate) fn current(runtime: Runtime) -> Option<u64> {
    if runtime == Runtime::Hip {
        // SAFETY: the type is that of `hip_runtime_api.h`.
        let get: unsafe extern "C" fn(*mut c_int) -> Code = unsafe { std::mem::transmute(GET_DEVICE.get()?) };
        let mut device = 0;
        // SAFETY: writes the number.
        let code = inside(|| unsafe { get(&raw mut device) });
        return (code == 0).then_some(OF_HIP | u64::from(device.cast_unsigned()));
    }
    // SAFETY: the type is that of `cuda.h`.
    let get: unsafe extern "C" fn(*mut Handle) -> Code = unsafe { std::mem::transmute(GET_CURRENT.get()?) };
    let mut context = std::ptr::null_mut();
    // SAFETY: writes the handle.
    let code = inside(|| unsafe { get(&raw mut context) });
    (code == 0 && !context.is_null()).then_some(context as u64)
}

/// Waits for all that the current context does; whether it is known to have ended.
pub(crate) fn synchronize() -> bool {
    let Some(function) = SYNCHRONIZE.get() else { return false };
    // SAFETY: the type is that of `cuda.h`.
    let synchronize: OfNone = unsafe { std::mem::transmute(function) };
    // SAFETY: it has no arguments.
    inside(|| unsafe { synchronize() }) == 0
}

/// Whether an address is one that the driver does not know: memory of the host as `malloc` gives it.
pub(crate) fn is_pageable(address: u64) -> bool {
    /// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, and what the driver says of an address that is not its own.
    const MEMORY_TYPE: c_int = 2;
    const INVALID_VALUE: Code = 1;
    let Some(function) = ATTRIBUTE.get() else { return false };
    // SAFETY: the type is that of `cuda.h`.
    let attribute: unsafe extern "C" fn(*mut c_void, c_int, u64) -> Code = unsafe { std::mem::transmute(function) };
    let mut kind: c_uint = 0;
    // SAFETY: the value of this attribute is an `unsigned int`.
    let code = inside(|| unsafe { attribute((&raw mut kind).cast(), MEMORY_TYPE, address) });
    code == INVALID_VALUE
}

/// What the driver says of a stream whose work was done: an error, or nothing. `None`: it cannot be asked.
pub(crate) fn outcome(runtime: Runtime, stream: Handle) -> Option<Code> {
    const NOT_READY: Code = 600;
    let query = if runtime == Runtime::Hip { &QUERY_OF_HIP } else { &QUERY };
    // SAFETY: the type is that of `cuda.h` and of `hip_runtime_api.h`.
    let query: OfOne = unsafe { std::mem::transmute(query.get()?) };
    // SAFETY: the program waits for the stream.
    let code = inside(|| unsafe { query(stream) });
    // What is there now came after the call.
    Some(if code == NOT_READY { 0 } else { code })
}

/// Frees memory in its context.
pub(crate) fn free(context: u64, address: u64) {
    let (Some(push), Some(pop), Some(free)) = (PUSH.get(), POP.get(), FREE.get()) else { return };
    // SAFETY: the types are those of `cuda.h`.
    let push: OfOne = unsafe { std::mem::transmute(push) };
    // SAFETY: as above.
    let pop: unsafe extern "C" fn(*mut Handle) -> Code = unsafe { std::mem::transmute(pop) };
    // SAFETY: as above.
    let free: unsafe extern "C" fn(u64) -> Code = unsafe { std::mem::transmute(free) };
    inside(|| {
        // SAFETY: a context that was current when the memory was allocated; the driver says where it is no more.
        if unsafe { push(context as Handle) } == 0 {
            // SAFETY: nothing uses the memory any more.
            unsafe { free(address) };
            let mut popped = std::ptr::null_mut();
            // SAFETY: what was pushed.
            unsafe { pop(&raw mut popped) };
        }
    });
}
