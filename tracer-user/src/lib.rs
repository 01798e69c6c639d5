//! The tracer: loads the BPF programs, launches a command or attaches to processes, counts and records what they ask of the
//! operating system, and shows it.
//!
//! ```text
//! cmd ─► session ─► live ─► aggregate ─► probe
//!           └─► output
//! ```
//!
//! `docs/architecture.md` describes the rooms.

pub mod aggregate;
pub mod cli;
pub mod cmd;
pub mod live;
pub mod output;
pub mod probe;
pub mod ptrace;
pub mod session;
