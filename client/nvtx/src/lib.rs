//! Turns NVTX and roctx ranges into phases of gpuos-trace, without a change of the program.
//!
//! NVTX: `NVTX_INJECTION64_PATH=libgpuos_nvtx.so`. Every library that carries NVTX (version 3) loads this one and calls
//! [`InitializeInjectionNvtx2`], which puts our functions into its tables. roctx: `LD_PRELOAD=libgpuos_nvtx.so`; who
//! opens the real library by `dlopen` goes past a preload.
//!
//! Ranges that are pushed belong to their thread; ranges that are started may end on another thread and belong
//! to the process. Ids and layouts are those of `nvtx3/nvtxDetail/nvtxTypes.h` and `nvToolsExt.h`, version 3.

mod nvtx;
mod ranges;
mod roctx;

pub use nvtx::InitializeInjectionNvtx2;
pub use ranges::gpuos_nvtx_range;
