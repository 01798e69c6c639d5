//! Fds from system calls that have no wrapper elsewhere.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// What a system call returned that gives a new fd, or −1 with an error number.
///
/// # Errors
/// That of the call.
///
/// # Safety
/// Nobody else owns the fd.
pub unsafe fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller says.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// An fd of a process; with `PIDFD_THREAD` (`O_EXCL`, Linux 6.9) of a thread.
///
/// # Errors
/// What the kernel says; `ESRCH` when it is gone.
pub fn pidfd_open(pid: u32, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: two integers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    // SAFETY: what this call returns is new.
    unsafe { new_fd(result) }
}
