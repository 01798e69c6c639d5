//! Functions of the driver that this library calls itself. They are found when the program finds its own, so that neither a launch
//! nor a wait needs the loader, whose lock a thread of the program may hold.

use std::{
    ffi::{CStr, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    calls::{Code, Handle, OfNone, OfOne},
    symbols,
    waits::inside,
};

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

/// Looks for them once: called where the program itself looks for functions of the driver.
pub(crate) fn find() {
    for function in [&GET_CURRENT, &PUSH, &POP, &SYNCHRONIZE, &QUERY, &FREE] {
        if function.get().is_none()
            && let Some(found) = symbols::of_driver(function.name)
        {
            function.found.store(found as usize, Ordering::Release);
        }
    }
}

/// Whether a function that was found by a name is the driver's.
pub(crate) fn has(name: &CStr, function: *mut c_void) -> bool {
    symbols::of_driver(name) == Some(function)
}

/// The context that is current, where one is.
pub(crate) fn current() -> Option<u64> {
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

/// What the driver says of a stream whose work was done: an error, or nothing. `None`: it cannot be asked.
pub(crate) fn outcome(stream: Handle) -> Option<Code> {
    const NOT_READY: Code = 600;
    // SAFETY: the type is that of `cuda.h`.
    let query: OfOne = unsafe { std::mem::transmute(QUERY.get()?) };
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
