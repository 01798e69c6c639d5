//! The only way to the ring: records of calls, tasks and phases, where somebody asked for a recording.
//!
//! Nobody is woken up: the reader comes by itself every few milliseconds, which costs a call less than a wake-up.

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, task_struct},
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_probe_read_user, bpf_probe_read_user_str},
    },
    maps::ring_buf::RingBufEntry,
};
use gpuos_tracer_abi::{
    counters::EVENTS_LOST,
    events::{
        ARGUMENT, CALL, COMPAT, Call, DEVICE_CALL, DeviceCall, EventHeader, FAULT, Fault, Lifecycle, NAME, PATH,
        PATH_CALL, PHASE, PathCall, PhaseChange, SWITCH, Switch, UNFINISHED, UNREADABLE, UNTIMED,
    },
    phases::{LABEL, OPERATION_BEGIN, OPERATION_SWITCH, SCOPE_FUNCTION},
    syscalls::{ABI_COMPAT, ABI_NATIVE, SYSCALL_NUMBERS},
    tasks::{SLOT_NONE, SLOT_RULED, SLOT_SKIPPED, ThreadState},
};

use crate::ground::{
    counters,
    kernel::{self, argument_of, call_number},
    maps::{EVENTS, FUNCTION_LABELS, PATH_ARGUMENTS, PATHS, RECORDED},
    state,
};

/// `PR_SET_NAME` of `linux/prctl.h`.
const SET_NAME: u64 = 15;
/// Low bits of a process id that are its number, see `tasks::process_id` in the ABI crate.
const PID: u64 = 0x3f_ffff;

/// Whether there is a recording. A constant to the verifier.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    RECORDED.load() != 0
}

/// Room for one record; where there is none, that is counted.
#[inline(always)]
fn reserve<T>() -> Option<RingBufEntry<T>> {
    let room = EVENTS.reserve::<T>(0);
    if room.is_none() {
        counters::add(EVENTS_LOST, 1);
    }
    room
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Of the current task.
#[inline(always)]
fn head(thread: &ThreadState, kind: u8, flags: u8, at_ns: u64) -> EventHeader {
    let ids = bpf_get_current_pid_tgid();
    EventHeader { at_ns, pid: (ids >> 32) as u32, thread: ids as u32, phase: thread.phase, kind, flags, padding: 0 }
}

/// Keeps what the return of a call cannot tell any more.
#[inline(always)]
pub(crate) fn begin_call(task: *mut task_struct, thread: &mut ThreadState, number: u32) {
    let registers = kernel::registers_of(task);
    thread.number = number;
    thread.abi = if kernel::is_compat(task) { ABI_COMPAT } else { ABI_NATIVE };
    if kernel::has_btf() {
        let first = |place| argument_of(registers, place);
        thread.arguments = [first(0), first(1), first(2), first(3), 0, 0];
    }
    if PATHS.load() != 0 {
        thread.path_length = read_path().into();
    }
}

/// Keeps the path that the call in flight is about, and gives its length with its NUL, 0 where there is none. At its entry: when it returns, another may stand there, and after an
/// `execve` nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_path() -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    if thread.number as usize >= SYSCALL_NUMBERS || thread.abi != ABI_NATIVE {
        return 0;
    }
    let place = kernel::bounded::<{ SYSCALL_NUMBERS as u64 - 1 }>(thread.number);
    // SAFETY: inside the array; volatile, because the value is set after compilation.
    let argument = unsafe { (&raw const PATH_ARGUMENTS).cast::<u8>().add(place).read_volatile() };
    let address = match argument {
        1 => thread.arguments[0],
        2 => thread.arguments[1],
        3 => thread.arguments[2],
        4 => thread.arguments[3],
        _ => return 0,
    };
    // SAFETY: the helper writes no more than the array holds, and ends it with a NUL.
    let length = unsafe { bpf_probe_read_user_str((&raw mut thread.path).cast(), PATH as u32, address as *const _) };
    if length > 0 { length as u32 } else { 0 }
}

/// Records a call that is over. Those on devices with a rule come by [`device_call`].
#[inline(always)]
pub(crate) fn end_call(thread: &mut ThreadState, slot: u32, duration: u64, timed: bool, returned: i64) {
    if slot == SLOT_RULED || slot == SLOT_NONE || slot == SLOT_SKIPPED {
        return;
    }
    if thread.number == call_number::prctl() && thread.arguments[0] == SET_NAME && thread.abi == ABI_NATIVE {
        lifecycle(thread, NAME, 0, 0);
    }
    // Only those of a device have one.
    if thread.pending.detail != 0 {
        device_call(thread, duration, timed, returned, 0, false);
        return;
    }
    let flags = if timed { 0 } else { UNTIMED };
    call(thread, duration, returned, flags.into());
}

/// Records the call that a thread is in when it ends.
#[inline(always)]
pub(crate) fn unfinished_call(thread: &mut ThreadState) {
    let slot = thread.slot;
    if slot == SLOT_NONE || slot == SLOT_SKIPPED {
        return;
    }
    call(thread, now().wrapping_sub(thread.entered_ns), 0, UNFINISHED.into());
}

#[inline(never)]
fn call(thread: &mut ThreadState, duration: u64, returned: i64, flags: u32) -> u32 {
    if PATHS.load() != 0 {
        // Its page may not have been there; the call has brought it in.
        if thread.path_length == 0 && thread.number != call_number::execve() && thread.number != call_number::execveat()
        {
            thread.path_length = read_path().into();
        }
        if thread.path_length != 0 {
            return path_call(thread, duration, returned, flags);
        }
    }
    let Some(mut entry) = reserve::<Call>() else { return 0 };
    entry.write(call_of(thread, CALL, duration, returned, flags));
    entry.submit(BPF_RB_NO_WAKEUP.into());
    0
}

#[inline(always)]
fn path_call(thread: &mut ThreadState, duration: u64, returned: i64, flags: u32) -> u32 {
    let Some(mut entry) = reserve::<PathCall>() else { return 0 };
    let event = entry.as_mut_ptr();
    // SAFETY: inside the reserved record.
    unsafe {
        (*event).call = call_of(thread, PATH_CALL, duration, returned, flags);
        (*event).path = thread.path;
    }
    thread.path_length = 0;
    entry.submit(BPF_RB_NO_WAKEUP.into());
    0
}

#[inline(always)]
fn call_of(thread: &ThreadState, kind: u8, duration_ns: u64, returned: i64, flags: u32) -> Call {
    let flags = flags as u8 | if thread.abi == ABI_COMPAT { COMPAT } else { 0 };
    let at_ns = if thread.entered_ns == 0 { now() } else { thread.entered_ns };
    Call {
        head: head(thread, kind, flags, at_ns),
        duration_ns,
        returned,
        arguments: thread.first_arguments(),
        number: thread.number,
        device: thread.pending.device,
    }
}

/// Records a call on a device of a GPU driver, with the beginning of its argument where it has one.
#[inline(always)]
pub(crate) fn device_call(
    thread: &ThreadState,
    duration: u64,
    timed: bool,
    returned: i64,
    status: u32,
    has_argument: bool,
) {
    let pending = &thread.pending;
    let Some(mut entry) = reserve::<DeviceCall>() else { return };
    let event = entry.as_mut_ptr();
    let wanted = match pending.size {
        _ if !has_argument => 0,
        size if size as usize > ARGUMENT => ARGUMENT as u32,
        size => size,
    };
    // SAFETY: inside the reserved record; the helper writes no more than `ARGUMENT` bytes.
    unsafe {
        (*event).argument = [0; ARGUMENT];
        let (mut length, mut flags) = (kernel::bounded::<127>(wanted) as u32, if timed { 0 } else { UNTIMED });
        if length > ARGUMENT as u32 {
            length = ARGUMENT as u32;
        }
        if length != 0
            && bpf_probe_read_user((&raw mut (*event).argument).cast(), length, pending.argument as *const _) != 0
        {
            length = 0;
            flags |= UNREADABLE;
        }
        (*event).call = call_of(thread, DEVICE_CALL, duration, returned, flags.into());
        (*event).command = pending.command;
        (*event).detail = pending.detail;
        (*event).status = status;
        (*event).length = length;
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// Records a step in the life of the current thread: one of the kinds of [`Lifecycle`].
#[inline(never)]
pub(crate) fn lifecycle(thread: &ThreadState, kind: u8, parent: u64, exit_code: u32) -> u32 {
    if !is_on() {
        return 0;
    }
    let Some(mut entry) = reserve::<Lifecycle>() else { return 0 };
    let event = entry.as_mut_ptr();
    // In place: old kernels allow 512 bytes of stack for a chain of calls, and this one ends long ones.
    // SAFETY: inside the reserved record; the helper writes all of the name, zeros when it fails.
    unsafe {
        (*event).head = head(thread, kind, 0, now());
        (*event).process = thread.process;
        (*event).parent = parent;
        (*event).exit_code = exit_code;
        (*event).padding = 0;
        bpf_get_current_comm((&raw mut (*event).comm).cast(), size_of_val(&(*event).comm) as u32);
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
    0
}

/// What a marker did, see [`PhaseChange`].
pub(crate) struct Marked {
    pub(crate) operation: u32,
    pub(crate) scope: u32,
    pub(crate) count: u64,
    pub(crate) begun: u32,
    pub(crate) parent: u32,
    pub(crate) label: u64,
}

/// Records a marker.
#[inline(always)]
pub(crate) fn phase_change(thread: &ThreadState, marked: &Marked) {
    if !is_on() {
        return;
    }
    let Some(mut entry) = reserve::<PhaseChange>() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: inside the reserved record; the helper writes no more than `LABEL` bytes.
    unsafe {
        (*event).head = head(thread, PHASE, 0, now());
        (*event).operation = marked.operation;
        (*event).scope = marked.scope;
        (*event).count = marked.count;
        (*event).begun = marked.begun;
        (*event).parent = marked.parent;
        (*event).label = [0; LABEL];
        if marked.scope == SCOPE_FUNCTION {
            if let Some(label) = FUNCTION_LABELS.get_ptr(marked.label as u32) {
                (*event).label = *label;
            }
        } else if matches!(marked.operation, OPERATION_BEGIN | OPERATION_SWITCH) {
            bpf_probe_read_user_str((&raw mut (*event).label).cast(), LABEL as u32, marked.label as *const _);
        }
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// A thread stops running.
#[inline(always)]
pub(crate) fn stops(thread: &mut ThreadState, state: u32) {
    thread.stopped_ns = now();
    thread.stopped_state = state;
}

/// A thread runs again; it is not the current task yet.
#[inline(always)]
pub(crate) fn runs_again(thread: &mut ThreadState, cpu: u32) {
    let since = thread.stopped_ns;
    // A thread that has not been seen yet has no number.
    if since == 0 || thread.thread == 0 {
        return;
    }
    thread.stopped_ns = 0;
    let Some(mut entry) = reserve::<Switch>() else { return };
    entry.write(Switch {
        head: EventHeader {
            at_ns: since,
            pid: (thread.process & PID) as u32,
            thread: thread.thread,
            phase: thread.phase,
            kind: SWITCH,
            flags: 0,
            padding: 0,
        },
        duration_ns: now().wrapping_sub(since),
        state: thread.stopped_state,
        cpu,
    });
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// A page fault of the current task.
#[inline(always)]
pub(crate) fn fault(thread: &ThreadState, address: u64, code: u64) {
    let Some(mut entry) = reserve::<Fault>() else { return };
    entry.write(Fault { head: head(thread, FAULT, 0, now()), address, code });
    entry.submit(BPF_RB_NO_WAKEUP.into());
}
