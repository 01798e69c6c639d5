//! Who is traced: children inherit it at fork, processes get a record, exiting threads settle up.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_NOEXIST, task_struct},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_probe_read_kernel, bpf_task_storage_get},
    },
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gpuos_tracer_abi::{
    events::{END, EXEC, PROCESS, THREAD},
    losses::{CHILDREN_NOT_FOLLOWED, PROCESSES_WITHOUT_RECORD, THREADS_ALIVE, THREADS_ENDED},
    tasks::{
        EXIT_UNKNOWN, ProcessRecord, SLOT_NONE, STAGE_ARMED, STAGE_BORN, STAGE_ENDED, STAGE_RUNNING, ThreadState,
        Usage, process_id,
    },
};

use crate::{
    atomic, emit, followed, inferred, ioctl, kernel,
    log::say,
    losses,
    maps::{PROCESSES, TASKS_BY_ID, THREADS, THREADS_BY_ID},
    phases, rows, syscalls,
};

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
    if TASKS_BY_ID.load() != 0 { state_by_id(bpf_get_current_pid_tgid() as u32) } else { storage(current, 0) }
}

#[inline(always)]
pub(crate) fn state_by_id(thread: u32) -> Option<&'static mut ThreadState> {
    // SAFETY: the map returned it; it lives until the thread's exit, as long as the thread can ask for it.
    THREADS_BY_ID.get_ptr_mut(&thread).map(|state| unsafe { &mut *state })
}

/// An argument of a tracepoint that is a task.
#[inline(always)]
pub(crate) fn task_argument(ctx: &BtfTracePointContext, index: usize) -> *mut task_struct {
    // SAFETY: callers name an argument that is a task; read as a pointer, so that the verifier keeps its type.
    unsafe { *ctx.as_ptr().cast::<*mut task_struct>().add(index) }
}

/// Arguments: parent (always the current task), child. The child has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn task_fork(ctx: BtfTracePointContext) -> i32 {
    let Some(parent) = state_of(kernel::current_task()) else { return 0 };
    if parent.stage == STAGE_ARMED {
        return 0;
    }
    inherit(parent, storage(task_argument(&ctx, 1), BPF_LOCAL_STORAGE_GET_F_CREATE.into()));
    0
}

/// A new task begins with what its parent hands down.
#[inline(always)]
fn inherit(parent: &ThreadState, child: Option<&'static mut ThreadState>) {
    let Some(child) = child else {
        losses::add(CHILDREN_NOT_FOLLOWED, 1);
        say!(warn, "a child of process {} found no place", parent.process);
        return;
    };
    child.process = parent.process;
    child.slot = SLOT_NONE;
    child.stage = STAGE_BORN;
    // SAFETY: the helper has no arguments.
    child.entered_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(process) = record(parent.process) {
        child.phase = process.phase;
        atomic::add32(&mut process.unborn, 1);
    }
    losses::add(THREADS_ALIVE, 1);
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

/// `task_fork` where threads are known by their number.
#[tracepoint]
pub(crate) fn point_fork(ctx: TracePointContext) -> u32 {
    let Some(parent) = state_of(kernel::current_task()) else { return 0 };
    if parent.stage == STAGE_ARMED {
        return 0;
    }
    let child = point_field(&ctx, kernel::point::fork_child());
    // The number may be left from a thread whose exit was missed.
    let made = THREADS_BY_ID.insert(&child, &ThreadState::ARMED, BPF_ANY.into()).is_ok();
    inherit(parent, if made { state_by_id(child) } else { None });
    0
}

/// The launched command enters its first `execve`.
#[inline(always)]
pub(crate) fn start_command(thread: &mut ThreadState) {
    losses::add(THREADS_ALIVE, 1);
    // SAFETY: the helper has no arguments.
    thread.entered_ns = unsafe { bpf_ktime_get_ns() };
    start_process(thread, 0);
    follow(thread, 0);
    emit::lifecycle(thread, PROCESS, 0, 0);
    inferred::begin(thread);
}

/// The first event of a task that is to be traced. A forked one is a process of its own, or one more
/// thread of its parent's.
#[inline(never)]
pub(crate) fn adopt(thread: &mut ThreadState) -> u32 {
    let ids = bpf_get_current_pid_tgid();
    let parent = thread.process;
    let was_born = thread.stage == STAGE_BORN;
    if was_born && ids as u32 == (ids >> 32) as u32 {
        start_process(thread, parent);
        follow(thread, parent);
        emit::lifecycle(thread, PROCESS, parent, 0);
        inferred::begin(thread);
    } else {
        thread.stage = STAGE_RUNNING;
        ioctl::watch(thread);
        thread.thread = ids as u32;
        say!(debug, "thread {} of process {}", thread.thread, parent);
        emit::lifecycle(thread, THREAD, 0, 0);
        if let Some(process) = record(parent) {
            process.pid = (ids >> 32) as u32;
            atomic::add32(&mut process.threads_alive, 1);
            atomic::add32(&mut process.threads, 1);
        }
    }
    if was_born {
        // After it is counted as alive: its process is never taken for ended in between.
        if let Some(process) = record(parent) {
            atomic::add32(&mut process.unborn, u32::MAX);
        }
    } else {
        losses::add(THREADS_ALIVE, 1);
    }
    0
}

/// Not from [`start_process`]: old kernels count the stack of code that is never reached.
#[inline(always)]
fn follow(thread: &ThreadState, parent: u64) {
    if !kernel::has_types() {
        followed::begin(thread.process, parent);
    }
}

/// A frame of its own: inlined into each caller, the record would be on the stack twice in one chain of calls, and
/// 6.1 and 6.12 allow 512 bytes for a chain.
#[inline(never)]
fn start_process(thread: &mut ThreadState, parent: u64) -> u32 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let started_ns = thread.entered_ns;
    let id = process_id(pid, started_ns);
    let process = ProcessRecord {
        parent,
        started_ns,
        pid,
        threads_alive: 1,
        threads: 1,
        comm: bpf_get_current_comm().unwrap_or_default(),
        ended_ns: 0,
        usage: Usage::ZERO,
        exit_code: if kernel::has_types() { 0 } else { EXIT_UNKNOWN },
        unborn: 0,
        phase: thread.phase,
        phases_ignored: 0,
        phase_since_ns: 0,
        set_up_until_ns: 0,
        padding: 0,
    };
    if PROCESSES.insert(&id, &process, BPF_NOEXIST.into()).is_err() {
        losses::add(PROCESSES_WITHOUT_RECORD, 1);
        say!(warn, "process {} found no place", id);
    }
    say!(debug, "process {}: number {}, child of {}", id, pid, parent);
    thread.process = id;
    thread.thread = pid;
    thread.stage = STAGE_RUNNING;
    ioctl::watch(thread);
    0
}

/// `task_exec` where threads are known by their number: a thread that executes takes the number of its process.
#[tracepoint]
pub(crate) fn point_exec(ctx: TracePointContext) -> u32 {
    let before = point_field(&ctx, kernel::point::exec_before());
    let now = bpf_get_current_pid_tgid() as u32;
    if before != now
        && let Some(state) = state_by_id(before)
    {
        let moved = THREADS_BY_ID.insert(&now, state, BPF_ANY.into()).is_ok();
        let _ = THREADS_BY_ID.remove(&before);
        if !moved {
            losses::add(CHILDREN_NOT_FOLLOWED, 1);
        }
    }
    executed();
    0
}

/// Current task: the thread that has just executed a program; it is the only one of its process now.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn task_exec(_ctx: BtfTracePointContext) -> i32 {
    executed()
}

#[inline(always)]
fn executed() -> i32 {
    let Some(thread) = state_of(kernel::current_task()) else { return 0 };
    // Without its entry, when only some calls are looked at.
    if thread.stage == STAGE_ARMED {
        start_command(thread);
    } else if thread.stage != STAGE_RUNNING {
        adopt(thread);
    }
    phases::end_all_own(thread);
    if let Some(process) = record(thread.process) {
        thread.phase = process.phase;
        process.comm = bpf_get_current_comm().unwrap_or_default();
        if !kernel::has_types() {
            followed::executed(thread.process);
        }
    }
    say!(debug, "process {} executed a program", thread.process);
    emit::lifecycle(thread, EXEC, 0, 0);
    0
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
    let _ = THREADS_BY_ID.remove(&(bpf_get_current_pid_tgid() as u32));
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
        adopt(thread);
    }
    syscalls::count_last(task, thread);
    let (of_group, code) =
        if kernel::has_types() { kernel::exit_code_of(task) } else { (false, followed::exit_code_of(task, thread)) };
    if emit::is_on() {
        emit::unfinished_call(thread);
        emit::lifecycle(thread, END, 0, code);
    }
    say!(debug, "thread {} of process {} ends with code {}", thread.thread, thread.process, code);
    phases::end_all_own(thread);
    rows::release(thread);
    let usage = kernel::usage_of(task);
    thread.stage = STAGE_ENDED;
    if let Some(process) = record(thread.process) {
        add_usage(&mut process.usage, &usage, &thread.settled);
        thread.settled = usage;
        let ids = bpf_get_current_pid_tgid();
        let is_leader = ids as u32 == (ids >> 32) as u32;
        if is_leader {
            process.comm = bpf_get_current_comm().unwrap_or_default();
        }
        if !kernel::has_types() {
            followed::ended(thread.process, process, code, is_leader);
        } else if of_group || is_leader {
            process.exit_code = code;
        }
        // SAFETY: the helper has no arguments.
        process.ended_ns = unsafe { bpf_ktime_get_ns() };
        // Last: from here on user space may take the record.
        atomic::add32(&mut process.threads_alive, u32::MAX);
    }
    losses::add(THREADS_ALIVE, u64::MAX);
    losses::add(THREADS_ENDED, 1);
    0
}

/// Argument: a task that the kernel frees. What it used after its exit, and what the scheduler had
/// not yet booked then (up to a tick), is added now.
#[btf_tracepoint(function = "sched_process_free")]
pub(crate) fn task_free(ctx: BtfTracePointContext) -> i32 {
    let task = task_argument(&ctx, 0);
    let Some(thread) = storage(task, 0) else { return 0 };
    if thread.stage == STAGE_ENDED
        && let Some(process) = record(thread.process)
    {
        add_usage(&mut process.usage, &kernel::usage_of(task), &thread.settled);
    }
    0
}

/// Adds what was used since `before`.
#[inline(always)]
fn add_usage(sum: &mut Usage, now: &Usage, before: &Usage) {
    atomic::add(&mut sum.voluntary_switches, now.voluntary_switches.wrapping_sub(before.voluntary_switches));
    atomic::add(&mut sum.involuntary_switches, now.involuntary_switches.wrapping_sub(before.involuntary_switches));
    atomic::add(&mut sum.minor_faults, now.minor_faults.wrapping_sub(before.minor_faults));
    atomic::add(&mut sum.major_faults, now.major_faults.wrapping_sub(before.major_faults));
    atomic::add(&mut sum.user_ns, now.user_ns.wrapping_sub(before.user_ns));
    atomic::add(&mut sum.system_ns, now.system_ns.wrapping_sub(before.system_ns));
    atomic::add(&mut sum.run_ns, now.run_ns.wrapping_sub(before.run_ns));
}

/// The record of a process.
#[inline(always)]
pub(crate) fn record(process: u64) -> Option<&'static mut ProcessRecord> {
    // SAFETY: the map returned it; it stays valid until the program ends.
    PROCESSES.get_ptr_mut(&process).map(|record| unsafe { &mut *record })
}
