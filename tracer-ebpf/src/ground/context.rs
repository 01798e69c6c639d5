//! What a program is called with: the arguments of BTF tracepoints, the records of perf's.

use aya_ebpf::{
    EbpfContext as _,
    bindings::task_struct,
    helpers::generated::bpf_probe_read_kernel,
    programs::{BtfTracePointContext, TracePointContext},
};

/// An argument of a tracepoint that is a task.
#[inline(always)]
pub(crate) fn task_argument(ctx: &BtfTracePointContext, index: usize) -> *mut task_struct {
    // SAFETY: callers name an argument that is a task; read as a pointer, so that the verifier keeps its type.
    unsafe { *ctx.as_ptr().cast::<*mut task_struct>().add(index) }
}

/// A field of a tracepoint's record, at an offset that differs between kernels.
#[inline(always)]
pub(crate) fn point_field<T: Copy + Default>(ctx: &TracePointContext, offset: usize) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes as much as the value holds; the offset is that of a field of the record.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            ctx.as_ptr().cast::<u8>().add(offset).cast(),
        )
    };
    value
}

/// An argument that is a number.
#[inline(always)]
pub(crate) fn argument(ctx: &BtfTracePointContext, index: usize) -> u64 {
    // SAFETY: the context is an array of arguments; the verifier checks the index.
    unsafe { *ctx.as_ptr().cast::<u64>().add(index) }
}
