//! OpenCL through whatever platform is installed; the first GPU, else the first device of any kind.

use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_GPU, Device},
    error_codes::{ClError, DLOPEN_RUNTIME_LOAD_FAILED},
    kernel::{ExecuteKernel, Kernel},
    memory::{Buffer, CL_MEM_READ_WRITE, ClMem as _},
    platform::get_platforms,
    program::Program,
    types::{CL_BLOCKING, cl_uint},
};

use super::{Backend, BackendError, Description};

const NAME: &str = "opencl";
const SOURCE: &str = include_str!("../../kernels/increment.cl");

/// A queue on one device.
pub(super) struct OpenCl {
    // Dropped in this order: what uses the context before the context.
    array: Option<Buffer<cl_uint>>,
    words: usize,
    kernel: Kernel,
    queue: CommandQueue,
    context: Context,
    runtime: String,
    device: String,
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

impl OpenCl {
    pub(super) fn open() -> Result<Self, BackendError> {
        let platforms = get_platforms().map_err(|error| match error {
            ClError(DLOPEN_RUNTIME_LOAD_FAILED) => unavailable("no libOpenCL.so.1 here"),
            error => unavailable(format!("no platform: {error}")),
        })?;
        let devices = |kind| {
            platforms.iter().find_map(|platform| {
                let id = *platform.get_devices(kind).ok()?.first()?;
                Some((platform, Device::new(id)))
            })
        };
        let (platform, device) = devices(CL_DEVICE_TYPE_GPU)
            .or_else(|| devices(CL_DEVICE_TYPE_ALL))
            .ok_or_else(|| unavailable("no platform has a device"))?;
        let context = Context::from_device(&device).map_err(call("clCreateContext"))?;
        let queue = CommandQueue::create_default(&context, 0).map_err(call("clCreateCommandQueue"))?;
        let program = Program::create_and_build_from_source(&context, SOURCE, "")
            .map_err(|log| BackendError::Call { backend: NAME, call: "clBuildProgram", reason: log })?;
        let kernel = Kernel::create(&program, "increment").map_err(call("clCreateKernel"))?;
        Ok(Self {
            array: None,
            words: 0,
            kernel,
            queue,
            context,
            // PoCL goes on with its build options after two spaces.
            runtime: platform.version().unwrap_or_default().split("  ").next().unwrap_or_default().to_owned(),
            device: device.name().unwrap_or_default(),
        })
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer<u8>, BackendError> {
        // SAFETY: no host memory is given.
        unsafe { Buffer::create(&self.context, CL_MEM_READ_WRITE, bytes, std::ptr::null_mut()) }
            .map_err(call("clCreateBuffer"))
    }
}

impl Backend for OpenCl {
    fn describe(&self) -> Description {
        Description { name: NAME, runtime: self.runtime.clone(), device: self.device.clone() }
    }

    fn allocate_and_free(&mut self, bytes: usize) -> Result<(), BackendError> {
        // Freed when dropped.
        self.allocate(bytes).map(drop)
    }

    fn create_array(&mut self, bytes: usize) -> Result<(), BackendError> {
        self.words = bytes / 4;
        // SAFETY: no host memory is given.
        let mut array =
            unsafe { Buffer::<cl_uint>::create(&self.context, CL_MEM_READ_WRITE, self.words, std::ptr::null_mut()) }
                .map_err(call("clCreateBuffer"))?;
        // SAFETY: the pattern divides the size, and the buffer lives until the queue has finished.
        unsafe { self.queue.enqueue_fill_buffer(&mut array, &[0], 0, self.words * 4, &[]) }
            .map_err(call("clEnqueueFillBuffer"))?;
        self.queue.finish().map_err(call("clFinish"))?;
        self.array = Some(array);
        Ok(())
    }

    fn increment(&mut self) -> Result<(), BackendError> {
        let array = self.array.as_ref().expect("the array is created before it is incremented");
        debug_assert!(!array.get().is_null());
        // SAFETY: the arguments are those of the kernel, and it stays inside the array.
        unsafe {
            ExecuteKernel::new(&self.kernel)
                .set_arg(array)
                .set_arg(&(self.words as cl_uint))
                .set_global_work_size(self.words)
                .enqueue_nd_range(&self.queue)
        }
        .map_err(call("clEnqueueNDRangeKernel"))?;
        self.queue.finish().map_err(call("clFinish"))
    }

    fn read_array(&mut self, into: &mut [u32]) -> Result<(), BackendError> {
        let array = self.array.as_ref().expect("the array is created before it is read");
        // SAFETY: the call blocks until `into` is filled.
        unsafe { self.queue.enqueue_read_buffer(array, CL_BLOCKING, 0, into, &[]) }
            .map_err(call("clEnqueueReadBuffer"))?;
        Ok(())
    }
}
