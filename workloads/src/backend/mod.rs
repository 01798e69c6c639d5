//! Execution stacks behind one trait. Each loads its runtime when it is opened, never before.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "opencl")]
mod opencl;

use serde::Serialize;

use crate::cli::BackendChoice;

/// A runtime that allocates memory and launches kernels.
pub(crate) trait Backend {
    /// What this is, for people and reports.
    fn describe(&self) -> Description;
    /// Allocates `bytes` of device memory and frees it.
    fn allocate_and_free(&mut self, bytes: usize) -> Result<(), BackendError>;
    /// Makes the array of the increments, all words 0, in place of an earlier one.
    fn create_array(&mut self, bytes: usize) -> Result<(), BackendError>;
    /// Launches the kernel that adds 1 to every word, and waits for it.
    fn increment(&mut self) -> Result<(), BackendError>;
    /// Copies the array to the host; `into` has its length.
    fn read_array(&mut self, into: &mut [u32]) -> Result<(), BackendError>;
}

/// What a backend is made of.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    pub(crate) runtime: String,
    pub(crate) device: String,
}

/// Why a backend cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// Its runtime or its device is not there.
    #[error("{backend}: {reason}\nhint: {hint}")]
    Unavailable { backend: &'static str, reason: String, hint: &'static str },
    /// None is there.
    #[error(
        "no GPU runtime works here:\n{tried}\nhint: `sudo apt-get install pocl-opencl-icd` installs an OpenCL runtime that executes on the CPU"
    )]
    None { tried: String },
    /// A call failed.
    #[error("{backend}: {call} failed: {reason}{hint}", hint = if reason.contains("MEMORY") || reason.contains("BUFFER_SIZE") || reason.contains("ALLOCATION") { "\nhint: choose another `--bytes`" } else { "" })]
    Call { backend: &'static str, call: &'static str, reason: String },
}

type Opener = fn() -> Result<Box<dyn Backend>, BackendError>;

/// Every backend that was built in, in the order in which `auto` tries them.
const BACKENDS: &[(BackendChoice, Opener)] = &[
    #[cfg(feature = "cuda")]
    (BackendChoice::Cuda, || Ok(Box::new(cuda::Cuda::open()?))),
    #[cfg(feature = "opencl")]
    (BackendChoice::Opencl, || Ok(Box::new(opencl::OpenCl::open()?))),
];

/// Opens the chosen backend, or the first that works.
pub(crate) fn open(choice: BackendChoice) -> Result<Box<dyn Backend>, BackendError> {
    if choice == BackendChoice::Auto {
        return first_that_works(BACKENDS);
    }
    match BACKENDS.iter().find(|(name, _)| *name == choice) {
        Some((_, open)) => open(),
        None => Err(BackendError::Unavailable {
            backend: "bench",
            reason: format!("built without the backend {choice:?}"),
            hint: "build it with `cargo build --package gpuos-workloads`, which has every backend",
        }),
    }
}

fn first_that_works(backends: &[(BackendChoice, Opener)]) -> Result<Box<dyn Backend>, BackendError> {
    let mut tried = Vec::new();
    for (_, open) in backends {
        match open() {
            Ok(backend) => {
                let Description { name, runtime, device } = backend.describe();
                eprintln!("bench: using {name}: {runtime}, {device}");
                return Ok(backend);
            }
            Err(error) => tried.push(format!("  {}", error.to_string().lines().next().unwrap_or_default())),
        }
    }
    Err(BackendError::None { tried: tried.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_runtime_the_error_names_a_package() {
        let absent: Opener =
            || Err(BackendError::Unavailable { backend: "cuda", reason: "no libcuda".into(), hint: "install it" });
        let error = first_that_works(&[(BackendChoice::Cuda, absent)]).err().unwrap().to_string();
        assert!(
            error.contains("cuda: no libcuda") && error.contains("pocl-opencl-icd") && !error.contains("install it"),
            "{error}"
        );
    }
}
