//! The empty pair: what the kernel takes for calling a program at entry and exit. Loaded by the
//! benchmarks only, as the floor that everything else is compared with.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn floor_enter(_ctx: RawTracePointContext) -> i32 {
    0
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn floor_exit(_ctx: RawTracePointContext) -> i32 {
    0
}
