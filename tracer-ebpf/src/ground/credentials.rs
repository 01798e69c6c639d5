//! Whose rights a task has, for a tracer that has its own from its file: it looks at nothing that its caller could not ptrace.

use aya_ebpf::{bindings::task_struct, helpers::generated::bpf_probe_read_kernel};
use gpuos_tracer_abi::settings::Caller;

use super::{
    kernel::{
        self, capabilities, credentials, effective_group, effective_user, group, memory, memory_flags, namespace,
        namespace_level, saved_group, saved_user, user,
    },
    maps::CALLER,
};

/// One word of [`CALLER`], a constant to the verifier.
#[inline(always)]
fn caller(field: usize) -> u32 {
    // SAFETY: `field` is inside the array; volatile, because the value is set after compilation.
    unsafe { (&raw const CALLER).cast::<u32>().add(field / 4).read_volatile() }
}

/// Whether only tasks with the rights of the caller may be looked at. The verifier removes what it switches off.
#[inline(always)]
pub(crate) fn are_limited() -> bool {
    caller(core::mem::offset_of!(Caller, is_limit)) != 0
}

/// Reads a field of a structure at an address; a fault reads as all ones, which no caller is.
#[inline(always)]
fn peek<T: Copy>(address: u64, offset: usize, fault: T) -> T {
    let mut value = fault;
    // SAFETY: the helper writes the whole value; the types used here are integers.
    let failed = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, (address + offset as u64) as *const _)
    };
    if failed == 0 { value } else { fault }
}

/// Whether the caller could not ptrace a task, by what the kernel compares (`__ptrace_may_access`): real, effective and saved
/// user and group, whether its memory may be looked at (`dumpable`), and capabilities, which those of a user namespace of its
/// own do not count among.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn are_others() -> u32 {
    let task: *mut task_struct = kernel::current_task();
    let rights = kernel::field::<u64>(task.cast_const().cast(), credentials());
    let (us, ours) = (caller(core::mem::offset_of!(Caller, user)), caller(core::mem::offset_of!(Caller, group)));
    let differs = |offset: usize, own: u32| u32::from(peek(rights, offset, u32::MAX) != own);
    let mut others = differs(user(), us) | differs(saved_user(), us) | differs(effective_user(), us);
    others |= differs(group(), ours) | differs(saved_group(), ours) | differs(effective_group(), ours);
    let level: u32 = peek(peek(rights, namespace(), 0_u64), namespace_level(), 0);
    if level == 0 {
        others |= u32::from(peek(rights, capabilities(), u64::MAX) != 0);
    }
    if memory_flags() != 0 {
        const DUMPABLE: u64 = 3;
        let memory = kernel::field::<u64>(task.cast_const().cast(), memory());
        others |= u32::from(peek(memory, memory_flags(), 0_u64) & DUMPABLE != 1);
    }
    others
}
