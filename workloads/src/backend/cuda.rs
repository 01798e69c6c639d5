//! CUDA's driver API, loaded at run time, through the thin layers of cudarc: its safe layer
//! allocates from a pool and creates events on its own, which would falsify what is measured.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a block is a sequence of calls of the driver with one reason"
)]

use std::{
    ffi::{CString, c_void},
    ptr::NonNull,
};

use cudarc::driver::{
    DriverError,
    result::{self, stream::StreamKind},
    sys,
};

use gpuos_job::backend::{Stream, cuda::Cuda as Runtime};

use super::{
    Backend, BackendError, Capabilities, Description, Kernel, Pinned, Probe, Underneath, loaded_from, no_such_device,
    unsupported, why_not_loaded,
};
use crate::workload::{Memory, Setup, Wait};

const NAME: &str = "cuda";
const PTX: &str = concat!(include_str!("../../kernels/increment.ptx"), "\0");
/// Threads of a block.
const BLOCK: u32 = 256;

/// What is called of libcuda. cudarc panics at the first call of one that is not there, so they are looked for before.
const NEEDED: &[&str] = &[
    "cuInit",
    "cuGetErrorName",
    "cuDriverGetVersion",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxSetFlags_v2",
    "cuCtxSetCurrent",
    "cuCtxCreate_v2",
    "cuCtxDestroy_v2",
    "cuStreamCreate",
    "cuStreamSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemAllocManaged",
    "cuMemAllocAsync",
    "cuMemFreeAsync",
    "cuDeviceGetDefaultMemPool",
    "cuMemPoolSetAttribute",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventDestroy_v2",
];

/// Streams on one GPU, in its primary context as a PyTorch program would use it.
pub(crate) struct Cuda {
    ordinal: sys::CUdevice,
    context: sys::CUcontext,
    kernel: sys::CUfunction,
    streams: Vec<sys::CUstream>,
    runtime: String,
    device: String,
}

/// Memory with an address on the device.
pub(crate) struct Buffer {
    address: sys::CUdeviceptr,
    bytes: usize,
    memory: Memory,
}

/// A graph that was instantiated. It lives as long as the process.
pub(crate) struct Graph(sys::CUgraphExec);

#[expect(clippy::wildcard_enum_match_arm, reason = "of all errors one is told apart")]
fn call(call: &'static str) -> impl Fn(DriverError) -> BackendError {
    move |error| match error.0 {
        sys::CUresult::CUDA_ERROR_NOT_SUPPORTED => unsupported(NAME, &format!("`{call}` on this device")),
        _ => BackendError::Call { backend: NAME, call, reason: reason(error) },
    }
}

/// The driver's own name of an error.
fn reason(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("{error:?}"),
    }
}

fn unavailable(reason: String) -> BackendError {
    BackendError::Unavailable {
        backend: NAME,
        reason,
        hint: "install NVIDIA's driver (`nvidia-smi` tells whether it works), or choose another `--backend`",
    }
}

/// Loads the library and initialises it; the driver's version in words, and how many devices it has.
fn load() -> Result<(String, usize), BackendError> {
    // SAFETY: it only tries to load the library. Any other call would panic without it.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable(why_not_loaded("libcuda.so.1")));
    }
    // SAFETY: the library is there.
    let library = unsafe { sys::culib() };
    // SAFETY: the symbols are looked for, not called.
    let absent = NEEDED.iter().find(|name| unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err());
    if let Some(absent) = absent {
        return Err(unavailable(format!(
            "this libcuda has no `{absent}`: it is older than CUDA 11.4, or not NVIDIA's"
        )));
    }
    result::init().map_err(|error| unavailable(format!("cuInit: {}", reason(error))))?;
    let mut version = 0;
    // SAFETY: the pointer is valid.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(call("cuDriverGetVersion"))?;
    let count = result::device::get_count().map_err(call("cuDeviceGetCount"))? as usize;
    if count == 0 {
        return Err(unavailable("cuDeviceGetCount: the driver has no device".to_owned()));
    }
    Ok((format!("CUDA driver API {}.{}", version / 1000, version % 1000 / 10), count))
}

fn name_of(ordinal: usize) -> Result<(sys::CUdevice, String), BackendError> {
    let device = result::device::get(ordinal as i32).map_err(call("cuDeviceGet"))?;
    Ok((device, result::device::get_name(device).map_err(call("cuDeviceGetName"))?))
}

fn flags(wait: Wait) -> sys::CUctx_flags {
    match wait {
        Wait::Default => sys::CUctx_flags::CU_CTX_SCHED_AUTO,
        Wait::Spin => sys::CUctx_flags::CU_CTX_SCHED_SPIN,
        Wait::Yield => sys::CUctx_flags::CU_CTX_SCHED_YIELD,
        Wait::Block => sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC,
    }
}

/// Lets the device's own pool keep so many bytes at a wait; without it, it keeps none.
fn keep_in_pool(ordinal: sys::CUdevice, mut threshold: u64) -> Result<(), BackendError> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: the pointer is valid.
    unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, ordinal) }
        .result()
        .map_err(call("cuDeviceGetDefaultMemPool"))?;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the value of this attribute is a `cuuint64_t`.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast::<c_void>()) }
        .result()
        .map_err(call("cuMemPoolSetAttribute"))
}

impl Backend for Cuda {
    type Buffer = Buffer;
    type Graph = Graph;
    const NAME: &'static str = NAME;
    const CAPABILITIES: Capabilities = Capabilities { pool_thresholds: true, ..Capabilities::ALL };

    fn probe() -> Result<Probe, BackendError> {
        let (runtime, count) = load()?;
        let devices = (0..count).map(|ordinal| Ok(name_of(ordinal)?.1)).collect::<Result<_, BackendError>>()?;
        Ok(Probe { library: loaded_from("libcuda.so"), runtime, devices })
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        let (runtime, count) = load()?;
        if setup.device >= count {
            return Err(no_such_device(NAME, setup.device, count));
        }
        let (ordinal, device) = name_of(setup.device)?;
        // SAFETY: the calls get valid pointers and handles that earlier calls returned.
        unsafe {
            // Where nobody asks for a policy none is set, as in a program that knows of none.
            if setup.wait != Wait::Default {
                sys::cuDevicePrimaryCtxSetFlags_v2(ordinal, flags(setup.wait) as u32)
                    .result()
                    .map_err(call("cuDevicePrimaryCtxSetFlags"))?;
            }
            let context = result::primary_ctx::retain(ordinal).map_err(call("cuDevicePrimaryCtxRetain"))?;
            result::ctx::set_current(context).map_err(call("cuCtxSetCurrent"))?;
            if let Some(threshold) = setup.pool_threshold {
                keep_in_pool(ordinal, threshold)?;
            }
            let streams = (0..setup.streams)
                .map(|_| result::stream::create(StreamKind::NonBlocking).map_err(call("cuStreamCreate")))
                .collect::<Result<_, _>>()?;
            let module = result::module::load_data(PTX.as_ptr().cast::<c_void>()).map_err(call("cuModuleLoadData"))?;
            let kernel = result::module::get_function(module, CString::from(c"increment"))
                .map_err(call("cuModuleGetFunction"))?;
            Ok(Self { ordinal, context, kernel, streams, runtime, device })
        }
    }

    fn describe(&self) -> Description {
        Description { name: NAME, runtime: self.runtime.clone(), device: self.device.clone() }
    }

    fn allocate(&mut self, memory: Memory, bytes: usize) -> Result<Buffer, BackendError> {
        // SAFETY: memory of any size may be asked for; on the device's side the address of host memory is the same.
        let address = unsafe {
            match memory {
                Memory::Device | Memory::Pageable => result::malloc_sync(bytes).map_err(call("cuMemAlloc")),
                Memory::Managed => result::malloc_managed(bytes, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL)
                    .map_err(call("cuMemAllocManaged")),
                Memory::AsyncPool => result::malloc_async(self.streams[0], bytes).map_err(call("cuMemAllocAsync")),
                Memory::Pinned => result::malloc_host(bytes, 0)
                    .map(|pointer| pointer as sys::CUdeviceptr)
                    .map_err(call("cuMemHostAlloc")),
            }
        }?;
        Ok(Buffer { address, bytes, memory })
    }

    fn free(&mut self, buffer: Buffer) -> Result<(), BackendError> {
        // SAFETY: the memory is of that kind, and this is its end.
        unsafe {
            match buffer.memory {
                Memory::AsyncPool => {
                    result::free_async(buffer.address, self.streams[0]).map_err(call("cuMemFreeAsync"))
                }
                Memory::Pinned => result::free_host(buffer.address as *mut c_void).map_err(call("cuMemFreeHost")),
                Memory::Pageable | Memory::Device | Memory::Managed => {
                    result::free_sync(buffer.address).map_err(call("cuMemFree"))
                }
            }
        }
    }

    fn clear(&mut self, buffer: &mut Buffer) -> Result<(), BackendError> {
        // SAFETY: the memory has so many bytes.
        unsafe { result::memset_d8_async(buffer.address, 0, buffer.bytes, self.streams[0]) }
            .map_err(call("cuMemsetD8Async"))?;
        self.wait()
    }

    fn launch(&mut self, stream: usize, array: &Buffer, kernel: Kernel) -> Result<(), BackendError> {
        let mut address = array.address;
        let Kernel { words: mut count, mut amount, duration_us } = kernel;
        let mut nanoseconds = duration_us * 1000;
        let mut arguments = [
            (&raw mut address).cast::<c_void>(),
            (&raw mut count).cast::<c_void>(),
            (&raw mut amount).cast::<c_void>(),
            (&raw mut nanoseconds).cast::<c_void>(),
        ];
        let blocks = count.div_ceil(BLOCK).max(1);
        // SAFETY: the arguments are those of the kernel, and it stays inside the array.
        unsafe {
            result::launch_kernel(self.kernel, (blocks, 1, 1), (BLOCK, 1, 1), 0, self.streams[stream], &mut arguments)
        }
        .map_err(call("cuLaunchKernel"))
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        for stream in &self.streams {
            // SAFETY: the stream is ours.
            unsafe { result::stream::synchronize(*stream) }.map_err(call("cuStreamSynchronize"))?;
        }
        Ok(())
    }

    unsafe fn copy_in(&mut self, stream: usize, from: &[u32], to: &Buffer) -> Result<(), BackendError> {
        // SAFETY: as the caller promises.
        unsafe { result::memcpy_htod_async(to.address, from, self.streams[stream]) }.map_err(call("cuMemcpyHtoDAsync"))
    }

    unsafe fn copy_out(&mut self, stream: usize, from: &Buffer, into: &mut [u32]) -> Result<(), BackendError> {
        // SAFETY: as the caller promises.
        unsafe { result::memcpy_dtoh_async(into, from.address, self.streams[stream]) }
            .map_err(call("cuMemcpyDtoHAsync"))
    }

    fn allocate_pinned(&mut self, words: usize) -> Result<Pinned, BackendError> {
        // SAFETY: the memory is as large, and every byte is written before anybody reads it.
        unsafe {
            let pointer = result::malloc_host((words * 4).max(4), 0).map_err(call("cuMemHostAlloc"))?.cast::<u32>();
            pointer.write_bytes(0, words);
            Ok(Pinned::new(NonNull::new(pointer).expect("memory that was allocated has an address"), words))
        }
    }

    fn free_pinned(&mut self, array: Pinned) -> Result<(), BackendError> {
        // SAFETY: the memory is from `allocate_pinned`, and this is its end.
        unsafe { result::free_host(array.pointer().cast()) }.map_err(call("cuMemFreeHost"))
    }

    fn begin_graph(&mut self, stream: usize) -> Result<(), BackendError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours.
        unsafe { result::stream::begin_capture(self.streams[stream], mode) }.map_err(call("cuStreamBeginCapture"))
    }

    fn end_graph(&mut self, stream: usize) -> Result<Graph, BackendError> {
        // SAFETY: the stream is one that records; the graph is not used after its end.
        unsafe {
            let graph = result::stream::end_capture(self.streams[stream]).map_err(call("cuStreamEndCapture"))?;
            let mut ready = std::ptr::null_mut();
            sys::cuGraphInstantiateWithFlags(&raw mut ready, graph, 0)
                .result()
                .map_err(call("cuGraphInstantiateWithFlags"))?;
            result::graph::destroy(graph).map_err(call("cuGraphDestroy"))?;
            Ok(Graph(ready))
        }
    }

    fn launch_graph(&mut self, stream: usize, graph: &Graph) -> Result<(), BackendError> {
        // SAFETY: both are ours.
        unsafe { result::graph::launch(graph.0, self.streams[stream]) }.map_err(call("cuGraphLaunch"))
    }

    fn event(&mut self) -> Result<(), BackendError> {
        let event =
            result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(call("cuEventCreate"))?;
        // SAFETY: the event and the stream are ours.
        unsafe {
            result::event::record(event, self.streams[0]).map_err(call("cuEventRecord"))?;
            result::event::synchronize(event).map_err(call("cuEventSynchronize"))?;
            result::event::destroy(event).map_err(call("cuEventDestroy"))
        }
    }

    fn underneath(&self) -> Result<Underneath, BackendError> {
        let runtime = Runtime::load("libcuda.so.1").map_err(|error| unavailable(error.to_string()))?;
        let streams = self.streams.iter().map(|stream| Stream(*stream as u64)).collect();
        Ok(Underneath { runtime: Box::new(runtime), streams })
    }

    fn borrow(&self, address: u64, bytes: usize) -> Result<Buffer, BackendError> {
        Ok(Buffer { address, bytes, memory: Memory::Device })
    }

    fn context(&mut self) -> Result<(), BackendError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: nobody else uses the new context; the primary one is made current again.
        unsafe {
            sys::cuCtxCreate_v2(&raw mut context, 0, self.ordinal).result().map_err(call("cuCtxCreate"))?;
            sys::cuCtxDestroy_v2(context).result().map_err(call("cuCtxDestroy"))?;
            result::ctx::set_current(self.context).map_err(call("cuCtxSetCurrent"))
        }
    }
}
