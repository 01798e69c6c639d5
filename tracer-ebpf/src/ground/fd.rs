//! What an fd of the current task leads to: task → fd table → file → inode → device number.
//!
//! The kernel's structures are followed at the moment of the call, so nothing has to be known of how the
//! fd came about: opened before the trace, duplicated, inherited, received over a socket.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use gpuos_tracer_abi::ioctl::{
    ANONYMOUS, BLOCK_DEVICE, DIRECTORY, DMA_BUF, DeviceId, EPOLL, FILE_WINDOW, INODE_WINDOW, KFD_EVENTS, NOT_OPEN,
    PIPE, REGULAR_FILE, SOCKET, SYNC_FILE, SYNCOBJ, UNREADABLE,
};

use super::{
    fd_table,
    kernel::{self, as_structure, field},
    maps::{FILE_TYPE, INODE_TYPE, WORD_TYPE},
};

/// `FMODE_PATH` of `linux/fs.h`: opened with `O_PATH`, for which no `ioctl` gets through.
const OPENED_AS_PATH: u32 = 0x4000;

// Kinds of inodes, `S_IFMT` of `linux/stat.h`.
const KIND: u32 = 0o170_000;
const KIND_SOCKET: u32 = 0o140_000;
const KIND_BLOCK: u32 = 0o060_000;
const KIND_DIRECTORY: u32 = 0o040_000;
const KIND_CHARACTER: u32 = 0o020_000;
const KIND_PIPE: u32 = 0o010_000;

// `linux/magic.h`.
const MAGIC_DMA_BUF: u64 = 0x444d_4142;
const MAGIC_ANONYMOUS: u64 = 0x0904_1934;

/// Part of a kernel structure, copied by a helper.
struct Window<const WORDS: usize>(MaybeUninit<[u64; WORDS]>);

impl<const WORDS: usize> Window<WORDS> {
    #[inline(always)]
    fn read(address: u64) -> Option<Self> {
        let mut window = MaybeUninit::uninit();
        // SAFETY: the helper writes no more than the buffer holds.
        let failed =
            unsafe { bpf_probe_read_kernel((&raw mut window).cast(), (WORDS * 8) as u32, address as *const _) };
        if failed == 0 { Some(Self(window)) } else { None }
    }

    /// A value at an offset that user space has checked; the verifier checks it again.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: inside the buffer, which the helper has filled.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset).cast::<T>().read_volatile() }
    }
}

/// One word of the kernel's memory.
#[inline(always)]
fn word(address: u64) -> Option<u64> {
    Window::<1>::read(address).map(|window| window.at(0))
}

/// What an fd of the current task is.
#[inline(always)]
pub(crate) fn device_of(fd: u32) -> DeviceId {
    DeviceId(device_number_of(fd))
}

/// A global function, which returns numbers alone: the verifier looks at it once, not once for every way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn device_number_of(fd: u32) -> u32 {
    let device = if kernel::has_btf() {
        file_behind(fd).map_or_else(|problem| problem, device_of_file)
    } else {
        fd_table::device_of(fd)
    };
    device.0
}

/// The open file behind an fd.
#[inline(always)]
fn file_behind(fd: u32) -> Result<u64, DeviceId> {
    let (places, files) = kernel::open_fds_of(kernel::current_task());
    if fd >= places {
        return Err(NOT_OPEN);
    }
    let place = files + u64::from(fd) * 8;
    let file = match WORD_TYPE.load() {
        0 => word(place),
        kind => Some(field(as_structure(place, kind), 0)),
    };
    match file {
        None => Err(UNREADABLE),
        Some(0) => Err(NOT_OPEN),
        Some(file) => Ok(file),
    }
}

/// How a file was opened, and its inode.
#[inline(always)]
fn mode_and_inode(file: u64) -> Option<(u32, u64)> {
    match FILE_TYPE.load() {
        0 => {
            let window = Window::<{ FILE_WINDOW / 8 }>::read(file + kernel::file_window() as u64)?;
            Some((window.at(kernel::file_mode()), window.at(kernel::file_inode())))
        }
        kind => {
            let (file, window) = (as_structure(file, kind), kernel::file_window());
            Some((field(file, window + kernel::file_mode()), field(file, window + kernel::file_inode())))
        }
    }
}

/// Kind, device number and superblock of an inode.
#[inline(always)]
fn facts_of_inode(inode: u64) -> Option<(u16, u32, u64)> {
    match INODE_TYPE.load() {
        0 => {
            let window = Window::<{ INODE_WINDOW / 8 }>::read(inode)?;
            let superblock = window.at(kernel::inode_superblock());
            Some((window.at(kernel::inode_mode()), window.at(kernel::inode_device()), superblock))
        }
        kind => {
            let inode = as_structure(inode, kind);
            let superblock = field(inode, kernel::inode_superblock());
            Some((field(inode, kernel::inode_mode()), field(inode, kernel::inode_device()), superblock))
        }
    }
}

/// File among those that an epoll instance waits for, in the order of a walk from the root of their tree: `place` 0 is
/// the root, 1 and 2 are below it. 0 when there is none, or the fd is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn awaited_file(fd: u32, place: u32) -> u64 {
    if kernel::epoll_tree() == 0 || kernel::epoll_file() == 0 {
        return 0;
    }
    let Ok(file) = file_behind(fd) else { return 0 };
    if device_of_file(file) != EPOLL {
        return 0;
    }
    let root = word(file + kernel::file_private() as u64)
        .filter(|epoll| *epoll != 0)
        .and_then(|epoll| word(epoll + kernel::epoll_tree() as u64));
    let node = match (root, place) {
        (None | Some(0), _) => None,
        (root, 0) => root,
        (Some(root), 1) => word(root + kernel::node_left() as u64),
        (Some(root), _) => word(root + kernel::node_right() as u64),
    };
    node.filter(|node| *node != 0).and_then(|node| word(node + kernel::epoll_file() as u64)).unwrap_or(0)
}

/// What an open file is.
#[inline(always)]
pub(crate) fn device_of_file(file: u64) -> DeviceId {
    DeviceId(device_number_of_file(file))
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn device_number_of_file(file: u64) -> u32 {
    look_at_file(file).0
}

#[inline(always)]
fn look_at_file(file: u64) -> DeviceId {
    let Some((opened, inode)) = mode_and_inode(file) else { return UNREADABLE };
    if opened & OPENED_AS_PATH != 0 {
        return NOT_OPEN;
    }
    let Some((mode, device, superblock)) = facts_of_inode(inode) else { return UNREADABLE };
    match u32::from(mode) & KIND {
        KIND_CHARACTER => DeviceId(device),
        KIND_BLOCK => BLOCK_DEVICE,
        KIND_DIRECTORY => DIRECTORY,
        KIND_SOCKET => SOCKET,
        KIND_PIPE => PIPE,
        // A regular file, or an anonymous one: those have no kind, or since Linux 6.16 that of a regular file.
        _ => file_of(file, superblock),
    }
}

/// What a file without a device is, by its file system and, for the kernel's anonymous ones, by its name.
#[inline(never)]
fn file_of(file: u64, superblock: u64) -> DeviceId {
    match word(superblock + kernel::superblock_magic() as u64) {
        None => return UNREADABLE,
        Some(MAGIC_DMA_BUF) => return DMA_BUF,
        Some(MAGIC_ANONYMOUS) => {}
        Some(_) => return REGULAR_FILE,
    }
    let name = word(file + kernel::file_dentry() as u64)
        .and_then(|dentry| word(dentry + kernel::dentry_name() as u64))
        .and_then(word);
    // The first eight bytes of the name tell them apart.
    match name.map(u64::to_le_bytes) {
        Some(name) if name == *b"sync_fil" => SYNC_FILE,
        Some(name) if name == *b"syncobj_" => SYNCOBJ,
        Some(name) if name == *b"kfd_smi_" => KFD_EVENTS,
        Some(name) if name == *b"[eventpo" => EPOLL,
        _ => ANONYMOUS,
    }
}
