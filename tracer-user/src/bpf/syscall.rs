//! The few `bpf(2)` commands that aya 0.14 does not offer: task storage by pidfd, batches.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

// Command numbers from the kernel's `include/uapi/linux/bpf.h`, `enum bpf_cmd`.
const MAP_UPDATE_ELEM: libc::c_int = 2;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_DELETE_BATCH: libc::c_int = 27;

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<()> {
    // SAFETY: every attribute type here is a prefix of `union bpf_attr` whose pointers outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[repr(C)]
struct InfoAttr {
    program: u32,
    length: u32,
    info: u64,
}

/// How often the kernel skipped a program because it was running already on that CPU
/// (`recursion_misses` of `struct bpf_prog_info`, Linux 5.12; 0 before).
///
/// # Errors
/// What the kernel says.
pub fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: plain data, for which zero is valid.
    let mut info: aya_obj::generated::bpf_prog_info = unsafe { std::mem::zeroed() };
    bpf(
        OBJ_GET_INFO_BY_FD,
        &mut InfoAttr {
            program: program.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        },
    )?;
    Ok(info.recursion_misses)
}

/// Sets the task storage of the task that `pidfd` names.
///
/// # Errors
/// What the kernel says; `ENOENT` when the task is gone.
pub fn set_task_storage<T: Copy>(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, value: &T) -> io::Result<()> {
    let key = pidfd.as_raw_fd();
    bpf(
        MAP_UPDATE_ELEM,
        &mut ElementAttr {
            map: map.as_raw_fd() as u32,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(value) as u64,
            ..Default::default()
        },
    )
}

/// All entries of a hash map. Entries that programs change meanwhile are read before or after.
///
/// # Errors
/// What the kernel says.
pub fn read_hash<K: Copy + Default, V: Copy + Default>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut step: usize = 1024;
    let mut entries = Vec::new();
    // For hash maps the position is one `u32`, a bucket.
    let (mut position, mut next) = (0_u32, 0_u32);
    let mut first = true;
    loop {
        let mut keys = vec![K::default(); step];
        let mut values = vec![V::default(); step];
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { std::ptr::from_mut(&mut position) as u64 },
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: step as u32,
            map: map.as_raw_fd() as u32,
            ..Default::default()
        };
        let done = match bpf(MAP_LOOKUP_BATCH, &mut attr) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than a whole step.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && attr.count == 0 => {
                step *= 2;
                continue;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => false,
            Err(error) => return Err(error),
        };
        let count = attr.count as usize;
        entries.extend(keys.into_iter().zip(values).take(count));
        if done {
            return Ok(entries);
        }
        position = next;
        first = false;
    }
}

/// Deletes entries; one that is already gone is no error.
///
/// # Errors
/// What the kernel says.
pub fn delete_from_hash<K: Copy>(map: BorrowedFd<'_>, mut keys: &[K]) -> io::Result<()> {
    while !keys.is_empty() {
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            count: keys.len() as u32,
            map: map.as_raw_fd() as u32,
            ..Default::default()
        };
        match bpf(MAP_DELETE_BATCH, &mut attr) {
            Ok(()) => return Ok(()),
            // The key after the `count` deleted ones was gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                keys = keys.get(attr.count as usize + 1..).unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
