//! OpenCL through whatever platform is installed; the devices of GPUs first.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a block is a sequence of calls of the runtime with one reason"
)]

use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_CPU, CL_DEVICE_TYPE_GPU, Device},
    error_codes::{CL_INVALID_BUFFER_SIZE, ClError, DLOPEN_FUNCTION_NOT_AVAILABLE, DLOPEN_RUNTIME_LOAD_FAILED},
    event::Event,
    kernel::{ExecuteKernel, Kernel as Function},
    memory::{Buffer as Memories, CL_MEM_READ_WRITE, ClMem as _},
    platform::get_platforms,
    program::Program,
    types::{CL_NON_BLOCKING, cl_uint},
};

use gpuos_job::backend::{Stream, opencl::OpenCl as Runtime};

use super::{
    Backend, BackendError, Capabilities, Description, Kernel, Probe, Underneath, loaded_from, no_such_device,
    why_not_loaded,
};
use crate::workload::{Memory, Setup};

const NAME: &str = "opencl";
const SOURCE: &str = include_str!("../../kernels/increment.cl");

/// Queues on one device.
pub(crate) struct OpenCl {
    // Dropped in this order: what uses the context before the context.
    function: Function,
    queues: Vec<CommandQueue>,
    context: Context,
    chosen: Found,
}

/// Memory of the context.
pub(crate) struct Buffer {
    memory: Memories<cl_uint>,
    words: usize,
}

/// A device of a platform.
struct Found {
    device: Device,
    runtime: String,
    name: String,
}

fn call(call: &'static str) -> impl Fn(ClError) -> BackendError {
    move |error| BackendError::Call { backend: NAME, call, reason: error.to_string() }
}

fn unavailable(reason: impl Into<String>) -> BackendError {
    BackendError::Unavailable {
        backend: NAME,
        reason: reason.into(),
        hint: "install the OpenCL runtime of your GPU, or `sudo apt-get install pocl-opencl-icd` for one that executes on the CPU",
    }
}

/// Every device of every platform: GPUs first, each kind in the platforms' order.
fn devices() -> Result<Vec<Found>, BackendError> {
    let platforms = get_platforms().map_err(|error| match error {
        ClError(DLOPEN_RUNTIME_LOAD_FAILED) => unavailable(why_not_loaded("libOpenCL.so.1")),
        ClError(DLOPEN_FUNCTION_NOT_AVAILABLE) => {
            let from = loaded_from("libOpenCL.so").unwrap_or_else(|| "libOpenCL".to_owned());
            unavailable(format!("{from} has no `clGetPlatformIDs`: it is not OpenCL's"))
        }
        error => unavailable(format!("no platform: {error}")),
    })?;
    let mut found = Vec::new();
    for platform in &platforms {
        let ids = |kind| platform.get_devices(kind).unwrap_or_default();
        let gpus = ids(CL_DEVICE_TYPE_GPU);
        for id in ids(CL_DEVICE_TYPE_ALL) {
            let device = Device::new(id);
            // PoCL goes on with its build options after two spaces.
            let version = platform.version().unwrap_or_default();
            let runtime = version.split("  ").next().unwrap_or_default().to_owned();
            let name = device.name().unwrap_or_default();
            found.push((!gpus.contains(&id), Found { device, runtime, name }));
        }
    }
    found.sort_by_key(|(not_a_gpu, _)| *not_a_gpu);
    if found.is_empty() {
        Err(unavailable("no platform has a device"))
    } else {
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }
}

impl Backend for OpenCl {
    type Buffer = Buffer;
    type Graph = std::convert::Infallible;
    const NAME: &'static str = NAME;
    const CAPABILITIES: Capabilities = Capabilities { streams: true, ..Capabilities::PLAIN };

    fn probe() -> Result<Probe, BackendError> {
        let devices = devices()?;
        let mut runtimes: Vec<_> = devices.iter().map(|found| found.runtime.clone()).collect();
        runtimes.dedup();
        Ok(Probe {
            library: loaded_from("libOpenCL.so"),
            runtime: runtimes.join(", "),
            devices: devices.into_iter().map(|found| found.name).collect(),
        })
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        let mut devices = devices()?;
        if setup.device >= devices.len() {
            return Err(no_such_device(NAME, setup.device, devices.len()));
        }
        let chosen = devices.swap_remove(setup.device);
        let context = Context::from_device(&chosen.device).map_err(call("clCreateContext"))?;
        let queues = (0..setup.streams)
            .map(|_| CommandQueue::create_default(&context, 0).map_err(call("clCreateCommandQueue")))
            .collect::<Result<_, _>>()?;
        let program = Program::create_and_build_from_source(&context, SOURCE, "")
            .map_err(|log| BackendError::Call { backend: NAME, call: "clBuildProgram", reason: log })?;
        let function = Function::create(&program, "increment").map_err(call("clCreateKernel"))?;
        Ok(Self { function, queues, context, chosen })
    }

    fn describe(&self) -> Description {
        Description { name: NAME, runtime: self.chosen.runtime.clone(), device: self.chosen.name.clone() }
    }

    fn is_in_host_memory(&self) -> bool {
        self.chosen.device.dev_type().is_ok_and(|kind| kind & CL_DEVICE_TYPE_CPU != 0)
    }

    fn allocate(&mut self, _: Memory, bytes: usize) -> Result<Buffer, BackendError> {
        // The wrapper counts in words: up to three bytes more.
        let asked = bytes.checked_next_multiple_of(4).ok_or(ClError(CL_INVALID_BUFFER_SIZE));
        let asked = asked.map_err(call("clCreateBuffer"))? / 4;
        // SAFETY: no host memory is given.
        let memory = unsafe { Memories::create(&self.context, CL_MEM_READ_WRITE, asked, std::ptr::null_mut()) }
            .map_err(call("clCreateBuffer"))?;
        Ok(Buffer { memory, words: bytes / 4 })
    }

    fn free(&mut self, buffer: Buffer) -> Result<(), BackendError> {
        // Released when dropped.
        drop(buffer);
        Ok(())
    }

    fn clear(&mut self, buffer: &mut Buffer) -> Result<(), BackendError> {
        if buffer.words == 0 {
            return Ok(());
        }
        // SAFETY: the pattern divides the size, and the buffer lives until the queue has finished.
        unsafe { self.queues[0].enqueue_fill_buffer(&mut buffer.memory, &[0], 0, buffer.words * 4, &[]) }
            .map_err(call("clEnqueueFillBuffer"))?;
        self.queues[0].finish().map_err(call("clFinish"))
    }

    fn launch(&mut self, stream: usize, array: &Buffer, kernel: Kernel) -> Result<(), BackendError> {
        // SAFETY: the arguments are those of the kernel, and it stays inside the array.
        unsafe {
            ExecuteKernel::new(&self.function)
                .set_arg(&array.memory)
                .set_arg(&kernel.words)
                .set_arg(&kernel.amount)
                .set_global_work_size(kernel.words.max(1) as usize)
                .enqueue_nd_range(&self.queues[stream])
        }
        .map(drop)
        .map_err(call("clEnqueueNDRangeKernel"))
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        self.queues.iter().try_for_each(|queue| queue.finish().map_err(call("clFinish")))
    }

    unsafe fn copy_in(&mut self, stream: usize, from: &[u32], to: &Buffer) -> Result<(), BackendError> {
        if from.is_empty() {
            return Ok(());
        }
        let buffer = to.memory.get();
        // SAFETY: as the caller promises. The wrapper demands a mutable buffer of a call that only needs its handle, so
        // the call is made below it.
        unsafe {
            opencl3::command_queue::enqueue_write_buffer(
                self.queues[stream].get(),
                buffer,
                CL_NON_BLOCKING,
                0,
                size_of_val(from),
                from.as_ptr().cast(),
                0,
                std::ptr::null(),
            )
        }
        .map(|event| drop(Event::new(event)))
        .map_err(|code| call("clEnqueueWriteBuffer")(ClError(code)))
    }

    unsafe fn copy_out(&mut self, stream: usize, from: &Buffer, into: &mut [u32]) -> Result<(), BackendError> {
        if into.is_empty() {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        unsafe { self.queues[stream].enqueue_read_buffer(&from.memory, CL_NON_BLOCKING, 0, into, &[]) }
            .map(drop)
            .map_err(call("clEnqueueReadBuffer"))
    }

    fn event(&mut self) -> Result<(), BackendError> {
        // SAFETY: the queue is ours, and nothing is waited for.
        let event = unsafe { self.queues[0].enqueue_marker_with_wait_list(&[]) }
            .map_err(call("clEnqueueMarkerWithWaitList"))?;
        event.wait().map_err(call("clWaitForEvents"))
    }

    /// Its streams are queues. Memory of jobs would be the host's, and a kernel wants an object of the runtime.
    fn underneath(&self) -> Result<Underneath, BackendError> {
        let runtime = Runtime::load("libOpenCL.so.1").map_err(|error| unavailable(error.to_string()))?;
        let streams = self.queues.iter().map(|queue| Stream(queue.get() as u64)).collect();
        Ok(Underneath { runtime: Box::new(runtime), streams })
    }

    fn context(&mut self) -> Result<(), BackendError> {
        // Released when dropped.
        Context::from_device(&self.chosen.device).map(drop).map_err(call("clCreateContext"))
    }
}
