//! The BPF side as user space sees it: the object, loading and attaching it, its maps.

mod call_tracepoints;
pub mod error;
pub mod kernel_btf;
mod kernel_objects;
mod load;
pub mod object;
mod snapshot;
pub mod syscall;

pub use call_tracepoints::has_call_tracepoints;
pub use load::{AttachError, Floor, Settings, Tracer};
pub use snapshot::Counters;
