//! Entry and exit of every system call. This is the hot path: what it costs is what tracing costs.

use aya_ebpf::{
    bindings::task_struct, helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext,
};
use gpuos_tracer_abi::{
    losses::COMPAT_CALLS_FILTERED,
    syscalls::{ABI_COMPAT, ABI_NATIVE, DIRECTORY, outcome_of},
    tasks::{SLOT_NONE, SLOT_SKIPPED, SLOT_TOTALS, STAGE_ARMED, STAGE_RUNNING, ThreadState},
};

use crate::{
    kernel, losses,
    maps::{FILTERED, SPECIAL_NUMBERS, TIMED, WANTED},
    rows, tasks,
};

/// Raw tracepoint arguments: registers, number.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
        enter(task, thread, ctx.arg::<u64>(1) as u32);
    }
    0
}

/// Raw tracepoint arguments: registers, return value.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let task = kernel::current_task();
    if let Some(thread) = tasks::state_of(task) {
        // First of all, so that our own work is not in the time of the call.
        let now = clock();
        exit(thread, ctx.arg::<u64>(0), ctx.arg::<u64>(1) as i64, now);
    }
    0
}

#[inline(always)]
fn clock() -> u64 {
    if TIMED.load() == 0 {
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
    thread.slot = if is_compat(task) {
        enter_compat(thread, number)
    } else if !is_wanted(number) {
        SLOT_SKIPPED
    } else {
        thread.number = number;
        rows::enter(thread, number)
    };
    // Last of all, so that our own work is not in the time of the call.
    thread.entered_ns = clock();
}

#[inline(always)]
fn exit(thread: &mut ThreadState, registers: u64, returned: i64, now: u64) {
    let slot = thread.slot;
    thread.slot = SLOT_NONE;
    if slot == SLOT_SKIPPED {
        return;
    }
    if slot == SLOT_NONE {
        exit_without_entry(thread, registers, returned);
        return;
    }
    let duration = now.wrapping_sub(thread.entered_ns);
    let timed = TIMED.load();
    if slot == SLOT_TOTALS {
        rows::exit_slowly(thread, duration, timed, returned);
        return;
    }
    // `rt_sigreturn` returns whatever the interrupted code had in its return register.
    let returned = if thread.number == special(2) { 0 } else { returned };
    rows::exit(slot, duration, timed != 0, outcome_of(returned));
}

/// An entry of a thread that does not run yet. Says whether it is to be counted.
#[inline(never)]
fn begin(thread: &mut ThreadState, number: u32) -> bool {
    if thread.stage == STAGE_ARMED {
        if number != special(0) && number != special(1) {
            return false;
        }
        tasks::start_command(thread);
    } else {
        tasks::adopt(thread);
    }
    true
}

/// A return whose entry was not seen. Either a new child returning from its parent's fork, or a
/// call that seccomp refused: the kernel skips the entry tracepoint then, not the exit.
#[inline(never)]
fn exit_without_entry(thread: &mut ThreadState, registers: u64, returned: i64) -> u32 {
    if thread.stage != STAGE_RUNNING {
        if thread.stage != STAGE_ARMED {
            tasks::adopt(thread);
        }
        return 0;
    }
    let number = kernel::number_of(registers);
    if number as usize >= DIRECTORY || !is_wanted(number) {
        return 0;
    }
    let slot = rows::enter(thread, number);
    if slot == SLOT_TOTALS {
        rows::exit_slowly(thread, 0, 0, returned);
    } else {
        rows::exit(slot, 0, false, outcome_of(returned));
    }
    0
}

/// Whether the call in flight came through the 32-bit entry.
#[inline(always)]
fn is_compat(task: *mut task_struct) -> bool {
    let mask = kernel::compat_mask() as u32;
    mask != 0 && kernel::task_word(task, kernel::compat_word()) & mask != 0
}

/// 32-bit calls are counted apart: their numbers mean other calls, and a filter cannot name them.
#[inline(never)]
fn enter_compat(thread: &mut ThreadState, number: u32) -> u32 {
    if FILTERED.load() != 0 {
        losses::add(COMPAT_CALLS_FILTERED, 1);
        return SLOT_SKIPPED;
    }
    rows::enter_slowly(thread, number, ABI_COMPAT)
}

#[inline(always)]
fn is_wanted(number: u32) -> bool {
    if FILTERED.load() == 0 {
        return true;
    }
    if number as usize >= DIRECTORY {
        return false;
    }
    // SAFETY: the index is below 8; volatile, because the value is set after compilation.
    let word = unsafe { (&raw const WANTED).cast::<u64>().add((number as usize >> 6) & 7).read_volatile() };
    word >> (number & 63) & 1 != 0
}

/// Word of `SpecialNumbers`: 0 `execve`, 1 `execveat`, 2 `rt_sigreturn`.
#[inline(always)]
fn special(word: usize) -> u32 {
    // SAFETY: callers pass 0 to 2; volatile, because the value is set after compilation.
    unsafe { (&raw const SPECIAL_NUMBERS).cast::<u32>().add(word).read_volatile() }
}

const _: () = assert!(ABI_NATIVE == 0);
