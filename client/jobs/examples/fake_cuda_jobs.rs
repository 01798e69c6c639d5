//! A FAKE DEVICE, not CUDA: as much of libcuda as jobs use, so that they can be tested where there is no GPU. Streams are threads of
//! the host runtime: work is done later, in order, and takes as long as a test says. A test can make it fail, and end the
//! context. Never installed.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

use gpuos_job::{
    backend::{
        Backend as _, Stream,
        host::{self, Host},
    },
    clock,
    error::{Error, Status},
};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NOT_READY: c_int = 600;
const LAUNCH_FAILED: c_int = 719;
const CONTEXT_IS_DESTROYED: c_int = 709;
/// The one context.
const CONTEXT: u64 = 8;

type Handle = *mut c_void;
type Address = u64;

/// Once it is not 0, every call returns it: the context is gone.
static GONE: AtomicI32 = AtomicI32::new(0);
static BLOCKS: Mutex<Vec<(Address, usize)>> = Mutex::new(Vec::new());

/// The context is gone: calls return the code, work that is queued is never done.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_gone(code: c_int) {
    GONE.store(code, SeqCst);
}

/// A stream; null where there is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_stream() -> Handle {
    host::open().map_or(std::ptr::null_mut(), |stream| stream.0 as Handle)
}

/// Work of this duration, which ends with a code: another than 0 stays with the stream.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_launch(stream: Handle, nanoseconds: u64, code: c_int) -> c_int {
    let work = move || {
        clock::sleep_until(clock::now() + nanoseconds);
        code
    };
    result(host::launch(of(stream), Arc::new(work)))
}

fn of(stream: Handle) -> Stream {
    Stream(stream as u64)
}

fn result(done: Result<(), Error>) -> c_int {
    match (GONE.load(SeqCst), done) {
        (0, Ok(())) => SUCCESS,
        (0, Err(error)) if error.status == Status::Failed => {
            if error.code == 0 {
                LAUNCH_FAILED
            } else {
                error.code
            }
        }
        (0, Err(_)) => INVALID_VALUE,
        (gone, _) => gone,
    }
}

/// Launches whose work is done.
static DONE: AtomicU32 = AtomicU32::new(0);
/// Streams that the program made, for waits for all of them.
static STREAMS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
/// Events: the stream of their last record, with a wait for what it had then.
static EVENTS: Mutex<Vec<(u64, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

/// How many launches are done.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_done() -> u32 {
    DONE.load(SeqCst)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamCreate(stream: *mut Handle, _flags: c_uint) -> c_int {
    let made = fake_stream();
    if let Ok(mut streams) = STREAMS.lock() {
        streams.push(made as u64);
    }
    // SAFETY: a place for a handle, as in CUDA.
    unsafe { stream.write(made) };
    result(Ok(()))
}

/// Streams that were destroyed: who asks for one is ended, since the driver does not look whether a handle is one.
static DESTROYED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn refuse_destroyed(stream: Handle) {
    if DESTROYED.lock().is_ok_and(|destroyed| destroyed.contains(&(stream as u64))) {
        std::process::abort();
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamDestroy_v2(stream: Handle) -> c_int {
    if let Ok(mut destroyed) = DESTROYED.lock() {
        destroyed.push(stream as u64);
    }
    result(Ok(()))
}

/// A kernel is its handle's number of microseconds.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuLaunchKernel(
    function: Handle,
    _grid_x: c_uint,
    _grid_y: c_uint,
    _grid_z: c_uint,
    _block_x: c_uint,
    _block_y: c_uint,
    _block_z: c_uint,
    _shared: c_uint,
    stream: Handle,
    _parameters: *mut Handle,
    _extra: *mut Handle,
) -> c_int {
    let microseconds = function as u64;
    let work = move || {
        clock::sleep_until(clock::now() + microseconds * 1000);
        DONE.fetch_add(1, SeqCst);
        0
    };
    result(host::launch(of(stream), Arc::new(work)))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxSynchronize() -> c_int {
    let Ok(streams) = STREAMS.lock() else { return INVALID_VALUE };
    result(streams.iter().try_for_each(|stream| host::synchronize(Stream(*stream))))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> c_int {
    let came = Arc::new(AtomicBool::new(false));
    let Ok(mut events) = EVENTS.lock() else { return INVALID_VALUE };
    events.retain(|(known, _)| *known != event as u64);
    events.push((event as u64, Arc::clone(&came)));
    let work = move || {
        came.store(true, SeqCst);
        0
    };
    result(host::launch(of(stream), Arc::new(work)))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventSynchronize(event: Handle) -> c_int {
    let found = EVENTS
        .lock()
        .ok()
        .and_then(|events| events.iter().find(|(known, _)| *known == event as u64).map(|(_, came)| Arc::clone(came)));
    let Some(came) = found else { return INVALID_VALUE };
    while !came.load(SeqCst) {
        clock::sleep_until(clock::now() + 10_000);
    }
    result(Ok(()))
}

/// From CUDA 13.0 on: of a context that is named, or of the current one.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxSynchronize_v2(context: Handle) -> c_int {
    if context.is_null() || context as u64 == CONTEXT { cuCtxSynchronize() } else { CONTEXT_IS_DESTROYED }
}

/// Of a version that is newer than programs of today: another number of arguments.
extern "C" fn event_wait_of_tomorrow(_flags: u64, event: Handle) -> c_int {
    cuEventSynchronize(event)
}

/// Functions as CUDA's runtime asks for them, by its version.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetProcAddress_v2(
    name: *const c_char,
    to: *mut Handle,
    version: c_int,
    _flags: u64,
    status: *mut c_int,
) -> c_int {
    if !status.is_null() {
        // SAFETY: a place for a number, as in CUDA.
        unsafe { status.write(0) };
    }
    // SAFETY: as the caller's.
    unsafe { cuGetProcAddress(name, to, version, 0) }
}

/// As it was before CUDA 12.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetProcAddress(
    name: *const c_char,
    to: *mut Handle,
    version: c_int,
    _flags: u64,
) -> c_int {
    const NOT_FOUND: c_int = 500;
    // SAFETY: a text that is closed by a 0, as in CUDA.
    let name = unsafe { CStr::from_ptr(name) };
    let found = match name.to_bytes() {
        b"cuLaunchKernel" => cuLaunchKernel as *const (),
        b"cuStreamSynchronize" => cuStreamSynchronize as *const (),
        b"cuCtxSynchronize" if version >= 13_000 => cuCtxSynchronize_v2 as *const (),
        b"cuCtxSynchronize" => cuCtxSynchronize as *const (),
        b"cuEventRecord" => cuEventRecord as *const (),
        b"cuEventSynchronize" if version >= 99_000 => event_wait_of_tomorrow as *const (),
        b"cuEventSynchronize" => cuEventSynchronize as *const (),
        b"cuGetProcAddress" if version >= 12_000 => cuGetProcAddress_v2 as *const (),
        b"cuGetProcAddress" => cuGetProcAddress as *const (),
        _ => return NOT_FOUND,
    };
    // SAFETY: a place for a pointer, as in CUDA.
    unsafe { to.write(found.cast_mut().cast()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuInit(_flags: c_uint) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetErrorName(_code: c_int, name: *mut *const c_char) -> c_int {
    // SAFETY: a place for a pointer, as in CUDA.
    unsafe { name.write(c"CUDA_ERROR_OF_A_FAKE".as_ptr()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> c_int {
    // SAFETY: a place for a handle, as in CUDA.
    unsafe { context.write(CONTEXT as Handle) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPushCurrent_v2(_context: Handle) -> c_int {
    result(Ok(()))
}

/// The context is there again at once, and what was in it is not.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxDestroy_v2(_context: Handle) -> c_int {
    let Ok(mut blocks) = BLOCKS.lock() else { return INVALID_VALUE };
    blocks.drain(..).for_each(|(address, bytes)| Host.release(address, bytes));
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPopCurrent_v2(_context: *mut Handle) -> c_int {
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostAlloc(memory: *mut Handle, bytes: usize, _flags: c_uint) -> c_int {
    let Ok(address) = Host.allocate(bytes) else { return OUT_OF_MEMORY };
    // SAFETY: a place for a pointer, as in CUDA.
    unsafe { memory.write(address as Handle) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostGetDevicePointer_v2(
    address: *mut Address,
    memory: Handle,
    _flags: c_uint,
) -> c_int {
    // SAFETY: a place for an address, as in CUDA.
    unsafe { address.write(memory as Address) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamWriteValue32_v2(
    stream: Handle,
    address: Address,
    value: u32,
    _flags: c_uint,
) -> c_int {
    refuse_destroyed(stream);
    let write = move || {
        if GONE.load(SeqCst) != 0 {
            return LAUNCH_FAILED;
        }
        let word = address as *mut std::sync::atomic::AtomicU32;
        // SAFETY: a word of mapped memory, which is never freed.
        unsafe { (*word).store(value, SeqCst) };
        0
    };
    result(host::launch(of(stream), Arc::new(write)))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamQuery(stream: Handle) -> c_int {
    match Host.is_idle(of(stream)) {
        Ok(false) if GONE.load(SeqCst) == 0 => NOT_READY,
        idle => result(idle.map(|_| ())),
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamSynchronize(stream: Handle) -> c_int {
    result(host::synchronize(of(stream)))
}

/// Calls of `cuMemAlloc_v2` that were answered.
static ALLOCATIONS: AtomicU32 = AtomicU32::new(0);
/// Bytes of memory that the device has; 0: no limit.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_allocations() -> u32 {
    ALLOCATIONS.load(SeqCst)
}

/// Limits the device's memory to so many bytes, from now on.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_memory(bytes: u64) {
    MEMORY.store(bytes, SeqCst);
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemAlloc_v2(address: *mut Address, bytes: usize) -> c_int {
    ALLOCATIONS.fetch_add(1, SeqCst);
    let taken: usize = BLOCKS.lock().map_or(0, |blocks| blocks.iter().map(|(_, bytes)| bytes).sum());
    let all = MEMORY.load(SeqCst);
    if all != 0 && (taken + bytes) as u64 > all {
        return OUT_OF_MEMORY;
    }
    let Ok(allocated) = Host.allocate(bytes) else { return OUT_OF_MEMORY };
    if let Ok(mut blocks) = BLOCKS.lock() {
        blocks.push((allocated, bytes));
    }
    // SAFETY: a place for an address, as in CUDA.
    unsafe { address.write(allocated) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFree_v2(address: Address) -> c_int {
    let Ok(mut blocks) = BLOCKS.lock() else { return INVALID_VALUE };
    let Some(place) = blocks.iter().position(|(block, _)| *block == address) else { return INVALID_VALUE };
    let (_, bytes) = blocks.swap_remove(place);
    Host.release(address, bytes);
    result(Ok(()))
}

/// Blocks that were allocated and not freed.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_blocks() -> usize {
    BLOCKS.lock().map_or(usize::MAX, |blocks| blocks.len())
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemsetD8_v2(address: Address, value: u8, bytes: usize) -> c_int {
    // SAFETY: memory of this fake, as in CUDA.
    unsafe { std::ptr::write_bytes(address as *mut u8, value, bytes) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoH_v2(to: Handle, from: Address, bytes: usize) -> c_int {
    // SAFETY: as many bytes as both have, as in CUDA.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.cast(), bytes) };
    result(Ok(()))
}

/// Memory that the driver knows: what it was told to be pinned.
static PINNED: AtomicU64 = AtomicU64::new(0);

/// Says that this address is pinned memory.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_pin(address: Address) {
    PINNED.store(address, SeqCst);
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuPointerGetAttribute(
    value: *mut c_uint,
    _attribute: c_int,
    address: Address,
) -> c_int {
    if PINNED.load(SeqCst) != address {
        return INVALID_VALUE;
    }
    // SAFETY: a place for the value, as in CUDA.
    unsafe { value.write(1) };
    result(Ok(()))
}

/// Into pageable memory it waits; into pinned memory it copies at once, which a program may not look at before a wait.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: Handle, from: Address, bytes: usize, stream: Handle) -> c_int {
    let code = if PINNED.load(SeqCst) == to as Address || bytes == 0 { 0 } else { cuStreamSynchronize(stream) };
    // SAFETY: as many bytes as both have, as in CUDA.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.cast(), bytes) };
    code
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamIsCapturing(stream: Handle, state: *mut c_int) -> c_int {
    refuse_destroyed(stream);
    // SAFETY: a place for a state, as in CUDA.
    unsafe { state.write(c_int::from(host::is_recording(of(stream)))) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamBeginCapture_v2(stream: Handle, _mode: c_int) -> c_int {
    result(Host.begin_recording(of(stream)))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> c_int {
    let ended = Host.end_recording(of(stream));
    if let Ok(recorded) = &ended {
        // SAFETY: a place for a handle, as in CUDA.
        unsafe { graph.write(*recorded as Handle) };
    }
    result(ended.map(|_| ()))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, _flags: u64) -> c_int {
    // SAFETY: a place for a handle, as in CUDA.
    unsafe { exec.write(graph) };
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGraphLaunch(exec: Handle, stream: Handle) -> c_int {
    result(Host.launch_recorded(of(stream), exec as u64))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGraphDestroy(_graph: Handle) -> c_int {
    result(Ok(()))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGraphExecDestroy(exec: Handle) -> c_int {
    Host.forget(exec as u64);
    result(Ok(()))
}
