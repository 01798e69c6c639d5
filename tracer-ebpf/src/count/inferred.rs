//! Phases that nobody marked: a process is before the GPU, sets it up, works on it, tears it down, as its calls on GPU
//! devices tell. While a phase that the program marked for the process is open, nothing is inferred.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gpuos_tracer_abi::{
    ioctl::{QUEUE_ENDED, QUEUE_KEPT, QUEUE_MADE},
    phases::{BEFORE_THE_GPU, OPERATION_INFERRED, QUIET_NS, SET_UP, STEADY, TEARDOWN, UNTIL_A_QUEUE_NS},
    tasks::{ProcessRecord, ThreadState},
};

use super::{
    emit::{self, Marked},
    jobs, phases,
};
use crate::ground::{kernel, maps::INFER_PHASES, state};

/// Whether that was asked for. The verifier removes what it switches off.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    INFER_PHASES.load() != 0
}

/// A process begins, or another program in it.
#[inline(always)]
pub(crate) fn begin(thread: &mut ThreadState, at_ns: u64) {
    if is_on()
        && let Some(process) = state::record(thread.process)
    {
        change(thread, process, BEFORE_THE_GPU, at_ns);
    }
}

/// Whether a process is in the phase that it begins with.
#[inline(always)]
pub(crate) fn is_before_the_gpu(process: &ProcessRecord) -> bool {
    is_on() && process.phase == BEFORE_THE_GPU
}

/// At each call: set-up ends when its time is over, whatever is called then.
#[inline(always)]
pub(crate) fn keep_up(thread: &mut ThreadState) {
    if is_on() && jobs::phase_outside(thread) == SET_UP {
        end_set_up();
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn end_set_up() -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let Some(process) = state::record(thread.process) else { return 0 };
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let until = process.set_up_until_ns;
    if process.phase == SET_UP && now >= until {
        change(thread, process, STEADY, until);
    }
    0
}

/// A call on a GPU device, and what it does with queues. A closed fd counts as an ended queue.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn gpu_call(queue: u32) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let Some(process) = state::record(thread.process) else { return 0 };
    let phase = process.phase;
    if !(BEFORE_THE_GPU..=TEARDOWN).contains(&phase) {
        return 0;
    }
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let is_first = phase == BEFORE_THE_GPU && queue != QUEUE_ENDED;
    if queue == QUEUE_MADE || is_first {
        process.set_up_until_ns = now + if queue == QUEUE_MADE { QUIET_NS } else { UNTIL_A_QUEUE_NS };
        if phase != SET_UP {
            change(thread, process, SET_UP, now);
        }
    } else if phase == STEADY && queue == QUEUE_ENDED {
        change(thread, process, TEARDOWN, now);
    }
    0
}

/// What a call does with queues by the low byte of the class that it makes or ends: those of channels end in 0x6f.
#[inline(always)]
pub(crate) fn of_class(queue: u32, class: u32) -> u32 {
    if class & 0xff == 0x6f { queue } else { QUEUE_KEPT }
}

/// The process is in another phase from `at_ns` on.
#[inline(always)]
fn change(thread: &mut ThreadState, process: &mut ProcessRecord, number: u32, at_ns: u64) {
    phases::go_on_in(thread, process, number, at_ns);
    emit::phase_change(
        thread,
        &Marked { operation: OPERATION_INFERRED, scope: 0, count: 0, begun: number, parent: 0, label: 0 },
    );
}
