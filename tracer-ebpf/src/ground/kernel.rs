//! Reading the kernel's own structures: the current task, its fields, the registers of a call.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs},
};
use gpuos_tracer_abi::{
    phases::Used,
    settings::{CAST, SpecialNumbers, TaskOffsetWords, TaskOffsets, TracepointOffsets},
    tasks::TaskUsage,
};

use super::{
    maps::{NO_BTF, PLAIN_POINTERS, SPECIAL_NUMBERS, TASK_OFFSETS, TRACEPOINT_OFFSETS},
    state,
};

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

/// The current task, as a pointer that the verifier knows; on kernels without those, as an address.
#[inline(always)]
pub(crate) fn current_task() -> *mut task_struct {
    if has_plain_pointers() {
        // SAFETY: the helper has no arguments and always returns the current task.
        return unsafe { bpf_get_current_task() } as *mut task_struct;
    }
    // SAFETY: as above.
    unsafe { bpf_get_current_task_btf() }
}

#[inline(always)]
fn has_plain_pointers() -> bool {
    PLAIN_POINTERS.load() != 0
}

/// Whether the kernel's structures can be read. A constant to the verifier.
#[inline(always)]
pub(crate) fn has_btf() -> bool {
    NO_BTF.load() == 0
}

/// Reads a field with a plain load, one instruction where `probe_read` is a call: the offset is a constant to the
/// verifier, so it checks the access against kernel BTF. On kernels without typed pointers by that call.
#[inline(always)]
pub(crate) fn field<T: Copy>(of: *const u8, offset: usize) -> T {
    // SAFETY: the verifier accepts only offsets of fields of a known type; a fault reads as 0.
    let from = unsafe { of.add(offset).cast::<T>() };
    if has_plain_pointers() {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes the whole value, zeros when it fails; the types used here are integers and pointers.
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast()) };
        // SAFETY: written above.
        return unsafe { value.assume_init() };
    }
    // SAFETY: as above.
    unsafe { from.read_volatile() }
}

/// An address as a pointer to a structure, for [`field`]: no instruction in the end, only knowledge of the verifier.
/// A field of memory that is not there reads as 0. Only where user space has said that it works, by a type that is not 0.
#[inline(always)]
pub(crate) fn as_structure(address: u64, kind: u32) -> *const u8 {
    // SAFETY: not a function but a place where user space puts one with these arguments.
    let cast: unsafe extern "C" fn(u64, u32) -> *const u8 = unsafe { core::mem::transmute(CAST as usize) };
    // SAFETY: it takes any address; the verifier checks what is read there.
    unsafe { cast(address, kind) }
}

/// One word of [`TASK_OFFSETS`], a constant to the verifier: loading all of them would cost more
/// than the call that is counted.
#[inline(always)]
fn offset(field: usize) -> usize {
    // SAFETY: `field` is inside the array; volatile, because the value is set after compilation.
    unsafe { (&raw const TASK_OFFSETS).cast::<u32>().add(field).read_volatile() as usize }
}

macro_rules! task_fields {
    ($($doc:literal $field:ident;)*) => {
        $(
            #[doc = $doc]
            ///
            /// Its offset on the running kernel; 0 when the kernel has none.
            #[inline(always)]
            pub(crate) fn $field() -> usize {
                offset(core::mem::offset_of!(TaskOffsets, $field) / 4)
            }
        )*
    };
}
gpuos_tracer_abi::task_offsets!(task_fields);

/// Offsets in the records of perf's tracepoints.
pub(crate) mod point {
    use super::{TRACEPOINT_OFFSETS, TracepointOffsets};

    macro_rules! point_fields {
        ($($doc:literal $field:ident;)*) => {
            $(
                #[doc = $doc]
                #[inline(always)]
                pub(crate) fn $field() -> usize {
                    let place = core::mem::offset_of!(TracepointOffsets, $field) / 4;
                    // SAFETY: inside the array; volatile, because the value is set after compilation.
                    unsafe { (&raw const TRACEPOINT_OFFSETS).cast::<u32>().add(place).read_volatile() as usize }
                }
            )*
        };
    }
    gpuos_tracer_abi::tracepoint_offsets!(point_fields);
}

/// Numbers of calls that are treated apart.
pub(crate) mod call_number {
    use super::{SPECIAL_NUMBERS, SpecialNumbers};

    macro_rules! numbers {
        ($($doc:literal $call:ident;)*) => {
            $(
                #[doc = $doc]
                #[inline(always)]
                pub(crate) fn $call() -> u32 {
                    let place = core::mem::offset_of!(SpecialNumbers, $call) / 4;
                    // SAFETY: inside the array; volatile, because the value is set after compilation.
                    unsafe { (&raw const SPECIAL_NUMBERS).cast::<u32>().add(place).read_volatile() }
                }
            )*
        };
    }
    gpuos_tracer_abi::special_numbers!(numbers);
}

const _: () = assert!(size_of::<TaskOffsetWords>() == size_of::<TaskOffsets>());

/// A 32-bit field of a task.
#[inline(always)]
fn task_word(task: *mut task_struct, offset: usize) -> u32 {
    field(task.cast(), offset)
}

/// Likewise for a 64-bit field. 0 where the kernel has no such field.
#[inline(always)]
fn task_value(task: *mut task_struct, offset: usize) -> u64 {
    if offset == 0 {
        return 0;
    }
    field(task.cast(), offset)
}

/// Why a task does not run. 0: it could.
#[inline(always)]
pub(crate) fn run_state_of(task: *mut task_struct) -> u32 {
    task_word(task, run_state())
}

/// The system call number in the registers of a call.
#[inline(always)]
pub(crate) fn number_of(registers: *const c_void) -> u32 {
    field::<u64>(registers.cast(), registers_number()) as u32
}

/// An argument of a call, from its registers.
#[inline(always)]
pub(crate) fn argument_of(registers: *const c_void, index: usize) -> u64 {
    let at = match index {
        0 => argument0(),
        1 => argument1(),
        2 => argument2(),
        3 => argument3(),
        4 => argument4(),
        _ => argument5(),
    };
    field(registers.cast(), at)
}

/// The registers with which a task entered the kernel: from `bpf_task_pt_regs` (Linux 5.15), else at the top of its
/// stack. On kernels without type information what was kept of them at the entry.
#[inline(always)]
pub(crate) fn registers_of(task: *mut task_struct) -> *const c_void {
    if !has_btf() {
        return state::state_of(task).map_or(core::ptr::null(), |thread| (&raw const thread.arguments).cast());
    }
    if has_plain_pointers() {
        return field::<*const u8>(task.cast(), stack()).wrapping_add(stack_registers()).cast();
    }
    // SAFETY: the verifier knows the task.
    unsafe { bpf_task_pt_regs(task) as *const c_void }
}

/// Exit code of a process as `wait` returns it, from one of its exiting threads: the code of
/// `exit_group` or of a fatal signal when there was one, else the thread's own.
#[inline(always)]
pub(crate) fn exit_code_of(task: *mut task_struct) -> (bool, u32) {
    const SIGNAL_GROUP_EXIT: u32 = 4;
    // Both are read before the choice: the compiler would choose the pointer and, with a second test of the same
    // flag, the offset; the verifier of 6.1 does not see that the two tests agree, that of 6.12 does.
    let own = task_word(task, exit_code());
    let shared: *const u8 = field(task.cast(), signal());
    let (flags, of_group): (u32, u32) = (field(shared, signal_flags()), field(shared, group_exit_code()));
    if flags & SIGNAL_GROUP_EXIT != 0 { (true, of_group) } else { (false, own) }
}

/// The task's open fds: how many places the table has, and the address of the array of pointers to files.
#[inline(always)]
pub(crate) fn open_fds_of(task: *mut task_struct) -> (u32, u64) {
    let files: *const u8 = field(task.cast(), files());
    let table: *const u8 = field(files, files_table());
    (field(table, table_length()), field(table, table_files()))
}

/// What a thread has used so far, as far as it is known at every moment.
#[inline(always)]
pub(crate) fn used_by(task: *mut task_struct) -> Used {
    Used {
        run_ns: task_value(task, run_time()),
        voluntary_switches: task_value(task, voluntary_switches()),
        involuntary_switches: task_value(task, involuntary_switches()),
        minor_faults: task_value(task, minor_faults()),
        major_faults: task_value(task, major_faults()),
    }
}

/// What a thread has used so far.
#[inline(always)]
pub(crate) fn usage_of(task: *mut task_struct) -> TaskUsage {
    TaskUsage {
        voluntary_switches: task_value(task, voluntary_switches()),
        involuntary_switches: task_value(task, involuntary_switches()),
        minor_faults: task_value(task, minor_faults()),
        major_faults: task_value(task, major_faults()),
        user_ns: task_value(task, user_time()),
        system_ns: task_value(task, system_time()),
        run_ns: task_value(task, run_time()),
    }
}
