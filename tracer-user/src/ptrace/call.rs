//! The call at which a thread stops: as the kernel tells it, or from the registers where it does not.

use std::mem;

use nix::errno::Errno;

use super::{Request, request};

/// Architecture of 32-bit calls, `AUDIT_ARCH_` of `linux/audit.h`.
const COMPAT_ARCHITECTURES: [u32; 2] = [0x4000_0003, 0x4000_0028];

/// `PTRACE_GET_SYSCALL_INFO` of `linux/ptrace.h`, and what it says of a stop; musl has none of them.
const GET_SYSCALL_INFO: Request = 0x420e;
const ENTRY: u8 = 1;
const EXIT: u8 = 2;
const SECCOMP: u8 = 3;

/// `struct ptrace_syscall_info`.
#[repr(C)]
struct CallInfo {
    what: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction: u64,
    stack: u64,
    /// Number and arguments, or what was returned.
    words: [u64; 8],
}

/// Where a thread stops at a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum AtCall {
    /// Before it.
    Entry { is_compat: bool, number: u32, arguments: [u64; 6] },
    /// After it.
    Exit { returned: i64 },
}

/// What the kernel says of the call at which a thread stops. `is_inside`: the thread has entered one that it has not left, for
/// kernels that do not say which it is.
pub(super) fn call_of(thread: u32, is_inside: bool) -> Result<Option<AtCall>, Errno> {
    // SAFETY: plain numbers.
    let mut info: CallInfo = unsafe { mem::zeroed() };
    match request(GET_SYSCALL_INFO, thread, size_of_val(&info), (&raw mut info) as usize) {
        Ok(_) => {}
        Err(Errno::ESRCH) => return Err(Errno::ESRCH),
        // Before Linux 5.3, and gVisor.
        Err(_) => return from_registers(thread, is_inside).map(Some),
    }
    let [first, arguments @ .., _] = info.words;
    Ok(match info.what {
        ENTRY | SECCOMP => {
            let is_compat = COMPAT_ARCHITECTURES.contains(&info.architecture);
            Some(AtCall::Entry { is_compat, number: first as u32, arguments })
        }
        EXIT => Some(AtCall::Exit { returned: first.cast_signed() }),
        _ => None,
    })
}

/// `NT_PRSTATUS` of `elf.h`.
const GENERAL_REGISTERS: usize = 1;

/// The call, from the registers.
fn from_registers(thread: u32, is_inside: bool) -> Result<AtCall, Errno> {
    // SAFETY: plain numbers.
    let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
    let mut vector = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of_val(&registers) };
    request(libc::PTRACE_GETREGSET, thread, GENERAL_REGISTERS, (&raw mut vector) as usize)?;
    Ok(of(&registers, is_inside))
}

#[cfg(target_arch = "x86_64")]
fn of(registers: &libc::user_regs_struct, is_inside: bool) -> AtCall {
    let returned = registers.rax.cast_signed();
    // At an entry the kernel has put an error there.
    if is_inside || returned != -i64::from(libc::ENOSYS) {
        return AtCall::Exit { returned };
    }
    let libc::user_regs_struct { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    // Selector of 32-bit code, of the kernel's `segment.h`.
    let is_compat = registers.cs == 0x23;
    AtCall::Entry { is_compat, number: registers.orig_rax as u32, arguments: [rdi, rsi, rdx, r10, r8, r9] }
}

#[cfg(target_arch = "aarch64")]
fn of(registers: &libc::user_regs_struct, is_inside: bool) -> AtCall {
    if is_inside {
        return AtCall::Exit { returned: registers.regs[0].cast_signed() };
    }
    let [first, second, third, fourth, fifth, sixth, ..] = registers.regs;
    let arguments = [first, second, third, fourth, fifth, sixth];
    AtCall::Entry { is_compat: false, number: registers.regs[8] as u32, arguments }
}

/// Lets a call at whose entry a thread stops fail with `ENOSYS`, as it does without a tracer.
pub(super) fn refuse(thread: u32) {
    #[cfg(target_arch = "x86_64")]
    {
        let number = std::mem::offset_of!(libc::user_regs_struct, orig_rax);
        // What it returns stands in the registers already.
        let _ = request(libc::PTRACE_POKEUSER, thread, number, usize::MAX);
    }
    #[cfg(target_arch = "aarch64")]
    {
        /// `NT_ARM_SYSTEM_CALL` of `elf.h`.
        const SYSTEM_CALL: usize = 0x404;
        let mut number: libc::c_int = -1;
        let mut vector = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: size_of_val(&number) };
        let _ = request(libc::PTRACE_SETREGSET, thread, SYSTEM_CALL, (&raw mut vector) as usize);
    }
}
