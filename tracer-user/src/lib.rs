//! gpuos-trace: shows what a GPU program asks of the operating system.
//!
//! The rooms of this crate are described in `docs/architecture.md`.

pub mod bpf;
pub mod cli;
pub mod cmd;
pub mod collect;
pub mod export;
pub mod launch;
pub mod live;
pub mod model;
pub mod names;
pub mod options;
pub mod proc_text;
pub mod ranges;
pub mod record;
pub mod signals;
pub mod sink;
pub mod stacks;
pub mod sweep;
pub mod talk;
