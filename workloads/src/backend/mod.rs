//! Execution stacks behind one trait. Each loads its runtime when it is opened, never before.

mod capabilities;
mod choose;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "hip")]
mod hip;
#[cfg(feature = "hip")]
mod hip_library;
mod host;
mod jobs;
#[cfg(feature = "opencl")]
mod opencl;
mod pinned;
#[cfg(feature = "wgpu")]
mod wgpu;

use serde::Serialize;

pub(crate) use self::{
    capabilities::{Capabilities, names},
    choose::{Listed, WithBackend, list, with},
    jobs::{Jobs, Underneath},
    pinned::Pinned,
};
use crate::workload::{Memory, Setup};

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

    /// Whether memory of the device is the host's, and there as soon as it is touched.
    fn is_in_host_memory(&self) -> bool {
        false
    }
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
    /// The same runtime and its streams, for jobs.
    fn underneath(&self) -> Result<Underneath, BackendError> {
        Err(unsupported(Self::NAME, "jobs (`--via`)"))
    }
    /// A buffer of memory that a job has.
    fn borrow(&self, _address: u64, _bytes: usize) -> Result<Self::Buffer, BackendError> {
        Err(unsupported(Self::NAME, "memory of jobs (`--via arena`)"))
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

/// Why a backend cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// Its runtime or its device is not there.
    #[error("{backend}: {reason}\nhint: {hint}")]
    Unavailable { backend: &'static str, reason: String, hint: &'static str },
    /// None is there.
    #[error("no GPU runtime here can do this:\n{tried}\n{hint}")]
    None { tried: String, hint: String },
    /// Its feature was off.
    #[error(
        "{backend}: this `bench` was built without it\nhint: build it with `cargo build --release --package gpuos-workloads --all-features`"
    )]
    NotBuiltIn { backend: String },
    /// The runtime has no such thing.
    #[error("{backend} cannot do {what}\nhint: {can}")]
    Unsupported { backend: &'static str, what: String, can: String },
    /// A call failed.
    #[error("{backend}: {call} failed: {reason}{hint}", hint = hint_of(call, reason))]
    Call { backend: &'static str, call: &'static str, reason: String },
}

/// What to do about a call that failed: of an allocation, the size is what can be changed.
fn hint_of(call: &str, reason: &str) -> &'static str {
    let said = format!("{call} {reason}").to_ascii_uppercase();
    if ["ALLOC", "MEMORY", "BUFFER_SIZE"].iter().any(|word| said.contains(word)) {
        "\nhint: choose another `--bytes`"
    } else {
        ""
    }
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

/// The first of these libraries that can be loaded and its file, or why none can, in the words of the dynamic linker.
#[cfg(any(feature = "cuda", feature = "hip", feature = "opencl"))]
fn load_first(names: &[String]) -> Result<(libloading::Library, String), String> {
    let mut why = Vec::new();
    for name in names {
        // SAFETY: what the library does when it is loaded is what the user asked for.
        match unsafe { libloading::Library::new(name) } {
            Ok(library) => {
                let file = name.rsplit('/').next().unwrap_or(name);
                return Ok((library, loaded_from(file).unwrap_or_else(|| name.clone())));
            }
            Err(error) => {
                why.push(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string));
            }
        }
    }
    // A library that is there and cannot be loaded says more than those that are not there.
    let there = why.iter().position(|why| !why.contains("No such file"));
    Err(match (there, names) {
        (Some(index), _) => why.swap_remove(index),
        (None, [only]) => format!("no {only} here"),
        (None, [first, .., last]) => format!("no library from {first} to {last} here"),
        (None, []) => "no library is named".to_owned(),
    })
}

/// Why a library cannot be loaded.
#[cfg(any(feature = "cuda", feature = "opencl"))]
fn why_not_loaded(name: &str) -> String {
    load_first(&[name.to_owned()]).err().unwrap_or_else(|| format!("{name} is not what its name says"))
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
