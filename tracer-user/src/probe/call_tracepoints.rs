//! Tracepoints of single system calls, for a filter that names few of them: every other call, of
//! everybody, then costs less than half of what the general tracepoints cost it.

use libc::{SYS_execve, SYS_execveat, SYS_ioctl, SYS_rt_sigreturn};

use super::perf_tracepoints::Events;
use gpuos_decode::syscalls;

/// From this many calls on, the general tracepoints are the cheaper way.
const MOST_CALLS: usize = 8;

/// Calls that have another number at their exit, or none: the tracepoint of their own exit stays silent. The kernel
/// makes every successful exec an `execve`.
const OF_CHANGING_NUMBER: [libc::c_long; 3] = [SYS_rt_sigreturn, SYS_execve, SYS_execveat];

/// Numbers of the entry and the exit tracepoint of these calls; `None` when they are too many, or the kernel does
/// not show (this user) its tracepoints, or has none for one of them.
pub(super) fn of_calls(numbers: &[u32]) -> Option<Vec<(u64, u64)>> {
    if numbers.is_empty()
        || numbers.len() >= MOST_CALLS
        || OF_CHANGING_NUMBER.iter().any(|changing| numbers.contains(&(*changing as u32)))
    {
        return None;
    }
    let events = Events::open()?;
    let pair = |number: &u32| {
        let name = syscalls::by_number(*number)?.name;
        Some((events.id(&format!("syscalls/sys_enter_{name}"))?, events.id(&format!("syscalls/sys_exit_{name}"))?))
    };
    numbers.iter().map(pair).collect()
}

/// Number of the tracepoint that shows phase markers, when the entries of these calls do not.
pub(super) fn entry_of_markers(numbers: Option<&[u32]>) -> Option<u64> {
    let sees_them = numbers?.contains(&(SYS_ioctl as u32));
    if sees_them { None } else { Events::open()?.id("syscalls/sys_enter_ioctl") }
}

/// Whether this user can find the tracepoints of single calls.
#[must_use]
pub fn has_call_tracepoints() -> bool {
    of_calls(&[SYS_ioctl as u32]).is_some()
}
