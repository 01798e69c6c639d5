//! The contract between the BPF programs and user space: record layouts, map names, ids.
//!
//! Everything here is `repr(C)`, made of unsigned integers, with its padding written out and its
//! size asserted. No enum, bool, Option or tuple crosses this boundary. Ids leave gaps, so that a
//! later version can add one in its place.
#![no_std]

pub mod events;
pub mod followed;
pub mod hooks;
pub mod ioctl;
pub mod losses;
pub mod phases;
pub mod settings;
pub mod stacks;
pub mod syscalls;
pub mod tasks;

/// Raised with every change of a layout, a map name or a meaning in this crate.
///
/// The object carries it in the ELF section [`ABI_SECTION`]; the loader refuses another value.
pub const ABI_VERSION: u32 = 7;

/// ELF section of the BPF object that holds [`ABI_VERSION`] as a little-endian `u32`.
pub const ABI_SECTION: &str = "gpuos.abi";

/// ELF section that holds the fingerprint (hex SHA-256) of the sources the object was built from.
pub const FINGERPRINT_SECTION: &str = "gpuos.source";

/// Names of the BPF maps.
///
/// They are constants because aya silently ignores a misspelt name in `map_max_entries`.
pub mod maps {
    /// Task storage: a [`ThreadState`](crate::tasks::ThreadState) for every traced thread.
    pub const THREADS: &str = "THREADS";
    /// Hash: thread number to [`ThreadState`](crate::tasks::ThreadState), in place of [`THREADS`] on kernels where
    /// [`TASKS_BY_ID`](crate::settings::globals::TASKS_BY_ID) is set.
    pub const THREADS_BY_ID: &str = "THREADS_BY_ID";
    /// Array, mappable: one [`Row`](crate::syscalls::Row) per (thread, syscall) that is alive.
    pub const ROWS: &str = "ROWS";
    /// Stack: numbers of the chunks of [`ROWS`] that no thread holds.
    pub const FREE_CHUNKS: &str = "FREE_CHUNKS";
    /// Hash: [`RowKey`](crate::syscalls::RowKey) to [`RowCounts`](crate::syscalls::RowCounts) of threads that have exited.
    pub const TOTALS: &str = "TOTALS";
    /// Hash: process id (`u64`) to [`ProcessRecord`](crate::tasks::ProcessRecord).
    pub const PROCESSES: &str = "PROCESSES";
    /// Array of `u32`, by major device number: one of the `DRIVER_` values of [`ioctl`](crate::ioctl).
    pub const DRIVERS: &str = "DRIVERS";
    /// Array: one [`Rule`](crate::ioctl::Rule) per driver and command number.
    pub const RULES: &str = "RULES";
    /// Hash: [`Object`](crate::ioctl::Object) to the class it was made of.
    pub const OBJECTS: &str = "OBJECTS";
    /// Hash: [`DevicePath`](crate::followed::DevicePath) to the number of the device there, where
    /// [`WITHOUT_TYPES`](crate::settings::globals::WITHOUT_TYPES) is set.
    pub const DEVICE_PATHS: &str = "DEVICE_PATHS";
    /// Hash: process id (`u64`) to [`Followed`](crate::followed::Followed), likewise.
    pub const FOLLOWED: &str = "FOLLOWED";
    /// Hash: [`Descriptor`](crate::followed::Descriptor) to [`Opened`](crate::followed::Opened), likewise.
    pub const DESCRIPTORS: &str = "DESCRIPTORS";
    /// Hash: [`PhaseKey`](crate::phases::PhaseKey) to the number of the phase, from 1.
    pub const PHASES: &str = "PHASES";
    /// Array, mappable: a [`PhaseNode`](crate::phases::PhaseNode) by that number.
    pub const PHASE_NODES: &str = "PHASE_NODES";
    /// Stack: numbers that no phase has yet.
    pub const FREE_PHASES: &str = "FREE_PHASES";
    /// Stack traces: addresses by the number of a stack.
    pub const STACKS: &str = "STACKS";
    /// Hash: [`SiteKey`](crate::stacks::SiteKey) to the calls that returned there (`u64`).
    pub const SITES: &str = "SITES";
    /// Array: the label of the phase of each watched function of a library.
    pub const FUNCTION_LABELS: &str = "FUNCTION_LABELS";
    /// Array, mappable: [`HookCounts`](crate::hooks::HookCounts) by the index in [`HOOKS`](crate::hooks::HOOKS).
    pub const HOOK_COUNTS: &str = "HOOK_COUNTS";
    /// Ring buffer: the records of [`events`](crate::events).
    pub const EVENTS: &str = "EVENTS";
    /// Array of `u64`: the counters of [`losses`](crate::losses).
    pub const LOSSES: &str = "LOSSES";
}

/// Names of the BPF programs.
pub mod programs {
    /// BTF tracepoint `sys_enter`, like all of these by the name given here.
    pub const SYS_ENTER: &str = "sys_enter";
    /// `sys_exit`.
    pub const SYS_EXIT: &str = "sys_exit";
    /// `sched_process_fork`.
    pub const TASK_FORK: &str = "task_fork";
    /// `sched_process_exec`.
    pub const TASK_EXEC: &str = "task_exec";
    /// `sched_process_exit`.
    pub const TASK_EXIT: &str = "task_exit";
    /// `sched_process_free`.
    pub const TASK_FREE: &str = "task_free";

    /// Tracepoint `syscalls/sys_enter_NAME`, in place of [`SYS_ENTER`] when few calls are wanted.
    pub const CALL_ENTER: &str = "call_enter";
    /// Tracepoint `syscalls/sys_exit_NAME`, likewise.
    pub const CALL_EXIT: &str = "call_exit";

    /// Tracepoint `sched/sched_process_fork`, with threads by number.
    pub const POINT_FORK: &str = "point_fork";
    /// Tracepoint `sched/sched_process_exec`, likewise.
    pub const POINT_EXEC: &str = "point_exec";
    /// Tracepoint `sched/sched_process_exit`, likewise.
    pub const POINT_EXIT: &str = "point_exit";

    /// `sched_switch`, when a recording wants it.
    pub const TASK_SWITCH: &str = "task_switch";
    /// Tracepoint `sched/sched_switch`, likewise, with threads by number.
    pub const POINT_SWITCH: &str = "point_switch";
    /// `page_fault_user`, when a recording wants it.
    pub const TASK_FAULT: &str = "task_fault";
    /// Tracepoint `exceptions/page_fault_user`, likewise, with threads by number.
    pub const POINT_FAULT: &str = "point_fault";

    /// `sys_exit`, in place of [`SYS_ENTER`] and [`SYS_EXIT`] when calls are counted and not timed.
    pub const COUNT_EXIT: &str = "count_exit";
    /// Entry of a function of a GPU library.
    pub const API_ENTER: &str = "api_enter";
    /// Its return.
    pub const API_EXIT: &str = "api_exit";
    /// Pairs on the raw tracepoints `sys_enter` and `sys_exit`, for the benchmarks: what they do, and
    /// their names.
    pub const FLOORS: [(&str, &str, &str); 3] = [
        ("nothing", "floor_enter", "floor_exit"),
        ("clock", "clock_enter", "clock_exit"),
        ("storage", "storage_enter", "storage_exit"),
    ];

    /// Program and BTF tracepoint, in the order in which they are attached: children first, so that there
    /// is no moment in which a call is counted and a fork is not followed.
    pub const TRACEPOINTS: [(&str, &str); 6] = [
        (TASK_FORK, "sched_process_fork"),
        (TASK_FREE, "sched_process_free"),
        (TASK_EXIT, "sched_process_exit"),
        (TASK_EXEC, "sched_process_exec"),
        (SYS_EXIT, "sys_exit"),
        (SYS_ENTER, "sys_enter"),
    ];
}
