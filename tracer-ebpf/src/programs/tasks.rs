//! Programs on `fork`, `exec`, the exit and the end of tasks.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_LOCAL_STORAGE_GET_F_CREATE},
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gpuos_tracer_abi::{
    counters::CHILDREN_NOT_FOLLOWED,
    tasks::{STAGE_ARMED, STAGE_RUNNING, ThreadState},
};

use crate::{
    count::{calls, tasks},
    ground::{
        context::{argument, point_field, task_argument},
        counters, kernel,
        maps::THREADS_BY_TID,
        state::{state_by_tid, state_of, storage},
    },
};

/// Arguments: parent (always the current task), child. The child has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn task_fork(ctx: BtfTracePointContext) -> i32 {
    let Some(parent) = state_of(kernel::current_task()) else { return 0 };
    if parent.stage == STAGE_ARMED {
        return 0;
    }
    tasks::inherit(parent, storage(task_argument(&ctx, 1), BPF_LOCAL_STORAGE_GET_F_CREATE.into()));
    0
}

/// `task_fork` where threads are known by their number.
#[tracepoint]
pub(crate) fn point_fork(ctx: TracePointContext) -> u32 {
    let Some(parent) = state_of(kernel::current_task()) else { return 0 };
    if parent.stage == STAGE_ARMED {
        return 0;
    }
    let child = point_field(&ctx, kernel::point::fork_child());
    // The number may be left from a thread whose exit was missed.
    let made = THREADS_BY_TID.insert(&child, &ThreadState::ARMED, BPF_ANY.into()).is_ok();
    tasks::inherit(parent, if made { state_by_tid(child) } else { None });
    0
}

/// `task_exec` where threads are known by their number: a thread that executes takes the number of its process.
#[tracepoint]
pub(crate) fn point_exec(ctx: TracePointContext) -> u32 {
    let before = point_field(&ctx, kernel::point::exec_before());
    let now = bpf_get_current_pid_tgid() as u32;
    if before != now
        && let Some(state) = state_by_tid(before)
    {
        let moved = THREADS_BY_TID.insert(&now, state, BPF_ANY.into()).is_ok();
        let _ = THREADS_BY_TID.remove(&before);
        if !moved {
            counters::add(CHILDREN_NOT_FOLLOWED, 1);
        }
    }
    tasks::executed(before);
    0
}

/// Arguments: the thread that has just executed a program (the current task, the only one of its process now), and the
/// number that it had before.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn task_exec(ctx: BtfTracePointContext) -> i32 {
    tasks::executed(argument(&ctx, 1) as u32)
}

/// Current task: the thread that exits. It makes no system call any more, but still runs to tear
/// itself down (since Linux 6.16 its memory, too, is freed after this).
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn task_exit(_ctx: BtfTracePointContext) -> i32 {
    exited()
}

/// `task_exit` where threads are known by their number, which another one may get soon.
#[tracepoint]
pub(crate) fn point_exit(_ctx: TracePointContext) -> u32 {
    exited();
    let _ = THREADS_BY_TID.remove(&(bpf_get_current_pid_tgid() as u32));
    0
}

/// Argument: a task that the kernel frees. What it used after its exit, and what the scheduler had
/// not yet booked then (up to a tick), is added now.
#[btf_tracepoint(function = "sched_process_free")]
pub(crate) fn task_free(ctx: BtfTracePointContext) -> i32 {
    let task = task_argument(&ctx, 0);
    let Some(thread) = storage(task, 0) else { return 0 };
    tasks::freed(task, thread);
    0
}

#[inline(always)]
fn exited() -> i32 {
    let task = kernel::current_task();
    let Some(thread) = state_of(task) else { return 0 };
    if thread.stage == STAGE_ARMED {
        return 0;
    }
    if thread.stage != STAGE_RUNNING {
        if tasks::adopt(thread, false) != 0 {
            return 0;
        }
    }
    calls::count_last(task, thread);
    tasks::end(task, thread);
    0
}
