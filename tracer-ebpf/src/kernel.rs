//! Reading the kernel's own structures: the current task, its fields, the registers of a call.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task_btf},
};
use gpuos_tracer_abi::settings::{TaskOffsetWords, TaskOffsets};

use crate::maps::TASK_OFFSETS;

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
    ($name:ident, $field:ident) => {
        /// Offset of this field on the running kernel; 0 when the kernel has none.
        #[inline(always)]
        pub(crate) fn $name() -> usize {
            offset(core::mem::offset_of!(TaskOffsets, $field) / 4)
        }
    };
}
task_field!(compat_word, compat_word);
task_field!(compat_mask, compat_mask);
task_field!(voluntary_switches, voluntary_switches);
task_field!(involuntary_switches, involuntary_switches);
task_field!(minor_faults, minor_faults);
task_field!(major_faults, major_faults);
task_field!(user_time, user_time);
task_field!(system_time, system_time);
task_field!(run_time, run_time);
task_field!(exit_code, exit_code);
task_field!(registers_number, registers_number);

const _: () = assert!(size_of::<TaskOffsetWords>() == size_of::<TaskOffsets>());

/// Reads a field of the task with a plain load, which costs a nanosecond where `probe_read` costs
/// eight: the offset is a constant to the verifier, so it checks the access against kernel BTF.
#[inline(always)]
pub(crate) fn task_word(task: *mut task_struct, offset: usize) -> u32 {
    // SAFETY: the verifier accepts only offsets of scalar fields; a fault reads as 0.
    unsafe { task.cast::<u8>().add(offset).cast::<u32>().read_volatile() }
}

/// Likewise for a 64-bit field. 0 where the kernel has no such field.
#[inline(always)]
pub(crate) fn task_value(task: *mut task_struct, offset: usize) -> u64 {
    if offset == 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { task.cast::<u8>().add(offset).cast::<u64>().read_volatile() }
}

/// The system call number that a `pt_regs` at `registers` holds.
#[inline(always)]
pub(crate) fn number_of(registers: u64) -> u32 {
    let address = registers.wrapping_add(registers_number() as u64) as *const u64;
    // SAFETY: the helper checks the address; a bad one is an error.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or(u64::MAX) as u32
}
