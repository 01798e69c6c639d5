//! Phases that a program marks: which one a thread's calls belong to, and how long each lasts.
//!
//! A process has one current phase, in its record, and a thread may be in phases of its own inside it. Phases
//! know the one around them, so the current one is all that has to be kept.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    },
};
use gpuos_tracer_abi::{
    counters::{MARKERS, MARKERS_WITHOUT_MEANING, PHASES_IGNORED},
    jobs::OPERATION_SLOT,
    phases::{
        LABEL, MARKER, MOST_NESTED, Marker, OPERATION_BEGIN, OPERATION_END, OPERATION_ITERATIONS, PhaseKey, PhaseNode,
        SCOPE_FUNCTION, SCOPE_THREAD,
    },
    tasks::{ProcessRecord, STAGE_RUNNING, ThreadState},
};

use super::{
    emit::{self, Marked},
    jobs,
};
use crate::ground::{
    atomic, counters,
    kernel::{self, argument_of},
    log::say,
    maps::{FREE_PHASES, FUNCTION_LABELS, PHASE_CHANGES, PHASE_NODES, PHASES},
    state,
};

/// Takes a change of the process's phase over, which another of its threads may have made.
#[inline(always)]
pub(crate) fn keep_up(thread: &mut ThreadState) {
    if changes() != thread.phase_changes {
        catch_up(thread);
    }
}

#[inline(always)]
fn changes() -> u32 {
    // SAFETY: an aligned word; volatile, because others change it.
    unsafe { PHASE_CHANGES.0.get().read_volatile() }
}

#[inline(never)]
fn catch_up(thread: &mut ThreadState) -> u32 {
    thread.phase_changes = changes();
    jobs::step_out(thread);
    if thread.own_phases == 0
        && let Some(process) = state::record(thread.process)
    {
        thread.phase = process.phase;
    }
    0
}

/// Address of the marker, when the `ioctl` with these registers is one.
#[inline(always)]
pub(crate) fn marker_of(registers: *const c_void) -> Option<u64> {
    let is_marker = argument_of(registers, 1) as u32 == MARKER && argument_of(registers, 0) as u32 == u32::MAX;
    is_marker.then(|| argument_of(registers, 2))
}

/// Does what a marker says. A global function: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn mark(address: u64) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    counters::add(MARKERS, 1);
    jobs::step_out(thread);
    // Operation and scope, count.
    let mut head = [0_u64; 2];
    // SAFETY: the helper writes both words.
    let failed = unsafe { bpf_probe_read_user((&raw mut head).cast(), 16, address as *const _) };
    let (operation, scope) = (head[0] as u32, (head[0] >> 32) as u32);
    if failed == 0 && operation == OPERATION_SLOT {
        jobs::register(thread, head[1]);
        return 0;
    }
    if failed != 0 || !matches!(operation, OPERATION_BEGIN..=OPERATION_ITERATIONS) || scope > SCOPE_THREAD {
        counters::add(MARKERS_WITHOUT_MEANING, 1);
        return 0;
    }
    if operation == OPERATION_ITERATIONS {
        if let Some(node) = node(thread.phase) {
            atomic::add(&mut node.iterations, head[1]);
        }
        emit::phase_change(thread, &Marked { operation, scope, count: head[1], begun: 0, parent: 0, label: 0 });
        return 0;
    }
    say!(debug, "marker {} of process {}, scope {}", operation, thread.process, scope);
    let Some(process) = state::record(thread.process) else {
        counters::add(PHASES_IGNORED, 1);
        return 0;
    };
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let ended = operation != OPERATION_BEGIN
        && if scope == SCOPE_THREAD { end_own(thread, process, now) } else { end(process, now) };
    let label = address + core::mem::offset_of!(Marker, label) as u64;
    let (mut begun, mut parent) = (0, 0);
    if operation == OPERATION_END {
        if !ended {
            counters::add(MARKERS_WITHOUT_MEANING, 1);
        }
    } else {
        let around = if scope == SCOPE_THREAD { thread.phase } else { process.phase };
        let (open, ignored) = if scope == SCOPE_THREAD {
            (thread.own_phases, thread.own_ignored)
        } else {
            (node(around).map_or(0, |node| node.depth + 1), process.phases_ignored)
        };
        // Inside one that was not kept there is no place either.
        let number = if open < MOST_NESTED && ignored == 0 { inside(around, scope, label) } else { 0 };
        begin(thread, process, scope, number, now);
        (begun, parent) = (number, around);
    }
    if scope != SCOPE_THREAD {
        // SAFETY: an aligned word.
        atomic::add32(unsafe { &mut *PHASE_CHANGES.0.get() }, 1);
        if thread.own_phases == 0 {
            thread.phase = process.phase;
        }
    }
    emit::phase_change(thread, &Marked { operation, scope, count: 0, begun, parent, label });
    0
}

/// A thread enters a watched function of a library: a phase of its own begins. A global function: the verifier looks at it
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn begin_function(function: u32) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    if thread.stage != STAGE_RUNNING {
        return 0;
    }
    let Some(process) = state::record(thread.process) else { return 0 };
    let Some(label) = FUNCTION_LABELS.get_ptr(function) else { return 0 };
    keep_up(thread);
    jobs::step_out(thread);
    let parent = thread.phase;
    // SAFETY: the map returned it.
    let key = PhaseKey { parent, scope: SCOPE_FUNCTION, label: unsafe { *label } };
    let number = if thread.own_phases < MOST_NESTED && thread.own_ignored == 0 { number_of(&key) } else { 0 };
    // SAFETY: the helper has no arguments.
    begin(thread, process, SCOPE_THREAD, number, unsafe { bpf_ktime_get_ns() });
    let (operation, scope) = (OPERATION_BEGIN, SCOPE_FUNCTION);
    emit::phase_change(thread, &Marked { operation, scope, count: 0, begun: number, parent, label: function.into() });
    0
}

/// And leaves it.
#[inline(always)]
pub(crate) fn end_function(thread: &mut ThreadState) {
    jobs::step_out(thread);
    let Some(process) = state::record(thread.process) else { return };
    // SAFETY: the helper has no arguments.
    if end_own(thread, process, unsafe { bpf_ktime_get_ns() }) {
        let (operation, scope) = (OPERATION_END, SCOPE_FUNCTION);
        emit::phase_change(thread, &Marked { operation, scope, count: 0, begun: 0, parent: 0, label: 0 });
    }
}

/// Goes into a phase; 0: into one that is not kept.
#[inline(always)]
fn begin(thread: &mut ThreadState, process: &mut ProcessRecord, scope: u32, number: u32, now: u64) {
    let Some(node) = node(number) else {
        counters::add(PHASES_IGNORED, 1);
        if scope == SCOPE_THREAD {
            thread.own_ignored += 1;
        } else {
            process.phases_ignored += 1;
        }
        return;
    };
    atomic::add(&mut node.entered, 1);
    if scope == SCOPE_THREAD {
        if thread.own_phases != 0 {
            add_time(thread.phase, thread.own_since_ns, now);
        }
        thread.own_phases += 1;
        thread.own_since_ns = now;
        thread.phase = number;
    } else {
        add_time(process.phase, process.phase_since_ns, now);
        process.phase_since_ns = now;
        process.phase = number;
    }
}

/// A process leaves its phase for another one that stands beside it.
#[inline(always)]
pub(crate) fn go_on_in(thread: &mut ThreadState, process: &mut ProcessRecord, number: u32, at_ns: u64) {
    jobs::step_out(thread);
    let Some(node) = node(number) else { return };
    atomic::add(&mut node.entered, 1);
    add_time(process.phase, process.phase_since_ns, at_ns);
    process.phase_since_ns = at_ns;
    process.phase = number;
    // SAFETY: an aligned word.
    atomic::add32(unsafe { &mut *PHASE_CHANGES.0.get() }, 1);
    if thread.own_phases == 0 {
        thread.phase = number;
    }
}

/// Ends the innermost phase of a process. Says whether there was one.
#[inline(always)]
fn end(process: &mut ProcessRecord, now: u64) -> bool {
    if process.phases_ignored != 0 {
        process.phases_ignored -= 1;
        return true;
    }
    let Some(node) = node(process.phase) else { return false };
    if process.phase == process.inherited_phase {
        process.inherited_phase = node.parent;
    }
    add_time(process.phase, process.phase_since_ns, now);
    process.phase = node.parent;
    process.phase_since_ns = if process.phase == process.inherited_phase { 0 } else { now };
    true
}

/// Ends what a process has open, because it executes another program. What it inherited goes on.
#[inline(always)]
pub(crate) fn end_all(process: &mut ProcessRecord) {
    process.phases_ignored = 0;
    if process.phase != process.inherited_phase {
        // SAFETY: the helper has no arguments.
        add_time(process.phase, process.phase_since_ns, unsafe { bpf_ktime_get_ns() });
        process.phase = process.inherited_phase;
        process.phase_since_ns = 0;
    }
}

/// Likewise of a thread's own.
#[inline(always)]
fn end_own(thread: &mut ThreadState, process: &ProcessRecord, now: u64) -> bool {
    if thread.own_ignored != 0 {
        thread.own_ignored -= 1;
        return true;
    }
    if thread.own_phases == 0 {
        return false;
    }
    let Some(node) = node(thread.phase) else { return false };
    add_time(thread.phase, thread.own_since_ns, now);
    thread.own_phases -= 1;
    thread.own_since_ns = now;
    // The process may have gone on meanwhile.
    thread.phase = if thread.own_phases == 0 { process.phase } else { node.parent };
    true
}

/// Ends what a thread has open of its own, because it exits or executes another program.
#[inline(always)]
pub(crate) fn end_all_own(thread: &mut ThreadState) {
    jobs::end(thread);
    if thread.own_phases != 0 {
        // SAFETY: the helper has no arguments.
        add_time(thread.phase, thread.own_since_ns, unsafe { bpf_ktime_get_ns() });
    }
    thread.own_phases = 0;
    thread.own_ignored = 0;
}

/// Adds to the time of a phase. 0 as its beginning: it began in the parent process, which counts it.
#[inline(always)]
fn add_time(number: u32, since: u64, now: u64) {
    // Two threads that change the phase of their process at once may have been here the other way round.
    if since != 0
        && now > since
        && let Some(node) = node(number)
    {
        atomic::add(&mut node.own_ns, now - since);
    }
}

/// A phase begins, of which only that is counted.
#[inline(always)]
pub(crate) fn entered(number: u32) {
    if let Some(node) = node(number) {
        atomic::add(&mut node.entered, 1);
    }
}

/// One that was not kept.
#[inline(always)]
pub(crate) fn ignored() {
    counters::add(PHASES_IGNORED, 1);
}

/// A phase by its number. None has 0.
#[inline(always)]
pub(crate) fn node(number: u32) -> Option<&'static mut PhaseNode> {
    // SAFETY: the map returned it; it lives as long as the program.
    PHASE_NODES.get_ptr_mut(number.wrapping_sub(1)).map(|node| unsafe { &mut *node })
}

/// Number of the phase with this label inside another one, 0 when there is no place for it.
#[inline(always)]
fn inside(parent: u32, scope: u32, label: u64) -> u32 {
    let mut key = PhaseKey { parent, scope, ..PhaseKey::EMPTY };
    // SAFETY: the helper writes no more than the array holds, and ends it with a NUL.
    let length =
        unsafe { bpf_probe_read_user_str(key.label.as_mut_ptr().cast(), LABEL as u32, label as *const c_void) };
    if length < 0 {
        return 0;
    }
    number_of(&key)
}

#[inline(always)]
pub(crate) fn number_of(key: &PhaseKey) -> u32 {
    // SAFETY: the map returned it; it lives as long as the program.
    let known = || PHASES.get_ptr(key).map_or(0, |number| unsafe { *number });
    let number = known();
    if number != 0 {
        return number;
    }
    let Ok(Some(number)) = FREE_PHASES.pop() else { return 0 };
    let depth = node(key.parent).map_or(0, |parent| parent.depth + 1);
    let Some(node) = node(number) else { return 0 };
    node.parent = key.parent;
    node.depth = depth;
    if PHASES.insert(key, &number, BPF_NOEXIST.into()).is_ok() {
        return number;
    }
    // Another thread was faster, or the kernel has no memory.
    let _ = FREE_PHASES.push(&number, 0);
    known()
}
