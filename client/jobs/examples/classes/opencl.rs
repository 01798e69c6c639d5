//! A queue of OpenCL's first device, through the library that is loaded at run time: for the example and the tests.

use std::ffi::{c_int, c_uint, c_void};

use libloading::Library;

pub(crate) type Handle = *mut c_void;

macro_rules! cl {
    ($library:expr, $name:literal, ($($type:ty),*) -> $result:ty, ($($value:expr),*)) => {{
        // SAFETY: the types are those of `cl.h`.
        let function = unsafe { $library.get::<unsafe extern "C" fn($($type),*) -> $result>($name) }.expect($name);
        // SAFETY: as OpenCL wants it.
        unsafe { function($($value),*) }
    }};
}

/// A context of the first device, and a queue.
pub(crate) fn queue(library: &Library) -> (Handle, Handle) {
    const ALL: u64 = 0xffff_ffff;
    let (mut platform, mut device, mut code) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    let none = std::ptr::null_mut::<c_uint>();
    let found =
        cl!(library, "clGetPlatformIDs", (c_uint, *mut Handle, *mut c_uint) -> c_int, (1, &raw mut platform, none));
    assert_eq!(found, 0, "`cargo xtask setup` installs PoCL");
    let found = cl!(
        library,
        "clGetDeviceIDs",
        (Handle, u64, c_uint, *mut Handle, *mut c_uint) -> c_int,
        (platform, ALL, 1, &raw mut device, none)
    );
    assert_eq!(found, 0);
    let no = std::ptr::null_mut::<c_void>();
    let context = cl!(
        library,
        "clCreateContext",
        (Handle, c_uint, *const Handle, Handle, Handle, *mut c_int) -> Handle,
        (no, 1, &raw const device, no, no, &raw mut code)
    );
    assert_eq!(code, 0);
    let queue = cl!(
        library,
        "clCreateCommandQueue",
        (Handle, Handle, u64, *mut c_int) -> Handle,
        (context, device, 0, &raw mut code)
    );
    assert_eq!(code, 0);
    (context, queue)
}

/// A flag of a buffer: its memory is what the program gives.
pub(crate) const USE_HOST_PTR: u64 = 1 << 3;

/// Queues filling memory with a byte, and gives the buffer, which is to be released when that is over.
pub(crate) fn fill(
    library: &Library,
    (context, queue): (Handle, Handle),
    memory: u64,
    bytes: usize,
    with: u8,
) -> Handle {
    let mut code = 0;
    let buffer = cl!(
        library,
        "clCreateBuffer",
        (Handle, u64, usize, Handle, *mut c_int) -> Handle,
        (context, USE_HOST_PTR, bytes, memory as Handle, &raw mut code)
    );
    assert_eq!(code, 0);
    let none = std::ptr::null_mut::<Handle>();
    let filled = cl!(
        library,
        "clEnqueueFillBuffer",
        (Handle, Handle, *const u8, usize, usize, usize, c_uint, *const Handle, *mut Handle) -> c_int,
        (queue, buffer, &raw const with, 1, 0, bytes, 0, none, none)
    );
    assert_eq!(filled, 0);
    buffer
}

/// Gives a buffer back.
pub(crate) fn release(library: &Library, buffer: Handle) {
    assert_eq!(cl!(library, "clReleaseMemObject", (Handle) -> c_int, (buffer)), 0);
}
