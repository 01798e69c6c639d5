//! Entry and return of functions of GPU libraries: calls made in one are counted in a phase of its name, of the thread.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_attach_cookie,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use gpuos_tracer_abi::tasks::STAGE_RUNNING;

use crate::{
    count::phases,
    ground::{kernel, state},
};

/// The cookie is the index of the function.
#[uprobe]
pub(crate) fn api_enter(ctx: ProbeContext) -> u32 {
    // SAFETY: the context is that of this program.
    let function = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32;
    phases::begin_function(function)
}

#[uretprobe]
pub(crate) fn api_exit(_ctx: RetProbeContext) -> u32 {
    if let Some(thread) = state::state_of(kernel::current_task())
        && thread.stage == STAGE_RUNNING
    {
        phases::end_function(thread);
    }
    0
}
