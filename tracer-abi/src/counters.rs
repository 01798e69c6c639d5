//! Numbers that the BPF side adds up beside the counts of calls: losses and other facts of a run in the `COUNTERS` array,
//! and in the `STATE` array what its programs ask each other.

/// A child could not be followed: the kernel gave it no task storage.
pub const CHILDREN_NOT_FOLLOWED: u32 = 0;
/// Calls whose row found no place in the `TOTALS` map.
pub const CALLS_WITHOUT_TOTALS: u32 = 1;
/// Processes that found no place in the `PROCESSES` map: counted under "unknown".
pub const PROCESSES_WITHOUT_RECORD: u32 = 2;
/// Objects of the NVIDIA driver that found no place in the `OBJECTS` map: calls on them have no class.
pub const OBJECTS_WITHOUT_CLASS: u32 = 3;
/// Phases whose begin was not kept: no place (`--phases`), a label that could not be read, or more than
/// [`MOST_NESTED`](crate::phases::MOST_NESTED) inside each other. Their calls are counted in the phase around.
pub const PHASES_IGNORED: u32 = 4;
/// Events that found no place in the ring.
pub const EVENTS_LOST: u32 = 5;
/// Calls whose place in the program found no room (`--stacks`).
pub const STACK_SITES_LOST: u32 = 6;
/// Tasks that are not followed any more: they executed a program that gave them rights which the tracer's caller has not.
pub const OTHER_RIGHTS: u32 = 7;

/// Not a loss: calls counted on the slower path because no row was free.
pub const CALLS_ON_SLOW_PATH: u32 = 8;
/// Not a loss: 32-bit calls left out because `-e` cannot name them.
pub const COMPAT_CALLS_FILTERED: u32 = 10;
/// Not a loss: io_uring rings set up while `-e` left the call out.
pub const RINGS_FILTERED: u32 = 11;
/// Not a loss: arguments of device calls that could not be read, because the program passed no good address or
/// the page was not in memory.
pub const ARGUMENTS_UNREADABLE: u32 = 12;
/// Not a loss: marker calls, which are not counted as calls of the program.
pub const MARKERS: u32 = 15;
/// Not a loss: ends of phases that never began, and operations that nobody knows.
pub const MARKERS_WITHOUT_MEANING: u32 = 16;
/// Not a loss: looks at what a thread works for that found its slot's memory not there; it kept the class of before.
pub const JOB_SLOTS_UNREADABLE: u32 = 17;
/// Length of the `COUNTERS` array.
pub const COUNTERS: u32 = 20;

/// Indices of the `STATE` array.
pub mod state {
    /// 1 after an `ioctl` on a device of a GPU driver. While it is 0 nobody looks at the fds of `mmap` and `poll`.
    pub const GPU_SEEN: u32 = 0;
    /// Keys with a command that the slower path has put into `TOTALS`; bounded by
    /// [`MOST_SLOW_COMMANDS`](crate::ioctl::MOST_SLOW_COMMANDS).
    pub const SLOW_COMMANDS: u32 = 1;
    /// Traced threads that are alive now.
    pub const THREADS_ALIVE: u32 = 2;
    /// Traced threads that have exited.
    pub const THREADS_ENDED: u32 = 3;
    /// How often a thread has said where its slot is: programs have jobs.
    pub const JOB_SLOTS: u32 = 4;
    /// Length of the array.
    pub const WORDS: u32 = 8;
}
