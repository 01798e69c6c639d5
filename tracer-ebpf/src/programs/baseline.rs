//! What the kernel's own primitives cost, pair by pair: being called, the clock, task storage. Loaded by
//! the benchmarks only, as the baseline of any tracer that times calls of chosen threads.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};

use crate::ground::{kernel, state};

#[inline(always)]
fn clock() {
    // SAFETY: the helper has no arguments.
    core::hint::black_box(unsafe { bpf_ktime_get_ns() });
}

#[inline(always)]
fn storage() {
    if let Some(thread) = state::state_of(kernel::current_task()) {
        core::hint::black_box(thread.stage);
    }
}

macro_rules! pair {
    ($enter:ident, $exit:ident, $work:expr) => {
        #[raw_tracepoint(tracepoint = "sys_enter")]
        pub(crate) fn $enter(_ctx: RawTracePointContext) -> i32 {
            $work;
            0
        }
        #[raw_tracepoint(tracepoint = "sys_exit")]
        pub(crate) fn $exit(_ctx: RawTracePointContext) -> i32 {
            $work;
            0
        }
    };
}

pair!(empty_enter, empty_exit, ());
pair!(clock_enter, clock_exit, clock());
pair!(storage_enter, storage_exit, {
    clock();
    storage();
});
