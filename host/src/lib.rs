//! What gpuos-trace reads from the machine and writes to files and terminals: nothing here knows of BPF, of runs or of
//! recordings.

pub mod diagnostics;
pub mod environment;
pub mod fds;
pub mod files;
mod panics;
pub mod proc_text;
pub mod processes;
pub mod screen;

pub use panics::without_panic;
