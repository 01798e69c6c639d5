//! Descriptors on kernels that show no type information: followed from the path that was opened to the call that closes them.

/// Path of a device's node, NUL-padded; longer ones are not known.
pub type DevicePath = [u8; 64];

/// A descriptor of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// Number of the process; another one with the number may have had it.
    pub pid: u32,
    /// Number of the descriptor.
    pub number: u32,
}

/// What is open there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The process that opened it, see [`process_id`](crate::tasks::process_id).
    pub process: u64,
    /// Device number, as in [`ioctl`](crate::ioctl).
    pub device: u32,
    /// The process's [`generation`](crate::tasks::ProcessRecord::generation) then.
    pub generation: u32,
    /// How many programs the process had executed then.
    pub executions: u32,
    /// 1: it stays open when another program is executed.
    pub is_kept: u32,
}

const _: () = assert!(size_of::<Opened>() == 24);

/// Paths lead a process elsewhere than they lead the tracer: they say nothing of devices.
pub const OTHER_PATHS: u32 = 1;
/// A process's table of descriptors is changed in ways that are not followed: all of it is not known.
pub const OTHER_TABLE: u32 = 2;
/// A process's exit code is known.
pub const EXIT_KNOWN: u32 = 4;
