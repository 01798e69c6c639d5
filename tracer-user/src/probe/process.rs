//! Processes and threads by descriptors: a number that is free again may be given to somebody else at any moment, and what is
//! done by number is true only while a descriptor says that its owner lives.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use gpuos_host::{fds::pidfd_open, proc_text};

/// A process that was there when it was opened.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: u32,
    fd: OwnedFd,
}

impl ProcessHandle {
    /// Opens a process.
    ///
    /// # Errors
    /// What the kernel says; `ESRCH` where there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, fd: while_there(pid, || pidfd_open(pid, 0))? })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the number is still its own: it has not ended, or nobody has waited for it.
    #[must_use]
    pub fn has_its_number(&self) -> bool {
        number_of(self.fd.as_fd()) == Some(self.pid)
    }

    /// Whether a thread is one of this process.
    ///
    /// # Errors
    /// `ESRCH` when it is not.
    pub fn check_thread(&self, thread: u32) -> io::Result<()> {
        while_there(self.pid, || std::fs::metadata(format!("/proc/{}/task/{thread}", self.pid))).map_err(|_| gone())?;
        if self.has_its_number() { Ok(()) } else { Err(gone()) }
    }

    /// Opens one of its threads.
    ///
    /// # Errors
    /// What the kernel says; `ESRCH` where the number is not that of a thread of this process any more.
    pub fn thread(&self, thread: u32) -> io::Result<OwnedFd> {
        // PIDFD_THREAD, Linux 6.9; a process's first thread needs no flag.
        let flags = if thread == self.pid { 0 } else { libc::O_EXCL };
        let fd = pidfd_open(thread, flags)?;
        // While the descriptor says that the thread has this number, it is the one that is listed.
        self.check_thread(thread)?;
        if number_of(fd.as_fd()) == Some(thread) { Ok(fd) } else { Err(gone()) }
    }
}

impl From<ProcessHandle> for OwnedFd {
    fn from(handle: ProcessHandle) -> Self {
        handle.fd
    }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// The number that the task of a pidfd has; `None` once it is gone.
fn number_of(fd: BorrowedFd<'_>) -> Option<u32> {
    let text = proc_text::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    proc_text::field(&text, "Pid")?.parse().ok()
}

/// As often is looked at a process that is there and cannot be seen.
const MOST_LOOKS: u32 = 1000;

/// Looks again where a process is not seen that is there: while one of its threads executes a program and takes the
/// number of the first one, the kernel may for a moment say that there is none.
pub(crate) fn while_there<T>(pid: u32, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let is_there =
        || nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), None) != Err(nix::errno::Errno::ESRCH);
    for _ in 0..MOST_LOOKS {
        match look() {
            Err(_) if is_there() => std::thread::sleep(std::time::Duration::from_micros(100)),
            other => return other,
        }
    }
    look()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_number_is_a_process_own_until_it_is_collected() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let handle = ProcessHandle::open(child.id()).unwrap();
        assert!(handle.has_its_number());
        handle.thread(child.id()).unwrap();
        // A thread of somebody else.
        assert_eq!(handle.thread(std::process::id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!handle.has_its_number());
        assert_eq!(handle.check_thread(handle.pid()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
