//! The back-end for OpenCL on a runtime that executes on the CPU.

#[path = "../../examples/classes/opencl.rs"]
mod device;

use gpuos_job::{
    backend::{Stream, opencl::OpenCl},
    class::ClassOptions,
    context::Context,
    error::Status,
    job,
};
use libloading::Library;

const BYTES: usize = 1 << 16;

#[test]
fn jobs_on_opencl_end_when_their_work_is_done() {
    // SAFETY: OpenCL's loader.
    let library = unsafe { Library::new("libOpenCL.so.1") }.expect("`cargo xtask setup` installs OpenCL's loader");
    let (cl, stream) = device::queue(&library);
    let context = Context::new(Box::new(OpenCl::load("libOpenCL.so.1").unwrap()), false);
    let class = context.class(ClassOptions::default());
    for number in 1..=40_u8 {
        let job = job::begin(&context, &class, Stream(stream as u64)).unwrap();
        let address = job::alloc(job, BYTES, 4096).unwrap();
        let buffer = device::fill(&library, (cl, stream), address, BYTES, number);
        job::submit(job).unwrap();
        job::wait(job, Some(10_000_000_000)).unwrap();
        let last = (address as usize + BYTES - 1) as *const u8;
        // SAFETY: memory of the job, whose work is done.
        assert_eq!(unsafe { last.read() }, number);
        device::release(&library, buffer);
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
