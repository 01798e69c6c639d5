//! Entry and exit of every system call. This is the hot path: what it costs is what tracing costs.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::task_struct,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gpuos_tracer_abi::{
    losses::{COMPAT_CALLS_FILTERED, RINGS_FILTERED},
    syscalls::{ABI_COMPAT, DIRECTORY},
    tasks::{SLOT_NONE, SLOT_RULED, SLOT_SKIPPED, SLOT_TOTALS, STAGE_ARMED, STAGE_RUNNING, ThreadState},
};

use crate::{
    emit, followed, inferred, ioctl,
    kernel::{self, call_number},
    losses,
    maps::{EXIT_ONLY, FILTERED, FUNCTIONS_WATCHED, SAMPLE, TIMED, WANTED},
    phases, rows, stacks, tasks,
};

/// Arguments: registers, number.
#[btf_tracepoint(function = "sys_enter")]
pub(crate) fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
        enter(task, thread, argument(&ctx, 1) as u32);
    }
    0
}

/// Arguments: registers, return value.
#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
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
    let Some(thread) = tasks::state_of(task) else { return 0 };
    if thread.stage != STAGE_RUNNING {
        // The command begins at its exec, a child after the return from its parent's fork.
        if thread.stage != STAGE_ARMED {
            tasks::adopt(thread);
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

/// Counts the call that ends a thread, when nothing was counted at its entry.
#[inline(always)]
pub(crate) fn count_last(task: *mut task_struct, thread: &mut ThreadState) {
    if EXIT_ONLY.load() == 0 || thread.slot == SLOT_SKIPPED {
        return;
    }
    let number = kernel::number_of(kernel::registers_of(task));
    let ends = if kernel::is_compat(task) {
        // The same two in the 32-bit tables of x86 and, but for `exit_group`, of arm.
        matches!(number, 1 | 248 | 252)
    } else {
        number == call_number::exit() || number == call_number::exit_group()
    };
    if ends {
        count_entry(task, thread, number);
    }
}

/// Context of the tracepoints of single calls (`struct syscall_trace_enter` and `_exit` in the kernel's
/// `trace/syscall.h`): registers, number, then the arguments or the return value.
const CALL_NUMBER: usize = 8;
const CALL_RETURNED: usize = 16;

/// Attached to each wanted call when they are few, so that all others cost less.
#[tracepoint]
pub(crate) fn call_enter(ctx: TracePointContext) -> u32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
        // SAFETY: inside the context.
        let number = unsafe { *ctx.as_ptr().cast::<u8>().add(CALL_NUMBER).cast::<u32>() };
        if !kernel::has_types() {
            followed::call_entered(&ctx, thread, number);
        }
        enter(task, thread, number);
        if !kernel::has_types() && number == call_number::close() {
            followed::closing(thread);
        }
    }
    0
}

/// Likewise for its return.
#[tracepoint]
pub(crate) fn call_exit(ctx: TracePointContext) -> u32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
        let now = clock_at_exit(thread);
        // SAFETY: inside the context.
        let (number, returned) = unsafe {
            let start = ctx.as_ptr().cast::<u8>();
            (*start.add(CALL_NUMBER).cast::<u32>(), *start.add(CALL_RETURNED).cast::<i64>())
        };
        // Not that of a call whose entry was not seen.
        if !kernel::has_types() && thread.slot != SLOT_NONE && thread.stage == STAGE_RUNNING {
            followed::call_returned(number, returned);
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

/// An argument that is a number.
#[inline(always)]
fn argument(ctx: &BtfTracePointContext, index: usize) -> u64 {
    // SAFETY: the context is an array of arguments; the verifier checks the index.
    unsafe { *ctx.as_ptr().cast::<u64>().add(index) }
}

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
fn clock_at_exit(thread: &ThreadState) -> u64 {
    if TIMED.load() == 0 || SAMPLE.load() > 1 && thread.entered_ns == 0 {
        return 0;
    }
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn enter(task: *mut task_struct, thread: &mut ThreadState, number: u32) {
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
fn count_entry(task: *mut task_struct, thread: &mut ThreadState, number: u32) -> u32 {
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
    if !is_wanted(number) {
        if number == call_number::ioctl()
            && let Some(marker) = phases::marker_of(kernel::registers_of(task))
        {
            phases::mark(marker);
        }
        if number == call_number::io_uring_setup() {
            losses::add(RINGS_FILTERED, 1);
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
fn exit(thread: &mut ThreadState, returned: i64, now: u64) -> Option<()> {
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
fn finish(thread: &mut ThreadState, slot: u32, duration: u64, timed: bool, returned: i64) {
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
        tasks::adopt(thread);
    }
    true
}

/// A return whose entry was not seen. Either a new child returning from its parent's fork, or a
/// call that seccomp answered: the kernel skips the entry tracepoint then, not the exit.
///
/// A global function: the verifier looks at it once, not once for every way that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exit_without_entry(number: u32, returned: i64) -> u32 {
    let task = kernel::current_task();
    let Some(thread) = tasks::state_of(task) else { return 0 };
    if thread.stage == STAGE_ARMED {
        return 0;
    }
    if thread.stage != STAGE_RUNNING {
        tasks::adopt(thread);
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
        // `fork`, `clone`, `vfork` and `clone3` of the 32-bit tables of x86 and arm.
        return matches!(number, 2 | 120 | 190 | 435);
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
        losses::add(COMPAT_CALLS_FILTERED, 1);
        return SLOT_SKIPPED;
    }
    rows::enter_by_number(thread, number, ABI_COMPAT)
}

#[inline(always)]
fn is_wanted(number: u32) -> bool {
    if FILTERED.load() == 0 {
        return true;
    }
    if number as usize >= DIRECTORY {
        return false;
    }
    let index = kernel::bounded::<7>(number >> 6);
    // SAFETY: the index is below 8; volatile, because the value is set after compilation.
    let word = unsafe { (&raw const WANTED).cast::<u64>().add(index).read_volatile() };
    word >> (number & 63) & 1 != 0
}
