//! Reading the kernel's own structures: the current task, its fields, the registers of a call.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs},
};
use gpuos_tracer_abi::{
    settings::{CAST, PointOffsets, SpecialNumbers, TaskOffsetWords, TaskOffsets},
    tasks::Usage,
};

use crate::{
    maps::{POINT_OFFSETS, SPECIAL_NUMBERS, TASK_OFFSETS, UNTYPED, WITHOUT_TYPES},
    tasks,
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
    // SAFETY: the helpers have no arguments and always return the current task.
    unsafe { if is_untyped() { bpf_get_current_task() as *mut task_struct } else { bpf_get_current_task_btf() } }
}

#[inline(always)]
fn is_untyped() -> bool {
    UNTYPED.load() != 0
}

/// Whether the kernel's structures can be read. A constant to the verifier.
#[inline(always)]
pub(crate) fn has_types() -> bool {
    WITHOUT_TYPES.load() == 0
}

/// Reads a field with a plain load, one instruction where `probe_read` is a call: the offset is a constant to the
/// verifier, so it checks the access against kernel BTF. On kernels without typed pointers by that call.
#[inline(always)]
pub(crate) fn field<T: Copy>(of: *const u8, offset: usize) -> T {
    // SAFETY: the verifier accepts only offsets of fields of a known type; a fault reads as 0.
    let from = unsafe { of.add(offset).cast::<T>() };
    if is_untyped() {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes the whole value, zeros when it fails; the types used here are integers and pointers.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
            return value.assume_init();
        }
    }
    // SAFETY: as above.
    unsafe { from.read_volatile() }
}

/// An address as a pointer to a structure, for [`field`]: no instruction in the end, only knowledge of the verifier.
/// A field of memory that is not there reads as 0. Only where user space has said that it works, by a type that is not 0.
#[inline(always)]
pub(crate) fn as_structure(address: u64, kind: u32) -> *const u8 {
    // SAFETY: not a function but a place where user space puts one with these arguments.
    unsafe {
        let cast: unsafe extern "C" fn(u64, u32) -> *const u8 = core::mem::transmute(CAST as usize);
        cast(address, kind)
    }
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
        pub(crate) fn $field() -> usize {
            offset(core::mem::offset_of!(TaskOffsets, $field) / 4)
        }
    };
}
task_field!(state);
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
task_field!(stack);
task_field!(stack_registers);
task_field!(argument0);
task_field!(argument1);
task_field!(argument2);
task_field!(argument3);
task_field!(argument4);
task_field!(argument5);
task_field!(files);
task_field!(files_table);
task_field!(table_length);
task_field!(table_files);
task_field!(file_window);
task_field!(file_inode);
task_field!(file_mode);
task_field!(file_dentry);
task_field!(inode_mode);
task_field!(inode_device);
task_field!(inode_superblock);
task_field!(superblock_magic);
task_field!(dentry_name);
task_field!(file_private);
task_field!(epoll_tree);
task_field!(epoll_file);
task_field!(node_left);
task_field!(node_right);

macro_rules! point_field {
    ($field:ident) => {
        /// Offset of this field in the record of its tracepoint.
        #[inline(always)]
        pub(crate) fn $field() -> usize {
            // SAFETY: inside the array; volatile, because the value is set after compilation.
            unsafe {
                (&raw const POINT_OFFSETS)
                    .cast::<u32>()
                    .add(core::mem::offset_of!(PointOffsets, $field) / 4)
                    .read_volatile() as usize
            }
        }
    };
}

/// Offsets in the records of perf's tracepoints.
pub(crate) mod point {
    use super::{POINT_OFFSETS, PointOffsets};
    point_field!(fork_child);
    point_field!(exec_before);
    point_field!(switch_state);
    point_field!(switch_next);
    point_field!(fault_address);
    point_field!(fault_code);
}

macro_rules! special_number {
    ($call:ident) => {
        /// The number of this call on this architecture.
        #[inline(always)]
        pub(crate) fn $call() -> u32 {
            // SAFETY: inside the array; volatile, because the value is set after compilation.
            unsafe {
                (&raw const SPECIAL_NUMBERS)
                    .cast::<u32>()
                    .add(core::mem::offset_of!(SpecialNumbers, $call) / 4)
                    .read_volatile()
            }
        }
    };
}

/// Numbers of calls that are treated apart.
pub(crate) mod call_number {
    use super::{SPECIAL_NUMBERS, SpecialNumbers};
    special_number!(execve);
    special_number!(execveat);
    special_number!(rt_sigreturn);
    special_number!(io_uring_setup);
    special_number!(exit);
    special_number!(exit_group);
    special_number!(ioctl);
    special_number!(mmap);
    special_number!(read);
    special_number!(poll);
    special_number!(ppoll);
    special_number!(epoll_ctl);
    special_number!(epoll_wait);
    special_number!(epoll_pwait);
    special_number!(epoll_pwait2);
    special_number!(prctl);
    special_number!(close);
    special_number!(clone);
    special_number!(clone3);
    special_number!(fork);
    special_number!(vfork);
    special_number!(open);
    special_number!(creat);
    special_number!(openat);
    special_number!(openat2);
    special_number!(dup);
    special_number!(dup2);
    special_number!(dup3);
    special_number!(fcntl);
    special_number!(close_range);
    special_number!(io_uring_enter);
    special_number!(unshare);
    special_number!(setns);
    special_number!(chroot);
    special_number!(pivot_root);
    special_number!(uretprobe);
    special_number!(uprobe);
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
pub(crate) fn state_of(task: *mut task_struct) -> u32 {
    task_word(task, state())
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
    if !has_types() {
        return tasks::state_of(task).map_or(core::ptr::null(), |thread| (&raw const thread.arguments).cast());
    }
    if is_untyped() {
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

/// The task's open descriptors: how many places the table has, and the address of the array of pointers to files.
#[inline(always)]
pub(crate) fn descriptors_of(task: *mut task_struct) -> (u32, u64) {
    let files: *const u8 = field(task.cast(), files());
    let table: *const u8 = field(files, files_table());
    (field(table, table_length()), field(table, table_files()))
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
