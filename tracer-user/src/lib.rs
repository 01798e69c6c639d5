//! gpuos-trace: shows what a GPU program asks of the operating system.
//!
//! The rooms of this crate are described in `docs/architecture.md`.

pub mod bpf;
pub mod launch;
pub mod model;
pub mod names;
pub mod signals;
