//! What differs between kernels and architectures: versions, call numbers, offsets in structures.

use gpuos_tracer_abi::settings::{SpecialNumbers, TaskOffsets};

use super::kernel_btf::{BtfError, KernelBtf};

/// `bpf_task_pt_regs`, which gives programs the registers of a task, came with this version.
pub(super) const TASK_REGISTERS: (u32, u32) = (5, 15);

/// Major and minor version of the running kernel, (0, 0) when it does not say.
#[must_use]
pub fn kernel_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Of the architecture this is compiled for.
pub(super) const SPECIAL_NUMBERS: SpecialNumbers = SpecialNumbers {
    execve: libc::SYS_execve as u32,
    execveat: libc::SYS_execveat as u32,
    rt_sigreturn: libc::SYS_rt_sigreturn as u32,
    io_uring_setup: libc::SYS_io_uring_setup as u32,
    exit: libc::SYS_exit as u32,
    exit_group: libc::SYS_exit_group as u32,
};

/// Offsets in this kernel's structures. A kernel without BTF cannot be traced; a kernel without
/// one of the accounting fields shows 0 there.
pub(super) fn task_offsets(btf: &KernelBtf) -> Result<TaskOffsets, BtfError> {
    let task = btf.structure("task_struct")?;
    let registers = btf.structure("pt_regs")?;
    let shared = btf.structure("signal_struct")?;
    let of_task = |path| task.offset_of(path);
    let optional = |path| of_task(path).unwrap_or(0);
    let (compat_word, compat_mask, registers_number) = if cfg!(target_arch = "x86_64") {
        // TS_COMPAT in arch/x86/include/asm/thread_info.h.
        (
            of_task("thread_info.status")?,
            2,
            registers.offset_of("orig_ax").or_else(|_| registers.offset_of("orig_rax"))?,
        )
    } else {
        // TIF_32BIT in arch/arm64/include/asm/thread_info.h.
        (of_task("thread_info.flags")?, 1 << 22, registers.offset_of("syscallno")?)
    };
    Ok(TaskOffsets {
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
    })
}
