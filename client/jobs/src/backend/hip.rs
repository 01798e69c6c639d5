//! HIP, loaded when a context asks for it: AMD's runtime, or another library with the same functions. A token is a stream's write
//! to mapped host memory; where there is no such function, a copy of four bytes.

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void},
    ptr::NonNull,
};

use libloading::Library;

use super::{Backend, PAGE, POISON, Stream, Token, TokenPage, codes, function, reason};
use crate::error::{Error, Result, Status};

type Code = c_int;
type Handle = *mut c_void;

/// Flags and kinds, from `hip_runtime_api.h`.
const HOST_MALLOC_PORTABLE_MAPPED: c_uint = 1 | 2;
const MEMCPY_HOST_TO_HOST: c_int = 0;
const MEMCPY_DEVICE_TO_HOST: c_int = 2;

macro_rules! functions {
    ($($name:ident = $symbol:literal ( $($type:ty),* );)*) => {
        /// The functions that are used, of a library that stays loaded; those that are absent are errors when they are called.
        struct Functions {
            $($name: Result<unsafe extern "C" fn($($type),*) -> Code>,)*
        }

        impl Functions {
            fn of(library: &Library) -> Self {
                Self {
                    // SAFETY: the types are those of `hip_runtime_api.h`; the library is never unloaded.
                    $($name: unsafe { function(library, $symbol) },)*
                }
            }
        }
    };
}

functions! {
    init = "hipInit" (c_uint);
    device_count = "hipGetDeviceCount" (*mut c_int);
    host_malloc = "hipHostMalloc" (*mut *mut c_void, usize, c_uint);
    device_pointer = "hipHostGetDevicePointer" (*mut *mut c_void, *mut c_void, c_uint);
    write_value = "hipStreamWriteValue32" (Handle, *mut c_void, u32, c_uint);
    copy_async = "hipMemcpyAsync" (*mut c_void, *const c_void, usize, c_int, Handle);
    query = "hipStreamQuery" (Handle);
    synchronize = "hipStreamSynchronize" (Handle);
    malloc = "hipMalloc" (*mut *mut c_void, usize);
    free = "hipFree" (*mut c_void);
    memset_async = "hipMemsetAsync" (*mut c_void, c_int, usize, Handle);
    is_capturing = "hipStreamIsCapturing" (Handle, *mut c_int);
    begin_capture = "hipStreamBeginCapture" (Handle, c_int);
    end_capture = "hipStreamEndCapture" (Handle, *mut Handle);
    instantiate = "hipGraphInstantiate" (*mut Handle, Handle, *mut Handle, *mut c_char, usize);
    launch_graph = "hipGraphLaunch" (Handle, Handle);
    destroy_graph = "hipGraphDestroy" (Handle);
    destroy_exec = "hipGraphExecDestroy" (Handle);
}

/// The runtime, on the device that is current when it is loaded.
pub struct Hip {
    functions: Functions,
    error_name: unsafe extern "C" fn(Code) -> *const c_char,
}

/// Calls one of the functions, where it is there.
macro_rules! call {
    ($hip:expr, $function:ident ( $($argument:expr),* )) => {{
        let function = $hip.functions.$function.as_ref().map_err(Clone::clone)?;
        // SAFETY: arguments are those that HIP wants; each place below says whose memory they are.
        $hip.check(unsafe { function($($argument),*) }, stringify!($function))
    }};
}

impl Hip {
    /// Loads AMD's library, the newest that is here.
    ///
    /// # Errors
    /// [`Status::NoRuntime`] where there is none, or no device.
    pub fn load_first() -> Result<Self> {
        const NAMES: [&str; 4] =
            ["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "/opt/rocm/lib/libamdhip64.so"];
        let mut first = None;
        for name in NAMES {
            match Self::load(name) {
                Ok(hip) => return Ok(hip),
                // One that is here and does not work says more than one that is not.
                Err((error, is_here)) if is_here => return Err(error),
                Err((error, _)) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(Status::NoRuntime, "libamdhip64")))
    }

    /// Loads a library with HIP's functions.
    ///
    /// # Errors
    /// [`Status::NoRuntime`], and whether the library is here.
    pub fn load(path: impl AsRef<OsStr>) -> std::result::Result<Self, (Error, bool)> {
        // SAFETY: what the runtime does when it is loaded is what the program wants that uses it.
        let library = unsafe { Library::new(path.as_ref()) };
        let library = library.map_err(|error| (Error::new(Status::NoRuntime, reason(&error)), false))?;
        Self::of(&library).inspect(|_| std::mem::forget(library)).map_err(|error| (error, true))
    }

    fn of(library: &Library) -> Result<Self> {
        // SAFETY: the type is that of `hip_runtime_api.h`.
        let error_name = unsafe { function(library, "hipGetErrorName")? };
        let hip = Self { functions: Functions::of(library), error_name };
        match hip.devices() {
            Ok(0) => Err(Error::new(Status::NoRuntime, "HIP has no device")),
            Ok(_) => Ok(hip),
            Err(error) => Err(Error { status: Status::NoRuntime, ..error }),
        }
    }

    fn devices(&self) -> Result<c_int> {
        call!(self, init(0))?;
        let mut count = 0;
        call!(self, device_count(&raw mut count))?;
        Ok(count)
    }

    /// A stream that is captured is asked nothing: that would end the capture.
    fn is_captured(&self, stream: Stream) -> Result<bool> {
        let mut capturing = codes::CAPTURE_NONE;
        if self.functions.is_capturing.is_ok() {
            call!(self, is_capturing(handle(stream), &raw mut capturing))?;
        }
        Ok(capturing != codes::CAPTURE_NONE)
    }

    fn check(&self, result: Code, what: &str) -> Result<()> {
        let Some(status) = codes::status(result) else { return Ok(()) };
        // SAFETY: a text that is never freed, or null.
        let name = unsafe { (self.error_name)(result) };
        // SAFETY: as above.
        let name = if name.is_null() { "an error".into() } else { unsafe { CStr::from_ptr(name) }.to_string_lossy() };
        Err(Error { status, code: result, what: format!("HIP, {what}: {name} ({result})") })
    }
}

const fn handle(stream: Stream) -> Handle {
    stream.0 as Handle
}

impl Backend for Hip {
    fn name(&self) -> &'static str {
        "HIP"
    }

    fn tokens(&self) -> Result<TokenPage> {
        let mut words = std::ptr::null_mut();
        call!(self, host_malloc(&raw mut words, PAGE, HOST_MALLOC_PORTABLE_MAPPED))?;
        let mut device = words;
        if self.functions.device_pointer.is_ok() {
            call!(self, device_pointer(&raw mut device, words, 0))?;
        }
        let words = NonNull::new(words.cast::<u8>());
        let words = words.ok_or_else(|| Error::new(Status::Memory, "hipHostMalloc returned nothing"))?;
        // SAFETY: as many bytes were allocated.
        unsafe { words.as_ptr().write_bytes(0, PAGE) };
        // SAFETY: a page that nobody else has, and that is never freed.
        Ok(unsafe { TokenPage::new(words, device as u64) })
    }

    fn queue_token(&self, stream: Stream, token: &Token) -> Result<()> {
        codes::refuse_thread_stream(stream)?;
        if self.is_captured(stream)? {
            return Err(Error::new(Status::Capturing, "end the capture before the job is submitted"));
        }
        let (address, value) = token.for_device();
        if self.functions.write_value.is_ok() {
            return call!(self, write_value(handle(stream), address as *mut c_void, value, 0));
        }
        let source = token.source().cast::<c_void>();
        let bytes = size_of::<u32>();
        call!(self, copy_async(address as *mut c_void, source, bytes, MEMCPY_HOST_TO_HOST, handle(stream)))
    }

    fn is_idle(&self, stream: Stream) -> Result<bool> {
        if self.functions.query.is_err() || self.is_captured(stream).unwrap_or_default() {
            // It does not say, or must not be asked: the token alone says.
            return Ok(false);
        }
        match codes::of_work(call!(self, query(handle(stream)))) {
            Err(error) if error.code == codes::NOT_READY => Ok(false),
            done => done.map(|()| true),
        }
    }

    fn block(&self, stream: Stream, _token: &Token) -> Result<()> {
        if self.is_captured(stream).unwrap_or_default() {
            return Err(Error::new(Status::Capturing, "a wait would end the capture"));
        }
        codes::of_work(call!(self, synchronize(handle(stream))))
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let mut address = std::ptr::null_mut();
        call!(self, malloc(&raw mut address, bytes))?;
        Ok(address as u64)
    }

    fn release(&self, address: u64, _bytes: usize) {
        let free = || call!(self, free(address as *mut c_void));
        // Of a device that is gone, memory is gone, too.
        free().ok();
    }

    fn poison(&self, address: u64, bytes: usize) -> Result<()> {
        let none = std::ptr::null_mut();
        call!(self, memset_async(address as *mut c_void, c_int::from(POISON), bytes, none))?;
        call!(self, synchronize(none))
    }

    fn unpoison(&self, address: u64, bytes: usize) -> Result<bool> {
        let mut memory = vec![0_u8; bytes];
        let (to, none) = (memory.as_mut_ptr().cast(), std::ptr::null_mut());
        call!(self, copy_async(to, address as *const c_void, bytes, MEMCPY_DEVICE_TO_HOST, none))?;
        call!(self, synchronize(none))?;
        Ok(memory.iter().all(|byte| *byte == POISON))
    }

    fn begin_recording(&self, stream: Stream) -> Result<()> {
        call!(self, begin_capture(handle(stream), codes::CAPTURE_THREAD_LOCAL))
    }

    fn end_recording(&self, stream: Stream) -> Result<u64> {
        let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
        call!(self, end_capture(handle(stream), &raw mut graph))?;
        let none = std::ptr::null_mut();
        let made = call!(self, instantiate(&raw mut exec, graph, none, std::ptr::null_mut(), 0));
        call!(self, destroy_graph(graph))?;
        made.map(|()| exec as u64)
    }

    fn launch_recorded(&self, stream: Stream, graph: u64) -> Result<()> {
        call!(self, launch_graph(graph as Handle, handle(stream)))
    }

    fn forget(&self, graph: u64) {
        let forget = || call!(self, destroy_exec(graph as Handle));
        forget().ok();
    }
}
