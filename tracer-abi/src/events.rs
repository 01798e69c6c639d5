//! Recorded events: what `record` sends through the ring, one record for each thing that happened.
//!
//! Each begins with a [`EventHeader`], whose `kind` tells what follows. The same bytes stand in a journal on disk, so a
//! reader must take any value of any field.

use crate::ioctl::DeviceId;

/// A finished call: [`Call`].
pub const CALL: u8 = 1;
/// A finished call on a device of a GPU driver: [`DeviceCall`].
pub const DEVICE_CALL: u8 = 2;
/// A finished call with the path that it was about: [`PathCall`].
pub const PATH_CALL: u8 = 3;
/// A process began, or was attached to: [`Lifecycle`].
pub const PROCESS: u8 = 8;
/// A thread of a process began: [`Lifecycle`].
pub const THREAD: u8 = 9;
/// A thread executed another program: [`Lifecycle`].
pub const EXEC: u8 = 10;
/// A thread has another name: [`Lifecycle`].
pub const NAME: u8 = 11;
/// A thread ended: [`Lifecycle`].
pub const END: u8 = 12;
/// A marker: [`PhaseChange`].
pub const PHASE: u8 = 16;
/// A thread runs again after it did not: [`Switch`].
pub const SWITCH: u8 = 20;
/// A page fault of the program: [`Fault`].
pub const FAULT: u8 = 21;
/// A job of the program has ended; written by user space: [`Job`].
pub const JOB: u8 = 22;
/// Events found no place; written by user space: [`Gap`].
pub const GAP: u8 = 24;

/// Flag of a call: it had not returned when its thread, or the trace, ended.
pub const UNFINISHED: u8 = 1;
/// Flag of a call: its entry was not seen (seccomp answered it), so it has no duration.
pub const UNTIMED: u8 = 2;
/// Flag of a call: it came through the 32-bit entry.
pub const COMPAT: u8 = 4;
/// Flag of a device call: the argument could not be read.
pub const UNREADABLE: u8 = 8;

/// Bytes of a path that are kept, its final NUL included.
pub const PATH: usize = 192;

/// Bytes of a device call's argument that are kept.
pub const ARGUMENT: usize = 64;

/// What every event begins with.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHeader {
    /// `CLOCK_MONOTONIC` in nanoseconds: of a call its entry, of a switch the moment it stopped running.
    pub at_ns: u64,
    /// Number of the process.
    pub pid: u32,
    /// Number of the thread.
    pub thread: u32,
    /// Number of the phase it is in; 0: none.
    pub phase: u32,
    /// What follows.
    pub kind: u8,
    /// Flags of that kind.
    pub flags: u8,
    /// Zero.
    pub padding: u16,
}

/// A system call that has returned.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// At its entry.
    pub head: EventHeader,
    /// Nanoseconds until its return.
    pub duration_ns: u64,
    /// What it returned.
    pub returned: i64,
    /// Its first arguments, at entry.
    pub arguments: [u64; 4],
    /// Its number.
    pub number: u32,
    /// What its fd is, where somebody looked; else 0.
    pub device: DeviceId,
}

/// A call on a device of a GPU driver.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceCall {
    /// As for every call.
    pub call: Call,
    /// Its command; for an NVIDIA envelope the one inside.
    pub command: u32,
    /// What tells calls of one command apart.
    pub detail: u32,
    /// The driver's own status after the call.
    pub status: u32,
    /// Bytes of `argument` that were read.
    pub length: u32,
    /// The structure that the call points to, as it was after the call.
    pub argument: [u8; ARGUMENT],
}

/// A system call that is about a path.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathCall {
    /// As for every call.
    pub call: Call,
    /// The path as it was at entry, ended by a NUL; without one it is longer.
    pub path: [u8; PATH],
}

/// The life of processes and threads.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// When, and of which thread.
    pub head: EventHeader,
    /// Id of the process, unique unlike its number.
    pub process: u64,
    /// Of a process: its parent's id; 0: the launched command.
    pub parent: u64,
    /// Of an end: the exit code as `wait` returns it.
    pub exit_code: u32,
    /// Zero.
    pub padding: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

/// What a marker did.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseChange {
    /// Who marked it; `phase` is the one it is in now.
    pub head: EventHeader,
    /// One of the `OPERATION_` values of [`phases`](crate::phases).
    pub operation: u32,
    /// One of the `SCOPE_` values there.
    pub scope: u32,
    /// Iterations that were reported.
    pub count: u64,
    /// Number of the phase that began; 0: none.
    pub begun: u32,
    /// Number of the phase around it; 0: none.
    pub parent: u32,
    /// Its label, ended by a NUL.
    pub label: [u8; crate::phases::LABEL],
}

/// A time in which a thread did not run.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// When it stopped.
    pub head: EventHeader,
    /// Nanoseconds until it ran again.
    pub duration_ns: u64,
    /// State in which it stopped; 0: it was to run on, and another thread got the CPU.
    pub state: u32,
    /// CPU on which it runs again.
    pub cpu: u32,
}

/// A page fault in user mode.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// When, and of which thread.
    pub head: EventHeader,
    /// The address that was missing.
    pub address: u64,
    /// The processor's error code: on x86 bit 1 is set for a write.
    pub code: u64,
}

/// A job of the program.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// When it was submitted, and by which thread.
    pub head: EventHeader,
    /// Nanoseconds until its end was known.
    pub duration_ns: u64,
    /// Nanoseconds until a look last found that it had not ended.
    pub looked_ns: u64,
    /// Its number among the jobs of its process.
    pub number: u64,
    /// The thread that knew first.
    pub knower: u32,
    /// 1: it failed.
    pub failed: u32,
    /// Label of its class.
    pub label: [u8; crate::phases::LABEL],
}

/// Events that found no place in the ring.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Beginning of the time in which that happened.
    pub head: EventHeader,
    /// Nanoseconds to its end.
    pub duration_ns: u64,
    /// How many.
    pub lost: u64,
}

#[cfg(not(test))]
const _: () = {
    assert!(size_of::<EventHeader>() == 24);
    assert!(size_of::<Call>() == 80);
    assert!(size_of::<DeviceCall>() == 160);
    assert!(size_of::<PathCall>() == 272);
    assert!(size_of::<Lifecycle>() == 64);
    assert!(size_of::<PhaseChange>() == 112);
    assert!(size_of::<Job>() == 120);
    assert!(size_of::<Switch>() == 40 && size_of::<Fault>() == 40 && size_of::<Gap>() == 40);
};
