//! For programs that are linked with CUDA's driver: its functions under their own names, which the loader finds here first. Each
//! calls its place of `calls`.

use std::{
    ffi::{CStr, c_int, c_uint, c_void},
    sync::OnceLock,
};

use crate::{
    calls::{Code, Handle, Launch, LaunchConfig, LaunchEx, OfNone, OfOne, OfStream},
    forms::{GetProc, GetProcV2, exchange},
    memory::{Allocate, Export, Free, OfDevice},
    symbols,
};

/// `CUDA_ERROR_NOT_FOUND`: there is no driver.
const NOT_FOUND: Code = 500;

/// What a program would have got for a symbol, in exchange for a place; 0 where there is no such function.
fn place(kept: &OnceLock<usize>, name: &CStr) -> usize {
    *kept.get_or_init(|| {
        let found = symbols::next(name).or_else(|| symbols::of_driver(name));
        found.map_or(0, |found| exchange(name.to_str().unwrap_or_default(), found as usize, false))
    })
}

macro_rules! linked {
    ($($name:ident: $type:ty = ($($argument:ident: $kind:ty),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $kind),*) -> Code {
                static PLACE: OnceLock<usize> = OnceLock::new();
                const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                };
                match place(&PLACE, NAME) {
                    0 => NOT_FOUND,
                    // SAFETY: the type is that of `cuda.h`, as are the arguments.
                    place => unsafe { std::mem::transmute::<usize, $type>(place)($($argument),*) },
                }
            }
        )*

        /// Whether a function is one of these.
        pub(crate) fn has(function: *mut c_void) -> bool {
            [$($name as *const (),)*].contains(&function.cast_const().cast())
        }
    };
}

linked! {
    cuLaunchKernel: Launch = (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut Handle, extra: *mut Handle
    );
    cuLaunchKernel_ptsz: Launch = (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut Handle, extra: *mut Handle
    );
    cuLaunchKernelEx: LaunchEx =
        (config: *const LaunchConfig, function: Handle, parameters: *mut Handle, extra: *mut Handle);
    cuLaunchKernelEx_ptsz: LaunchEx =
        (config: *const LaunchConfig, function: Handle, parameters: *mut Handle, extra: *mut Handle);
    cuGraphLaunch: OfStream = (graph: Handle, stream: Handle);
    cuGraphLaunch_ptsz: OfStream = (graph: Handle, stream: Handle);
    cuStreamSynchronize: OfOne = (stream: Handle);
    cuStreamSynchronize_ptsz: OfOne = (stream: Handle);
    cuCtxSynchronize: OfNone = ();
    cuCtxSynchronize_v2: OfOne = (context: Handle);
    cuEventRecord: OfStream = (event: Handle, stream: Handle);
    cuEventRecord_ptsz: OfStream = (event: Handle, stream: Handle);
    cuEventSynchronize: OfOne = (event: Handle);
    cuGetProcAddress: GetProc = (name: *const i8, to: *mut Handle, version: c_int, flags: u64);
    cuGetProcAddress_v2: GetProcV2 =
        (name: *const i8, to: *mut Handle, version: c_int, flags: u64, status: *mut c_int);
    cuMemAlloc_v2: Allocate = (to: *mut u64, bytes: usize);
    cuMemFree_v2: Free = (address: u64);
    cuCtxDestroy_v2: OfOne = (context: Handle);
    cuDevicePrimaryCtxRelease_v2: OfDevice = (device: c_int);
    cuDevicePrimaryCtxReset_v2: OfDevice = (device: c_int);
    cuIpcGetMemHandle: Export = (handle: *mut c_void, address: u64);
}
