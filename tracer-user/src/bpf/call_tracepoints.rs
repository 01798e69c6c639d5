//! Tracepoints of single system calls, for a filter that names few of them: every other call, of
//! everybody, then costs less than half of what the general tracepoints cost it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use crate::names;

/// From this many calls on, the general tracepoints are the cheaper way.
const MOST_CALLS: usize = 8;

/// Ids of the entry and the exit tracepoint of some calls.
#[derive(Debug)]
pub(super) struct CallTracepoints {
    pairs: Vec<(u64, u64)>,
}

impl CallTracepoints {
    /// The tracepoints of these numbers; `None` when they are too many, or the kernel does not show
    /// (this user) its tracepoints, or has none for one of them.
    pub(super) fn of(numbers: &[u32]) -> Option<Self> {
        // At its exit `rt_sigreturn` has no number any more, and its tracepoint stays silent.
        if numbers.is_empty() || numbers.len() >= MOST_CALLS || numbers.contains(&(libc::SYS_rt_sigreturn as u32)) {
            return None;
        }
        let folder = trace_folder()?;
        let pair = |number: &u32| {
            let name = names::by_number(*number)?.name;
            Some((id(&folder, &format!("sys_enter_{name}"))?, id(&folder, &format!("sys_exit_{name}"))?))
        };
        Some(Self { pairs: numbers.iter().map(pair).collect::<Option<_>>()? })
    }

    /// Attaches one program to the exits and one to the entries, until the links are dropped. Exits
    /// first: no entry is counted whose exit would be missed.
    pub(super) fn attach(&self, enter: BorrowedFd<'_>, exit: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
        let exits = self.pairs.iter().map(|(_, id)| attach(exit, *id));
        exits.chain(self.pairs.iter().map(|(id, _)| attach(enter, *id))).collect()
    }
}

/// Whether this user can find the tracepoints of single calls.
#[must_use]
pub fn has_call_tracepoints() -> bool {
    CallTracepoints::of(&[libc::SYS_ioctl as u32]).is_some()
}

/// The kernel's trace file system: where it is mounted, else one of our own that nobody sees.
fn trace_folder() -> Option<OwnedFd> {
    for folder in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        if let Ok(file) = File::open(format!("{folder}/events/syscalls")) {
            return Some(file.into());
        }
    }
    // SAFETY: valid names and numbers; what the calls return are new descriptors.
    unsafe {
        let descriptor = |result: libc::c_long| (result >= 0).then(|| OwnedFd::from_raw_fd(result as i32));
        // FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC of `linux/mount.h`.
        let context = descriptor(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 1))?;
        let nothing = std::ptr::null::<u8>();
        if libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 6, nothing, nothing, 0) != 0 {
            return None;
        }
        let mount = descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0))?;
        let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
        descriptor(libc::openat(mount.as_raw_fd(), c"events/syscalls".as_ptr(), flags).into())
    }
}

fn id(folder: &OwnedFd, tracepoint: &str) -> Option<u64> {
    let path = std::ffi::CString::new(format!("{tracepoint}/id")).ok()?;
    // SAFETY: a valid path; what the call returns is a new descriptor.
    let mut file = unsafe {
        let fd = libc::openat(folder.as_raw_fd(), path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        File::from_raw_fd(fd)
    };
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// An event on one CPU is enough: a program on a tracepoint runs for all of them.
fn attach(program: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let mut attr: aya_obj::generated::perf_event_attr =
        // SAFETY: plain data, for which zero is valid.
        unsafe { std::mem::zeroed() };
    attr.size = size_of_val(&attr) as u32;
    attr.type_ = aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.config = id;
    // PERF_FLAG_FD_CLOEXEC, then `_IOW('$', 8, u32)` and `_IO('$', 0)`, of `linux/perf_event.h`.
    const CLOEXEC: u64 = 8;
    const SET_PROGRAM: libc::Ioctl = 0x4004_2408;
    const ENABLE: libc::Ioctl = 0x2400;
    // SAFETY: valid attributes and numbers; what the first call returns is a new descriptor.
    unsafe {
        let event = libc::syscall(libc::SYS_perf_event_open, &raw mut attr, -1, 0, -1, CLOEXEC);
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        let event = OwnedFd::from_raw_fd(event as i32);
        if libc::ioctl(event.as_raw_fd(), SET_PROGRAM, program.as_raw_fd()) != 0
            || libc::ioctl(event.as_raw_fd(), ENABLE, 0) != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(event)
    }
}
