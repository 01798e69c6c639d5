//! AMD's HIP runtime: `hip` on GPUs, and `hip-cpu`, where AMD's header-only HIP for CPUs stands behind the same entry
//! points (`workloads/hip-cpu`).
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a block is a sequence of calls of the runtime with one reason"
)]

use std::{
    ffi::{CStr, c_int},
    marker::PhantomData,
    ptr::{self, NonNull},
};

use gpuos_job::backend::{Stream, hip::Hip as Runtime};

use super::{
    Backend, BackendError, Capabilities, Description, Kernel, Pinned, Probe, Underneath,
    hip_library::{HipLibrary, NO_DEVICE, NOT_SUPPORTED, Pointer},
    no_such_device, unsupported,
};
use crate::workload::{Memory, Setup, Wait};

/// Threads of a block.
const BLOCK: u32 = 256;
/// `hipStreamNonBlocking`, `hipMemcpyHostToDevice`, `hipMemcpyDeviceToHost`, `hipMemAttachGlobal`,
/// `hipStreamCaptureModeThreadLocal`, `hipEventDisableTiming`, `hipDeviceAttributeWallClockRate` of HIP's headers.
const NON_BLOCKING: u32 = 1;
const HOST_TO_DEVICE: c_int = 1;
const DEVICE_TO_HOST: c_int = 2;
const ATTACH_GLOBAL: u32 = 1;
const CAPTURE_THREAD_LOCAL: c_int = 1;
const DISABLE_TIMING: u32 = 2;
const WALL_CLOCK_RATE: c_int = 10017;

/// Which runtime answers to HIP's names.
pub(crate) trait Flavour {
    const NAME: &'static str;
    const HINT: &'static str;
    const CAPABILITIES: Capabilities;
    /// The names that its library may have, the newest first.
    fn libraries() -> Vec<String>;
    /// Whether the device is the CPU.
    const ON_CPU: bool;
    /// The kernel for each kind of processor, by its name.
    const CODE: &'static [(&'static str, &'static [u8])];
}

/// AMD's runtime for its GPUs.
pub(crate) struct Gpu;

/// Code that clang made of `kernels/increment.hip.c`: `cargo xtask gen` writes the files.
macro_rules! code_objects {
    ($($processor:literal),*) => {
        &[$(($processor, include_bytes!(concat!("../../kernels/amdgpu/", $processor, ".co")))),*]
    };
}

impl Flavour for Gpu {
    const NAME: &'static str = "hip";
    const HINT: &'static str = "install AMD's ROCm (`rocminfo` tells whether it works) or Debian's `libamdhip64-5`, or choose another `--backend`";
    const CAPABILITIES: Capabilities = Capabilities::ALL;
    fn libraries() -> Vec<String> {
        ["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "/opt/rocm/lib/libamdhip64.so"]
            .map(str::to_owned)
            .to_vec()
    }
    const ON_CPU: bool = false;
    const CODE: &'static [(&'static str, &'static [u8])] = code_objects!(
        "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1200",
        "gfx1201"
    );
}

/// HIP on the CPU. Its memory is `malloc`, its streams are host threads, one of which polls all the time.
pub(crate) struct Cpu;

/// Names another library of `hip-cpu`.
const CPU_LIBRARY: &str = "GPUOS_HIP_CPU_LIBRARY";

impl Flavour for Cpu {
    const NAME: &'static str = "hip-cpu";
    const HINT: &'static str =
        "get the project ROCm/HIP-CPU and build the library with `HIP_CPU_ROOT=FOLDER cargo xtask hip-cpu`";
    const CAPABILITIES: Capabilities =
        Capabilities { streams: true, durations: true, pinned_copies: true, ..Capabilities::PLAIN };
    fn libraries() -> Vec<String> {
        if let Ok(named) = std::env::var(CPU_LIBRARY) {
            return vec![named];
        }
        // Beside this program, as `cargo xtask hip-cpu` puts it, else wherever libraries are.
        let beside = std::env::current_exe().ok().and_then(|program| {
            let library = program.parent()?.join("libgpuos_hip_cpu.so");
            library.exists().then(|| library.to_string_lossy().into_owned())
        });
        beside.into_iter().chain(["libgpuos_hip_cpu.so".to_owned()]).collect()
    }
    const ON_CPU: bool = true;
    const CODE: &'static [(&'static str, &'static [u8])] = &[("the CPU", b"increment\0")];
}

/// Streams on one device.
pub(crate) struct Hip<F> {
    library: HipLibrary,
    ordinal: c_int,
    kernel: Pointer,
    streams: Vec<Pointer>,
    runtime: String,
    device: String,
    /// Ticks of the clock of kernels in a millisecond; 0 where the runtime does not say.
    ticks: u32,
    flavour: PhantomData<F>,
}

/// Memory with an address on the device.
pub(crate) struct Buffer {
    address: Pointer,
    bytes: usize,
    memory: Memory,
}

/// A graph that was instantiated. It lives as long as the process.
pub(crate) struct Graph(Pointer);

fn unavailable<F: Flavour>(reason: String) -> BackendError {
    BackendError::Unavailable { backend: F::NAME, reason, hint: F::HINT }
}

/// Loads the library, and finds how many devices it has.
fn load<F: Flavour>() -> Result<(HipLibrary, usize), BackendError> {
    let library = HipLibrary::load(&F::libraries()).map_err(unavailable::<F>)?;
    let mut count = 0;
    // SAFETY: the pointer is valid.
    match unsafe { (library.get_device_count)(&raw mut count) } {
        0 if count > 0 => Ok((library, count as usize)),
        0 | NO_DEVICE => {
            let reason = format!("hipGetDeviceCount: {} ({})", library.name_of(NO_DEVICE), library.path);
            Err(unavailable::<F>(reason))
        }
        error => Err(unavailable::<F>(format!("hipGetDeviceCount: {}", library.name_of(error)))),
    }
}

fn version<F: Flavour>(library: &HipLibrary) -> Result<String, BackendError> {
    let mut version = 0;
    // SAFETY: the pointer is valid.
    check::<F>(library, "hipRuntimeGetVersion", unsafe { (library.runtime_get_version)(&raw mut version) })?;
    Ok(format!("HIP {}.{}.{}", version / 10_000_000, version / 100_000 % 100, version % 100_000))
}

fn name_of<F: Flavour>(library: &HipLibrary, ordinal: usize) -> Result<String, BackendError> {
    let mut name = [0; 256];
    // SAFETY: the string has so much room, and ends with 0.
    unsafe {
        let result = (library.device_get_name)(name.as_mut_ptr(), name.len() as c_int, ordinal as c_int);
        check::<F>(library, "hipDeviceGetName", result)?;
        Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

fn check<F: Flavour>(library: &HipLibrary, call: &'static str, result: c_int) -> Result<(), BackendError> {
    match result {
        0 => Ok(()),
        NOT_SUPPORTED => Err(unsupported(F::NAME, &format!("`{call}` on this device"))),
        error => Err(BackendError::Call { backend: F::NAME, call, reason: library.name_of(error) }),
    }
}

impl<F: Flavour> Hip<F> {
    fn check(&self, call: &'static str, result: c_int) -> Result<(), BackendError> {
        check::<F>(&self.library, call, result)
    }

    /// Loads the kernel: the code for other processors is refused by the runtime.
    fn load_kernel(&mut self) -> Result<(), BackendError> {
        let mut module = ptr::null_mut();
        for (_, code) in F::CODE {
            // SAFETY: the code lives as long as the program.
            if unsafe { (self.library.module_load_data)(&raw mut module, code.as_ptr().cast()) } == 0 {
                // SAFETY: the pointers are valid, and the module was loaded.
                let found =
                    unsafe { (self.library.module_get_function)(&raw mut self.kernel, module, c"increment".as_ptr()) };
                return self.check("hipModuleGetFunction", found);
            }
        }
        let known: Vec<_> = F::CODE.iter().map(|(processor, _)| *processor).collect();
        Err(BackendError::Unavailable {
            backend: F::NAME,
            reason: format!("no code for {}; there is code for {}", self.device, known.join(", ")),
            hint: "add the processor to `xtask/src/generate/code_objects.rs`, run `cargo xtask gen`, and build again",
        })
    }
}

impl<F: Flavour> Backend for Hip<F> {
    type Buffer = Buffer;
    type Graph = Graph;
    const NAME: &'static str = F::NAME;
    const CAPABILITIES: Capabilities = F::CAPABILITIES;

    fn probe() -> Result<Probe, BackendError> {
        let (library, count) = load::<F>()?;
        Ok(Probe {
            runtime: version::<F>(&library)?,
            devices: (0..count).map(|ordinal| name_of::<F>(&library, ordinal)).collect::<Result<_, _>>()?,
            library: Some(library.path),
        })
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        let (library, count) = load::<F>()?;
        if setup.device >= count {
            return Err(no_such_device(F::NAME, setup.device, count));
        }
        let ordinal = setup.device as c_int;
        let (runtime, device) = (version::<F>(&library)?, name_of::<F>(&library, setup.device)?);
        let mut hip = Self {
            library,
            ordinal,
            kernel: ptr::null_mut(),
            streams: Vec::new(),
            runtime,
            device,
            ticks: 0,
            flavour: PhantomData,
        };
        // SAFETY: the calls get valid pointers and handles that earlier calls returned.
        unsafe {
            hip.check("hipInit", (hip.library.init)(0))?;
            hip.check("hipSetDevice", (hip.library.set_device)(ordinal))?;
            let flags = match setup.wait {
                Wait::Default => None,
                Wait::Spin => Some(1),
                Wait::Yield => Some(2),
                Wait::Block => Some(4),
            };
            if let Some(flags) = flags {
                hip.check("hipSetDeviceFlags", (hip.library.set_device_flags)(flags))?;
            }
            let mut ticks = 0;
            if (hip.library.device_get_attribute)(&raw mut ticks, WALL_CLOCK_RATE, ordinal) == 0 {
                hip.ticks = ticks as u32;
            }
            for _ in 0..setup.streams {
                let mut stream = ptr::null_mut();
                let made = (hip.library.stream_create_with_flags)(&raw mut stream, NON_BLOCKING);
                hip.check("hipStreamCreateWithFlags", made)?;
                hip.streams.push(stream);
            }
        }
        hip.load_kernel()?;
        Ok(hip)
    }

    fn describe(&self) -> Description {
        Description { name: F::NAME, runtime: self.runtime.clone(), device: self.device.clone() }
    }

    fn is_in_host_memory(&self) -> bool {
        F::ON_CPU
    }

    fn allocate(&mut self, memory: Memory, bytes: usize) -> Result<Buffer, BackendError> {
        let mut address = ptr::null_mut();
        // SAFETY: memory of any size may be asked for; on the device's side the address of host memory is the same.
        unsafe {
            match memory {
                Memory::Device | Memory::Pageable => {
                    self.check("hipMalloc", (self.library.malloc)(&raw mut address, bytes))
                }
                Memory::Managed => {
                    let result = (self.library.malloc_managed)(&raw mut address, bytes, ATTACH_GLOBAL);
                    self.check("hipMallocManaged", result)
                }
                Memory::AsyncPool => {
                    let result = (self.library.malloc_async)(&raw mut address, bytes, self.streams[0]);
                    self.check("hipMallocAsync", result)
                }
                Memory::Pinned => self.check("hipHostMalloc", (self.library.host_malloc)(&raw mut address, bytes, 0)),
            }
        }?;
        Ok(Buffer { address, bytes, memory })
    }

    fn free(&mut self, buffer: Buffer) -> Result<(), BackendError> {
        // SAFETY: the memory is of that kind, and this is its end.
        unsafe {
            match buffer.memory {
                Memory::AsyncPool => {
                    self.check("hipFreeAsync", (self.library.free_async)(buffer.address, self.streams[0]))
                }
                Memory::Pinned => self.check("hipHostFree", (self.library.host_free)(buffer.address)),
                Memory::Pageable | Memory::Device | Memory::Managed => {
                    self.check("hipFree", (self.library.free)(buffer.address))
                }
            }
        }
    }

    fn clear(&mut self, buffer: &mut Buffer) -> Result<(), BackendError> {
        // SAFETY: the memory has so many bytes.
        let result = unsafe { (self.library.memset_async)(buffer.address, 0, buffer.bytes, self.streams[0]) };
        self.check("hipMemsetAsync", result)?;
        self.wait()
    }

    fn launch(&mut self, stream: usize, array: &Buffer, kernel: Kernel) -> Result<(), BackendError> {
        if kernel.duration_us > 0 && self.ticks == 0 {
            return Err(BackendError::Unsupported {
                backend: F::NAME,
                what: "`--duration-us`".to_owned(),
                can: "this runtime does not tell how fast the device's clock is; leave the option out".to_owned(),
            });
        }
        let mut address = array.address;
        let Kernel { words: mut count, mut amount, duration_us } = kernel;
        let mut threads = BLOCK;
        let mut ticks = (u64::from(duration_us) * u64::from(self.ticks) / 1000).min(u32::MAX.into()) as u32;
        let mut arguments = [
            (&raw mut address).cast(),
            (&raw mut count).cast(),
            (&raw mut amount).cast(),
            (&raw mut threads).cast(),
            (&raw mut ticks).cast(),
        ];
        let blocks = count.div_ceil(BLOCK).max(1);
        let (stream, extra) = (self.streams[stream], ptr::null_mut());
        // SAFETY: the arguments are those of the kernel, and it stays inside the array.
        let result = unsafe {
            (self.library.module_launch_kernel)(
                self.kernel,
                blocks,
                1,
                1,
                BLOCK,
                1,
                1,
                0,
                stream,
                arguments.as_mut_ptr(),
                extra,
            )
        };
        self.check("hipModuleLaunchKernel", result)
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        self.streams.iter().try_for_each(|stream| {
            // SAFETY: the stream is ours.
            self.check("hipStreamSynchronize", unsafe { (self.library.stream_synchronize)(*stream) })
        })
    }

    unsafe fn copy_in(&mut self, stream: usize, from: &[u32], to: &Buffer) -> Result<(), BackendError> {
        let (bytes, stream) = (size_of_val(from), self.streams[stream]);
        // SAFETY: as the caller promises.
        let result =
            unsafe { (self.library.memcpy_async)(to.address, from.as_ptr().cast(), bytes, HOST_TO_DEVICE, stream) };
        self.check("hipMemcpyAsync", result)
    }

    unsafe fn copy_out(&mut self, stream: usize, from: &Buffer, into: &mut [u32]) -> Result<(), BackendError> {
        let (bytes, stream) = (size_of_val(into), self.streams[stream]);
        // SAFETY: as the caller promises.
        let result = unsafe {
            (self.library.memcpy_async)(into.as_mut_ptr().cast(), from.address, bytes, DEVICE_TO_HOST, stream)
        };
        self.check("hipMemcpyAsync", result)
    }

    fn allocate_pinned(&mut self, words: usize) -> Result<Pinned, BackendError> {
        let mut address = ptr::null_mut();
        // SAFETY: the memory is as large, and every byte is written before anybody reads it.
        unsafe {
            self.check("hipHostMalloc", (self.library.host_malloc)(&raw mut address, (words * 4).max(4), 0))?;
            let Some(pointer) = NonNull::new(address.cast::<u32>()) else {
                let reason = "it gave no address".to_owned();
                return Err(BackendError::Call { backend: F::NAME, call: "hipHostMalloc", reason });
            };
            pointer.as_ptr().write_bytes(0, words);
            Ok(Pinned::new(pointer, words))
        }
    }

    fn free_pinned(&mut self, array: Pinned) -> Result<(), BackendError> {
        // SAFETY: the memory is from `allocate_pinned`, and this is its end.
        self.check("hipHostFree", unsafe { (self.library.host_free)(array.pointer().cast()) })
    }

    fn begin_graph(&mut self, stream: usize) -> Result<(), BackendError> {
        // SAFETY: the stream is ours.
        let result = unsafe { (self.library.stream_begin_capture)(self.streams[stream], CAPTURE_THREAD_LOCAL) };
        self.check("hipStreamBeginCapture", result)
    }

    fn end_graph(&mut self, stream: usize) -> Result<Graph, BackendError> {
        let (mut graph, mut ready) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is one that records; the graph is not used after its end.
        unsafe {
            let ended = (self.library.stream_end_capture)(self.streams[stream], &raw mut graph);
            self.check("hipStreamEndCapture", ended)?;
            let made = (self.library.graph_instantiate)(&raw mut ready, graph, ptr::null_mut(), ptr::null_mut(), 0);
            self.check("hipGraphInstantiate", made)?;
            self.check("hipGraphDestroy", (self.library.graph_destroy)(graph))?;
        }
        Ok(Graph(ready))
    }

    fn launch_graph(&mut self, stream: usize, graph: &Graph) -> Result<(), BackendError> {
        // SAFETY: both are ours.
        self.check("hipGraphLaunch", unsafe { (self.library.graph_launch)(graph.0, self.streams[stream]) })
    }

    fn event(&mut self) -> Result<(), BackendError> {
        let mut event = ptr::null_mut();
        // SAFETY: the event and the stream are ours.
        unsafe {
            let made = (self.library.event_create_with_flags)(&raw mut event, DISABLE_TIMING);
            self.check("hipEventCreateWithFlags", made)?;
            self.check("hipEventRecord", (self.library.event_record)(event, self.streams[0]))?;
            self.check("hipEventSynchronize", (self.library.event_synchronize)(event))?;
            self.check("hipEventDestroy", (self.library.event_destroy)(event))
        }
    }

    fn underneath(&self) -> Result<Underneath, BackendError> {
        let runtime = Runtime::load(&self.library.path).map_err(|(error, _)| unavailable::<F>(error.to_string()))?;
        let streams = self.streams.iter().map(|stream| Stream(*stream as u64)).collect();
        Ok(Underneath { runtime: Box::new(runtime), streams })
    }

    fn borrow(&self, address: u64, bytes: usize) -> Result<Buffer, BackendError> {
        Ok(Buffer { address: address as Pointer, bytes, memory: Memory::Device })
    }

    fn context(&mut self) -> Result<(), BackendError> {
        let (create, destroy) = self.library.contexts.ok_or_else(|| unsupported(Self::NAME, "contexts"))?;
        let mut context = ptr::null_mut();
        // SAFETY: nobody else uses the new context; the device's own is made current again.
        unsafe {
            self.check("hipCtxCreate", create(&raw mut context, 0, self.ordinal))?;
            self.check("hipCtxDestroy", destroy(context))?;
            self.check("hipSetDevice", (self.library.set_device)(self.ordinal))
        }
    }
}
