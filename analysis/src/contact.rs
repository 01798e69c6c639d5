//! The knowledge base of where a stack touches the kernel and the hardware. The hardware's side is from sources and
//! documentation: a tracer of system calls does not see it.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What one operation of a stack touches.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Contact {
    /// Of the runtime, and above whose driver.
    pub stack: String,
    /// What the program asks for.
    pub operation: String,
    /// The library and how it does it.
    pub user_space: String,
    /// What reaches the kernel.
    pub kernel_entry: String,
    /// What the hardware does then.
    pub hardware: String,
    /// Whether committed data show what reaches the kernel: a file, or `source`.
    pub observed: String,
    /// Where it is written.
    pub source: String,
}

/// All of them, by stack.
///
/// # Panics
/// The table that is built in is none, which a test excludes.
pub fn all() -> &'static [Contact] {
    static ALL: LazyLock<Vec<Contact>> = LazyLock::new(|| {
        csv::Reader::from_reader(include_bytes!("../data/contact.csv").as_slice())
            .deserialize()
            .collect::<Result<_, _>>()
            .expect("the table is tested")
    });
    &ALL
}

/// Those of a backend of `bench` on a device.
pub fn of(backend: &str, device: &str) -> Vec<&'static Contact> {
    let is_nvidia = device.contains("NVIDIA");
    let stack = match backend {
        "cuda" => "CUDA",
        "hip" => "HIP",
        "hip-cpu" => "HIP-CPU",
        "opencl" if is_nvidia => "OpenCL-on-NVIDIA",
        "vulkan" if is_nvidia => "Vulkan-on-NVIDIA",
        _ => return Vec::new(),
    };
    all().iter().filter(|contact| contact.stack == stack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contact_has_a_source() {
        assert!(all().iter().all(|contact| !contact.source.is_empty() && !contact.hardware.is_empty()));
        assert!(of("cuda", "NVIDIA H200").iter().any(|contact| contact.hardware.contains("doorbell")));
        assert!(of("opencl", "pthread-skylake").is_empty() && !of("opencl", "NVIDIA H200").is_empty());
    }
}
