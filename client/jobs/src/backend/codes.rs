//! What CUDA and HIP have in common: codes of `CUresult`, from `cuda.h`, which are those of `hipError_t` where both have one, numbers
//! of captures, and a stream that is none.

use super::Stream;
use crate::error::{Error, Result, Status};

/// A capture whose stream alone is affected by what other threads do.
pub(super) const CAPTURE_THREAD_LOCAL: i32 = 1;
/// A stream that is not captured.
pub(super) const CAPTURE_NONE: i32 = 0;
/// A handle: the default stream of whichever thread calls.
const PER_THREAD: u64 = 2;

/// Refuses the handle that stands for another stream in each thread.
pub(super) fn refuse_thread_stream(stream: Stream) -> Result<()> {
    if stream.0 == PER_THREAD {
        let what = "the default stream of each thread is another one in each: use a stream of your own";
        return Err(Error::new(Status::Invalid, what));
    }
    Ok(())
}

const SUCCESS: i32 = 0;
const OUT_OF_MEMORY: i32 = 2;
const DEINITIALIZED: i32 = 4;
const DEVICE_UNAVAILABLE: i32 = 46;
const NO_DEVICE: i32 = 100;
const INVALID_CONTEXT: i32 = 201;
/// Work is not done yet.
pub(super) const NOT_READY: i32 = 600;
const CONTEXT_IS_DESTROYED: i32 = 709;
const CAPTURE_UNSUPPORTED: i32 = 900;
const CAPTURE_WRONG_THREAD: i32 = 908;
/// What goes wrong on the device and stays with the context: uncorrectable memory and links, illegal addresses, timeouts, asserts,
/// stack errors to launch failures.
const STICKY: [i32; 11] = [214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719];

/// What a code means; `None` for success.
pub(super) fn status(code: i32) -> Option<Status> {
    Some(match code {
        SUCCESS => return None,
        OUT_OF_MEMORY => Status::Memory,
        NO_DEVICE => Status::NoRuntime,
        DEINITIALIZED | DEVICE_UNAVAILABLE | INVALID_CONTEXT | CONTEXT_IS_DESTROYED => Status::Lost,
        CAPTURE_UNSUPPORTED..=CAPTURE_WRONG_THREAD => Status::Capturing,
        code if STICKY.contains(&code) => Status::Failed,
        _ => Status::Runtime,
    })
}

/// What became of work: an error that is none of the call is one of the work.
pub(super) fn of_work(done: Result<()>) -> Result<()> {
    done.map_err(|error| {
        let status = if error.status == Status::Lost { Status::Lost } else { Status::Failed };
        Error { status, ..error }
    })
}
