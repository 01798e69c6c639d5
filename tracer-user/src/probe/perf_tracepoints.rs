//! Tracepoints through perf: found by name in the kernel's trace file system, attached through an event.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::perf_event_attr;
use gpuos_host::fds::new_fd;

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
        // FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC of `linux/mount.h`.
        // SAFETY: a valid name and a number.
        let result = unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 1) };
        // SAFETY: what this call returns is new.
        let context = unsafe { new_fd(result) }.ok()?;
        let nothing = std::ptr::null::<u8>();
        // SAFETY: an fd of ours, and a command without arguments.
        let made = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 6, nothing, nothing, 0) };
        if made != 0 {
            return None;
        }
        // SAFETY: an fd of ours and two numbers.
        let result = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) };
        // SAFETY: what this call returns is new.
        let mount = unsafe { new_fd(result) }.ok()?;
        open_at(&mount, c"events", libc::O_DIRECTORY | libc::O_CLOEXEC).map(Self)
    }

    fn text(&self, path: &str) -> Option<String> {
        let path = CString::new(path).ok()?;
        let mut file = File::from(open_at(&self.0, &path, libc::O_RDONLY | libc::O_CLOEXEC)?);
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

/// Opens a file in a folder.
fn open_at(folder: &OwnedFd, path: &CStr, flags: libc::c_int) -> Option<OwnedFd> {
    #[expect(clippy::disallowed_methods, reason = "it is read, by its very name")]
    // SAFETY: an fd of ours and a path that ends.
    let result = unsafe { libc::openat(folder.as_raw_fd(), path.as_ptr(), flags) };
    // SAFETY: what this call returns is new.
    unsafe { new_fd(result.into()) }.ok()
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
    // SAFETY: valid attributes and numbers.
    let result = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw mut attr, -1, 0, -1, CLOEXEC) };
    // SAFETY: what this call returns is new.
    unsafe { new_fd(result) }
}

fn attach_to_event(program: BorrowedFd<'_>, attr: perf_event_attr) -> io::Result<OwnedFd> {
    // `_IOW('$', 8, u32)` and `_IO('$', 0)` of `linux/perf_event.h`.
    const SET_PROGRAM: libc::Ioctl = 0x4004_2408;
    const ENABLE: libc::Ioctl = 0x2400;
    let event = open_event(attr)?;
    for (request, argument) in [(SET_PROGRAM, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: an fd of ours and numbers.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
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
