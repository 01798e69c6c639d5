//! CUDA's driver API, loaded at run time, through the thin layers of cudarc: its safe layer
//! allocates from a pool and creates events on its own, which would falsify what is measured.

use std::ffi::{CString, c_void};

use cudarc::driver::{
    DriverError,
    result::{self, stream::StreamKind},
    sys,
};

use super::{Backend, BackendError, Description};

const NAME: &str = "cuda";
const PTX: &str = concat!(include_str!("../../kernels/increment.ptx"), "\0");
/// Threads of a block.
const BLOCK: u32 = 256;

/// A stream on the first GPU, in its primary context as a PyTorch program would use it.
pub(super) struct Cuda {
    array: Option<(sys::CUdeviceptr, u32)>,
    kernel: sys::CUfunction,
    stream: sys::CUstream,
    driver_version: i32,
    device: String,
}

fn call(call: &'static str) -> impl Fn(DriverError) -> BackendError {
    move |error| BackendError::Call { backend: NAME, call, reason: reason(error) }
}

/// The driver's own name of an error.
fn reason(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("{error:?}"),
    }
}

impl Cuda {
    pub(super) fn open() -> Result<Self, BackendError> {
        let unavailable = |reason: String| BackendError::Unavailable {
            backend: NAME,
            reason,
            hint: "install NVIDIA's driver (`nvidia-smi` tells whether it works), or choose another `--backend`",
        };
        // SAFETY: it only tries to load the library. Any other call would panic without it.
        if !unsafe { sys::is_culib_present() } {
            return Err(unavailable("no libcuda.so.1 here".to_owned()));
        }
        result::init().map_err(|error| unavailable(format!("cuInit: {}", reason(error))))?;
        let device = result::device::get(0).map_err(call("cuDeviceGet"))?;
        let name = result::device::get_name(device).map_err(call("cuDeviceGetName"))?;
        let mut driver_version = 0;
        // SAFETY: the calls get valid pointers and handles that earlier calls returned.
        unsafe {
            sys::cuDriverGetVersion(&mut driver_version).result().map_err(call("cuDriverGetVersion"))?;
            let context = result::primary_ctx::retain(device).map_err(call("cuDevicePrimaryCtxRetain"))?;
            result::ctx::set_current(context).map_err(call("cuCtxSetCurrent"))?;
            let stream = result::stream::create(StreamKind::NonBlocking).map_err(call("cuStreamCreate"))?;
            let module = result::module::load_data(PTX.as_ptr().cast::<c_void>()).map_err(call("cuModuleLoadData"))?;
            let kernel = result::module::get_function(module, CString::from(c"increment"))
                .map_err(call("cuModuleGetFunction"))?;
            Ok(Self { array: None, kernel, stream, driver_version, device: name })
        }
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        // SAFETY: the stream is ours.
        unsafe { result::stream::synchronize(self.stream) }.map_err(call("cuStreamSynchronize"))
    }
}

impl Backend for Cuda {
    fn describe(&self) -> Description {
        let (major, minor) = (self.driver_version / 1000, self.driver_version % 1000 / 10);
        Description { name: NAME, runtime: format!("CUDA driver API {major}.{minor}"), device: self.device.clone() }
    }

    fn allocate_and_free(&mut self, bytes: usize) -> Result<(), BackendError> {
        // SAFETY: what is freed was just allocated.
        unsafe {
            let pointer = result::malloc_sync(bytes).map_err(call("cuMemAlloc"))?;
            result::free_sync(pointer).map_err(call("cuMemFree"))
        }
    }

    fn create_array(&mut self, bytes: usize) -> Result<(), BackendError> {
        // SAFETY: the memory is freed once, and set within its size.
        unsafe {
            if let Some((old, _)) = self.array.take() {
                result::free_sync(old).map_err(call("cuMemFree"))?;
            }
            let array = result::malloc_sync(bytes).map_err(call("cuMemAlloc"))?;
            self.array = Some((array, (bytes / 4) as u32));
            result::memset_d8_async(array, 0, bytes, self.stream).map_err(call("cuMemsetD8Async"))?;
        }
        self.synchronize()
    }

    fn increment(&mut self) -> Result<(), BackendError> {
        let (mut array, mut words) = self.array.expect("the array is created before it is incremented");
        if words == 0 {
            return Ok(());
        }
        let mut arguments = [(&raw mut array).cast::<c_void>(), (&raw mut words).cast::<c_void>()];
        // SAFETY: the arguments are those of the kernel, and it stays inside the array.
        unsafe {
            result::launch_kernel(
                self.kernel,
                (words.div_ceil(BLOCK), 1, 1),
                (BLOCK, 1, 1),
                0,
                self.stream,
                &mut arguments,
            )
        }
        .map_err(call("cuLaunchKernel"))?;
        self.synchronize()
    }

    fn read_array(&mut self, into: &mut [u32]) -> Result<(), BackendError> {
        let (array, _) = self.array.expect("the array is created before it is read");
        if into.is_empty() {
            return Ok(());
        }
        // SAFETY: `into` has the length of the array, and the copy is waited for.
        unsafe { result::memcpy_dtoh_async(into, array, self.stream) }.map_err(call("cuMemcpyDtoHAsync"))?;
        self.synchronize()
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if let Some((array, _)) = self.array.take() {
            // SAFETY: the memory is ours; at this point a failure has nobody to go to.
            let _ = unsafe { result::free_sync(array) };
        }
    }
}
