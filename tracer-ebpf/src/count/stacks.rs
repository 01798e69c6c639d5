//! Where in a program calls are made: counted by process, call and user stack, beside the rows.

use aya_ebpf::{
    bindings::{BPF_F_USER_STACK, BPF_NOEXIST},
    programs::tracing::StackIdContext,
};
use gpuos_tracer_abi::{
    counters::STACK_SITES_LOST,
    stacks::{NO_STACK, StackSite},
    tasks::{SLOT_NONE, SLOT_SKIPPED, ThreadState},
};

use crate::ground::{
    atomic, counters,
    maps::{STACK_SITES, STACKS, STACKS_KEPT},
};

/// Whether that was asked for. The verifier removes what it switches off.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    STACKS_KEPT.load() != 0
}

/// Counts the call in flight, which returns now. The program's stack is still what it was at the entry. A frame of its
/// own: those of its callers stand in the longest chains of calls, for which 5.10 has 512 bytes.
#[inline(never)]
pub(crate) fn count(ctx: &impl StackIdContext, thread: &ThreadState, number: u32) -> u32 {
    if thread.slot == SLOT_NONE || thread.slot == SLOT_SKIPPED {
        return 0;
    }
    let stack = ctx.get_stackid(&STACKS, BPF_F_USER_STACK.into()).map_or(NO_STACK, |stack| stack as u32);
    let key = StackSite { process: thread.process, stack, number };
    if STACK_SITES.get_ptr(&key).is_none() {
        // Another thread may be faster.
        let _ = STACK_SITES.insert(&key, &0, BPF_NOEXIST.into());
    }
    match STACK_SITES.get_ptr_mut(&key) {
        // SAFETY: the map returned it; it lives as long as the program.
        Some(calls) => atomic::add(unsafe { &mut *calls }, 1),
        None => counters::add(STACK_SITES_LOST, 1),
    }
    0
}
