//! HIP: AMD's functions under their own names, which programs that are linked with `libamdhip64` find here first, and which `dlsym`
//! gives to others. A device has one context, so that the device is whom streams belong to.

use std::{
    ffi::{CStr, c_int, c_uint, c_void},
    sync::OnceLock,
};

use crate::{
    calls::{Code, Handle},
    program, symbols,
    waits::{Owner, Waited, inside},
};

/// `hipErrorNotFound`: there is no HIP.
const NOT_FOUND: Code = 500;
/// AMD's library as it is installed.
const FILES: [&CStr; 4] = [c"libamdhip64.so.7", c"libamdhip64.so.6", c"libamdhip64.so.5", c"libamdhip64.so"];

/// The original of a function; 0 where there is none.
fn original(kept: &OnceLock<usize>, name: &CStr) -> usize {
    *kept.get_or_init(|| {
        let of_file = || FILES.into_iter().find_map(|file| symbols::of_library(file, name));
        symbols::next(name).or_else(of_file).map_or(0, |found| found as usize)
    })
}

/// The device that is current.
fn owner() -> Option<Owner> {
    static ORIGINAL: OnceLock<usize> = OnceLock::new();
    let function = original(&ORIGINAL, c"hipGetDevice");
    if function == 0 {
        return None;
    }
    // SAFETY: the type is that of `hip_runtime_api.h`.
    let get: unsafe extern "C" fn(*mut c_int) -> Code = unsafe { std::mem::transmute(function) };
    let mut device = 0;
    // SAFETY: writes the number.
    let code = inside(|| unsafe { get(&raw mut device) });
    (code == 0).then_some(Owner::Hip(device))
}

/// `dim3` of `hip_runtime_api.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Size {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

macro_rules! functions {
    ($($name:ident = ($($argument:ident: $kind:ty),*) { $before:expr })*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> Code {
                static ORIGINAL: OnceLock<usize> = OnceLock::new();
                const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                };
                let function = original(&ORIGINAL, NAME);
                if function == 0 {
                    return NOT_FOUND;
                }
                let behind = $before;
                // SAFETY: the type is that of `hip_runtime_api.h`.
                let function: unsafe extern "C" fn($($kind),*) -> Code = unsafe { std::mem::transmute(function) };
                // SAFETY: as the program calls it.
                let code = inside(|| unsafe { function($($argument),*) });
                drop(behind);
                code
            }
        )*

        /// The function here that takes the place of HIP's with this name.
        pub(crate) fn of(name: &str) -> Option<*mut c_void> {
            match name {
                $(stringify!($name) => Some($name as *const () as *mut c_void),)*
                _ => None,
            }
        }
    };
}

/// A launch: nothing waits behind it.
fn launches(stream: Handle, is_per_thread: bool, what: Handle) -> Waited {
    program::launches(program::stream_of(stream as u64, is_per_thread), what as u64);
    Waited::default()
}

fn records(event: Handle, stream: Handle, is_per_thread: bool) -> Waited {
    program::records(event as u64, program::stream_of(stream as u64, is_per_thread));
    Waited::default()
}

fn waits(stream: Handle, is_per_thread: bool) -> Waited {
    program::waits_for_stream(owner, program::stream_of(stream as u64, is_per_thread))
}

functions! {
    hipModuleLaunchKernel = (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut Handle, extra: *mut Handle
    ) { launches(stream, false, function) }
    hipExtModuleLaunchKernel = (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: usize, stream: Handle, parameters: *mut Handle, extra: *mut Handle, start: Handle, stop: Handle,
        flags: c_uint
    ) { launches(stream, false, function) }
    hipLaunchKernel = (
        function: Handle, grid: Size, block: Size, arguments: *mut Handle, shared: usize, stream: Handle
    ) { launches(stream, false, function) }
    hipLaunchKernel_spt = (
        function: Handle, grid: Size, block: Size, arguments: *mut Handle, shared: usize, stream: Handle
    ) { launches(stream, true, function) }
    hipExtLaunchKernel = (
        function: Handle, grid: Size, block: Size, arguments: *mut Handle, shared: usize, stream: Handle, start: Handle,
        stop: Handle, flags: c_int
    ) { launches(stream, false, function) }
    hipGraphLaunch = (graph: Handle, stream: Handle) { launches(stream, false, graph) }
    hipGraphLaunch_spt = (graph: Handle, stream: Handle) { launches(stream, true, graph) }
    hipEventRecord = (event: Handle, stream: Handle) { records(event, stream, false) }
    hipEventRecord_spt = (event: Handle, stream: Handle) { records(event, stream, true) }
    hipStreamSynchronize = (stream: Handle) { waits(stream, false) }
    hipStreamSynchronize_spt = (stream: Handle) { waits(stream, true) }
    hipDeviceSynchronize = () { program::waits_for_all(owner, || true) }
    hipEventSynchronize = (event: Handle) { program::waits_for_event(owner, event as u64) }
}

/// Whether a function is one of these.
pub(crate) fn has(name: &str, function: *mut c_void) -> bool {
    of(name) == Some(function)
}
