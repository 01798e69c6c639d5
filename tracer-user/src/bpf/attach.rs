//! Attaching to processes that run already: every thread gets task storage through a pidfd.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use gpuos_tracer_abi::{
    maps,
    tasks::{ProcessRecord, ThreadState, process_id},
};

use super::{error::LoadError, load::Tracer, syscall};

impl Tracer {
    /// Counts a running process from now on: all its threads and later children. The call that a thread
    /// is in already is not counted.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach_to(&self, pid: u32, now_ns: u64) -> Result<(), AttachError> {
        let gone = |_| AttachError::NoSuchProcess(pid);
        let mut comm = [0; 16];
        let name = std::fs::read(format!("/proc/{pid}/comm")).map_err(gone)?;
        for (to, from) in comm[..15].iter_mut().zip(name.iter().take_while(|byte| **byte != b'\n')) {
            *to = *from;
        }
        let id = process_id(pid, now_ns);
        let record = ProcessRecord { started_ns: now_ns, pid, comm, ..Default::default() };
        syscall::insert(self.objects.map(maps::PROCESSES)?, &id, &record)
            .map_err(|error| LoadError::from_step("making a record of the process", &error))?;
        let storage = self.objects.map(maps::THREADS)?;
        let mut marked = HashSet::new();
        loop {
            let mut found_new = false;
            for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
                let name = entry.map_err(gone)?.file_name();
                let Some(thread) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
                if !marked.insert(thread) {
                    continue;
                }
                found_new = true;
                match mark_thread(storage, pid, thread, &ThreadState::attached(id, thread)) {
                    // Its parent was marked before it, and so is it.
                    Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                    // It ended meanwhile.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => {}
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        return Err(AttachError::OldKernel(pid));
                    }
                    other => other.map_err(|error| LoadError::from_step("marking a thread", &error))?,
                }
            }
            // Every thread that was listed is marked, so whoever is made from now on inherits it.
            if !found_new {
                return Ok(());
            }
        }
    }
}

/// Why a running process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is not there.
    #[error("there is no process {0}\nhint: `pgrep -a NAME` finds it; inside a container, give its number there")]
    NoSuchProcess(u32),
    /// Threads cannot be named to this kernel.
    #[error(
        "process {0} has several threads, and attaching to those needs Linux 6.9\nhint: start it with `gpuos-trace run -- …`"
    )]
    OldKernel(u32),
    /// The BPF side refused.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Gives one thread task storage, unless it has some.
fn mark_thread(storage: BorrowedFd<'_>, pid: u32, thread: u32, state: &ThreadState) -> std::io::Result<()> {
    // PIDFD_THREAD, Linux 6.9; a process's first thread needs no flag.
    let flags = if thread == pid { 0 } else { libc::O_EXCL };
    // SAFETY: two integers; what the call returns is a new descriptor.
    let pidfd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, thread, flags);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    syscall::set_task_storage(storage, pidfd.as_fd(), state)
}
