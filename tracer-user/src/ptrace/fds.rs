//! What descriptors of a stopped thread are, and its memory: through `/proc`, and `process_vm_readv`.

use std::{
    fs,
    io::IoSliceMut,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use bytemuck::AnyBitPattern;
use gpuos_tracer_abi::ioctl::{
    ANONYMOUS, BLOCK_DEVICE, DIRECTORY, DMA_BUF, DeviceId, EPOLL, KFD_EVENTS, NOT_OPEN, PIPE, REGULAR_FILE, SOCKET,
    SYNC_FILE, SYNCOBJ,
};
use nix::{
    errno::Errno,
    sys::{
        stat::{major, minor},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid,
};

/// What a descriptor is.
pub(super) fn device_of(thread: u32, fd: u32) -> DeviceId {
    let path = format!("/proc/{thread}/fd/{fd}");
    let Ok(found) = fs::metadata(&path) else { return NOT_OPEN };
    if is_path_only(thread, fd, &path) {
        return NOT_OPEN;
    }
    let kind = found.file_type();
    match () {
        () if kind.is_char_device() => DeviceId::new(major(found.rdev()) as u32, minor(found.rdev()) as u32),
        () if kind.is_block_device() => BLOCK_DEVICE,
        () if kind.is_dir() => DIRECTORY,
        () if kind.is_socket() => SOCKET,
        () if kind.is_fifo() => PIPE,
        () => named(&path),
    }
}

/// Whether a descriptor was opened with `O_PATH`: calls on it fail as if it were not open.
fn is_path_only(thread: u32, fd: u32, path: &str) -> bool {
    // The link's mode says what may be done with it: of these nothing.
    let may_nothing = fs::symlink_metadata(path).is_ok_and(|link| link.mode() & 0o700 == 0);
    may_nothing && {
        let text = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & i64::from(libc::O_PATH) != 0)
    }
}

/// A file, or one that the kernel has a name for.
fn named(path: &str) -> DeviceId {
    let target = fs::read_link(path).unwrap_or_default();
    let target = target.to_string_lossy();
    match target.strip_prefix("anon_inode:").map(|name| name.trim_matches(['[', ']'])) {
        Some("eventpoll") => EPOLL,
        Some("sync_file") => SYNC_FILE,
        Some("syncobj_file") => SYNCOBJ,
        Some("kfd_smi_ev") => KFD_EVENTS,
        Some(_) => ANONYMOUS,
        None if target.starts_with("/dmabuf:") => DMA_BUF,
        None => REGULAR_FILE,
    }
}

/// Descriptors that an epoll instance waits for.
pub(super) fn awaited_by(thread: u32, fd: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok()).collect()
}

/// Bytes of a thread's memory; as many as there are.
pub(super) fn bytes_of(thread: u32, address: u64, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; most];
    let remote = RemoteIoVec { base: address as usize, len: most };
    let read = process_vm_readv(Pid::from_raw(thread.cast_signed()), &mut [IoSliceMut::new(&mut bytes)], &[remote]);
    match read {
        Ok(length) => bytes.truncate(length),
        // gVisor.
        Err(Errno::ENOSYS) => bytes = words_of(thread, address, most),
        Err(_) => bytes.clear(),
    }
    bytes
}

/// The same, a word at a time, up to the first that is not there.
fn words_of(thread: u32, address: u64, most: usize) -> Vec<u8> {
    let thread = Pid::from_raw(thread.cast_signed());
    let first = address & !7;
    let skipped = (address - first) as usize;
    (first..address + most as u64)
        .step_by(8)
        .map_while(|at| nix::sys::ptrace::read(thread, at as *mut _).ok())
        .flat_map(libc::c_long::to_ne_bytes)
        .skip(skipped)
        .take(most)
        .collect()
}

/// A value in a thread's memory.
pub(super) fn value_of<T: AnyBitPattern>(thread: u32, address: u64) -> Option<T> {
    let bytes = bytes_of(thread, address, size_of::<T>());
    bytemuck::try_pod_read_unaligned(&bytes).ok()
}

/// A string in a thread's memory, up to its NUL, in an array that has one at its end.
pub(super) fn text_of<const N: usize>(thread: u32, address: u64) -> Option<[u8; N]> {
    // A read that reaches into a page that is not there gives what is before it, page by page.
    let in_page = 4096 - (address as usize & 4095);
    let mut bytes = bytes_of(thread, address, (N - 1).min(in_page));
    if !bytes.contains(&0) && bytes.len() == in_page && in_page < N - 1 {
        bytes.extend(bytes_of(thread, address + in_page as u64, N - 1 - in_page));
    }
    if bytes.is_empty() {
        return None;
    }
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let mut text = [0; N];
    text[..length].copy_from_slice(&bytes[..length]);
    Some(text)
}
