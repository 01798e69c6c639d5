//! What a thread works for: the class of jobs that stands in its slot, and what it uses meanwhile.
//!
//! A class is a phase of the thread inside all others, of the scope `SCOPE_JOB`. A change is not told: the slot is in memory
//! of the program, and is looked at when its thread makes a call or stops running.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    },
};
use gpuos_tracer_abi::{
    counters::{JOB_SLOTS_UNREADABLE, state::JOB_SLOTS},
    jobs::CLASSES,
    phases::{LABEL, OPERATION_BEGIN, OPERATION_END, PhaseKey, SCOPE_JOB, Used},
    tasks::ThreadState,
};

use super::{
    emit::{self, Marked},
    phases,
};
use crate::ground::{atomic, counters, kernel, state};

/// The words of a `JobSlot` that say something.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    class: u32,
    thread: u32,
    since_ns: u64,
    labels: u64,
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// A thread says where its slot is; 0: it has none any more.
#[inline(always)]
pub(crate) fn register(thread: &mut ThreadState, address: u64) {
    step_out(thread);
    thread.job_slot = address;
    if address != 0 {
        begin(thread);
    }
}

/// What the current thread has used so far is charged to no class.
#[inline(never)]
fn begin(thread: &mut ThreadState) -> u32 {
    thread.charged = kernel::used_by(kernel::current_task());
    // Known from its next switch on, once those are looked at.
    thread.runs_since_ns = 0;
    if let Some(process) = state::record(thread.process) {
        atomic::add32(&mut process.job_slots, 1);
    }
    counters::change_state(JOB_SLOTS, 1);
    0
}

/// Looks at the slot of a thread, when it makes a call.
#[inline(always)]
pub(crate) fn keep_up(thread: &mut ThreadState) {
    if thread.job_slot != 0 {
        look();
    }
}

/// A global function: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look() -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let mut slot = Slot { class: 0, thread: 0, since_ns: 0, labels: 0 };
    // SAFETY: the helper writes the whole slot, zeros when it fails.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut slot).cast(), size_of::<Slot>() as u32, thread.job_slot as *const _) };
    if failed != 0 {
        counters::add(JOB_SLOTS_UNREADABLE, 1);
        return 0;
    }
    if thread.charged.run_ns == 0 {
        // One that was attached to.
        thread.charged = kernel::used_by(kernel::current_task());
    }
    if slot.class != thread.job {
        thread.is_changing = 1;
        change(thread, &slot);
        thread.is_changing = 0;
    }
    0
}

/// The thread works for another class than when it was looked at last.
#[inline(always)]
fn change(thread: &mut ThreadState, slot: &Slot) {
    let (now, last_call, last_tick) = (now(), thread.entered_ns, thread.charged_ns);
    // Where the thread did not look at the clock, what it did since it was last looked at was for the new class.
    let last_look = if last_call > last_tick { last_call } else { last_tick };
    let since = if slot.since_ns == 0 { last_look } else { slot.since_ns };
    charge_all(thread, kernel::current_task(), if since < now { since } else { now });
    leave(thread);
    if slot.class != 0 && slot.class as usize <= CLASSES {
        enter(thread, slot.class, slot.labels + u64::from(slot.class - 1) * LABEL as u64);
    } else {
        thread.job = slot.class;
    }
}

#[inline(always)]
fn enter(thread: &mut ThreadState, class: u32, label: u64) {
    let parent = thread.phase;
    let mut key = PhaseKey { parent, scope: SCOPE_JOB, ..PhaseKey::EMPTY };
    // SAFETY: the helper writes no more than the array holds, and ends it with a NUL.
    let length = unsafe { bpf_probe_read_user_str(key.label.as_mut_ptr().cast(), LABEL as u32, label as *const _) };
    let number = if length < 0 { 0 } else { phases::number_of(&key) };
    thread.phase_outside = parent;
    thread.job = class;
    if number == 0 {
        phases::ignored();
        return;
    }
    thread.phase = number;
    phases::entered(number);
    emit::phase_change(
        thread,
        &Marked { operation: OPERATION_BEGIN, scope: SCOPE_JOB, count: 0, begun: number, parent, label },
    );
}

#[inline(always)]
fn leave(thread: &mut ThreadState) {
    if thread.job == 0 {
        return;
    }
    if thread.phase != thread.phase_outside {
        emit::phase_change(
            thread,
            &Marked { operation: OPERATION_END, scope: SCOPE_JOB, count: 0, begun: 0, parent: 0, label: 0 },
        );
    }
    thread.phase = thread.phase_outside;
    thread.job = 0;
}

/// For who changes the phases around it: the thread works for no class until it is looked at again.
#[inline(always)]
pub(crate) fn step_out(thread: &mut ThreadState) {
    if thread.job != 0 {
        charge_all(thread, kernel::current_task(), now());
        leave(thread);
    }
}

/// The phase of a thread without the class that it works for.
#[inline(always)]
pub(crate) fn phase_outside(thread: &ThreadState) -> u32 {
    if thread.job == 0 { thread.phase } else { thread.phase_outside }
}

/// The current thread stops running.
#[inline(always)]
pub(crate) fn stops(thread: &mut ThreadState) {
    if thread.job_slot == 0 || thread.is_changing != 0 {
        return;
    }
    look();
    thread.runs_since_ns = 0;
    thread.charged_ns = now();
    // From here on its time on a CPU is what the scheduler has booked.
    charge_all(thread, kernel::current_task(), 0);
}

/// The current thread runs on, and its time until now was booked.
#[inline(always)]
pub(crate) fn runs_on(thread: &mut ThreadState) {
    if thread.job_slot == 0 || thread.is_changing != 0 {
        return;
    }
    look();
    charge_all(thread, kernel::current_task(), now());
    thread.charged_ns = now();
}

/// A thread runs again; it is not the current task yet.
#[inline(always)]
pub(crate) fn runs_again(thread: &mut ThreadState, task: *mut task_struct) {
    if thread.job_slot != 0 {
        thread.run_before_ns = kernel::used_by(task).run_ns;
        thread.runs_since_ns = now();
    }
}

/// A thread exits, or executes another program.
#[inline(always)]
pub(crate) fn end(thread: &mut ThreadState) {
    if thread.job_slot != 0 {
        step_out(thread);
        thread.job_slot = 0;
    }
}

/// Time on a CPU of the current thread until a moment: since it runs by the clock, because the scheduler books it when the
/// thread stops, and at its tick.
#[inline(always)]
fn run_until(thread: &ThreadState, booked: u64, until: u64) -> u64 {
    match thread.runs_since_ns {
        0 => booked,
        since if until > since => thread.run_before_ns + (until - since),
        _ => thread.run_before_ns,
    }
}

/// What a sum grew by since `before`, which is then what it is now.
#[inline(always)]
fn since(before: &mut u64, now: u64) -> u64 {
    let grown = if now > *before { now - *before } else { 0 };
    *before += grown;
    grown
}

/// Charges what a thread has used to the class that it has worked for: of its time on a CPU what was before `until`.
#[inline(always)]
fn charge_all(thread: &mut ThreadState, task: *mut task_struct, until: u64) {
    let mut used = kernel::used_by(task);
    used.run_ns = run_until(thread, used.run_ns, until);
    let charged = &mut thread.charged;
    let grown = Used {
        run_ns: since(&mut charged.run_ns, used.run_ns),
        voluntary_switches: since(&mut charged.voluntary_switches, used.voluntary_switches),
        involuntary_switches: since(&mut charged.involuntary_switches, used.involuntary_switches),
        minor_faults: since(&mut charged.minor_faults, used.minor_faults),
        major_faults: since(&mut charged.major_faults, used.major_faults),
    };
    if thread.job != 0
        && let Some(node) = phases::node(thread.phase)
    {
        atomic::add(&mut node.used.run_ns, grown.run_ns);
        atomic::add(&mut node.used.voluntary_switches, grown.voluntary_switches);
        atomic::add(&mut node.used.involuntary_switches, grown.involuntary_switches);
        atomic::add(&mut node.used.minor_faults, grown.minor_faults);
        atomic::add(&mut node.used.major_faults, grown.major_faults);
    }
}
