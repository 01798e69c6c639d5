//! The back-end for CUDA on a fake driver that completes later, in order, with durations, errors and a context that dies.

use std::{ffi::c_void, path::PathBuf, process::Command, sync::Arc};

use gpuos_job::{
    backend::{Stream, cuda::Cuda},
    class::{ClassOptions, Unknown},
    context::Context,
    error::Status,
    job,
    state::State,
};
use libloading::Library;

/// The fake, a copy of its own for each test: what one does to its context is none of another's.
struct Fake {
    library: Library,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("../examples/libfake_cuda_jobs.so");
        let path = folder.path().join("libcuda.so.1");
        let copied = Command::new("cp").arg(&built).arg(&path).status().unwrap();
        assert!(copied.success(), "{} is built with the tests", built.display());
        // SAFETY: it does nothing when it is loaded.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self { library, path, _folder: folder }
    }

    fn context(&self, debug: bool) -> Arc<Context> {
        Context::new(Box::new(Cuda::load(&self.path).unwrap()), debug)
    }

    fn stream(&self) -> Stream {
        // SAFETY: the type is that of the fake.
        let open = unsafe { self.library.get::<extern "C" fn() -> *mut c_void>("fake_stream") }.unwrap();
        Stream(open() as u64)
    }

    fn launch(&self, stream: Stream, nanoseconds: u64, code: i32) {
        // SAFETY: as above.
        let launch = unsafe { self.library.get::<extern "C" fn(u64, u64, i32) -> i32>("fake_launch") }.unwrap();
        assert_eq!(launch(stream.0, nanoseconds, code), 0);
    }

    fn gone(&self, code: i32) {
        // SAFETY: as above.
        unsafe { self.library.get::<extern "C" fn(i32)>("fake_gone") }.unwrap()(code);
    }

    fn blocks(&self) -> usize {
        // SAFETY: as above.
        unsafe { self.library.get::<extern "C" fn() -> usize>("fake_blocks") }.unwrap()()
    }
}

#[test]
fn jobs_behind_each_other_are_waited_for_in_any_order() {
    let fake = Fake::new();
    let context = fake.context(false);
    let class = context.class(ClassOptions::default());
    let streams = [fake.stream(), fake.stream()];
    for _ in 0..20 {
        // Two behind each other in the first, one in the second.
        let jobs = [(0, 200_000), (0, 200_000), (1, 300_000)].map(|(place, nanoseconds)| {
            let job = job::begin(&context, &class, streams[place]).unwrap();
            fake.launch(streams[place], nanoseconds, 0);
            job::submit(job).unwrap();
            job
        });
        job::wait(jobs[1], None).unwrap();
        // The one before it has ended as well: nobody has to sleep for it.
        job::wait(jobs[0], Some(1_000_000_000)).unwrap();
        job::wait(jobs[2], None).unwrap();
        jobs.iter().for_each(|job| job::end(*job).unwrap());
    }
    assert_eq!(class.stats().done, 60);
    context.close().unwrap();
}

#[test]
fn an_error_of_the_work_stays_with_the_context_and_ends_jobs() {
    for unknown in [Unknown::Block, Unknown::Spin] {
        let fake = Fake::new();
        let context = fake.context(false);
        let class = context.class(ClassOptions { unknown, watchdog: 1_000_000, ..ClassOptions::default() });
        let stream = fake.stream();
        let job = job::begin(&context, &class, stream).unwrap();
        fake.launch(stream, 100_000, 700);
        // The work may have failed before it is submitted.
        let error = job::submit(job).and_then(|()| job::wait(job, Some(10_000_000_000))).unwrap_err();
        assert_eq!((error.status, error.code), (Status::Failed, 700));
        assert!(error.what.contains("CUDA_ERROR_OF_A_FAKE (700)"), "{}", error.what);
        job::end(job).unwrap();
    }
}

#[test]
fn a_context_that_dies_ends_every_job() {
    let fake = Fake::new();
    let context = fake.context(false);
    let class = context.class(ClassOptions { watchdog: 1_000_000, bytes: 1 << 16, ..ClassOptions::default() });
    let stream = fake.stream();
    let jobs = [(); 3].map(|()| {
        let job = job::begin(&context, &class, stream).unwrap();
        job::alloc(job, 100, 0).unwrap();
        fake.launch(stream, 5_000_000_000, 0);
        job::submit(job).unwrap();
        job
    });
    fake.gone(709);
    let mut ended = Vec::new();
    while ended.len() < 3 {
        let deadline = context.next_deadline().expect("jobs are in flight, or to be told of");
        gpuos_job::clock::sleep_until(deadline);
        ended.extend(context.poll(8));
    }
    for job in jobs {
        let error = job::error(job).unwrap().unwrap();
        assert_eq!((error.status, error.code), (Status::Lost, 709));
        job::end(job).unwrap();
    }
    let late = job::begin(&context, &class, stream).unwrap();
    assert_eq!(job::submit(late).unwrap_err().status, Status::Lost);
    job::end(late).unwrap();
    context.close().unwrap();
}

#[test]
fn a_job_is_not_submitted_inside_of_a_capture_and_a_class_records_one() {
    let fake = Fake::new();
    let context = fake.context(false);
    let class = context.class(ClassOptions::default());
    let stream = fake.stream();
    let [outer, inner] = [(); 2].map(|()| job::begin(&context, &class, stream).unwrap());
    assert!(!job::record(outer).unwrap());
    assert_eq!(job::submit(inner).unwrap_err().status, Status::Capturing);
    assert_eq!(job::info(inner).unwrap().state, State::Failed);
    fake.launch(stream, 1_000, 0);
    job::submit(outer).unwrap();
    job::wait(outer, None).unwrap();
    let again = job::begin(&context, &class, stream).unwrap();
    assert!(job::record(again).unwrap());
    job::submit(again).unwrap();
    job::wait(again, None).unwrap();
    for job in [outer, inner, again] {
        job::end(job).unwrap();
    }
}

#[test]
fn memory_of_jobs_is_poisoned_and_goes_back() {
    let fake = Fake::new();
    let context = fake.context(true);
    let class = context.class(ClassOptions { bytes: 1 << 16, ..ClassOptions::default() });
    let stream = fake.stream();
    let ended = || {
        let job = job::begin(&context, &class, stream).unwrap();
        let address = job::alloc(job, 1000, 0)?;
        job::submit(job).unwrap();
        job::wait(job, None).unwrap();
        job::end(job).unwrap();
        Ok::<u64, gpuos_job::error::Error>(address)
    };
    let address = ended().unwrap();
    assert_eq!(ended().unwrap(), address);
    // SAFETY: it is not what a program may do: that is what this test is about.
    unsafe { (address as *mut u8).write(1) };
    assert_eq!(ended().unwrap_err().status, Status::UsedAfterEnd);
    assert_eq!(fake.blocks(), 1);
    ended().unwrap();
    assert_eq!(class.arena.trim(&*context.backend).unwrap(), 1 << 16);
    assert_eq!(fake.blocks(), 1, "what was written to is not given to others");
}

#[test]
fn a_driver_that_is_not_there_is_said_to_be() {
    let error = Cuda::load("/nowhere/libcuda.so.1").err().expect("there is none");
    assert_eq!(error.status, Status::NoRuntime);
    assert!(error.what.contains("/nowhere/libcuda.so.1"), "{}", error.what);
}
