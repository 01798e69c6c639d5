//! Phases that a program marks: the marker call, and the tree of their labels.
//!
//! A marker is an `ioctl` on fd −1 with the request [`MARKER`] and the address of a [`Marker`]. It always
//! fails with `EBADF`, needs no file and works in any language; without a tracer it does nothing.

/// Request of the marker call: `GPUS` in ASCII. No driver sees it, because no fd is −1.
pub const MARKER: u32 = 0x4750_5553;

/// A phase begins inside the current one.
pub const OPERATION_BEGIN: u32 = 1;
/// The current phase ends; the one around it goes on.
pub const OPERATION_END: u32 = 2;
/// The current phase ends and another begins in its place; without a current one it only begins.
pub const OPERATION_SWITCH: u32 = 3;
/// The program has done [`Marker::count`] iterations in the current phase.
pub const OPERATION_ITERATIONS: u32 = 4;

/// Nobody marked it: one of the [`INFERRED`] phases begins for the process in place of the one before. Only in records.
pub const OPERATION_INFERRED: u32 = 5;

/// Labels of the phases that are inferred from a process's calls on GPU devices, by their numbers from 1 on.
pub const INFERRED: [&str; 4] = ["before the GPU", "set-up", "steady state", "teardown"];
/// Numbers of these.
pub const BEFORE_THE_GPU: u32 = 1;
/// From the first call on a GPU device, and whenever a queue is made.
pub const SET_UP: u32 = 2;
/// When set-up is over.
pub const STEADY: u32 = 3;
/// From the first queue or fd of a GPU on that ends in the steady state.
pub const TEARDOWN: u32 = 4;
/// Set-up is over when for so long no queue was made. On an H200 a CUDA context makes its queues within 50 ms, and its last
/// call comes 34 ms after the last (`study/phase1/h200/record/alloc.parquet`).
pub const QUIET_NS: u64 = 50_000_000;
/// Or, while none was made at all, so long after the first call: there the first queue came after 274 ms.
pub const UNTIL_A_QUEUE_NS: u64 = 1_000_000_000;

/// For the whole process: helper threads of a runtime work for it.
pub const SCOPE_PROCESS: u32 = 0;
/// For the calling thread only.
pub const SCOPE_THREAD: u32 = 1;

/// For the calling thread while it is in a function of a GPU library (`--api`); no marker has it.
pub const SCOPE_FUNCTION: u32 = 2;
/// For the calling thread while it works for a class of jobs (see [`jobs`](crate::jobs)); no marker has it.
pub const SCOPE_JOB: u32 = 3;
/// Functions that can be watched at a time.
pub const MOST_FUNCTIONS: u32 = 256;

/// Bytes of a label, its final NUL included.
pub const LABEL: usize = 64;
/// Phases of one scope that may be open inside each other.
pub const MOST_NESTED: u32 = 8;

/// What the marker call points to. Its C twin is `struct gpuos_marker` of `gpuos_phase.h`.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// One of the `OPERATION_` values.
    pub operation: u32,
    /// One of the `SCOPE_` values.
    pub scope: u32,
    /// Iterations; else 0.
    pub count: u64,
    /// Label, ended by a NUL.
    pub label: [u8; LABEL],
}

/// A phase is told by its label and the phase around it.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PhaseKey {
    /// Number of the phase around it; 0: none.
    pub parent: u32,
    /// One of the `SCOPE_` values.
    pub scope: u32,
    /// Label, padded with NULs.
    pub label: [u8; LABEL],
}

impl PhaseKey {
    /// No label yet.
    pub const EMPTY: Self = Self { parent: 0, scope: 0, label: [0; LABEL] };
}

/// What is counted about a phase, of all processes together.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseNode {
    /// Number of the phase around it; 0: none.
    pub parent: u32,
    /// How many phases are around it.
    pub depth: u32,
    /// How often it began.
    pub entered: u64,
    /// Nanoseconds in it and not in a phase of the same scope inside it, of those that ended.
    pub own_ns: u64,
    /// Iterations that the program reported.
    pub iterations: u64,
    /// Of a class of jobs: what threads used while they worked for it.
    pub used: Used,
}

/// What a thread used, as far as it is known at every moment.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Time on a CPU in nanoseconds.
    pub run_ns: u64,
    /// Context switches because the thread had to wait.
    pub voluntary_switches: u64,
    /// Context switches because another thread was to run.
    pub involuntary_switches: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
}

impl Used {
    /// Nothing.
    pub const ZERO: Self =
        Self { run_ns: 0, voluntary_switches: 0, involuntary_switches: 0, minor_faults: 0, major_faults: 0 };
}

impl Default for PhaseKey {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(not(test))]
const _: () = {
    assert!(size_of::<Marker>() == 80 && core::mem::offset_of!(Marker, label) == 16);
    assert!(size_of::<PhaseKey>() == 72 && core::mem::offset_of!(PhaseKey, label) == 8);
    assert!(size_of::<PhaseNode>() == 72);
};
