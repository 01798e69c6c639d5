//! The back-end for HIP: AMD's library where there is no device, and HIP on the CPU where it was built (`cargo xtask hip-cpu`).

use std::{
    ffi::{c_int, c_uint, c_void},
    path::PathBuf,
};

use gpuos_job::{
    backend::{Stream, hip::Hip},
    class::ClassOptions,
    context::Context,
    error::Status,
    job,
};
use libloading::Library;

#[test]
fn without_a_device_it_is_said_to_be_missing() {
    // A machine with a device has nothing to say here.
    let Err(error) = Hip::load_first() else { return };
    assert_eq!(error.status, Status::NoRuntime);
    let is_named = error.what.contains("hipError") || error.what.contains("libamdhip64");
    assert!(is_named, "{}", error.what);
}

type Create = unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_int;
type Fill = unsafe extern "C" fn(*mut c_void, c_int, usize, *mut c_void) -> c_int;

/// HIP on the CPU, where it was built.
fn on_the_cpu() -> Option<PathBuf> {
    let beside = std::env::current_exe().unwrap();
    let target = beside.ancestors().nth(3).unwrap();
    ["debug", "release"]
        .map(|profile| target.join(profile).join("libgpuos_hip_cpu.so"))
        .into_iter()
        .find(|path| path.exists())
}

#[test]
fn jobs_on_hip_for_cpus_end_when_their_work_is_done() {
    let Some(path) = on_the_cpu() else {
        let required = std::env::var("GPUOS_REQUIRE_BACKENDS").unwrap_or_default();
        assert!(!required.contains("hip-cpu"), "`cargo xtask hip-cpu` builds it");
        return;
    };
    // SAFETY: it starts threads when it is used, and does nothing when it is loaded.
    let library = unsafe { Library::new(&path) }.unwrap();
    // SAFETY: the type is HIP's.
    let create = unsafe { library.get::<Create>("hipStreamCreateWithFlags") }.unwrap();
    // SAFETY: as above.
    let fill = unsafe { library.get::<Fill>("hipMemsetAsync") }.unwrap();
    let mut stream = std::ptr::null_mut();
    // SAFETY: writes the handle.
    assert_eq!(unsafe { create(&raw mut stream, 0) }, 0);
    let hip = Hip::load(&path).map_err(|(error, _)| error).unwrap();
    let context = Context::new(Box::new(hip), true);
    let class = context.class(ClassOptions::default());
    for number in 1..=40_u8 {
        let job = job::begin(&context, &class, Stream(stream as u64)).unwrap();
        let address = job::alloc(job, 1 << 16, 0).unwrap();
        // SAFETY: memory of the job, which the host can read on this device.
        assert_eq!(unsafe { fill(address as *mut c_void, c_int::from(number), 1 << 16, stream) }, 0);
        job::submit(job).unwrap();
        job::wait(job, Some(10_000_000_000)).unwrap();
        let last = (address + (1 << 16) - 1) as *const u8;
        // SAFETY: as above; the work is done.
        assert_eq!(unsafe { last.read() }, number);
        job::end(job).unwrap();
    }
    let stats = class.stats();
    assert_eq!((stats.done, stats.arena.growths, stats.arena.used_after_end), (40, 1, 0));
    // It records nothing: jobs go on without.
    let job = job::begin(&context, &class, Stream(stream as u64)).unwrap();
    assert!(job::record(job).is_err());
    job::submit(job).unwrap();
    job::wait(job, Some(10_000_000_000)).unwrap();
    job::end(job).unwrap();
    assert_eq!(class.stats().unrecorded, 1);
    context.close().unwrap();
}
