//! Codes of `CUresult`, from `cuda.h`; those of `hipError_t` are the same where both have one.

use crate::error::{Error, Result, Status};

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
