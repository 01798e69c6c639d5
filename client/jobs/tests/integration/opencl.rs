//! The back-end for OpenCL on a runtime that executes on the CPU.

use std::ffi::{c_int, c_uint, c_void};

use gpuos_job::{
    backend::{Stream, opencl::OpenCl},
    class::ClassOptions,
    context::Context,
    error::Status,
    job,
};
use libloading::Library;

type Handle = *mut c_void;

macro_rules! cl {
    ($library:expr, $name:literal, ($($type:ty),*) -> $result:ty, ($($value:expr),*)) => {{
        // SAFETY: the types are those of `cl.h`.
        let function = unsafe { $library.get::<unsafe extern "C" fn($($type),*) -> $result>($name) }.expect($name);
        // SAFETY: as OpenCL wants it.
        unsafe { function($($value),*) }
    }};
}

/// A context of the first device, and a queue.
fn queue(library: &Library) -> (Handle, Handle) {
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

const BYTES: usize = 1 << 16;
const USE_HOST_PTR: u64 = 1 << 3;

#[test]
fn jobs_on_opencl_end_when_their_work_is_done() {
    // SAFETY: OpenCL's loader.
    let library = unsafe { Library::new("libOpenCL.so.1") }.expect("`cargo xtask setup` installs OpenCL's loader");
    let (cl, stream) = queue(&library);
    let context = Context::new(Box::new(OpenCl::load("libOpenCL.so.1").unwrap()), false);
    let class = context.class(ClassOptions::default());
    for number in 1..=40_u8 {
        let job = job::begin(&context, &class, Stream(stream as u64)).unwrap();
        let address = job::alloc(job, BYTES, 4096).unwrap();
        let mut code = 0;
        let buffer = cl!(
            library,
            "clCreateBuffer",
            (Handle, u64, usize, Handle, *mut c_int) -> Handle,
            (cl, USE_HOST_PTR, BYTES, address as Handle, &raw mut code)
        );
        assert_eq!(code, 0);
        let none = std::ptr::null_mut::<Handle>();
        let filled = cl!(
            library,
            "clEnqueueFillBuffer",
            (Handle, Handle, *const u8, usize, usize, usize, c_uint, *const Handle, *mut Handle) -> c_int,
            (stream, buffer, &raw const number, 1, 0, BYTES, 0, none, none)
        );
        assert_eq!(filled, 0);
        job::submit(job).unwrap();
        job::wait(job, Some(10_000_000_000)).unwrap();
        let last = (address as usize + BYTES - 1) as *const u8;
        // SAFETY: memory of the job, whose work is done.
        assert_eq!(unsafe { last.read() }, number);
        assert_eq!(cl!(library, "clReleaseMemObject", (Handle) -> c_int, (buffer)), 0);
        job::end(job).unwrap();
    }
    assert_eq!((class.stats().done, class.stats().arena.growths), (40, 1));
    // What it cannot do it says.
    let job = job::begin(&context, &class, Stream(stream as u64)).unwrap();
    assert_eq!(job::record(job).unwrap_err().status, Status::Unsupported);
    job::cancel(job).unwrap();
    job::end(job).unwrap();
}

#[test]
fn a_loader_that_is_not_there_is_said_to_be() {
    let error = OpenCl::load("/nowhere/libOpenCL.so.1").err().expect("there is none");
    assert_eq!(error.status, Status::NoRuntime);
}
