//! Entry and return of functions of drivers: the time of a call that is spent in its driver.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use gpuos_tracer_abi::{
    hooks::HookCounts,
    tasks::{SLOT_NONE, SLOT_RULED, STAGE_RUNNING, ThreadState},
};

use crate::{
    count::rows,
    ground::{atomic, kernel, maps::HOOK_COUNTS, state},
};

#[inline(always)]
fn counts(hook: u32) -> Option<&'static mut HookCounts> {
    // SAFETY: the map returned it; it lives as long as the program.
    HOOK_COUNTS.get_ptr_mut(hook).map(|counts| unsafe { &mut *counts })
}

#[inline(always)]
fn enter(hook: u32) -> u32 {
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let Some(counts) = counts(hook) else { return 0 };
    if thread.stage != STAGE_RUNNING {
        return 0;
    }
    atomic::add(&mut counts.calls, 1);
    if thread.slot == SLOT_NONE {
        atomic::add(&mut counts.outside, 1);
    }
    if thread.hook_depth == 0 {
        // SAFETY: the helper has no arguments.
        thread.hook_since_ns = unsafe { bpf_ktime_get_ns() };
        // Now, because the kernel may miss the return: it has room for a number of returns at a time.
        rows::reached_driver(thread, slot_of(thread), 1, 0);
    }
    thread.hook_depth += 1;
    0
}

/// Where the call in flight is counted.
#[inline(always)]
fn slot_of(thread: &ThreadState) -> u32 {
    if thread.slot == SLOT_RULED { thread.pending.slot } else { thread.slot }
}

#[inline(always)]
fn exit(hook: u32) -> u32 {
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(thread) = state::state_of(kernel::current_task()) else { return 0 };
    let Some(counts) = counts(hook) else { return 0 };
    // Its entry was before the trace.
    if thread.hook_depth == 0 {
        return 0;
    }
    atomic::add(&mut counts.returns, 1);
    thread.hook_depth -= 1;
    if thread.hook_depth == 0 {
        let duration = now.wrapping_sub(thread.hook_since_ns);
        atomic::add(&mut counts.total_ns, duration);
        rows::reached_driver(thread, slot_of(thread), 0, duration);
    }
    0
}

macro_rules! hook {
    ($index:literal, $enter:ident, $exit:ident) => {
        #[kprobe]
        pub(crate) fn $enter(_ctx: ProbeContext) -> u32 {
            enter($index)
        }

        #[kretprobe]
        pub(crate) fn $exit(_ctx: RetProbeContext) -> u32 {
            exit($index)
        }
    };
}
// In the order of `HOOKS`.
hook!(0, nvidia_enter, nvidia_exit);
hook!(1, nvidia_uvm_enter, nvidia_uvm_exit);
hook!(2, nvidia_poll_enter, nvidia_poll_exit);
hook!(3, kfd_enter, kfd_exit);
hook!(4, drm_enter, drm_exit);
hook!(5, amdgpu_enter, amdgpu_exit);
