//! Entry and exit of every system call. This is the hot path: what it costs is what tracing costs.

use aya_ebpf::{bindings::task_struct, helpers::bpf_ktime_get_ns};
use gpuos_tracer_abi::{
    counters::{COMPAT_CALLS_FILTERED, RINGS_FILTERED},
    syscalls::{
        ABI_COMPAT, COMPAT_CLONE, COMPAT_CLONE3, COMPAT_EXIT, COMPAT_EXIT_GROUP_ARM, COMPAT_EXIT_GROUP_X86,
        COMPAT_FORK, COMPAT_VFORK, SYSCALL_NUMBERS,
    },
    tasks::{SLOT_NONE, SLOT_RULED, SLOT_SKIPPED, SLOT_TOTALS, STAGE_ARMED, STAGE_RUNNING, ThreadState},
};

use super::{emit, inferred, ioctl, jobs, phases, rows, tasks};
use crate::ground::{
    counters,
    kernel::{self, call_number},
    maps::{EXIT_ONLY, FILTERED, FUNCTIONS_WATCHED, SAMPLE, TIMED, WANTED},
    state,
};

/// The clock, or 0 when the call that begins is not to be timed.
#[inline(always)]
fn clock_at_entry(thread: &mut ThreadState) -> u64 {
    if TIMED.load() == 0 {
        return 0;
    }
    if SAMPLE.load() > 1 {
        thread.untimed += 1;
        if thread.untimed < SAMPLE.load() {
            return 0;
        }
        thread.untimed = 0;
    }
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The clock, or 0 when the call that ends was not timed.
#[inline(always)]
pub(crate) fn clock_at_exit(thread: &ThreadState) -> u64 {
    if TIMED.load() == 0 || SAMPLE.load() > 1 && thread.entered_ns == 0 {
        return 0;
    }
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// A call begins.
#[inline(always)]
pub(crate) fn enter(task: *mut task_struct, thread: &mut ThreadState, number: u32) {
    if thread.stage != STAGE_RUNNING && !begin(thread, number) {
        return;
    }
    thread.slot = count_entry(task, thread, number);
    if emit::is_on() && thread.slot != SLOT_SKIPPED {
        emit::begin_call(task, thread, number);
    }
    // Last of all, so that our own work is not in the time of the call.
    thread.entered_ns = clock_at_entry(thread);
}

/// Counts an entry, and returns where its return is to be counted.
#[inline(always)]
pub(crate) fn count_entry(task: *mut task_struct, thread: &mut ThreadState, number: u32) -> u32 {
    if emit::is_on() {
        // Of the call before; the fast path leaves it alone.
        rows::without_device(thread);
    }
    if kernel::is_compat(task) {
        return enter_compat(thread, number);
    }
    if FUNCTIONS_WATCHED.load() != 0 && (number == call_number::uretprobe() || number == call_number::uprobe()) {
        // Our own, not the program's.
        return SLOT_SKIPPED;
    }
    phases::keep_up(thread);
    inferred::keep_up(thread);
    jobs::keep_up(thread);
    if !is_wanted(number) {
        if number == call_number::ioctl()
            && let Some(marker) = phases::marker_of(kernel::registers_of(task))
        {
            phases::mark(marker);
        }
        if number == call_number::io_uring_setup() {
            counters::add(RINGS_FILTERED, 1);
        }
        return SLOT_SKIPPED;
    }
    match rows::enter(thread, number) {
        Some(slot) => slot,
        None => ioctl::device_call_enter(task, thread, number),
    }
}

/// Counts a return. `Some` when its entry was not seen.
#[inline(always)]
pub(crate) fn exit(thread: &mut ThreadState, returned: i64, now: u64) -> Option<()> {
    let slot = thread.slot;
    thread.slot = SLOT_NONE;
    // The clock may step back by nanoseconds while another CPU adjusts it (`ktime_get_mono_fast_ns`).
    let duration = if now > thread.entered_ns { now - thread.entered_ns } else { 0 };
    let timed = if SAMPLE.load() > 1 { now != 0 } else { TIMED.load() != 0 };
    finish(thread, slot, duration, timed, returned);
    if emit::is_on() {
        emit::end_call(thread, slot, duration, timed, returned);
    }
    if slot == SLOT_NONE { Some(()) } else { None }
}

/// Counts the return of the call of `slot`.
#[inline(always)]
pub(crate) fn finish(thread: &mut ThreadState, slot: u32, duration: u64, timed: bool, returned: i64) {
    // The common case first: the other slots are numbers that no row has.
    if rows::exit(slot, duration, timed, returned) {
        return;
    }
    if slot == SLOT_RULED {
        ioctl::device_call_exit(duration, u32::from(timed), returned);
    } else if slot == SLOT_TOTALS {
        let returned = if rows::returns_foreign_value(thread, call_number::rt_sigreturn()) { 0 } else { returned };
        rows::exit_slowly(thread, duration, u32::from(timed), returned);
    }
}

/// An entry of a thread that does not run yet. Says whether it is to be counted.
#[inline(never)]
fn begin(thread: &mut ThreadState, number: u32) -> bool {
    if thread.stage == STAGE_ARMED {
        if number != call_number::execve() && number != call_number::execveat() {
            return false;
        }
        tasks::start_command(thread);
    } else {
        return tasks::adopt(thread, false) == 0;
    }
    true
}

/// A return whose entry was not seen. Either a new child returning from its parent's fork, or a
/// call that seccomp answered: the kernel skips the entry tracepoint then, not the exit.
///
/// A global function: the verifier looks at it once, not once for every way that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn exit_without_entry(number: u32, returned: i64) -> u32 {
    let task = kernel::current_task();
    let Some(thread) = state::state_of(task) else { return 0 };
    if thread.stage == STAGE_ARMED {
        return 0;
    }
    if thread.stage != STAGE_RUNNING {
        if tasks::adopt(thread, false) != 0 {
            return 0;
        }
        // Tracepoints of single calls do not show the return from a fork, so this may be another call.
        if makes_tasks(task, number) {
            return 0;
        }
    }
    let slot = count_entry(task, thread, number);
    if emit::is_on() && slot != SLOT_SKIPPED {
        thread.entered_ns = 0;
        emit::begin_call(task, thread, number);
    }
    finish(thread, slot, 0, false, returned);
    if emit::is_on() {
        emit::end_call(thread, slot, 0, false, returned);
    }
    0
}

/// Whether a new task can be returning from this call.
#[inline(always)]
fn makes_tasks(task: *mut task_struct, number: u32) -> bool {
    if kernel::is_compat(task) {
        return matches!(number, COMPAT_FORK | COMPAT_CLONE | COMPAT_VFORK | COMPAT_CLONE3);
    }
    number == call_number::clone()
        || number == call_number::clone3()
        || number == call_number::fork()
        || number == call_number::vfork()
}

/// 32-bit calls are counted apart: their numbers mean other calls, and a filter cannot name them.
#[inline(never)]
fn enter_compat(thread: &mut ThreadState, number: u32) -> u32 {
    if FILTERED.load() != 0 {
        counters::add(COMPAT_CALLS_FILTERED, 1);
        return SLOT_SKIPPED;
    }
    rows::enter_by_number(thread, number, ABI_COMPAT)
}

#[inline(always)]
fn is_wanted(number: u32) -> bool {
    if FILTERED.load() == 0 {
        return true;
    }
    if number as usize >= SYSCALL_NUMBERS {
        return false;
    }
    let index = kernel::bounded::<7>(number >> 6);
    // SAFETY: the index is below 8; volatile, because the value is set after compilation.
    let word = unsafe { (&raw const WANTED).cast::<u64>().add(index).read_volatile() };
    word >> (number & 63) & 1 != 0
}

/// Counts the call that ends a thread, when nothing was counted at its entry.
#[inline(always)]
pub(crate) fn count_last(task: *mut task_struct, thread: &mut ThreadState) {
    if EXIT_ONLY.load() == 0 || thread.slot == SLOT_SKIPPED {
        return;
    }
    let number = kernel::number_of(kernel::registers_of(task));
    let ends = if kernel::is_compat(task) {
        matches!(number, COMPAT_EXIT | COMPAT_EXIT_GROUP_ARM | COMPAT_EXIT_GROUP_X86)
    } else {
        number == call_number::exit() || number == call_number::exit_group()
    };
    if ends {
        count_entry(task, thread, number);
    }
}
