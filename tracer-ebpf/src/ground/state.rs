//! What is known of the current thread and of processes: the look-ups that every program begins with.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_task_storage_delete, bpf_task_storage_get},
    },
};
use gpuos_tracer_abi::tasks::{ProcessRecord, ThreadState};

use super::kernel::current_task;
use super::maps::{PROCESSES, TASKS_BY_TID, THREADS, THREADS_BY_TID};

/// The state in a task's storage; with `BPF_LOCAL_STORAGE_GET_F_CREATE` a new one where it has none.
#[inline(always)]
pub(crate) fn storage(task: *mut task_struct, flags: u64) -> Option<&'static mut ThreadState> {
    // SAFETY: the verifier knows both pointers; the value lives as long as the task.
    unsafe {
        bpf_task_storage_get(
            (&raw const THREADS).cast_mut().cast::<c_void>(),
            task.cast(),
            core::ptr::null_mut(),
            flags,
        )
        .cast::<ThreadState>()
        .as_mut()
    }
}

/// The state of the current task when it is traced, `None` for everybody else.
#[inline(always)]
pub(crate) fn state_of(current: *mut task_struct) -> Option<&'static mut ThreadState> {
    if TASKS_BY_TID.load() != 0 { state_by_tid(bpf_get_current_pid_tgid() as u32) } else { storage(current, 0) }
}

#[inline(always)]
pub(crate) fn state_by_tid(thread: u32) -> Option<&'static mut ThreadState> {
    // SAFETY: the map returned it; it lives until the thread's exit, as long as the thread can ask for it.
    THREADS_BY_TID.get_ptr_mut(&thread).map(|state| unsafe { &mut *state })
}

/// The current task is not traced any more.
#[inline(always)]
pub(crate) fn forget() {
    if TASKS_BY_TID.load() != 0 {
        let _ = THREADS_BY_TID.remove(&(bpf_get_current_pid_tgid() as u32));
    } else {
        // SAFETY: the verifier knows both pointers.
        unsafe {
            bpf_task_storage_delete((&raw const THREADS).cast_mut().cast::<c_void>(), current_task());
        }
    }
}

/// The record of a process.
#[inline(always)]
pub(crate) fn record(process: u64) -> Option<&'static mut ProcessRecord> {
    // SAFETY: the map returned it; it stays valid until the program ends.
    PROCESSES.get_ptr_mut(&process).map(|record| unsafe { &mut *record })
}
