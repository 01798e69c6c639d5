//! Fds on kernels that show no type information: followed from the path that was opened to the call that closes them.

use crate::ioctl::DeviceId;

/// Path of a device's node, NUL-padded; longer ones are not known.
pub type DevicePath = [u8; 64];

/// An fd of a process.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdKey {
    /// Number of the process; another one with the number may have had it.
    pub pid: u32,
    /// Number of the fd.
    pub number: u32,
}

/// What is open there.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFd {
    /// The process that opened it, see [`process_id`](crate::tasks::process_id).
    pub process: u64,
    /// Device number, as in [`ioctl`](crate::ioctl).
    pub device: DeviceId,
    /// [`FdTable::generation`] of the process then.
    pub generation: u32,
    /// [`FdTable::executions`] then.
    pub executions: u32,
    /// 1: it stays open when another program is executed.
    pub is_kept: u32,
}

/// What is known of a process whose fds are followed. Flags are bytes of their own, because threads may write at the
/// same time.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdTable {
    /// How often it has executed a program.
    pub executions: u32,
    /// How often its fds were closed in a way that is not followed one by one.
    pub generation: u32,
    /// 1: paths lead it elsewhere than they lead the tracer, and say nothing of devices.
    pub other_paths: u8,
    /// Likewise a child that is being made.
    pub child_other_paths: u8,
    /// 1: its fd table is changed in ways that are not followed, and nothing is known of it.
    pub other_table: u8,
    /// 1: its exit code is known.
    pub has_exit_code: u8,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<OpenFd>() == 24 && size_of::<FdTable>() == 16);
