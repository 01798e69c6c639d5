//! Which backend: the one that is named, or the first that works; and the list of all.

use clap::ValueEnum as _;
use gpuos_model::bench::Chosen;
use serde::Serialize;

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "hip")]
use super::hip;
#[cfg(feature = "opencl")]
use super::opencl;
#[cfg(feature = "wgpu")]
use super::wgpu;
use super::{Backend, BackendError, Capabilities, Description, Probe, capabilities::name, host};
use crate::{cli::BackendChoice, workload::Workload};

/// What is done with a backend once it is known which.
pub(crate) trait WithBackend {
    type Result;
    fn run<B: Backend>(self, backend: B) -> Self::Result;
}

/// Opens the chosen backend, or the first that works, for the workload.
pub(crate) fn with<V: WithBackend>(
    choice: BackendChoice,
    workload: &Workload,
    then: V,
) -> Result<V::Result, BackendError> {
    match choice {
        BackendChoice::Auto => first_that_works(workload, then),
        #[cfg(feature = "cuda")]
        BackendChoice::Cuda => Ok(then.run(open::<cuda::Cuda>(workload)?)),
        #[cfg(feature = "hip")]
        BackendChoice::Hip => Ok(then.run(open::<hip::Hip<hip::Gpu>>(workload)?)),
        #[cfg(feature = "hip")]
        BackendChoice::HipCpu => Ok(then.run(open::<hip::Hip<hip::Cpu>>(workload)?)),
        #[cfg(feature = "opencl")]
        BackendChoice::Opencl => Ok(then.run(open::<opencl::OpenCl>(workload)?)),
        #[cfg(feature = "wgpu")]
        BackendChoice::Vulkan => Ok(then.run(open::<wgpu::Wgpu<wgpu::Vulkan>>(workload)?)),
        #[cfg(feature = "wgpu")]
        BackendChoice::Metal => Ok(then.run(open::<wgpu::Wgpu<wgpu::Metal>>(workload)?)),
        BackendChoice::Host => Ok(then.run(open::<host::Host>(workload)?)),
        #[cfg(not(all(feature = "cuda", feature = "hip", feature = "opencl", feature = "wgpu")))]
        absent => Err(not_built_in(absent)),
    }
}

fn not_built_in(choice: BackendChoice) -> BackendError {
    BackendError::NotBuiltIn { backend: name(choice) }
}

fn open<B: Backend>(workload: &Workload) -> Result<B, BackendError> {
    B::CAPABILITIES.refuse(B::NAME, workload)?;
    B::open(&workload.setup)
}

/// Tries the backends of GPUs in the order of the command line's help.
fn first_that_works<V: WithBackend>(workload: &Workload, then: V) -> Result<V::Result, BackendError> {
    let mut tried = Tried::default();
    #[cfg(feature = "cuda")]
    if let Some(backend) = tried.open::<cuda::Cuda>(workload) {
        return Ok(then.run(backend));
    }
    #[cfg(feature = "hip")]
    if let Some(backend) = tried.open::<hip::Hip<hip::Gpu>>(workload) {
        return Ok(then.run(backend));
    }
    #[cfg(feature = "opencl")]
    if let Some(backend) = tried.open::<opencl::OpenCl>(workload) {
        return Ok(then.run(backend));
    }
    Err(tried.error())
}

/// What was tried in vain, and what the last of it advises: where the OpenCL runtime is there and cannot do it, its
/// installation is no advice.
#[derive(Default)]
struct Tried {
    lines: Vec<String>,
    hint: String,
}

impl Tried {
    fn open<B: Backend>(&mut self, workload: &Workload) -> Option<B> {
        match open::<B>(workload) {
            Ok(backend) => {
                let Description { name, runtime, device } = backend.describe();
                let (runtime, device) = (&runtime, &device);
                eprintln!("{}", Chosen { backend: name, runtime, device });
                Some(backend)
            }
            Err(error) => {
                let text = error.to_string();
                let (reason, hint) = text.split_once('\n').unwrap_or((&text, ""));
                self.lines.push(format!("  {reason}"));
                self.hint = hint.to_owned();
                None
            }
        }
    }

    fn error(self) -> BackendError {
        BackendError::None { tried: self.lines.join("\n"), hint: self.hint }
    }
}

/// One line of `bench --list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Or why it does not work here.
    pub(crate) found: Result<Probe, String>,
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
    use crate::workload::Model;

    #[test]
    fn without_a_runtime_the_error_has_every_reason_and_the_last_hint() {
        let mut workload = Workload::new(Model::Kernel, 4096, 1, 0);
        workload.setup.device = 9;
        let mut tried = Tried::default();
        assert!(tried.open::<host::Host>(&workload).is_none());
        let error = tried.error().to_string();
        assert!(
            error.ends_with("\n  host: no device 9; it has 1\nhint: `bench --list` numbers the devices"),
            "{error}"
        );
    }
}
