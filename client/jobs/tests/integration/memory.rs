//! Memory of jobs: it comes again, and a context that debugs finds every use after the end.

use gpuos_job::{class::ClassOptions, error::Status, job};

use crate::support::{TestStream, context};

fn ended(
    context: &std::sync::Arc<gpuos_job::context::Context>,
    class: &std::sync::Arc<gpuos_job::class::Class>,
) -> (u64, u64) {
    let stream = TestStream::new();
    let job = job::begin(context, class, stream.0).unwrap();
    let address = job::alloc(job, 1000, 0).unwrap();
    job::submit(job).unwrap();
    job::wait(job, None).unwrap();
    job::end(job).unwrap();
    (job, address)
}

#[test]
fn jobs_in_steady_state_ask_the_runtime_for_nothing() {
    let (context, class) = context(ClassOptions::default(), false);
    let (first, address) = ended(&context, &class);
    assert_eq!(context.owner(address).unwrap(), (first, false));
    for _ in 0..600 {
        assert_eq!(ended(&context, &class).1, address);
    }
    let stats = class.stats().arena;
    assert_eq!((stats.growths, stats.hits, stats.trims), (1, 600, 0));
    assert_eq!(context.owner(16).unwrap_err().status, Status::Invalid);
}

#[test]
fn a_write_after_the_end_is_found_when_the_memory_is_used_again() {
    let (context, class) = context(ClassOptions::default(), true);
    let (first, address) = ended(&context, &class);
    // A device is not stopped by the rights of the host's pages.
    let page = (address & !4095) as *mut libc::c_void;
    // SAFETY: a page of memory that no job has.
    assert_eq!(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) }, 0);
    // SAFETY: it is not what a program may do: that is what this test is about.
    unsafe { (address as *mut u8).write(1) };
    let stream = TestStream::new();
    let job = job::begin(&context, &class, stream.0).unwrap();
    let error = job::alloc(job, 1000, 0).unwrap_err();
    assert_eq!(error.status, Status::UsedAfterEnd);
    assert!(error.what.contains(&format!("{first:#x}")), "{}", error.what);
    assert_eq!(class.stats().arena.used_after_end, 1);
    // The job goes on with other memory.
    assert_ne!(job::alloc(job, 1000, 0).unwrap(), address);
    job::cancel(job).unwrap();
    job::end(job).unwrap();
}

#[test]
fn the_host_s_own_use_after_the_end_is_a_signal() {
    let (context, class) = context(ClassOptions::default(), true);
    let (_, address) = ended(&context, &class);
    // SAFETY: the child reads one byte.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it is not: that is what this test is about.
        let byte = unsafe { (address as *const u8).read_volatile() };
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(byte)) };
    }
    let mut status = 0;
    // SAFETY: of the child above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
}
