//! A seccomp filter that stops a command at the calls that are wanted, and lets all others pass.
//!
//! Who is left behind by its tracer gets `ENOSYS` for the calls that it names: it is for commands that are traced to their end,
//! and end with their tracer.

use std::collections::BTreeSet;

use gpuos_tracer_abi::phases::MARKER;
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JUMP, BPF_K, BPF_LD, BPF_RET, BPF_STMT, BPF_W, sock_filter};

/// More are looked for at each call in less time by a stop than by a filter.
const MOST: usize = 64;

/// What the kernel tells of a stop by this filter, and not of one by a filter that the program has itself.
pub(super) const OURS: u32 = 0x6770;

/// Stops the call.
const STOP: u32 = libc::SECCOMP_RET_TRACE | OURS;

/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const SECOND_ARGUMENT: u32 = 24;

/// `AUDIT_ARCH_` of this program's calls, from `linux/audit.h`.
const NATIVE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

fn load(place: u32) -> sock_filter {
    // SAFETY: puts an instruction together.
    unsafe { BPF_STMT((BPF_LD | BPF_W | BPF_ABS) as u16, place) }
}

fn unless(value: u32, skip: u8) -> sock_filter {
    // SAFETY: as above.
    unsafe { BPF_JUMP((BPF_JMP | BPF_JEQ | BPF_K) as u16, value, 0, skip) }
}

fn answer(value: u32) -> sock_filter {
    // SAFETY: as above.
    unsafe { BPF_STMT((BPF_RET | BPF_K) as u16, value) }
}

/// The filter for these calls; `None` where they are too many.
pub(crate) fn of(wanted: &[u32]) -> Option<Vec<sock_filter>> {
    let wanted: BTreeSet<u32> = wanted.iter().copied().collect();
    if wanted.len() > MOST {
        return None;
    }
    // Calls of 32 bits have numbers of their own: they all stop, to be counted as left out.
    // SAFETY: as above.
    let is_native = unsafe { BPF_JUMP((BPF_JMP | BPF_JEQ | BPF_K) as u16, NATIVE, 1, 0) };
    let mut program = vec![load(ARCHITECTURE), is_native, answer(STOP), load(NUMBER)];
    for number in &wanted {
        program.extend([unless(*number, 1), answer(STOP)]);
    }
    // Phases are marked by a call that no driver gets.
    program.extend([
        unless(libc::SYS_ioctl as u32, 3),
        load(SECOND_ARGUMENT),
        unless(MARKER, 1),
        answer(STOP),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    Some(program)
}
