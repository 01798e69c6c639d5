//! OpenCL, loaded when a context asks for it. It has no write of a value: the token is written by a function that the runtime calls
//! when a marker has ended, so that the runtime's thread is in between. Memory is the host's, for `CL_MEM_USE_HOST_PTR`.

use std::{
    collections::HashMap,
    ffi::{OsStr, c_int, c_uint, c_void},
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libloading::Library;

use super::{Backend, PAGE, Stream, Token, TokenPage, function, host::Host, reason};
use crate::error::{Error, Result, Status};

type Code = c_int;
type Handle = *mut c_void;
type Called = unsafe extern "C" fn(Handle, Code, *mut c_void);

const SUCCESS: Code = 0;
/// What a callback is asked for: the end. It is the status of an event that has ended, too.
const COMPLETE: Code = 0;
/// What is asked of an event, from `cl.h`: its status. One below 0 is an error.
const EVENT_STATUS: c_uint = 0x11d3;

struct Functions {
    marker: unsafe extern "C" fn(Handle, c_uint, *const Handle, *mut Handle) -> Code,
    call_back: unsafe extern "C" fn(Handle, Code, Called, *mut c_void) -> Code,
    event_info: unsafe extern "C" fn(Handle, c_uint, usize, *mut c_void, *mut usize) -> Code,
    release_event: unsafe extern "C" fn(Handle) -> Code,
    flush: unsafe extern "C" fn(Handle) -> Code,
    finish: unsafe extern "C" fn(Handle) -> Code,
}

/// The runtime.
pub struct OpenCl {
    functions: Functions,
    /// The last marker of each queue.
    last: Mutex<HashMap<Stream, usize>>,
}

impl OpenCl {
    /// Loads a library with OpenCL's functions, `libOpenCL.so.1`.
    ///
    /// # Errors
    /// [`Status::NoRuntime`] where it is not here.
    pub fn load(path: impl AsRef<OsStr>) -> Result<Self> {
        // SAFETY: what the loader does when it is loaded is what the program wants that uses it.
        let library = unsafe { Library::new(path.as_ref()) };
        let library = library.map_err(|error| Error::new(Status::NoRuntime, reason(&error)))?;
        let functions = Functions {
            // SAFETY: the types are those of `cl.h`, here and below.
            marker: unsafe { function(&library, "clEnqueueMarkerWithWaitList")? },
            // SAFETY: as above.
            call_back: unsafe { function(&library, "clSetEventCallback")? },
            // SAFETY: as above.
            event_info: unsafe { function(&library, "clGetEventInfo")? },
            // SAFETY: as above.
            release_event: unsafe { function(&library, "clReleaseEvent")? },
            // SAFETY: as above.
            flush: unsafe { function(&library, "clFlush")? },
            // SAFETY: as above.
            finish: unsafe { function(&library, "clFinish")? },
        };
        std::mem::forget(library);
        Ok(Self { functions, last: Mutex::default() })
    }

    fn last(&self) -> MutexGuard<'_, HashMap<Stream, usize>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(result: Code, what: &str) -> Result<()> {
    if result == SUCCESS {
        return Ok(());
    }
    Err(Error { status: Status::Runtime, code: result, what: format!("OpenCL, {what}: {result}") })
}

const fn queue(stream: Stream) -> Handle {
    stream.0 as Handle
}

/// Writes the token that it was given, once.
unsafe extern "C" fn ended(_event: Handle, status: Code, argument: *mut c_void) {
    // SAFETY: what `queue_token` gave away.
    let token = unsafe { Arc::from_raw(argument.cast::<Token>()) };
    // Of work that failed no token comes: whoever asks is told why.
    if status == COMPLETE {
        token.write();
    }
}

impl Backend for OpenCl {
    fn name(&self) -> &'static str {
        "OpenCL"
    }

    fn tokens(&self) -> Result<TokenPage> {
        let words = NonNull::new(Host.allocate(PAGE)? as *mut u8);
        let words = words.ok_or_else(|| Error::new(Status::Memory, "a page of tokens"))?;
        // SAFETY: a page of zeros, never given back.
        Ok(unsafe { TokenPage::new(words, 0) })
    }

    fn queue_token(&self, stream: Stream, token: &Token) -> Result<()> {
        let mut event = std::ptr::null_mut();
        // SAFETY: the queue is the program's; writes the event.
        let result = unsafe { (self.functions.marker)(queue(stream), 0, std::ptr::null(), &raw mut event) };
        check(result, "clEnqueueMarkerWithWaitList")?;
        let argument = Arc::into_raw(Arc::new(token.clone()));
        // SAFETY: the function takes the argument once.
        let result = unsafe { (self.functions.call_back)(event, COMPLETE, ended, argument.cast_mut().cast()) };
        if result != SUCCESS {
            // SAFETY: nobody else has it.
            drop(unsafe { Arc::from_raw(argument) });
            // SAFETY: made above.
            unsafe { (self.functions.release_event)(event) };
            return check(result, "clSetEventCallback");
        }
        if let Some(before) = self.last().insert(stream, event as usize) {
            // SAFETY: kept since it was made.
            unsafe { (self.functions.release_event)(before as Handle) };
        }
        // SAFETY: the queue is the program's.
        check(unsafe { (self.functions.flush)(queue(stream)) }, "clFlush")
    }

    fn is_idle(&self, stream: Stream) -> Result<bool> {
        let last = self.last();
        let Some(event) = last.get(&stream) else { return Ok(false) };
        let mut status: Code = 1;
        // SAFETY: the event is kept; as many bytes as a status has.
        let result = unsafe {
            (self.functions.event_info)(
                *event as Handle,
                EVENT_STATUS,
                size_of::<Code>(),
                (&raw mut status).cast(),
                std::ptr::null_mut(),
            )
        };
        check(result, "clGetEventInfo").map_err(|error| Error { status: Status::Lost, ..error })?;
        if status < 0 {
            let what = format!("OpenCL: work ended with {status}");
            return Err(Error { status: Status::Failed, code: status, what });
        }
        Ok(status == COMPLETE)
    }

    fn block(&self, stream: Stream, _token: &Token) -> Result<()> {
        // SAFETY: the queue is the program's.
        let result = unsafe { (self.functions.finish)(queue(stream)) };
        check(result, "clFinish").map_err(|error| Error { status: Status::Failed, ..error })?;
        // What failed does not fail the wait.
        self.is_idle(stream).map(drop)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        Host.allocate(bytes)
    }

    fn release(&self, address: u64, bytes: usize) {
        Host.release(address, bytes);
    }

    fn poison(&self, address: u64, bytes: usize) -> Result<()> {
        Host.poison(address, bytes)
    }

    fn unpoison(&self, address: u64, bytes: usize) -> Result<bool> {
        Host.unpoison(address, bytes)
    }
}
