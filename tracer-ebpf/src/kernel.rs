//! Reading the kernel's own structures: the current task, its fields, the registers of a call.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
};
use gpuos_tracer_abi::{
    settings::{TaskOffsetWords, TaskOffsets},
    tasks::Usage,
};

use crate::maps::TASK_OFFSETS;

/// Whether the call in flight came through the 32-bit entry.
#[inline(always)]
pub(crate) fn is_compat(task: *mut task_struct) -> bool {
    let mask = compat_mask() as u32;
    mask != 0 && task_word(task, compat_word()) & mask != 0
}

/// Masks an index in a way that the verifier sees: the compiler would leave a plain mask out after a
/// comparison and then test a copy of the register.
#[inline(always)]
pub(crate) fn bounded<const MASK: u64>(number: u32) -> usize {
    let mut index = u64::from(number);
    // SAFETY: one instruction on a register.
    unsafe { core::arch::asm!("{0} &= {mask}", inout(reg) index, mask = const MASK, options(pure, nomem, nostack)) };
    index as usize
}

/// The current task, as a pointer that the verifier knows.
#[inline(always)]
pub(crate) fn current_task() -> *mut task_struct {
    // SAFETY: the helper has no arguments and always returns the current task.
    unsafe { bpf_get_current_task_btf() }
}

/// One word of [`TASK_OFFSETS`], a constant to the verifier: loading all of them would cost more
/// than the call that is counted.
#[inline(always)]
fn offset(field: usize) -> usize {
    // SAFETY: `field` is inside the array; volatile, because the value is set after compilation.
    unsafe { (&raw const TASK_OFFSETS).cast::<u32>().add(field).read_volatile() as usize }
}

macro_rules! task_field {
    ($field:ident) => {
        /// Offset of this field on the running kernel; 0 when the kernel has none.
        #[inline(always)]
        fn $field() -> usize {
            offset(core::mem::offset_of!(TaskOffsets, $field) / 4)
        }
    };
}
task_field!(compat_word);
task_field!(compat_mask);
task_field!(voluntary_switches);
task_field!(involuntary_switches);
task_field!(minor_faults);
task_field!(major_faults);
task_field!(user_time);
task_field!(system_time);
task_field!(run_time);
task_field!(exit_code);
task_field!(signal);
task_field!(signal_flags);
task_field!(group_exit_code);
task_field!(registers_number);

const _: () = assert!(size_of::<TaskOffsetWords>() == size_of::<TaskOffsets>());

/// Reads a field of the task with a plain load, one instruction where `probe_read` is a
/// call: the offset is a constant to the verifier, so it checks the access against kernel BTF.
#[inline(always)]
fn task_word(task: *mut task_struct, offset: usize) -> u32 {
    // SAFETY: the verifier accepts only offsets of scalar fields; a fault reads as 0.
    unsafe { task.cast::<u8>().add(offset).cast::<u32>().read_volatile() }
}

/// Likewise for a 64-bit field. 0 where the kernel has no such field.
#[inline(always)]
fn task_value(task: *mut task_struct, offset: usize) -> u64 {
    if offset == 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { task.cast::<u8>().add(offset).cast::<u64>().read_volatile() }
}

/// The system call number in the registers of a call.
#[inline(always)]
pub(crate) fn number_of(registers: *const c_void) -> u32 {
    // SAFETY: the verifier knows the pointer as `pt_regs` and checks the offset.
    unsafe { registers.cast::<u8>().add(registers_number()).cast::<u64>().read_volatile() as u32 }
}

/// The registers with which a task entered the kernel (`bpf_task_pt_regs`, Linux 5.15).
#[inline(always)]
pub(crate) fn registers_of(task: *mut task_struct) -> *const c_void {
    // SAFETY: the verifier knows the task.
    unsafe { bpf_task_pt_regs(task) as *const c_void }
}

/// Exit code of a process as `wait` returns it, from one of its exiting threads: the code of
/// `exit_group` or of a fatal signal when there was one, else the thread's own.
#[inline(always)]
pub(crate) fn exit_code_of(task: *mut task_struct) -> (bool, u32) {
    const SIGNAL_GROUP_EXIT: u32 = 4;
    // SAFETY: the verifier knows each pointer and checks the offsets.
    unsafe {
        let shared = task.cast::<u8>().add(signal()).cast::<*const u8>().read_volatile();
        if shared.add(signal_flags()).cast::<u32>().read_volatile() & SIGNAL_GROUP_EXIT != 0 {
            return (true, shared.add(group_exit_code()).cast::<u32>().read_volatile());
        }
    }
    (false, task_word(task, exit_code()))
}

/// What a thread has used so far.
#[inline(always)]
pub(crate) fn usage_of(task: *mut task_struct) -> Usage {
    Usage {
        voluntary_switches: task_value(task, voluntary_switches()),
        involuntary_switches: task_value(task, involuntary_switches()),
        minor_faults: task_value(task, minor_faults()),
        major_faults: task_value(task, major_faults()),
        user_ns: task_value(task, user_time()),
        system_ns: task_value(task, system_time()),
        run_ns: task_value(task, run_time()),
    }
}
