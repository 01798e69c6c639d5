//! The C interface. `include/gpuos_job.h` is generated from here (`cargo xtask gen`). Functions return a [`Status`] as a
//! number, 0 for success, but those for the version and for texts; no panic leaves them. Structures begin with their size, so that a program that was built
//! with an older header goes on working.

use std::{
    cell::RefCell,
    ffi::{c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    backend::{self, Runtime, Stream, host},
    class::{Class, ClassOptions, ClassStats, Unknown},
    context::Context,
    error::{Error, Result, Status},
    identity, job,
    sized::{self, fill, give, invalid},
    table::{self, Names},
};

/// Version of this interface: the first number changes when a program must be built again.
pub const GPUOS_JOB_VERSION: u32 = 0x0001_0000;
/// No timeout; no deadline.
pub const GPUOS_JOB_FOREVER: u64 = u64::MAX;
/// Bytes of the text of an error, the closing 0 counted.
pub const GPUOS_JOB_TEXT: usize = 256;

/// A flag of a context: memory of ended jobs is filled, protected where that is possible, and checked before it is used again.
pub const GPUOS_JOB_DEBUG: u32 = 1;

/// How a context is opened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gpuos_job_context_options {
    /// `sizeof` this structure.
    pub size: u64,
    /// Which: a `gpuos_job_runtime`.
    pub runtime: u32,
    /// `GPUOS_JOB_DEBUG`, or 0.
    pub flags: u32,
}

/// How a class is opened. All but `size` may be 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gpuos_job_class_options {
    /// `sizeof` this structure.
    pub size: u64,
    /// Its name, or null. A tracer tells classes apart by its first 63 bytes.
    pub label: *const c_char,
    /// How late waits may be on average, in thousandths of a job's duration. 0 wakes up for the earliest of the last 32.
    pub lateness: u32,
    /// A `gpuos_job_unknown`.
    pub unknown: u32,
    /// Bytes that a job is likely to need; 0 where that is not known.
    pub bytes: u64,
    /// After how many nanoseconds beyond the longest duration the runtime is asked what became of a job; 0 for 100 ms.
    pub watchdog: u64,
}

/// What was counted since a class was opened.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct gpuos_job_stats {
    /// `sizeof` this structure.
    pub size: u64,
    /// Jobs that began.
    pub begun: u64,
    /// Jobs whose work was done.
    pub done: u64,
    /// Jobs that failed, or were cancelled.
    pub failed: u64,
    /// The median of the last durations, nanoseconds; 0 while none is known.
    pub duration: u64,
    /// Sleeps of waits to a predicted time.
    pub sleeps: u64,
    /// Of jobs, those that had ended before the predicted time.
    pub late: u64,
    /// Waits in the runtime.
    pub blocks: u64,
    /// Sleeps for jobs that took longer than any before.
    pub naps: u64,
    /// Jobs that asked for a recording and got none.
    pub unrecorded: u64,
    /// Bytes that jobs had at once, at most.
    pub high_water: u64,
    /// Regions of memory that were there already.
    pub hits: u64,
    /// Regions that the runtime was asked for.
    pub growths: u64,
    /// Jobs that needed more than one region.
    pub spills: u64,
    /// Regions that went back to the runtime.
    pub trims: u64,
    /// Regions that were written after their job's end; counted with `GPUOS_JOB_DEBUG`.
    pub used_after_end: u64,
}

/// What is known of a job.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct gpuos_job_info {
    /// `sizeof` this structure.
    pub size: u64,
    /// A `gpuos_job_state`.
    pub state: u32,
    /// 0.
    pub reserved: u32,
    /// When it was submitted, nanoseconds of `CLOCK_MONOTONIC`; 0 before.
    pub submitted: u64,
    /// When its end was known; 0 before.
    pub known: u64,
}

/// What went wrong.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gpuos_job_error {
    /// `sizeof` this structure.
    pub size: u64,
    /// A `gpuos_job_status`.
    pub status: i32,
    /// The runtime's own code, or `errno`; 0 where neither has to do with it.
    pub code: i32,
    /// What failed, on what: UTF-8, closed by a 0.
    pub text: [c_char; GPUOS_JOB_TEXT],
}

/// A job.
pub type gpuos_job_t = u64;
/// A class of jobs.
pub type gpuos_job_class_t = u64;
/// A context.
pub type gpuos_job_context_t = u64;
/// What a host stream does: 0, or an error that ends the stream.
pub type gpuos_job_function = Option<unsafe extern "C" fn(argument: *mut c_void) -> c_int>;

struct Opened {
    context: Arc<Context>,
    class: Arc<Class>,
}

static CONTEXTS: Names<Context> = Names::new(0xc0);
static CLASSES: Names<Opened> = Names::new(0xc1);

thread_local!(static LAST: RefCell<Error> = RefCell::new(Error::new(Status::Ok, "")));

/// Does something for a C program: its code is returned, its text kept for `gpuos_job_last_error`.
fn answer(what: impl FnOnce() -> Result<()>) -> c_int {
    let done = catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::new(Status::Internal, text.unwrap_or("a panic")))
    });
    match done {
        Ok(()) => Status::Ok as c_int,
        Err(error) => {
            let status = error.status;
            // A thread that ends has none any more.
            LAST.try_with(|last| *last.borrow_mut() = error).ok();
            status as c_int
        }
    }
}

fn text(of: &str) -> [c_char; GPUOS_JOB_TEXT] {
    let mut text = [0; GPUOS_JOB_TEXT];
    let mut end = of.len().min(GPUOS_JOB_TEXT - 1);
    while !of.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in text.iter_mut().zip(&of.as_bytes()[..end]) {
        *to = *from as c_char;
    }
    text
}

fn error_of(error: &Error) -> gpuos_job_error {
    let size = size_of::<gpuos_job_error>() as u64;
    gpuos_job_error { size, status: error.status as i32, code: error.code, text: text(&error.what) }
}

/// The version of the library: `GPUOS_JOB_VERSION` of its header.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_version() -> u32 {
    GPUOS_JOB_VERSION
}

/// A status in words, for as long as the process lives.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_status_text(status: c_int) -> *const c_char {
    let found = Status::ALL.into_iter().find(|one| *one as c_int == status);
    match found {
        Some(status) => status_text(status),
        None => c"a status that this version of the library does not know".as_ptr(),
    }
}

fn status_text(status: Status) -> *const c_char {
    use std::{collections::HashMap, ffi::CString, sync::LazyLock};
    static TEXTS: LazyLock<HashMap<Status, CString>> = LazyLock::new(|| {
        Status::ALL.into_iter().map(|status| (status, CString::new(status.text()).unwrap_or_default())).collect()
    });
    TEXTS.get(&status).map_or(c"".as_ptr(), |text| text.as_ptr())
}

/// What went wrong in the last call of this thread that failed.
///
/// # Safety
/// `error` points to a structure whose `size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_last_error(error: *mut gpuos_job_error) -> c_int {
    let last = LAST.try_with(|last| last.borrow().clone());
    let last = last.unwrap_or_else(|_| Error::new(Status::Internal, "the thread ends"));
    // SAFETY: as the caller promises.
    answer(|| unsafe { fill(error, error_of(&last), "error") })
}

/// Opens a context on a runtime, which is loaded now.
///
/// # Safety
/// `options` points to a structure whose `size` is set, `context` to a place for the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_context_open(
    options: *const gpuos_job_context_options,
    context: *mut gpuos_job_context_t,
) -> c_int {
    answer(|| {
        // SAFETY: as the caller promises.
        let given = unsafe { sized::options(options, size_of::<gpuos_job_context_options>(), "options")? };
        if given.flags & !GPUOS_JOB_DEBUG != 0 {
            return Err(invalid(format!("`options.flags` is {:#x}", given.flags)));
        }
        let runtime = Runtime::ALL.into_iter().find(|runtime| *runtime as u32 == given.runtime);
        let runtime = runtime.ok_or_else(|| invalid(format!("`options.runtime` is {}", given.runtime)))?;
        let backend = backend::open(runtime)?;
        let opened = Context::new(backend, given.flags & GPUOS_JOB_DEBUG != 0);
        // SAFETY: as the caller promises.
        unsafe { give(context, CONTEXTS.insert(opened, 0), "context") }
    })
}

/// Closes a context that has no job in flight: its classes begin no more. The descriptor is closed with its last class and job.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_context_close(context: gpuos_job_context_t) -> c_int {
    answer(|| {
        CONTEXTS.get(context)?.close()?;
        CONTEXTS.remove(context).map(drop)
    })
}

/// Opens a class of jobs.
///
/// # Safety
/// `options` points to a structure whose `size` is set, its `label` is null or closed by a 0; `class` points to a place for the
/// handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_class_open(
    context: gpuos_job_context_t,
    options: *const gpuos_job_class_options,
    class: *mut gpuos_job_class_t,
) -> c_int {
    answer(|| {
        let context = CONTEXTS.get(context)?;
        // SAFETY: as the caller promises.
        let given = unsafe { sized::options(options, size_of::<u64>(), "options")? };
        let label = if given.label.is_null() {
            String::new()
        } else {
            // SAFETY: as the caller promises.
            unsafe { std::ffi::CStr::from_ptr(given.label) }.to_string_lossy().into_owned()
        };
        let unknown = [Unknown::Block, Unknown::Spin].into_iter().find(|one| *one as u32 == given.unknown);
        let unknown = unknown.ok_or_else(|| invalid(format!("`options.unknown` is {}", given.unknown)))?;
        let bytes = usize::try_from(given.bytes).ok().filter(|bytes| isize::try_from(*bytes).is_ok());
        let bytes = bytes.ok_or_else(|| invalid(format!("`options.bytes` is {}", given.bytes)))?;
        let options = ClassOptions { label, lateness: given.lateness, unknown, bytes, watchdog: given.watchdog };
        let opened = Opened { class: context.class(options), context };
        let number = opened.class.number;
        // SAFETY: as the caller promises.
        unsafe { give(class, CLASSES.insert(Arc::new(opened), number), "class") }
    })
}

/// Closes a class: its memory goes back to the runtime, that of jobs in flight when they end.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_class_close(class: gpuos_job_class_t) -> c_int {
    answer(|| {
        let Opened { context, class } = &*CLASSES.remove(class)?;
        class.close(&*context.backend)
    })
}

/// What was counted of a class.
///
/// # Safety
/// `stats` points to a structure whose `size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_class_stats(class: gpuos_job_class_t, stats: *mut gpuos_job_stats) -> c_int {
    answer(|| {
        let ClassStats { begun, done, failed, duration, sleeps, late, blocks, naps, unrecorded, arena } =
            CLASSES.get(class)?.class.stats();
        let given = gpuos_job_stats {
            size: size_of::<gpuos_job_stats>() as u64,
            begun,
            done,
            failed,
            duration,
            sleeps,
            late,
            blocks,
            naps,
            unrecorded,
            high_water: arena.high_water,
            hits: arena.hits,
            growths: arena.growths,
            spills: arena.spills,
            trims: arena.trims,
            used_after_end: arena.used_after_end,
        };
        // SAFETY: as the caller promises.
        unsafe { fill(stats, given, "stats") }
    })
}

/// Gives back to the runtime what no job of the class has now.
///
/// # Safety
/// `bytes` is null, or points to a place for how much that was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_class_trim(class: gpuos_job_class_t, bytes: *mut u64) -> c_int {
    answer(|| {
        let Opened { context, class } = &*CLASSES.get(class)?;
        let trimmed = class.arena.trim(&*context.backend)?;
        if bytes.is_null() {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe { give(bytes, trimmed, "bytes") }
    })
}

/// From now on the calling thread works for a class, until `gpuos_job_leave`: a tracer charges to it what the thread calls and uses.
/// A store, no call. The innermost of at most eight counts. A thread works for a job's class by itself while it issues its work, and
/// while it waits for it.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_enter(class: gpuos_job_class_t) -> c_int {
    // No error is made here, nor room for one: this is called more often than all else.
    let Some(number) = CLASSES.mark_of(class) else { return no_class(class) };
    identity::enter(number);
    Status::Ok as c_int
}

#[cold]
#[inline(never)]
fn no_class(class: gpuos_job_class_t) -> c_int {
    answer(|| Err(invalid(format!("{class:#x} is no class"))))
}

/// The calling thread works for what it worked for before `gpuos_job_enter`.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_leave() -> c_int {
    if identity::leave() { Status::Ok as c_int } else { has_entered_none() }
}

#[cold]
#[inline(never)]
fn has_entered_none() -> c_int {
    answer(|| Err(Error::new(Status::State, "the thread has entered no class")))
}

/// Begins a job: what the calling thread issues in the stream from now on belongs to it.
///
/// # Safety
/// `stream` is a stream of the class's runtime; `job` points to a place for the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_begin(
    class: gpuos_job_class_t,
    stream: *mut c_void,
    job: *mut gpuos_job_t,
) -> c_int {
    answer(|| {
        table::refuse_forked()?;
        if job.is_null() {
            return Err(invalid("`job` is null"));
        }
        let Opened { context, class } = &*CLASSES.get(class)?;
        let handle = job::begin(context, class, Stream(stream as u64))?;
        // SAFETY: as the caller promises.
        unsafe { give(job, handle, "job") }
    })
}

/// Memory of the device that an open job has until it is ended. `alignment` is a power of two, or 0 for 256.
///
/// # Safety
/// `address` points to a place for where it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_alloc(job: gpuos_job_t, bytes: usize, alignment: usize, address: *mut u64) -> c_int {
    answer(|| {
        if address.is_null() {
            return Err(invalid("`address` is null"));
        }
        let given = job::alloc(job, bytes, alignment)?;
        // SAFETY: as the caller promises.
        unsafe { give(address, given, "address") }
    })
}

/// Records what an open job issues, to be submitted as one, and for all jobs of its class that ask for it. Where that was done
/// before, `is_recorded` is 1, and the job issues nothing. Where it fails, the job goes on without.
///
/// # Safety
/// `is_recorded` points to a place for 0 or 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_record(job: gpuos_job_t, is_recorded: *mut c_int) -> c_int {
    answer(|| {
        if is_recorded.is_null() {
            return Err(invalid("`is_recorded` is null"));
        }
        let recorded = job::record(job)?;
        // SAFETY: as the caller promises.
        unsafe { give(is_recorded, c_int::from(recorded), "is_recorded") }
    })
}

/// Queues the completion token behind all that the job has issued. Where that fails, the job has failed.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_submit(job: gpuos_job_t) -> c_int {
    answer(|| job::submit(job))
}

/// Waits until the job's end is known, `timeout` nanoseconds at most (`GPUOS_JOB_FOREVER`: as long as it takes). Of a job that
/// failed it returns why.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_wait(job: gpuos_job_t, timeout: u64) -> c_int {
    answer(|| job::wait(job, (timeout != GPUOS_JOB_FOREVER).then_some(timeout)))
}

/// When an event loop should call `gpuos_job_poll` next, nanoseconds of `CLOCK_MONOTONIC`; `GPUOS_JOB_FOREVER` while nothing is in
/// flight. It is for a loop whose thread submits all jobs: what another thread submits, cancels
/// or sees fail does not wake it; `gpuos_job_fd` does.
///
/// # Safety
/// `deadline` points to a place for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_next_deadline(context: gpuos_job_context_t, deadline: *mut u64) -> c_int {
    answer(|| {
        let next = CONTEXTS.get(context)?.next_deadline().unwrap_or(GPUOS_JOB_FOREVER);
        // SAFETY: as the caller promises.
        unsafe { give(deadline, next, "deadline") }
    })
}

/// Jobs whose end is known and that no wait and no poll has returned yet, `most` at most. Where one is due within some
/// microseconds it looks for that long.
///
/// # Safety
/// `jobs` points to places for `most` handles, `count` to one for how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_poll(
    context: gpuos_job_context_t,
    jobs: *mut gpuos_job_t,
    most: usize,
    count: *mut usize,
) -> c_int {
    answer(|| {
        if (jobs.is_null() && most > 0) || count.is_null() {
            return Err(invalid("`jobs` or `count` is null"));
        }
        let ended = CONTEXTS.get(context)?.poll(most);
        if !ended.is_empty() {
            // SAFETY: there are `most` places, and no more have ended.
            unsafe { std::ptr::copy_nonoverlapping(ended.as_ptr(), jobs, ended.len()) };
        }
        // SAFETY: as the caller promises.
        unsafe { give(count, ended.len(), "count") }
    })
}

/// A descriptor that is readable when `gpuos_job_poll` should be called, which may return nothing yet. A loop that is told of changes
/// alone (`EPOLLET`) polls until nothing is returned. It belongs to the context: it is neither read, written nor closed by the
/// program.
///
/// # Safety
/// `fd` points to a place for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_fd(context: gpuos_job_context_t, fd: *mut c_int) -> c_int {
    answer(|| {
        let given = CONTEXTS.get(context)?.fd()?;
        // SAFETY: as the caller promises.
        unsafe { give(fd, given, "fd") }
    })
}

/// What is known of a job that was not ended.
///
/// # Safety
/// `info` points to a structure whose `size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_get_info(job: gpuos_job_t, info: *mut gpuos_job_info) -> c_int {
    answer(|| {
        let known = job::info(job)?;
        let size = size_of::<gpuos_job_info>() as u64;
        let given = gpuos_job_info {
            size,
            state: known.state as u32,
            reserved: 0,
            submitted: known.submitted,
            known: known.known,
        };
        // SAFETY: as the caller promises.
        unsafe { fill(info, given, "info") }
    })
}

/// Why a job failed; `status` is 0 where it has not.
///
/// # Safety
/// `error` points to a structure whose `size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_get_error(job: gpuos_job_t, error: *mut gpuos_job_error) -> c_int {
    answer(|| {
        let why = job::error(job)?.unwrap_or_else(|| Error::new(Status::Ok, ""));
        // SAFETY: as the caller promises.
        unsafe { fill(error, error_of(&why), "error") }
    })
}

/// Gives a job up: it fails, and waits for it return. What it has submitted goes on; its memory is used again when that is over.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_cancel(job: gpuos_job_t) -> c_int {
    answer(|| job::cancel(job))
}

/// Ends a job whose end is known: its memory goes back to its class, its handle is stale.
#[unsafe(no_mangle)]
pub extern "C" fn gpuos_job_end(job: gpuos_job_t) -> c_int {
    answer(|| job::end(job))
}

/// The job that has an address (`is_live` is 1), or had it last and has ended (0).
///
/// # Safety
/// `job` and `is_live` point to places for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_owner(
    context: gpuos_job_context_t,
    address: u64,
    job: *mut gpuos_job_t,
    is_live: *mut c_int,
) -> c_int {
    answer(|| {
        let (handle, lives) = CONTEXTS.get(context)?.owner(address)?;
        // SAFETY: as the caller promises.
        unsafe { give(job, handle, "job") }?;
        // SAFETY: as above.
        unsafe { give(is_live, c_int::from(lives), "is_live") }
    })
}

/// Makes a stream of the runtime `GPUOS_JOB_HOST`: a thread of its own.
///
/// # Safety
/// `stream` points to a place for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_host_open(stream: *mut *mut c_void) -> c_int {
    answer(|| {
        if stream.is_null() {
            return Err(invalid("`stream` is null"));
        }
        let opened = host::open()?;
        // SAFETY: as the caller promises.
        unsafe { give(stream, opened.0 as *mut c_void, "stream") }
    })
}

/// Does what is queued, and ends the stream.
///
/// # Safety
/// Functions that are queued can still be called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_host_close(stream: *mut c_void) -> c_int {
    answer(|| host::close(Stream(stream as u64)))
}

/// Queues a function: 0, or an error that ends the stream, and fails its jobs.
///
/// # Safety
/// The function can be called with the argument, on another thread; where it is recorded, any number of times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_host_launch(
    stream: *mut c_void,
    function: gpuos_job_function,
    argument: *mut c_void,
) -> c_int {
    struct Argument(*mut c_void);
    // SAFETY: the caller promises that another thread may have it.
    unsafe impl Send for Argument {}
    // SAFETY: as above.
    unsafe impl Sync for Argument {}
    answer(|| {
        let function = function.ok_or_else(|| invalid("`function` is null"))?;
        let argument = Argument(argument);
        let operation = move || {
            let Argument(argument) = &argument;
            // SAFETY: as the caller promises.
            unsafe { function(*argument) }
        };
        host::launch(Stream(stream as u64), Arc::new(operation))
    })
}

/// The device of a host stream is gone, as a test wants it: nothing that is queued is done any more.
///
/// # Safety
/// As `gpuos_job_host_close`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_job_host_lose(stream: *mut c_void) -> c_int {
    answer(|| host::lose(Stream(stream as u64)))
}
