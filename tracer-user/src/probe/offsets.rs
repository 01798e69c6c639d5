//! What differs between kernels and architectures: call numbers, offsets in structures.

use gpuos_decode::syscalls;
use gpuos_host::environment::kernel_version;
use gpuos_tracer_abi::{
    ioctl::{FILE_WINDOW, INODE_WINDOW},
    settings::{SpecialNumbers, TaskOffsets},
};

use super::kernel_btf::{BtfError, KernelBtf};

/// `bpf_task_pt_regs`, which gives programs the registers of a task, came with this version.
const TASK_REGISTERS: (u32, u32) = (5, 15);

/// Whether it is there; the typed pointer to the current task is older.
pub(super) fn task_registers_helper() -> bool {
    kernel_version() >= TASK_REGISTERS
}

/// Of the architecture this is compiled for; `u32::MAX` where it has no such call.
pub(super) fn special_numbers() -> SpecialNumbers {
    let number = |name| syscalls::by_name(name).map_or(u32::MAX, |call| call.number);
    macro_rules! numbers {
        ($($doc:literal $call:ident;)*) => {
            SpecialNumbers { $($call: number(stringify!($call)),)* }
        };
    }
    gpuos_tracer_abi::special_numbers!(numbers)
}

/// Offsets on a kernel that shows no type information: of its own structures only that which stands at their very
/// beginning, and the arguments where the entry of a call keeps them.
pub(super) fn offsets_without_btf() -> TaskOffsets {
    let (compat_word, compat_mask) = compat_without_btf(kernel_version());
    TaskOffsets {
        compat_word,
        compat_mask,
        argument0: 0,
        argument1: 8,
        argument2: 16,
        argument3: 24,
        argument4: 32,
        argument5: 40,
        ..TaskOffsets::default()
    }
}

/// `thread_info` begins `task_struct`. On `x86_64` it is `flags`, since Linux 5.11 `syscall_work`, and `status`
/// (`arch/x86/include/asm/thread_info.h`); on aarch64 `flags` is the first.
fn compat_without_btf(version: (u32, u32)) -> (u32, u32) {
    match (cfg!(target_arch = "x86_64"), version) {
        (true, (5, 0..=10)) => (8, TS_COMPAT),
        (true, _) => (16, TS_COMPAT),
        (false, _) => (0, TIF_32BIT),
    }
}

/// Of `arch/x86/include/asm/thread_info.h`.
const TS_COMPAT: u32 = 2;
/// Of `arch/arm64/include/asm/thread_info.h`.
const TIF_32BIT: u32 = 1 << 22;

/// Offsets in this kernel's structures. A kernel without one of the accounting fields shows 0 there.
pub(super) fn task_offsets(btf: &KernelBtf) -> Result<TaskOffsets, BtfError> {
    let task = btf.structure("task_struct")?;
    let registers = btf.structure("pt_regs")?;
    let shared = btf.structure("signal_struct")?;
    let files = btf.structure("files_struct")?;
    let table = btf.structure("fdtable")?;
    let file = btf.structure("file")?;
    let inode = btf.structure("inode")?;
    let superblock = btf.structure("super_block")?;
    let dentry = btf.structure("dentry")?;
    let rights = btf.structure("cred")?;
    let namespace = btf.structure("user_namespace")?;
    let of_task = |path| task.offset_of(path);
    let optional = |path| of_task(path).unwrap_or(0);
    let of_epoll = |name, path| btf.structure(name).and_then(|structure| structure.offset_of(path)).unwrap_or(0);
    let (compat_word, compat_mask, registers_number) = if cfg!(target_arch = "x86_64") {
        (
            of_task("thread_info.status")?,
            TS_COMPAT,
            registers.offset_of("orig_ax").or_else(|_| registers.offset_of("orig_rax"))?,
        )
    } else {
        (of_task("thread_info.flags")?, TIF_32BIT, registers.offset_of("syscallno")?)
    };
    let arguments = if cfg!(target_arch = "x86_64") {
        ["di", "si", "dx", "r10", "r8", "r9"].map(|name| registers.offset_of(name))
    } else {
        let first = registers.offset_of("regs")?;
        [registers.offset_of("orig_x0"), Ok(first + 8), Ok(first + 16), Ok(first + 24), Ok(first + 32), Ok(first + 40)]
    };
    let [argument0, argument1, argument2, argument3, argument4, argument5] = arguments;
    let (file_inode, file_mode) = (file.offset_of("f_inode")?, file.offset_of("f_mode")?);
    let file_window = file_inode.min(file_mode) & !7;
    let inode_window = |path| in_window(inode.offset_of(path)?, 0, INODE_WINDOW);
    Ok(TaskOffsets {
        // Renamed in Linux 5.14.
        run_state: of_task("__state").or_else(|_| of_task("state"))?,
        compat_word,
        compat_mask,
        voluntary_switches: optional("nvcsw"),
        involuntary_switches: optional("nivcsw"),
        minor_faults: optional("min_flt"),
        major_faults: optional("maj_flt"),
        user_time: optional("utime"),
        system_time: optional("stime"),
        run_time: optional("se.sum_exec_runtime"),
        exit_code: of_task("exit_code")?,
        signal: of_task("signal")?,
        signal_flags: shared.offset_of("flags")?,
        group_exit_code: shared.offset_of("group_exit_code")?,
        registers_number,
        stack: of_task("stack")?,
        stack_registers: STACK_BYTES - registers.size(),
        argument0: argument0?,
        argument1: argument1?,
        argument2: argument2?,
        argument3: argument3?,
        argument4: argument4?,
        argument5: argument5?,
        files: of_task("files")?,
        files_table: files.offset_of("fdt")?,
        table_length: table.offset_of("max_fds")?,
        table_files: table.offset_of("fd")?,
        file_window,
        file_inode: in_window(file_inode, file_window, FILE_WINDOW)?,
        file_mode: in_window(file_mode, file_window, FILE_WINDOW)?,
        file_dentry: file.offset_of("f_path.dentry")?,
        inode_mode: inode_window("i_mode")?,
        inode_device: inode_window("i_rdev")?,
        inode_superblock: inode_window("i_sb")?,
        superblock_magic: superblock.offset_of("s_magic")?,
        dentry_name: dentry.offset_of("d_name.name")?,
        file_private: file.offset_of("private_data")?,
        epoll_tree: of_epoll("eventpoll", "rbr.rb_root.rb_node"),
        epoll_file: of_epoll("epitem", "ffd.file"),
        node_left: of_epoll("rb_node", "rb_left"),
        node_right: of_epoll("rb_node", "rb_right"),
        credentials: of_task("real_cred")?,
        user: rights.offset_of("uid")?,
        group: rights.offset_of("gid")?,
        saved_user: rights.offset_of("suid")?,
        saved_group: rights.offset_of("sgid")?,
        effective_user: rights.offset_of("euid")?,
        effective_group: rights.offset_of("egid")?,
        capabilities: rights.offset_of("cap_permitted")?,
        namespace: rights.offset_of("user_ns")?,
        memory: of_task("mm")?,
        memory_flags: btf.structure("mm_struct").and_then(|memory| memory.offset_of("flags")).unwrap_or(0),
        namespace_level: namespace.offset_of("level")?,
    })
}

/// The kernel's stack of a task, `THREAD_SIZE`: 16 KiB on `x86_64` and on aarch64 with pages of 4 KiB.
const STACK_BYTES: u32 = 16 << 10;

/// The offset in a part of a structure that is copied whole; every field used is at most eight bytes wide.
fn in_window(offset: u32, start: u32, length: usize) -> Result<u32, BtfError> {
    if offset - start <= length as u32 - 8 { Ok(offset - start) } else { Err(BtfError::TooFar(offset)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_without_btf_is_what_they_say() {
        // Of this kernel; `vmtest -- kfd` looks at 32-bit calls on others.
        let Ok(types) = KernelBtf::of_running_kernel() else { return };
        let (with, without) = (task_offsets(&types).unwrap(), offsets_without_btf());
        assert_eq!((without.compat_word, without.compat_mask), (with.compat_word, with.compat_mask));
    }
}
