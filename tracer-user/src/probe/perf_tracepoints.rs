//! Tracepoints through perf: found by name in the kernel's trace file system, attached through an event.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::perf_event_attr;

use super::driver_hooks;

/// The folder `events` of the kernel's trace file system.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    /// Where it is mounted, else one of our own that nobody sees; `None` where this user may not look.
    pub(super) fn open() -> Option<Self> {
        for folder in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            if let Ok(file) = File::open(format!("{folder}/events")) {
                return Some(Self(file.into()));
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
            descriptor(libc::openat(mount.as_raw_fd(), c"events".as_ptr(), flags).into()).map(Self)
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        let path = CString::new(path).ok()?;
        // SAFETY: a valid path; what the call returns is a new descriptor.
        let mut file = unsafe {
            let fd = libc::openat(self.0.as_raw_fd(), path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if fd < 0 {
                return None;
            }
            File::from_raw_fd(fd)
        };
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Number of a tracepoint such as `syscalls/sys_enter_ioctl`.
    pub(super) fn id(&self, tracepoint: &str) -> Option<u64> {
        self.text(&format!("{tracepoint}/id"))?.trim().parse().ok()
    }

    /// Byte offset of a field in the record of a tracepoint.
    pub(super) fn offset(&self, tracepoint: &str, field: &str) -> Option<u32> {
        offset_in_format(&self.text(&format!("{tracepoint}/format"))?, field)
    }
}

/// From lines such as `field:pid_t child_pid; offset:44; size:4; signed:1;`, tabs between the parts.
fn offset_in_format(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';');
        if parts.next()?.split_whitespace().last() != Some(field) {
            return None;
        }
        parts.find_map(|part| part.trim().strip_prefix("offset:")?.parse().ok())
    })
}

/// Attaches a program to a tracepoint until the result is dropped.
///
/// An event on one CPU is enough: a program on a tracepoint, or on a function, runs for all of them.
pub(super) fn attach(program: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    // SAFETY: plain data, for which zero is valid.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of_val(&attr) as u32;
    attr.type_ = aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.config = id;
    attach_to_event(program, attr)
}

/// Attaches a program to a function's entry, or its return, until the result is dropped.
pub(super) fn attach_to_function(program: BorrowedFd<'_>, function: &str, at_return: bool) -> io::Result<OwnedFd> {
    let name = CString::new(function)?;
    let event = driver_hooks::event(&name, at_return)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "this kernel has no kprobes"))?;
    attach_to_event(program, event)
}

fn open_event(mut attr: perf_event_attr) -> io::Result<OwnedFd> {
    // PERF_FLAG_FD_CLOEXEC of `linux/perf_event.h`.
    const CLOEXEC: u64 = 8;
    // SAFETY: valid attributes and numbers; what the call returns is a new descriptor.
    unsafe {
        let event = libc::syscall(libc::SYS_perf_event_open, &raw mut attr, -1, 0, -1, CLOEXEC);
        if event < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(event as i32)) }
    }
}

fn attach_to_event(program: BorrowedFd<'_>, attr: perf_event_attr) -> io::Result<OwnedFd> {
    // `_IOW('$', 8, u32)` and `_IO('$', 0)` of `linux/perf_event.h`.
    const SET_PROGRAM: libc::Ioctl = 0x4004_2408;
    const ENABLE: libc::Ioctl = 0x2400;
    let event = open_event(attr)?;
    // SAFETY: valid numbers.
    unsafe {
        if libc::ioctl(event.as_raw_fd(), SET_PROGRAM, program.as_raw_fd()) != 0
            || libc::ioctl(event.as_raw_fd(), ENABLE, 0) != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_in_a_format() {
        let format = "name: sched_process_fork\nID: 300\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\tfield:char parent_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\tfield:pid_t child_pid;\toffset:44;\tsize:4;\tsigned:1;\n";
        assert_eq!(offset_in_format(format, "child_pid"), Some(44));
        assert_eq!(offset_in_format(format, "old_pid"), None);
        assert_eq!(offset_in_format("field:pid_t child_pid", "child_pid"), None);
    }
}
