//! Execution stacks behind one trait. Each loads its runtime when it is opened, never before.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "hip")]
mod hip;
#[cfg(feature = "hip")]
mod hip_library;
mod host;
#[cfg(feature = "opencl")]
mod opencl;
mod pinned;
#[cfg(feature = "wgpu")]
mod wgpu;

use clap::ValueEnum as _;
use serde::Serialize;

pub(crate) use self::pinned::Pinned;
use crate::{
    cli::BackendChoice,
    plan::{Memory, Model, Plan, Setup, Wait},
};

/// A runtime that allocates memory, copies and launches kernels. Operations on a stream are done in their order;
/// none but those that say so wait.
pub(crate) trait Backend: Sized {
    /// Memory that kernels can reach.
    type Buffer;
    /// Operations that were recorded and are launched together.
    type Graph;
    /// As on the command line.
    const NAME: &'static str;
    /// What can be asked of it.
    const CAPABILITIES: Capabilities;

    /// What is there, without opening a device.
    fn probe() -> Result<Probe, BackendError>;
    /// Loads the runtime and gets one device ready, with its streams and its kernel.
    fn open(setup: &Setup) -> Result<Self, BackendError>;
    /// What this is, for people and reports.
    fn describe(&self) -> Description;

    /// Allocates memory of a kind that is in the capabilities; from a pool, in the order of stream 0.
    fn allocate(&mut self, memory: Memory, bytes: usize) -> Result<Self::Buffer, BackendError>;
    /// Frees what `allocate` gave.
    fn free(&mut self, buffer: Self::Buffer) -> Result<(), BackendError>;
    /// Sets every byte to 0, and waits.
    fn clear(&mut self, buffer: &mut Self::Buffer) -> Result<(), BackendError>;
    /// Launches the kernel on a stream.
    fn launch(&mut self, stream: usize, array: &Self::Buffer, kernel: Kernel) -> Result<(), BackendError>;
    /// Waits for every stream.
    fn wait(&mut self) -> Result<(), BackendError>;
    /// Copies from the host; both have the same length.
    ///
    /// # Safety
    /// `from` stays as it is until the next `wait`.
    unsafe fn copy_in(&mut self, stream: usize, from: &[u32], to: &Self::Buffer) -> Result<(), BackendError>;
    /// Copies to the host; both have the same length.
    ///
    /// # Safety
    /// Nobody looks at `into`, and it stays where it is, until the next `wait`.
    unsafe fn copy_out(&mut self, stream: usize, from: &Self::Buffer, into: &mut [u32]) -> Result<(), BackendError>;

    /// Allocates locked memory of the host.
    fn allocate_pinned(&mut self, _words: usize) -> Result<Pinned, BackendError> {
        Err(unsupported(Self::NAME, "pinned memory"))
    }
    /// Frees what `allocate_pinned` gave.
    fn free_pinned(&mut self, _array: Pinned) -> Result<(), BackendError> {
        Err(unsupported(Self::NAME, "pinned memory"))
    }
    /// Begins to record what is launched on a stream, instead of doing it.
    fn begin_graph(&mut self, _stream: usize) -> Result<(), BackendError> {
        Err(unsupported(Self::NAME, "graphs"))
    }
    /// Ends the recording and makes it ready.
    fn end_graph(&mut self, _stream: usize) -> Result<Self::Graph, BackendError> {
        Err(unsupported(Self::NAME, "graphs"))
    }
    /// Launches what was recorded.
    fn launch_graph(&mut self, _stream: usize, _graph: &Self::Graph) -> Result<(), BackendError> {
        Err(unsupported(Self::NAME, "graphs"))
    }
    /// Makes an event, records it on stream 0, waits for it and destroys it.
    fn event(&mut self) -> Result<(), BackendError> {
        Err(unsupported(Self::NAME, "events"))
    }
    /// Creates a context of its own on the device, and destroys it.
    fn context(&mut self) -> Result<(), BackendError> {
        Err(unsupported(Self::NAME, "contexts"))
    }
}

/// One launch of the kernel: adds `amount` to each of `words` words, and takes `duration_us` at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) words: u32,
    pub(crate) amount: u32,
    pub(crate) duration_us: u32,
}

/// What a backend is made of.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) runtime: String,
    pub(crate) device: String,
}

/// What is there of a backend.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    /// The file that was loaded.
    pub(crate) library: Option<String>,
    pub(crate) runtime: String,
    /// By the numbers of `--device`.
    pub(crate) devices: Vec<String>,
}

/// What can be asked of a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    pub(crate) waits: &'static [Wait],
    /// Kinds of memory that kernels can reach.
    pub(crate) memory: &'static [Memory],
    /// Locked memory of the host as the other end of copies.
    pub(crate) pinned_copies: bool,
    pub(crate) streams: bool,
    pub(crate) graphs: bool,
    /// Whether a kernel can tell the time.
    pub(crate) durations: bool,
}

impl Capabilities {
    /// Of a runtime without choices.
    pub(crate) const PLAIN: Self = Self {
        waits: &[Wait::Default],
        memory: &[Memory::Device],
        pinned_copies: false,
        streams: false,
        graphs: false,
        durations: false,
    };

    /// The first thing in the plan that the backend cannot do.
    fn refuse(&self, backend: &'static str, plan: &Plan) -> Result<(), BackendError> {
        let refuse = |what: String, can: &str| Err(BackendError::Unsupported { backend, what, can: can.to_owned() });
        if !self.waits.contains(&plan.setup.wait) {
            return refuse(
                format!("`--wait {}`", name(plan.setup.wait)),
                &format!("it waits as: {}", names(self.waits)),
            );
        }
        if plan.model == Model::Copy {
            match plan.memory {
                Memory::Pageable => {}
                Memory::Pinned if self.pinned_copies => {}
                memory => {
                    return refuse(format!("`copy --memory {}`", name(memory)), "`copy --memory pageable` is possible");
                }
            }
        } else if !self.memory.contains(&plan.memory) {
            let can = format!("its kinds of memory: {}", names(self.memory));
            return refuse(format!("`--memory {}`", name(plan.memory)), &can);
        }
        for (asked, can, option) in [
            (plan.setup.streams > 1, self.streams, "--streams"),
            (plan.graph, self.graphs, "--graph"),
            (plan.duration_us > 0, self.durations, "--duration-us"),
        ] {
            if asked && !can {
                return refuse(format!("`{option}`"), "`bench --list` shows which backend can");
            }
        }
        Ok(())
    }
}

fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The names of options' values, as on the command line.
pub(crate) fn names<V: clap::ValueEnum>(values: &[V]) -> String {
    values.iter().cloned().map(name).collect::<Vec<_>>().join(", ")
}

/// Why a backend cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// Its runtime or its device is not there.
    #[error("{backend}: {reason}\nhint: {hint}")]
    Unavailable { backend: &'static str, reason: String, hint: &'static str },
    /// None is there.
    #[error(
        "no GPU runtime here can do this:\n{tried}\nhint: `bench --list` tells more; `sudo apt-get install pocl-opencl-icd` installs an OpenCL runtime that executes on the CPU"
    )]
    None { tried: String },
    /// Its feature was off.
    #[error(
        "{backend}: this `bench` was built without it\nhint: build it with `cargo build --release --package gpuos-workloads --all-features`"
    )]
    NotBuiltIn { backend: String },
    /// The runtime has no such thing.
    #[error("{backend} cannot do {what}\nhint: {can}")]
    Unsupported { backend: &'static str, what: String, can: String },
    /// A call failed.
    #[error("{backend}: {call} failed: {reason}{hint}", hint = if reason.to_ascii_uppercase().contains("MEMORY") || reason.contains("BUFFER_SIZE") || reason.contains("ALLOCATION") { "\nhint: choose another `--bytes`" } else { "" })]
    Call { backend: &'static str, call: &'static str, reason: String },
}

fn unsupported(backend: &'static str, what: &str) -> BackendError {
    BackendError::Unsupported {
        backend,
        what: what.to_owned(),
        can: "`bench --list` shows which backend can".to_owned(),
    }
}

/// The error of a device number that the runtime does not have.
fn no_such_device(backend: &'static str, number: usize, count: usize) -> BackendError {
    BackendError::Unavailable {
        backend,
        reason: format!("no device {number}; it has {count}"),
        hint: "`bench --list` numbers the devices",
    }
}

/// The file that holds a loaded library of this name, by the process's memory map.
fn loaded_from(name: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .find(|(_, path)| path.rsplit('/').next().is_some_and(|file| file.starts_with(name)))?;
    Some(format!("/{}", path.1))
}

/// What is done with a backend once it is known which.
pub(crate) trait WithBackend {
    type Result;
    fn run<B: Backend>(self, backend: B) -> Self::Result;
}

/// Opens the chosen backend, or the first that works, for the plan.
pub(crate) fn with<V: WithBackend>(choice: BackendChoice, plan: &Plan, then: V) -> Result<V::Result, BackendError> {
    match choice {
        BackendChoice::Auto => first_that_works(plan, then),
        #[cfg(feature = "cuda")]
        BackendChoice::Cuda => Ok(then.run(open::<cuda::Cuda>(plan)?)),
        #[cfg(feature = "hip")]
        BackendChoice::Hip => Ok(then.run(open::<hip::Hip<hip::Gpu>>(plan)?)),
        #[cfg(feature = "hip")]
        BackendChoice::HipCpu => Ok(then.run(open::<hip::Hip<hip::Cpu>>(plan)?)),
        #[cfg(feature = "opencl")]
        BackendChoice::Opencl => Ok(then.run(open::<opencl::OpenCl>(plan)?)),
        #[cfg(feature = "wgpu")]
        BackendChoice::Vulkan => Ok(then.run(open::<wgpu::Wgpu<wgpu::Vulkan>>(plan)?)),
        #[cfg(feature = "wgpu")]
        BackendChoice::Metal => Ok(then.run(open::<wgpu::Wgpu<wgpu::Metal>>(plan)?)),
        BackendChoice::Host => Ok(then.run(open::<host::Host>(plan)?)),
        #[cfg(not(all(feature = "cuda", feature = "hip", feature = "opencl", feature = "wgpu")))]
        absent => Err(not_built_in(absent)),
    }
}

fn not_built_in(choice: BackendChoice) -> BackendError {
    BackendError::NotBuiltIn { backend: name(choice) }
}

fn open<B: Backend>(plan: &Plan) -> Result<B, BackendError> {
    B::CAPABILITIES.refuse(B::NAME, plan)?;
    B::open(&plan.setup)
}

/// Tries the backends of GPUs in the order of the command line's help.
fn first_that_works<V: WithBackend>(plan: &Plan, then: V) -> Result<V::Result, BackendError> {
    let mut tried = Tried::default();
    #[cfg(feature = "cuda")]
    if let Some(backend) = tried.open::<cuda::Cuda>(plan) {
        return Ok(then.run(backend));
    }
    #[cfg(feature = "hip")]
    if let Some(backend) = tried.open::<hip::Hip<hip::Gpu>>(plan) {
        return Ok(then.run(backend));
    }
    #[cfg(feature = "opencl")]
    if let Some(backend) = tried.open::<opencl::OpenCl>(plan) {
        return Ok(then.run(backend));
    }
    Err(tried.error())
}

/// What was tried in vain.
#[derive(Default)]
struct Tried(Vec<String>);

impl Tried {
    fn open<B: Backend>(&mut self, plan: &Plan) -> Option<B> {
        match open::<B>(plan) {
            Ok(backend) => {
                let Description { name, runtime, device } = backend.describe();
                eprintln!("bench: using {name}: {runtime}, {device}");
                Some(backend)
            }
            Err(error) => {
                self.0.push(format!("  {}", error.to_string().lines().next().unwrap_or_default()));
                None
            }
        }
    }

    fn error(self) -> BackendError {
        BackendError::None { tried: self.0.join("\n") }
    }
}

/// One line of `bench --list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Or why it does not work here.
    pub(crate) found: Result<Probe, String>,
    #[serde(skip)]
    pub(crate) capabilities: Option<Capabilities>,
}

/// Looks for every backend of the command line.
pub(crate) fn list() -> Vec<Listed> {
    fn look<B: Backend>() -> Listed {
        Listed {
            name: B::NAME.to_owned(),
            found: B::probe().map_err(|error| error.to_string()),
            capabilities: Some(B::CAPABILITIES),
        }
    }
    BackendChoice::value_variants()
        .iter()
        .filter(|choice| **choice != BackendChoice::Auto)
        .map(|choice| match choice {
            #[cfg(feature = "cuda")]
            BackendChoice::Cuda => look::<cuda::Cuda>(),
            #[cfg(feature = "hip")]
            BackendChoice::Hip => look::<hip::Hip<hip::Gpu>>(),
            #[cfg(feature = "hip")]
            BackendChoice::HipCpu => look::<hip::Hip<hip::Cpu>>(),
            #[cfg(feature = "opencl")]
            BackendChoice::Opencl => look::<opencl::OpenCl>(),
            #[cfg(feature = "wgpu")]
            BackendChoice::Vulkan => look::<wgpu::Wgpu<wgpu::Vulkan>>(),
            #[cfg(feature = "wgpu")]
            BackendChoice::Metal => look::<wgpu::Wgpu<wgpu::Metal>>(),
            BackendChoice::Host => look::<host::Host>(),
            // Without a feature; `auto` is no backend.
            absent => Listed { name: name(*absent), found: Err(not_built_in(*absent).to_string()), capabilities: None },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime that is nowhere.
    struct Absent;

    impl Backend for Absent {
        type Buffer = ();
        type Graph = ();
        const NAME: &'static str = "absent";
        const CAPABILITIES: Capabilities = Capabilities::PLAIN;
        fn probe() -> Result<Probe, BackendError> {
            Err(unsupported(Self::NAME, "anything"))
        }
        fn open(_: &Setup) -> Result<Self, BackendError> {
            Err(BackendError::Unavailable { backend: "absent", reason: "no libabsent".into(), hint: "install it" })
        }
        fn describe(&self) -> Description {
            unreachable!("it never opens")
        }
        fn allocate(&mut self, _: Memory, _: usize) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        fn free(&mut self, (): ()) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        fn clear(&mut self, (): &mut ()) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        fn launch(&mut self, _: usize, (): &(), _: Kernel) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        fn wait(&mut self) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        unsafe fn copy_in(&mut self, _: usize, _: &[u32], (): &()) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
        unsafe fn copy_out(&mut self, _: usize, (): &(), _: &mut [u32]) -> Result<(), BackendError> {
            unreachable!("it never opens")
        }
    }

    fn plan() -> Plan {
        Plan::new(Model::Kernel, 4096, 1, 0)
    }

    #[test]
    fn without_a_runtime_the_error_names_a_package() {
        let mut tried = Tried::default();
        assert!(tried.open::<Absent>(&plan()).is_none());
        let error = tried.error().to_string();
        assert!(
            error.contains("absent: no libabsent")
                && error.contains("pocl-opencl-icd")
                && !error.contains("install it"),
            "{error}"
        );
    }

    #[test]
    fn what_a_backend_cannot_do_is_said_before_it_is_opened() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            Absent::CAPABILITIES.refuse("absent", &plan).unwrap_err().to_string()
        };
        let wait = refused(|plan| plan.setup.wait = Wait::Spin);
        assert_eq!(wait, "absent cannot do `--wait spin`\nhint: it waits as: default");
        let memory = refused(|plan| plan.memory = Memory::AsyncPool);
        assert_eq!(memory, "absent cannot do `--memory async-pool`\nhint: its kinds of memory: device");
        assert!(refused(|plan| plan.graph = true).contains("`--graph`"));
        assert!(refused(|plan| plan.setup.streams = 2).contains("`--streams`"));
        assert!(refused(|plan| plan.duration_us = 1).contains("`--duration-us`"));
        assert!(
            refused(|plan| {
                plan.model = Model::Copy;
                plan.memory = Memory::Pinned;
            })
            .contains("`copy --memory pinned`")
        );
        assert!(Absent::CAPABILITIES.refuse("absent", &plan()).is_ok());
    }
}
