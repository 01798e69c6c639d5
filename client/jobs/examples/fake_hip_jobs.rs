//! A FAKE DEVICE, not HIP: the functions of the fake of CUDA under AMD's names. Never installed.

#[path = "fake_cuda_jobs.rs"]
mod cuda;

use std::ffi::{c_char, c_int, c_uint, c_void};

use cuda::{
    cuCtxSynchronize, cuEventRecord, cuEventSynchronize, cuLaunchKernel, cuMemHostAlloc, cuMemHostGetDevicePointer_v2,
    cuStreamCreate, cuStreamDestroy_v2, cuStreamIsCapturing, cuStreamQuery, cuStreamSynchronize,
    cuStreamWriteValue32_v2,
};

type Handle = *mut c_void;

macro_rules! same {
    ($($hip:ident = $cuda:ident ( $($argument:ident: $kind:ty),* );)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $hip($($argument: $kind),*) -> c_int {
            let same: unsafe extern "C" fn($($kind),*) -> c_int = $cuda;
            // SAFETY: as the caller's.
            unsafe { same($($argument),*) }
        }
    )*};
}

same! {
    hipModuleLaunchKernel = cuLaunchKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut Handle, extra: *mut Handle
    );
    hipStreamCreateWithFlags = cuStreamCreate(stream: *mut Handle, flags: c_uint);
    hipStreamSynchronize = cuStreamSynchronize(stream: Handle);
    hipDeviceSynchronize = cuCtxSynchronize();
    hipEventRecord = cuEventRecord(event: Handle, stream: Handle);
    hipEventSynchronize = cuEventSynchronize(event: Handle);
    hipStreamDestroy = cuStreamDestroy_v2(stream: Handle);
    hipStreamQuery = cuStreamQuery(stream: Handle);
    hipStreamIsCapturing = cuStreamIsCapturing(stream: Handle, state: *mut c_int);
    hipHostMalloc = cuMemHostAlloc(memory: *mut Handle, bytes: usize, flags: c_uint);
    hipStreamWriteValue32 = cuStreamWriteValue32_v2(stream: Handle, address: u64, value: u32, flags: c_uint);
    hipHostGetDevicePointer = cuMemHostGetDevicePointer_v2(address: *mut u64, memory: Handle, flags: c_uint);
}

#[unsafe(no_mangle)]
extern "C" fn hipInit(_flags: c_uint) -> c_int {
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hipGetDeviceCount(count: *mut c_int) -> c_int {
    // SAFETY: a place for a number, as in HIP.
    unsafe { count.write(1) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hipGetDevice(device: *mut c_int) -> c_int {
    // SAFETY: a place for a number, as in HIP.
    unsafe { device.write(0) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn hipGetErrorName(_code: c_int) -> *const c_char {
    c"hipErrorOfAFake".as_ptr()
}
