//! What the workloads, the tracer and the analysis of gpuos-trace agree on: roles and categories of calls, names of
//! phases, what a process used, the machine, the report of `bench`, and how numbers are written for people.
//!
//! Plain values without I/O. Everything here stands in a file or in a report of another program.

pub mod bench;
pub mod category;
pub mod machine;
pub mod phase;
pub mod role;
pub mod units;
pub mod usage;

pub use category::Category;
pub use role::Role;
pub use usage::Usage;
