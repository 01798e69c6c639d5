//! The life of threads and processes: who inherits what, who gets a record, how a thread that exits settles up.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use gpuos_tracer_abi::{
    counters::{
        CHILDREN_NOT_FOLLOWED, OTHER_RIGHTS, PROCESSES_WITHOUT_RECORD,
        state::{THREADS_ALIVE, THREADS_ENDED},
    },
    events::{END, EXEC, PROCESS, THREAD},
    tasks::{
        EXIT_UNKNOWN, ProcessRecord, SLOT_NONE, STAGE_ARMED, STAGE_BORN, STAGE_ENDED, STAGE_RUNNING, TaskUsage,
        ThreadState, process_id,
    },
};

use super::{emit, inferred, ioctl, phases, rows};
use crate::ground::{
    atomic, counters, credentials, fd_table, kernel,
    log::say,
    maps::PROCESSES,
    state::{forget, record, state_of},
};

/// A new task begins with what its parent hands down.
#[inline(always)]
pub(crate) fn inherit(parent: &ThreadState, child: Option<&'static mut ThreadState>) {
    let Some(child) = child else {
        counters::add(CHILDREN_NOT_FOLLOWED, 1);
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
    counters::change_state(THREADS_ALIVE, 1);
}

/// The launched command enters its first `execve`.
#[inline(always)]
pub(crate) fn start_command(thread: &mut ThreadState) {
    counters::change_state(THREADS_ALIVE, 1);
    // SAFETY: the helper has no arguments.
    thread.entered_ns = unsafe { bpf_ktime_get_ns() };
    start_process(thread, 0);
    follow(thread, 0);
    emit::lifecycle(thread, PROCESS, 0, 0);
    inferred::begin(thread, thread.entered_ns);
}

/// The first event of a task that is to be traced. A forked one is a process of its own, or one more thread of its parent's.
/// `is_thread`: it is known to be a thread, although it has the number of its process by now. Not 0: it is let go at once,
/// because it got other rights while it was attached to.
#[inline(never)]
pub(crate) fn adopt(thread: &mut ThreadState, is_thread: bool) -> u32 {
    let ids = bpf_get_current_pid_tgid();
    let parent = thread.process;
    let was_born = thread.stage == STAGE_BORN;
    // A child has the rights of its parent.
    if !was_born && credentials::are_limited() && credentials::are_others() != 0 {
        counters::add(OTHER_RIGHTS, 1);
        forget();
        return 1;
    }
    if was_born && !is_thread && ids as u32 == (ids >> 32) as u32 {
        start_process(thread, parent);
        follow(thread, parent);
        emit::lifecycle(thread, PROCESS, parent, 0);
        inferred::begin(thread, thread.entered_ns);
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
        counters::change_state(THREADS_ALIVE, 1);
    }
    0
}

/// Not from [`start_process`]: old kernels count the stack of code that is never reached.
#[inline(always)]
fn follow(thread: &ThreadState, parent: u64) {
    if !kernel::has_btf() {
        fd_table::begin(thread.process, parent);
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
        usage: TaskUsage::ZERO,
        exit_code: if kernel::has_btf() { 0 } else { EXIT_UNKNOWN },
        unborn: 0,
        phase: thread.phase,
        phases_ignored: 0,
        phase_since_ns: 0,
        set_up_until_ns: 0,
        inherited_phase: thread.phase,
        job_slots: 0,
        padding: 0,
    };
    if PROCESSES.insert(&id, &process, BPF_NOEXIST.into()).is_err() {
        counters::add(PROCESSES_WITHOUT_RECORD, 1);
        say!(warn, "process {} found no place", id);
    }
    say!(debug, "process {}: number {}, child of {}", id, pid, parent);
    thread.process = id;
    thread.thread = pid;
    thread.stage = STAGE_RUNNING;
    ioctl::watch(thread);
    0
}

/// The current thread, whose number was `before`, has executed a program; it is the only one of its process now.
#[inline(always)]
pub(crate) fn executed(before: u32) -> i32 {
    let Some(thread) = state_of(kernel::current_task()) else { return 0 };
    // Without its entry, when only some calls are looked at.
    if thread.stage == STAGE_ARMED {
        start_command(thread);
    } else if thread.stage != STAGE_RUNNING {
        if adopt(thread, before != bpf_get_current_pid_tgid() as u32) != 0 {
            return 0;
        }
    }
    phases::end_all_own(thread);
    let mut is_new_to_gpus = true;
    if let Some(process) = record(thread.process) {
        is_new_to_gpus = inferred::is_before_the_gpu(process);
        if !is_new_to_gpus {
            phases::end_all(process);
        }
        thread.phase = process.phase;
        process.comm = bpf_get_current_comm().unwrap_or_default();
        if !kernel::has_btf() {
            fd_table::executed(thread.process);
        }
    }
    say!(debug, "process {} executed a program", thread.process);
    if credentials::are_limited() && credentials::are_others() != 0 {
        return leave(thread) as i32;
    }
    emit::lifecycle(thread, EXEC, 0, 0);
    if !is_new_to_gpus {
        // SAFETY: the helper has no arguments.
        inferred::begin(thread, unsafe { bpf_ktime_get_ns() });
    }
    0
}

/// The current thread, the only one of its process, has got rights that the tracer's caller has not: from here on nobody looks
/// at it, nor at its children.
#[inline(never)]
pub(crate) fn leave(thread: &mut ThreadState) -> u32 {
    counters::add(OTHER_RIGHTS, 1);
    say!(debug, "process {} is not followed any more", thread.process);
    emit::lifecycle(thread, END, 0, EXIT_UNKNOWN);
    rows::release(thread);
    thread.stage = STAGE_ENDED;
    if let Some(process) = record(thread.process) {
        process.exit_code = EXIT_UNKNOWN;
        // SAFETY: the helper has no arguments.
        process.ended_ns = unsafe { bpf_ktime_get_ns() };
        // Last: from here on user space may take the record.
        atomic::add32(&mut process.threads_alive, u32::MAX);
    }
    counters::change_state(THREADS_ALIVE, u64::MAX);
    counters::change_state(THREADS_ENDED, 1);
    forget();
    0
}

/// A thread exits: what it used is added to its process, its rows to the totals.
#[inline(always)]
pub(crate) fn end(task: *mut task_struct, thread: &mut ThreadState) {
    let (of_group, code) =
        if kernel::has_btf() { kernel::exit_code_of(task) } else { (false, fd_table::exit_code_of(task, thread)) };
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
        if !kernel::has_btf() {
            fd_table::ended(thread.process, process, code, is_leader);
        } else if of_group || is_leader {
            process.exit_code = code;
        }
        // SAFETY: the helper has no arguments.
        process.ended_ns = unsafe { bpf_ktime_get_ns() };
        // Last: from here on user space may take the record.
        atomic::add32(&mut process.threads_alive, u32::MAX);
    }
    counters::change_state(THREADS_ALIVE, u64::MAX);
    counters::change_state(THREADS_ENDED, 1);
}

/// A task is freed: what it used since its exit is added.
#[inline(always)]
pub(crate) fn freed(task: *mut task_struct, thread: &ThreadState) {
    if thread.stage == STAGE_ENDED
        && let Some(process) = record(thread.process)
    {
        add_usage(&mut process.usage, &kernel::usage_of(task), &thread.settled);
    }
}

/// Adds what was used since `before`.
#[inline(always)]
fn add_usage(sum: &mut TaskUsage, now: &TaskUsage, before: &TaskUsage) {
    atomic::add(&mut sum.voluntary_switches, now.voluntary_switches.wrapping_sub(before.voluntary_switches));
    atomic::add(&mut sum.involuntary_switches, now.involuntary_switches.wrapping_sub(before.involuntary_switches));
    atomic::add(&mut sum.minor_faults, now.minor_faults.wrapping_sub(before.minor_faults));
    atomic::add(&mut sum.major_faults, now.major_faults.wrapping_sub(before.major_faults));
    atomic::add(&mut sum.user_ns, now.user_ns.wrapping_sub(before.user_ns));
    atomic::add(&mut sum.system_ns, now.system_ns.wrapping_sub(before.system_ns));
    atomic::add(&mut sum.run_ns, now.run_ns.wrapping_sub(before.run_ns));
}
