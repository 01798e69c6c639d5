//! What a runtime must be able to do for jobs. Each is loaded when a context asks for it; none is linked.

mod codes;
pub mod cuda;
pub mod hip;
pub mod host;
pub mod opencl;

use std::{
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use libloading::Library;

use crate::error::{Error, Result, Status};

/// A stream, as the runtime's own handle: `CUstream`, `hipStream_t`, `cl_command_queue`, a number of [`host`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(pub u64);

/// Words that a device writes and the host reads.
#[derive(Debug)]
pub struct TokenPage {
    words: NonNull<AtomicU32>,
    device: u64,
}

/// Words of a page; each has a cache line for itself.
pub const TOKENS: usize = 64;
/// Words between two tokens.
const STRIDE: usize = 16;
/// Bytes of a page.
pub const PAGE: usize = TOKENS * STRIDE * size_of::<u32>();

// SAFETY: the words are atomics, and live as long as the process.
unsafe impl Send for TokenPage {}
// SAFETY: as above.
unsafe impl Sync for TokenPage {}

impl TokenPage {
    /// Of memory that is zero, and that the device has at another address.
    ///
    /// # Safety
    /// `words` is [`PAGE`] bytes of zeros, aligned to four, and never given back: a device may write to it at any time.
    pub unsafe fn new(words: NonNull<u8>, device: u64) -> Self {
        Self { words: words.cast(), device }
    }
}

/// A word that is written when all that stands before it in its stream is done.
#[derive(Clone, Debug)]
pub struct Token {
    page: Arc<TokenPage>,
    place: usize,
    /// What is written next.
    value: u32,
}

impl Token {
    /// All tokens of a page.
    pub fn of_page(page: TokenPage) -> Vec<Self> {
        let page = Arc::new(page);
        (0..TOKENS).map(|place| Self { page: Arc::clone(&page), place: place * STRIDE, value: 0 }).collect()
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the place is inside of the page.
        let word = unsafe { self.page.words.add(self.place) };
        // SAFETY: the page is never given back.
        unsafe { word.as_ref() }
    }

    /// Makes it wait for another value than all before.
    pub(crate) fn next(&mut self) {
        self.value = self.value.wrapping_add(1);
    }

    /// Whether it was written. Values only grow, so that one that was used again since has arrived, too.
    pub fn has_arrived(&self) -> bool {
        self.word().load(Ordering::Acquire).wrapping_sub(self.value).cast_signed() >= 0
    }

    /// Writes it, as a device does.
    pub fn write(&self) {
        self.word().store(self.value, Ordering::Release);
    }

    /// For runtimes that copy and write no values: a word beside it that has what is written next, until then.
    fn source(&self) -> *const u32 {
        // SAFETY: the words up to the next token are this one's.
        let source = unsafe { self.page.words.add(self.place + STRIDE / 2) };
        // SAFETY: the page is never given back.
        let source = unsafe { source.as_ref() };
        source.store(self.value, Ordering::Release);
        source.as_ptr()
    }

    /// Where the device has it, and what it writes.
    pub fn for_device(&self) -> (u64, u32) {
        (self.page.device + (self.place * size_of::<u32>()) as u64, self.value)
    }
}

/// A runtime.
pub trait Backend: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A page of tokens.
    ///
    /// # Errors
    /// The runtime refuses memory.
    fn tokens(&self) -> Result<TokenPage>;

    /// Queues the token behind all that the stream has.
    ///
    /// # Errors
    /// [`Status::Capturing`] where the stream is being captured; what the runtime says.
    fn queue_token(&self, stream: Stream, token: &Token) -> Result<()>;

    /// Whether the stream has nothing left to do. Asked when a token does not come; false where the answer would end a capture.
    ///
    /// # Errors
    /// [`Status::Failed`] where the work failed, [`Status::Lost`] where context or device are gone.
    fn is_idle(&self, stream: Stream) -> Result<bool>;

    /// Waits in the runtime until the stream has nothing left to do, or, where it can tell, until the token has come.
    ///
    /// # Errors
    /// As [`Backend::is_idle`]; [`Status::Capturing`] where a wait would end a capture.
    fn block(&self, stream: Stream, token: &Token) -> Result<()>;

    /// Device memory.
    ///
    /// # Errors
    /// [`Status::Memory`], or what the runtime says.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Gives it back.
    fn release(&self, address: u64, bytes: usize);

    /// Fills memory that no job has with [`POISON`], and makes it unusable where that is possible.
    ///
    /// # Errors
    /// What the runtime says.
    fn poison(&self, address: u64, bytes: usize) -> Result<()>;

    /// Makes poisoned memory usable again, and says whether it is as [`Backend::poison`] left it: otherwise it was written after
    /// its job had ended.
    ///
    /// # Errors
    /// What the runtime says.
    fn unpoison(&self, address: u64, bytes: usize) -> Result<bool>;

    /// Begins to record what the stream is given, in place of doing it.
    ///
    /// # Errors
    /// [`Status::Unsupported`] where the runtime has nothing of the kind.
    fn begin_recording(&self, _stream: Stream) -> Result<()> {
        Err(self.records_nothing())
    }

    /// Ends the recording: what was recorded, under a number of the runtime.
    ///
    /// # Errors
    /// As [`Backend::begin_recording`].
    fn end_recording(&self, _stream: Stream) -> Result<u64> {
        Err(self.records_nothing())
    }

    /// Does what was recorded.
    ///
    /// # Errors
    /// As [`Backend::begin_recording`].
    fn launch_recorded(&self, _stream: Stream, _graph: u64) -> Result<()> {
        Err(self.records_nothing())
    }

    /// It is not needed any more.
    fn forget(&self, _graph: u64) {}

    /// Why there is no recording.
    fn records_nothing(&self) -> Error {
        Error::new(Status::Unsupported, format!("{} records nothing", self.name()))
    }
}

/// A function of a library that stays loaded.
///
/// # Safety
/// The type is that of the runtime's header.
unsafe fn function<T: Copy>(library: &Library, name: &str) -> Result<T> {
    // SAFETY: as the caller promises.
    let found = unsafe { library.get::<T>(name) };
    found.map(|found| *found).map_err(|error| Error::new(Status::NoRuntime, reason(&error)))
}

/// What the loader says.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Which runtime.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Streams on threads of the CPU, made by `gpuos_job_host_open`.
    Host = 1,
    /// CUDA's driver API, in the context of the thread that opens; streams are `CUstream`.
    Cuda = 2,
    /// HIP, on the device of the thread that opens; streams are `hipStream_t`.
    Hip = 3,
    /// OpenCL; streams are `cl_command_queue`. Memory of jobs is the host's.
    Opencl = 4,
}

impl Runtime {
    /// Every one.
    ///
    /// cbindgen:ignore
    pub const ALL: [Self; 4] = [Self::Host, Self::Cuda, Self::Hip, Self::Opencl];
}

/// Loads a runtime.
///
/// # Errors
/// [`Status::NoRuntime`].
pub fn open(runtime: Runtime) -> Result<Box<dyn Backend>> {
    match runtime {
        Runtime::Host => Ok(Box::new(host::Host)),
        Runtime::Cuda => Ok(Box::new(cuda::Cuda::load("libcuda.so.1")?)),
        Runtime::Hip => Ok(Box::new(hip::Hip::load_first()?)),
        Runtime::Opencl => Ok(Box::new(opencl::OpenCl::load("libOpenCL.so.1")?)),
    }
}

/// What memory of ended jobs is filled with when a context debugs.
pub const POISON: u8 = 0xdb;
