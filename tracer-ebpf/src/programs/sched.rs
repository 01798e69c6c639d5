//! When threads run and when they wait for memory: switches and page faults, where a recording wants them, and switches of
//! threads that work for jobs.

use aya_ebpf::{
    EbpfContext as _,
    bindings::task_struct,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gpuos_tracer_abi::tasks::STAGE_RUNNING;

use crate::{
    count::{emit, jobs},
    ground::{
        context::{point_field, task_argument},
        kernel,
        state::{self, state_by_tid, storage},
    },
};

/// Arguments: whether it was preempted, the task that stops (the current one), the task that runs next.
#[btf_tracepoint(function = "sched_switch")]
pub(crate) fn task_switch(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a truth value.
    let is_preempted = unsafe { *ctx.as_ptr().cast::<u64>() } & 0xff != 0;
    let stops: *mut task_struct = task_argument(&ctx, 1);
    if let Some(thread) = storage(stops, 0)
        && thread.stage == STAGE_RUNNING
    {
        emit::stops(thread, if is_preempted { 0 } else { kernel::run_state_of(stops) });
    }
    if let Some(thread) = storage(task_argument(&ctx, 2), 0) {
        // SAFETY: the helper has no arguments.
        emit::runs_again(thread, unsafe { bpf_get_smp_processor_id() });
    }
    0
}

/// `task_switch` where threads are known by their number.
#[tracepoint]
pub(crate) fn point_switch(ctx: TracePointContext) -> u32 {
    // TASK_REPORT_MAX, from where on the state says that the task was preempted.
    const PREEMPTED: u64 = 0x100;
    if let Some(thread) = state::state_of(kernel::current_task())
        && thread.stage == STAGE_RUNNING
    {
        let state: u64 = point_field(&ctx, kernel::point::switch_state());
        emit::stops(thread, if state >= PREEMPTED { 0 } else { state as u32 });
    }
    if let Some(thread) = state_by_tid(point_field(&ctx, kernel::point::switch_next())) {
        // SAFETY: the helper has no arguments.
        emit::runs_again(thread, unsafe { bpf_get_smp_processor_id() });
    }
    0
}

/// Arguments as of [`task_switch`].
#[btf_tracepoint(function = "sched_switch")]
pub(crate) fn job_switch(ctx: BtfTracePointContext) -> i32 {
    if let Some(thread) = state::state_of(kernel::current_task())
        && thread.stage == STAGE_RUNNING
    {
        jobs::stops(thread);
    }
    let runs: *mut task_struct = task_argument(&ctx, 2);
    if let Some(thread) = storage(runs, 0)
        && thread.stage == STAGE_RUNNING
    {
        jobs::runs_again(thread, runs);
    }
    0
}

/// First argument: the task whose time on a CPU was booked, at each tick and before each switch. A thread that computes without a
/// call is looked at so often.
#[btf_tracepoint(function = "sched_stat_runtime")]
pub(crate) fn job_tick(ctx: BtfTracePointContext) -> i32 {
    let current = kernel::current_task();
    if task_argument(&ctx, 0) == current
        && let Some(thread) = state::state_of(current)
        && thread.stage == STAGE_RUNNING
    {
        jobs::runs_on(thread);
    }
    0
}

/// Arguments: address, registers, error code.
#[btf_tracepoint(function = "page_fault_user")]
pub(crate) fn task_fault(ctx: BtfTracePointContext) -> i32 {
    if let Some(thread) = state::state_of(kernel::current_task())
        && thread.stage == STAGE_RUNNING
    {
        // SAFETY: the first and the third argument are numbers.
        let (address, code) = unsafe { (*ctx.as_ptr().cast::<u64>(), *ctx.as_ptr().cast::<u64>().add(2)) };
        emit::fault(thread, address, code);
    }
    0
}

/// `task_fault` where threads are known by their number.
#[tracepoint]
pub(crate) fn point_fault(ctx: TracePointContext) -> u32 {
    if let Some(thread) = state::state_of(kernel::current_task())
        && thread.stage == STAGE_RUNNING
    {
        emit::fault(
            thread,
            point_field(&ctx, kernel::point::fault_address()),
            point_field(&ctx, kernel::point::fault_code()),
        );
    }
    0
}
