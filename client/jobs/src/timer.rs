//! The descriptor of a context: a timer of the kernel that is armed for the time when the next job is likely to end. It wakes the
//! program's own loop, which then looks: no other thread is in between.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use crate::{
    clock::timespec,
    error::{Error, Result},
};

/// The descriptor.
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::system("timerfd_create"));
        }
        // SAFETY: it was just made, and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Readable from a time of [`now`](crate::clock::now) on, and not before; `None`: not at all.
    pub(crate) fn arm(&self, at: Option<u64>) {
        // 0 would disarm it.
        let at = at.map_or(0, |at| at.max(1));
        let set = libc::itimerspec { it_interval: timespec(0), it_value: timespec(at) };
        // SAFETY: reads the structure; the old value is not wanted. It cannot fail for a time that is valid.
        unsafe { libc::timerfd_settime(self.fd(), libc::TFD_TIMER_ABSTIME, &raw const set, std::ptr::null_mut()) };
    }
}
