//! Who is traced: children inherit it at fork, processes get a record, exiting threads settle up.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_NOEXIST, task_struct},
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_task_storage_get},
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use gpuos_tracer_abi::{
    losses::{CHILDREN_NOT_FOLLOWED, PROCESSES_WITHOUT_RECORD, THREADS_ALIVE},
    tasks::{ProcessRecord, SLOT_NONE, STAGE_ARMED, STAGE_BORN, STAGE_RUNNING, ThreadState, process_id},
};

use crate::{
    atomic, kernel, losses,
    maps::{PROCESSES, THREADS},
    rows,
};

#[inline(always)]
fn storage(task: *mut task_struct, flags: u64) -> Option<&'static mut ThreadState> {
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

/// The state of a traced task, `None` for everybody else.
#[inline(always)]
pub(crate) fn state_of(task: *mut task_struct) -> Option<&'static mut ThreadState> {
    storage(task, 0)
}

/// BTF tracepoint arguments: parent (always the current task), child. The child has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn task_fork(ctx: BtfTracePointContext) -> i32 {
    let Some(parent) = state_of(kernel::current_task()) else { return 0 };
    if parent.stage == STAGE_ARMED {
        return 0;
    }
    // SAFETY: the second argument of this tracepoint is the child's task.
    let child = unsafe { *ctx.as_ptr().cast::<*mut task_struct>().add(1) };
    match storage(child, BPF_LOCAL_STORAGE_GET_F_CREATE.into()) {
        Some(child) => {
            child.process = parent.process;
            child.phase = parent.phase;
            child.slot = SLOT_NONE;
            child.stage = STAGE_BORN;
            losses::add(THREADS_ALIVE, 1);
        }
        None => losses::add(CHILDREN_NOT_FOLLOWED, 1),
    }
    0
}

/// The launched command enters its first `execve`.
#[inline(always)]
pub(crate) fn start_command(thread: &mut ThreadState) {
    losses::add(THREADS_ALIVE, 1);
    start_process(thread, 0);
}

/// The first event of a forked task: it is a process of its own, or one more thread of its parent's.
#[inline(never)]
pub(crate) fn adopt(thread: &mut ThreadState) -> u32 {
    let ids = bpf_get_current_pid_tgid();
    if ids as u32 == (ids >> 32) as u32 {
        let parent = thread.process;
        start_process(thread, parent);
    } else {
        thread.stage = STAGE_RUNNING;
        if let Some(process) = record(thread.process) {
            atomic::add32(&mut process.threads_alive, 1);
            atomic::add32(&mut process.threads, 1);
        }
    }
    0
}

#[inline(always)]
fn start_process(thread: &mut ThreadState, parent: u64) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the helper has no arguments.
    let started_ns = unsafe { bpf_ktime_get_ns() };
    let id = process_id(pid, started_ns);
    let process = ProcessRecord {
        parent,
        started_ns,
        pid,
        threads_alive: 1,
        threads: 1,
        comm: bpf_get_current_comm().unwrap_or_default(),
        ended_ns: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        minor_faults: 0,
        major_faults: 0,
        user_ns: 0,
        system_ns: 0,
        run_ns: 0,
        exit_code: 0,
    };
    if PROCESSES.insert(&id, &process, BPF_NOEXIST.into()).is_err() {
        losses::add(PROCESSES_WITHOUT_RECORD, 1);
    }
    thread.process = id;
    thread.stage = STAGE_RUNNING;
}

/// Current task: the thread that has just executed a program; it is the only one of its process now.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn task_exec(_ctx: RawTracePointContext) -> i32 {
    if let Some(thread) = state_of(kernel::current_task())
        && let Some(process) = record(thread.process)
    {
        process.comm = bpf_get_current_comm().unwrap_or_default();
    }
    0
}

/// Current task: the thread that exits, after its memory is gone and before it is a zombie.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn task_exit(_ctx: RawTracePointContext) -> i32 {
    let task = kernel::current_task();
    let Some(thread) = state_of(task) else { return 0 };
    if thread.stage == STAGE_ARMED {
        return 0;
    }
    if thread.stage == STAGE_BORN {
        adopt(thread);
    }
    rows::release(thread);
    settle(task, thread);
    losses::add(THREADS_ALIVE, u64::MAX);
    0
}

/// Adds what the thread used to the record of its process.
#[inline(always)]
fn settle(task: *mut task_struct, thread: &mut ThreadState) {
    let Some(process) = record(thread.process) else { return };
    for (sum, offset) in [
        (&mut process.voluntary_switches, kernel::voluntary_switches()),
        (&mut process.involuntary_switches, kernel::involuntary_switches()),
        (&mut process.minor_faults, kernel::minor_faults()),
        (&mut process.major_faults, kernel::major_faults()),
        (&mut process.user_ns, kernel::user_time()),
        (&mut process.system_ns, kernel::system_time()),
        (&mut process.run_ns, kernel::run_time()),
    ] {
        atomic::add(sum, kernel::task_value(task, offset));
    }
    let ids = bpf_get_current_pid_tgid();
    if ids as u32 == (ids >> 32) as u32 {
        process.comm = bpf_get_current_comm().unwrap_or_default();
        process.exit_code = kernel::task_word(task, kernel::exit_code());
    }
    atomic::add32(&mut process.threads_alive, u32::MAX);
    // SAFETY: the helper has no arguments.
    process.ended_ns = unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
fn record(process: u64) -> Option<&'static mut ProcessRecord> {
    // SAFETY: the map returned it; it stays valid until the program ends.
    PROCESSES.get_ptr_mut(&process).map(|record| unsafe { &mut *record })
}
