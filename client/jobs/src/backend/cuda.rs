//! CUDA's driver API, loaded when a context asks for it. A token is a stream's write to mapped host memory.

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void},
    ptr::NonNull,
};

use libloading::Library;

use super::{Backend, PAGE, POISON, Stream, Token, TokenPage, codes, function, reason};
use crate::error::{Error, Result, Status};

type Code = c_int;
type Handle = *mut c_void;
type Address = u64;

/// Flags, from `cuda.h`.
const HOST_ALLOC_PORTABLE_MAPPED: c_uint = 1 | 2;
const WRITE_VALUE_DEFAULT: c_uint = 0;

macro_rules! functions {
    ($($name:ident = $symbol:literal ( $($type:ty),* );)*) => {
        /// The functions that are used, of a library that stays loaded.
        struct Functions {
            $($name: unsafe extern "C" fn($($type),*) -> Code,)*
        }

        impl Functions {
            fn of(library: &Library) -> Result<Self> {
                // SAFETY: the types are those of `cuda.h`; the library is never unloaded.
                Ok(Self { $($name: unsafe { function(library, $symbol)? },)* })
            }
        }
    };
}

functions! {
    init = "cuInit" (c_uint);
    error_name = "cuGetErrorName" (Code, *mut *const c_char);
    current = "cuCtxGetCurrent" (*mut Handle);
    push = "cuCtxPushCurrent_v2" (Handle);
    pop = "cuCtxPopCurrent_v2" (*mut Handle);
    host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    device_pointer = "cuMemHostGetDevicePointer_v2" (*mut Address, *mut c_void, c_uint);
    write_value = "cuStreamWriteValue32_v2" (Handle, Address, u32, c_uint);
    query = "cuStreamQuery" (Handle);
    synchronize = "cuStreamSynchronize" (Handle);
    alloc = "cuMemAlloc_v2" (*mut Address, usize);
    free = "cuMemFree_v2" (Address);
    memset = "cuMemsetD8_v2" (Address, u8, usize);
    copy_back = "cuMemcpyDtoH_v2" (*mut c_void, Address, usize);
    is_capturing = "cuStreamIsCapturing" (Handle, *mut c_int);
    begin_capture = "cuStreamBeginCapture_v2" (Handle, c_int);
    end_capture = "cuStreamEndCapture" (Handle, *mut Handle);
    instantiate = "cuGraphInstantiateWithFlags" (*mut Handle, Handle, u64);
    launch_graph = "cuGraphLaunch" (Handle, Handle);
    destroy_graph = "cuGraphDestroy" (Handle);
    destroy_exec = "cuGraphExecDestroy" (Handle);
}

/// The runtime, in the context that was current when it was loaded.
pub struct Cuda {
    functions: Functions,
    context: Handle,
}

// SAFETY: functions and contexts of CUDA can be used by every thread; each makes the context its current one first.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

impl Cuda {
    /// Loads the driver's library, `libcuda.so.1`, and takes the context that is current in this thread.
    ///
    /// # Errors
    /// [`Status::NoRuntime`] where it is not here or no context is current.
    pub fn load(path: impl AsRef<OsStr>) -> Result<Self> {
        // SAFETY: what the driver does when it is loaded is what the program wants that uses it.
        let library = unsafe { Library::new(path.as_ref()) };
        let library = library.map_err(|error| Error::new(Status::NoRuntime, reason(&error)))?;
        let functions = Functions::of(&library)?;
        // Handles of the driver live as long as the process.
        std::mem::forget(library);
        let cuda = Self { functions, context: std::ptr::null_mut() };
        // SAFETY: 0 is the only flag.
        let begun = cuda.check(unsafe { (cuda.functions.init)(0) }, "cuInit");
        begun.map_err(|error| Error { status: Status::NoRuntime, ..error })?;
        let mut context = std::ptr::null_mut();
        // SAFETY: writes the handle.
        cuda.check(unsafe { (cuda.functions.current)(&raw mut context) }, "cuCtxGetCurrent")?;
        if context.is_null() {
            let hint = "no CUDA context is current in this thread: use the device first, as `cudaFree(0)` does";
            return Err(Error::new(Status::NoRuntime, hint));
        }
        Ok(Self { context, ..cuda })
    }

    fn check(&self, result: Code, what: &str) -> Result<()> {
        let Some(status) = codes::status(result) else { return Ok(()) };
        let mut name = std::ptr::null();
        // SAFETY: writes a pointer to a text that is never freed, or null.
        unsafe { (self.functions.error_name)(result, &raw mut name) };
        // SAFETY: as above.
        let name = if name.is_null() { "an error".into() } else { unsafe { CStr::from_ptr(name) }.to_string_lossy() };
        Err(Error { status, code: result, what: format!("{what}: {name} ({result})") })
    }

    /// A stream that is captured is asked nothing: that would end the capture.
    fn refuse_capture(&self, stream: Stream) -> Result<()> {
        let mut capturing = codes::CAPTURE_NONE;
        // SAFETY: the stream is the program's; writes the state.
        let result = unsafe { (self.functions.is_capturing)(handle(stream), &raw mut capturing) };
        self.check(result, "cuStreamIsCapturing")?;
        if capturing == codes::CAPTURE_NONE {
            return Ok(());
        }
        Err(Error::new(Status::Capturing, "end the capture before the job is submitted"))
    }

    /// Does something with the context as this thread's current one.
    fn inside<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: the context was current once; one that is destroyed is an error.
        self.check(unsafe { (self.functions.push)(self.context) }, "cuCtxPushCurrent")?;
        let result = what();
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what was pushed.
        unsafe { (self.functions.pop)(&raw mut popped) };
        result
    }
}

const fn handle(stream: Stream) -> Handle {
    stream.0 as Handle
}

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        "CUDA"
    }

    fn tokens(&self) -> Result<TokenPage> {
        self.inside(|| {
            let (mut words, mut device) = (std::ptr::null_mut(), 0);
            // SAFETY: writes both.
            let result = unsafe { (self.functions.host_alloc)(&raw mut words, PAGE, HOST_ALLOC_PORTABLE_MAPPED) };
            self.check(result, "cuMemHostAlloc")?;
            // SAFETY: the memory was just allocated, for the device, too.
            let result = unsafe { (self.functions.device_pointer)(&raw mut device, words, 0) };
            self.check(result, "cuMemHostGetDevicePointer")?;
            let words = NonNull::new(words.cast::<u8>());
            let words = words.ok_or_else(|| Error::new(Status::Memory, "cuMemHostAlloc returned nothing"))?;
            // SAFETY: as many bytes were allocated.
            unsafe { words.as_ptr().write_bytes(0, PAGE) };
            // SAFETY: a page that nobody else has, and that is never freed.
            Ok(unsafe { TokenPage::new(words, device) })
        })
    }

    fn queue_token(&self, stream: Stream, token: &Token) -> Result<()> {
        codes::refuse_thread_stream(stream)?;
        self.inside(|| {
            self.refuse_capture(stream)?;
            let (address, value) = token.for_device();
            // SAFETY: the address is the device's of a word that is never freed.
            let result = unsafe { (self.functions.write_value)(handle(stream), address, value, WRITE_VALUE_DEFAULT) };
            self.check(result, "cuStreamWriteValue32")
        })
    }

    fn is_idle(&self, stream: Stream) -> Result<bool> {
        self.inside(|| {
            if self.refuse_capture(stream).is_err_and(|error| error.status == Status::Capturing) {
                return Ok(false);
            }
            // SAFETY: the stream is the program's, which keeps it while a job is in flight.
            match unsafe { (self.functions.query)(handle(stream)) } {
                codes::NOT_READY => Ok(false),
                result => codes::of_work(self.check(result, "cuStreamQuery")).map(|()| true),
            }
        })
    }

    fn block(&self, stream: Stream, _token: &Token) -> Result<()> {
        self.inside(|| {
            if let Err(error) = self.refuse_capture(stream)
                && error.status == Status::Capturing
            {
                return Err(error);
            }
            // SAFETY: as above.
            let result = unsafe { (self.functions.synchronize)(handle(stream)) };
            codes::of_work(self.check(result, "cuStreamSynchronize"))
        })
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.inside(|| {
            let mut address = 0;
            // SAFETY: writes the address.
            self.check(unsafe { (self.functions.alloc)(&raw mut address, bytes) }, "cuMemAlloc")?;
            Ok(address)
        })
    }

    fn release(&self, address: u64, _bytes: usize) {
        self.inside(|| {
            // SAFETY: allocated above, and no job has it.
            self.check(unsafe { (self.functions.free)(address) }, "cuMemFree")
        })
        // Of a context that is gone, memory is gone, too.
        .ok();
    }

    fn poison(&self, address: u64, bytes: usize) -> Result<()> {
        self.inside(|| {
            // SAFETY: memory of this context that no job has.
            self.check(unsafe { (self.functions.memset)(address, POISON, bytes) }, "cuMemsetD8")
        })
    }

    fn unpoison(&self, address: u64, bytes: usize) -> Result<bool> {
        self.inside(|| {
            let mut memory = vec![0_u8; bytes];
            // SAFETY: as many bytes as both sides have.
            let result = unsafe { (self.functions.copy_back)(memory.as_mut_ptr().cast(), address, bytes) };
            self.check(result, "cuMemcpyDtoH")?;
            Ok(memory.iter().all(|byte| *byte == POISON))
        })
    }

    fn begin_recording(&self, stream: Stream) -> Result<()> {
        self.inside(|| {
            // SAFETY: the stream is the program's.
            let result = unsafe { (self.functions.begin_capture)(handle(stream), codes::CAPTURE_THREAD_LOCAL) };
            self.check(result, "cuStreamBeginCapture")
        })
    }

    fn end_recording(&self, stream: Stream) -> Result<u64> {
        self.inside(|| {
            let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: writes the graph.
            let result = unsafe { (self.functions.end_capture)(handle(stream), &raw mut graph) };
            self.check(result, "cuStreamEndCapture")?;
            // SAFETY: the graph was just made; writes what can be launched.
            let result = unsafe { (self.functions.instantiate)(&raw mut exec, graph, 0) };
            let made = self.check(result, "cuGraphInstantiate");
            // SAFETY: what can be launched does not need it.
            unsafe { (self.functions.destroy_graph)(graph) };
            made.map(|()| exec as u64)
        })
    }

    fn launch_recorded(&self, stream: Stream, graph: u64) -> Result<()> {
        self.inside(|| {
            // SAFETY: made by `end_recording`, and not forgotten while its class is open.
            let result = unsafe { (self.functions.launch_graph)(graph as Handle, handle(stream)) };
            self.check(result, "cuGraphLaunch")
        })
    }

    fn forget(&self, graph: u64) {
        self.inside(|| {
            // SAFETY: as above; the driver keeps it while it runs.
            self.check(unsafe { (self.functions.destroy_exec)(graph as Handle) }, "cuGraphExecDestroy")
        })
        .ok();
    }
}
