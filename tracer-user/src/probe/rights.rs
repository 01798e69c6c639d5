//! Whose rights this program has, and giving up those that nothing needs any more.
//!
//! Root, `sudo` and a service manager give rights to who runs the tracer. `setcap` gives them to the file: whoever may execute
//! it has them, and must see no more than what the kernel would let that user ptrace. The kernel tells the two apart in the
//! auxiliary vector (`AT_SECURE`).

use std::{fs::File, io};

use gpuos_tracer_abi::settings::Caller;
use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Whether the rights are those of the file, and not of who calls it.
#[must_use]
pub fn are_of_file() -> bool {
    // SAFETY: it reads a word that the kernel put there before the program began.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether this program runs as another user or group than its caller.
#[must_use]
pub fn are_of_another_user() -> bool {
    Uid::current() != Uid::effective() || Gid::current() != Gid::effective()
}

/// Whom the kernel side may look at.
#[must_use]
pub fn caller() -> Caller {
    Caller { is_limit: are_of_file().into(), user: Uid::current().as_raw(), group: Gid::current().as_raw() }
}

/// Whether the caller may see what a process does: by the kernel's own check for ptrace, where the rights are those of the
/// file.
///
/// # Errors
/// What the kernel says: `EACCES` or `EPERM` when it would refuse a ptrace.
pub fn may_trace(pid: u32) -> io::Result<()> {
    if !are_of_file() {
        return Ok(());
    }
    // Opening it is checked as attaching is (`PTRACE_MODE_ATTACH`); nothing is read.
    File::open(format!("/proc/{pid}/mem")).map(drop)
}

/// What the rest of a run needs as root: writing files for who called sudo, signals to a command of another user, reading
/// `/proc` of one, a priority that was lowered.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_NICE);

/// What lets a process use BPF.
const BPF: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN);

/// Gives up every capability of this thread, and of those that it starts, that only loading and attaching needs.
/// `reads_maps` reads a map by its descriptor: Linux before 5.19 asks for `CAP_BPF` there, too, and it is kept.
///
/// # Errors
/// What the kernel says.
pub fn give_up(reads_maps: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let before = capabilities(None)?;
    let of = |kept: CapabilitySet| CapabilitySets {
        effective: before.effective & kept,
        permitted: before.permitted & kept,
        inheritable: before.inheritable & kept,
    };
    let tried = CapabilitySets { effective: before.effective & KEPT, ..before };
    set_capabilities(None, tried)?;
    let kept = match reads_maps() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => KEPT.union(BPF),
        _ => KEPT,
    };
    Ok(set_capabilities(None, of(kept))?)
}

/// As [`give_up`], for a tracer by ptrace, which the kernel allows where the tracer has every capability of the process, or
/// `CAP_SYS_PTRACE`: without that one, as in containers, none is given up.
///
/// # Errors
/// What the kernel says.
pub fn give_up_for_ptrace() -> io::Result<()> {
    if capabilities(None)?.permitted.contains(CapabilitySet::SYS_PTRACE) { give_up(|| Ok(())) } else { Ok(()) }
}
