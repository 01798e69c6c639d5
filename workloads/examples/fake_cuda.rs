//! A FAKE DEVICE, not CUDA: as much of libcuda as `bench` calls, on the CPU, so that the backend `cuda` can be tested
//! where there is no GPU. Never installed; tests put it into a folder as `libcuda.so`.
//!
//! Its system calls are known: an allocation is one `mmap`, a free one `munmap`, nothing else makes any.
//! `GPUOS_FAKE_CUDA` chooses what is wrong with it: `no-device`, `empty` (it counts none), `forgetful` (the third launch
//! skips a word), `full` (no allocation above 1 MiB), `plain` (neither managed memory nor pools).
#![expect(clippy::missing_panics_doc, clippy::multiple_unsafe_ops_per_block, reason = "it stands for a library in C")]
#![expect(unsafe_op_in_unsafe_fn, reason = "every function is one of C")]

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void},
    ptr,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
const INVALID_DEVICE: c_int = 101;
const NO_BINARY: c_int = 209;
const NOT_FOUND: c_int = 500;
const NOT_SUPPORTED: c_int = 801;

type Handle = *mut c_void;
type Address = u64;

/// Sizes of what is allocated, by address.
static ALLOCATED: LazyLock<Mutex<HashMap<Address, usize>>> = LazyLock::new(Mutex::default);
/// What is being recorded, while something is.
static RECORDING: Mutex<Option<Vec<Launch>>> = Mutex::new(None);
static LAUNCHES: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
struct Launch {
    array: Address,
    count: u32,
    amount: u32,
    nanoseconds: u32,
}

fn is(wrong: &str) -> bool {
    std::env::var("GPUOS_FAKE_CUDA").is_ok_and(|value| value == wrong)
}

impl Launch {
    fn execute(self) {
        let start = Instant::now();
        let skipped = if LAUNCHES.fetch_add(1, Relaxed) == 2 && is("forgetful") { Some(2) } else { None };
        for index in 0..self.count as usize {
            if Some(index) != skipped {
                // SAFETY: `bench` counts the words of an array that it allocated here.
                unsafe {
                    let word = (self.array as *mut u32).add(index);
                    *word = (*word).wrapping_add(self.amount);
                }
            }
        }
        while start.elapsed() < Duration::from_nanos(self.nanoseconds.into()) {
            std::hint::spin_loop();
        }
    }
}

fn allocate(into: *mut Address, bytes: usize) -> c_int {
    if bytes == 0 {
        return INVALID_VALUE;
    }
    if is("full") && bytes > 1 << 20 {
        return OUT_OF_MEMORY;
    }
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping; `into` is the caller's.
    unsafe {
        let pointer = libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0);
        if pointer == libc::MAP_FAILED {
            return OUT_OF_MEMORY;
        }
        *into = pointer as Address;
        ALLOCATED.lock().unwrap().insert(*into, bytes);
    }
    SUCCESS
}

fn free(address: Address) -> c_int {
    let Some(bytes) = ALLOCATED.lock().unwrap().remove(&address) else { return INVALID_VALUE };
    // SAFETY: it was mapped with this size.
    unsafe { libc::munmap(address as *mut c_void, bytes) };
    SUCCESS
}

/// Declares functions as a library exports them.
macro_rules! export {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {
        $(
            /// # Safety
            /// As CUDA's documentation says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                $body
            }
        )*
    };
}

export! {
    cuInit(_flags: c_uint) { if is("no-device") { NO_DEVICE } else { SUCCESS } }
    cuDriverGetVersion(version: *mut c_int) { *version = 12_020; SUCCESS }
    cuGetErrorName(error: c_int, name: *mut *const c_char) {
        *name = match error {
            INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
            OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
            NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
            NOT_SUPPORTED => c"CUDA_ERROR_NOT_SUPPORTED",
            _ => c"CUDA_ERROR_OF_THE_FAKE",
        }.as_ptr();
        SUCCESS
    }
    cuDeviceGetCount(count: *mut c_int) { *count = c_int::from(!is("empty")); SUCCESS }
    cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        *device = 0;
        if ordinal == 0 { SUCCESS } else { INVALID_DEVICE }
    }
    cuDeviceGetName(name: *mut c_char, _length: c_int, _device: c_int) {
        name.copy_from_nonoverlapping(c"fake device, no GPU".as_ptr(), 20);
        SUCCESS
    }
    cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) { *context = 0x10 as Handle; SUCCESS }
    cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) { SUCCESS }
    cuCtxSetCurrent(_context: Handle) { SUCCESS }
    cuCtxCreate_v2(context: *mut Handle, _flags: c_uint, _device: c_int) { *context = 0x11 as Handle; SUCCESS }
    cuCtxDestroy_v2(context: Handle) { if context == 0x11 as Handle { SUCCESS } else { INVALID_VALUE } }
    cuStreamCreate(stream: *mut Handle, _flags: c_uint) { *stream = 0x20 as Handle; SUCCESS }
    cuStreamSynchronize(_stream: Handle) { SUCCESS }
    cuStreamBeginCapture_v2(_stream: Handle, _mode: c_int) {
        *RECORDING.lock().unwrap() = Some(Vec::new());
        SUCCESS
    }
    cuStreamEndCapture(_stream: Handle, graph: *mut Handle) {
        let Some(recorded) = RECORDING.lock().unwrap().take() else { return INVALID_VALUE };
        *graph = Box::into_raw(Box::new(recorded)).cast();
        SUCCESS
    }
    cuGraphInstantiateWithFlags(ready: *mut Handle, graph: Handle, _flags: c_ulonglong) {
        *ready = Box::into_raw(Box::new((*graph.cast::<Vec<Launch>>()).clone())).cast();
        SUCCESS
    }
    cuGraphDestroy(graph: Handle) { drop(Box::from_raw(graph.cast::<Vec<Launch>>())); SUCCESS }
    cuGraphExecDestroy(ready: Handle) { drop(Box::from_raw(ready.cast::<Vec<Launch>>())); SUCCESS }
    cuGraphLaunch(ready: Handle, _stream: Handle) {
        (*ready.cast::<Vec<Launch>>()).iter().for_each(|launch| launch.execute());
        SUCCESS
    }
    cuModuleLoadData(module: *mut Handle, image: *const c_void) {
        *module = 0x30 as Handle;
        let known = CStr::from_ptr(image.cast()).to_string_lossy().contains(".entry increment(");
        if known { SUCCESS } else { NO_BINARY }
    }
    cuModuleGetFunction(function: *mut Handle, _module: Handle, name: *const c_char) {
        *function = 0x40 as Handle;
        if CStr::from_ptr(name) == c"increment" { SUCCESS } else { NOT_FOUND }
    }
    cuLaunchKernel(
        _function: Handle, blocks: c_uint, _y: c_uint, _z: c_uint, threads: c_uint, _ty: c_uint, _tz: c_uint,
        _shared: c_uint, _stream: Handle, arguments: *mut Handle, _extra: *mut Handle
    ) {
        let word = |number: usize| *(*arguments.add(number)).cast::<u32>();
        let launch = Launch {
            array: *(*arguments).cast::<Address>(),
            count: word(1).min(blocks.saturating_mul(threads)),
            amount: word(2),
            nanoseconds: word(3),
        };
        match &mut *RECORDING.lock().unwrap() {
            Some(recorded) => recorded.push(launch),
            None => launch.execute(),
        }
        SUCCESS
    }
    cuMemAlloc_v2(address: *mut Address, bytes: usize) { allocate(address, bytes) }
    cuMemFree_v2(address: Address) { free(address) }
    cuMemAllocManaged(address: *mut Address, bytes: usize, _flags: c_uint) {
        if is("plain") { NOT_SUPPORTED } else { allocate(address, bytes) }
    }
    cuMemAllocAsync(address: *mut Address, bytes: usize, _stream: Handle) {
        if is("plain") { NOT_SUPPORTED } else { allocate(address, bytes) }
    }
    cuMemFreeAsync(address: Address, _stream: Handle) { free(address) }
    cuDeviceGetDefaultMemPool(pool: *mut Handle, _device: c_int) { *pool = 0x20 as Handle; SUCCESS }
    cuMemPoolSetAttribute(pool: Handle, attribute: c_int, value: *mut c_void) {
        // Of the attributes the threshold has this number.
        if pool == 0x20 as Handle && attribute == 4 && !value.is_null() { SUCCESS } else { INVALID_VALUE }
    }
    cuMemHostAlloc(address: *mut Address, bytes: usize, _flags: c_uint) { allocate(address, bytes) }
    cuMemFreeHost(address: Address) { free(address) }
    cuMemsetD8Async(address: Address, value: u8, bytes: usize, _stream: Handle) {
        (address as *mut u8).write_bytes(value, bytes);
        SUCCESS
    }
    cuMemcpyHtoDAsync_v2(to: Address, from: *const u8, bytes: usize, _stream: Handle) {
        (to as *mut u8).copy_from_nonoverlapping(from, bytes);
        SUCCESS
    }
    cuMemcpyDtoHAsync_v2(to: *mut u8, from: Address, bytes: usize, _stream: Handle) {
        to.copy_from_nonoverlapping(from as *const u8, bytes);
        SUCCESS
    }
    cuEventCreate(event: *mut Handle, _flags: c_uint) { *event = 0x50 as Handle; SUCCESS }
    cuEventRecord(_event: Handle, _stream: Handle) { SUCCESS }
    cuEventSynchronize(_event: Handle) { SUCCESS }
    cuEventDestroy_v2(_event: Handle) { SUCCESS }
}
