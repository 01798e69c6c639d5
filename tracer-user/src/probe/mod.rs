//! The BPF side as user space sees it: the object, loading and attaching it, its maps.

mod api_probes;
mod attach;
mod attach_point;
mod baseline;
mod bpf_syscall;
mod by_tid;
mod call_tracepoints;
mod driver_hooks;
pub(crate) mod elf;
pub mod error;
mod in_flight;
pub mod job_table;
pub mod kernel_btf;
mod kernel_objects;
mod load;
#[cfg(feature = "bpf-log")]
mod log;
mod map;
mod no_preempt;
pub mod object;
mod offsets;
mod perf_tracepoints;
mod process;
pub mod rights;
mod settings;
mod snapshot;
mod structure_cast;

pub use api_probes::{api_functions, has_uprobes};
pub use attach::{AttachError, Attached, beginning_of};
pub use attach_point::ApiFunction;
pub use baseline::Baseline;
pub use call_tracepoints::has_call_tracepoints;
pub use driver_hooks::{DriverHook, driver_hooks, has_kprobes};
pub use error::is_in_user_namespace;
pub use load::Tracer;
pub use process::ProcessHandle;
pub use settings::{RecordingSettings, Settings, defaults};
pub use snapshot::{Counters, Stacks};
