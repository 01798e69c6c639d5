//! Programs on the entry and the exit of system calls.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gpuos_tracer_abi::tasks::{SLOT_NONE, SLOT_SKIPPED, STAGE_ARMED, STAGE_RUNNING};

use crate::{
    count::{
        calls::{clock_at_exit, count_entry, enter, exit, exit_without_entry, finish},
        stacks, tasks,
    },
    ground::{
        context::argument,
        fd_table,
        kernel::{self, call_number},
        state,
    },
};

/// Arguments: registers, number.
#[btf_tracepoint(function = "sys_enter")]
pub(crate) fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = state::state_of(task) {
        enter(task, thread, argument(&ctx, 1) as u32);
    }
    0
}

/// Arguments: registers, return value.
#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = state::state_of(task) {
        // First of all, so that our own work is not in the time of the call.
        let now = clock_at_exit(thread);
        // SAFETY: the first argument; read as a pointer, so that the verifier keeps its type.
        let registers = unsafe { *ctx.as_ptr().cast::<*const c_void>() };
        let returned = argument(&ctx, 1) as i64;
        if stacks::is_on() {
            stacks::count(&ctx, thread, kernel::number_of(registers));
        }
        if exit(thread, returned, now).is_some() {
            exit_without_entry(kernel::number_of(registers), returned);
        }
    }
    0
}

/// In place of both when calls are counted and not timed: half of the price is being called at all.
/// Arguments: registers, return value.
#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn count_exit(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current_task();
    let Some(thread) = state::state_of(task) else { return 0 };
    if thread.stage != STAGE_RUNNING {
        // The command begins at its exec, a child after the return from its parent's fork.
        if thread.stage != STAGE_ARMED {
            tasks::adopt(thread, false);
        }
        return 0;
    }
    // SAFETY: the first argument; read as a pointer, so that the verifier keeps its type.
    let registers = unsafe { *ctx.as_ptr().cast::<*const c_void>() };
    // `rt_sigreturn` takes the number of the interrupted code back, or leaves none.
    let number = match kernel::number_of(registers) {
        u32::MAX => call_number::rt_sigreturn(),
        number => number,
    };
    let slot = count_entry(task, thread, number);
    finish(thread, slot, 0, false, argument(&ctx, 1) as i64);
    // An end that seccomp refused, perhaps by killing: it is counted now, and not again at the task's end.
    thread.slot =
        if number == call_number::exit() || number == call_number::exit_group() { SLOT_SKIPPED } else { SLOT_NONE };
    0
}

/// Context of the tracepoints of single calls (`struct syscall_trace_enter` and `_exit` in the kernel's
/// `trace/syscall.h`): registers, number, then the arguments or the return value.
const CALL_NUMBER: usize = 8;
const CALL_RETURNED: usize = 16;

/// Attached to each wanted call when they are few, so that all others cost less.
#[tracepoint]
pub(crate) fn call_enter(ctx: TracePointContext) -> u32 {
    let task = kernel::current_task();
    if let Some(thread) = state::state_of(task) {
        // SAFETY: inside the context.
        let number = unsafe { *ctx.as_ptr().cast::<u8>().add(CALL_NUMBER).cast::<u32>() };
        if !kernel::has_btf() {
            fd_table::call_entered(&ctx, thread, number);
        }
        enter(task, thread, number);
        if !kernel::has_btf() && number == call_number::close() {
            fd_table::closing(thread);
        }
    }
    0
}

/// Likewise for its return.
#[tracepoint]
pub(crate) fn call_exit(ctx: TracePointContext) -> u32 {
    let task = kernel::current_task();
    if let Some(thread) = state::state_of(task) {
        let now = clock_at_exit(thread);
        // SAFETY: inside the context.
        let (number, returned) = unsafe {
            let start = ctx.as_ptr().cast::<u8>();
            (*start.add(CALL_NUMBER).cast::<u32>(), *start.add(CALL_RETURNED).cast::<i64>())
        };
        // Not that of a call whose entry was not seen.
        if !kernel::has_btf() && thread.slot != SLOT_NONE && thread.stage == STAGE_RUNNING {
            fd_table::call_returned(number, returned);
        }
        if stacks::is_on() {
            stacks::count(&ctx, thread, number);
        }
        if exit(thread, returned, now).is_some() {
            exit_without_entry(number, returned);
        }
    }
    0
}
