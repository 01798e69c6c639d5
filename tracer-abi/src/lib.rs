//! The contract between the BPF programs and user space: record layouts, map names, ids.
//!
//! Everything here is `repr(C)`, made of unsigned integers, with its padding written out and its
//! size asserted. No enum, bool, Option or tuple crosses this boundary. Ids leave gaps, so that a
//! later version can add one in its place.
#![no_std]

pub mod counters;
pub mod events;
pub mod fd_table;
pub mod hooks;
pub mod ioctl;
pub mod jobs;
pub mod phases;
pub mod settings;
pub mod stacks;
pub mod syscalls;
pub mod tasks;

/// Raised with every change of a layout, a map name or a meaning in this crate.
///
/// The object carries it in the ELF section [`ABI_SECTION`]; the loader refuses another value.
pub const ABI_VERSION: u32 = 9;

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
    /// [`TASKS_BY_TID`](crate::settings::globals::TASKS_BY_TID) is set.
    pub const THREADS_BY_TID: &str = "THREADS_BY_TID";
    /// Array, mappable: one [`CounterSlot`](crate::syscalls::CounterSlot) per (thread, syscall) that is alive.
    pub const SLOTS: &str = "SLOTS";
    /// Stack: numbers of the chunks of [`SLOTS`] that no thread holds.
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
    /// Hash: [`DevicePath`](crate::fd_table::DevicePath) to the number of the device there, where
    /// [`NO_BTF`](crate::settings::globals::NO_BTF) is set.
    pub const DEVICE_PATHS: &str = "DEVICE_PATHS";
    /// Hash: process id (`u64`) to [`FdTable`](crate::fd_table::FdTable), likewise.
    pub const FD_TABLES: &str = "FD_TABLES";
    /// Hash: [`FdKey`](crate::fd_table::FdKey) to [`OpenFd`](crate::fd_table::OpenFd), likewise.
    pub const OPEN_FDS: &str = "OPEN_FDS";
    /// Hash: [`PhaseKey`](crate::phases::PhaseKey) to the number of the phase, from 1.
    pub const PHASES: &str = "PHASES";
    /// Array, mappable: a [`PhaseNode`](crate::phases::PhaseNode) by that number.
    pub const PHASE_NODES: &str = "PHASE_NODES";
    /// Stack: numbers that no phase has yet.
    pub const FREE_PHASES: &str = "FREE_PHASES";
    /// Stack traces: addresses by the number of a stack.
    pub const STACKS: &str = "STACKS";
    /// Hash: [`StackSite`](crate::stacks::StackSite) to the calls that returned there (`u64`).
    pub const STACK_SITES: &str = "STACK_SITES";
    /// Array: the label of the phase of each watched function of a library.
    pub const FUNCTION_LABELS: &str = "FUNCTION_LABELS";
    /// Array, mappable: [`HookCounts`](crate::hooks::HookCounts) by the index in [`HOOKS`](crate::hooks::HOOKS).
    pub const HOOK_COUNTS: &str = "HOOK_COUNTS";
    /// Ring buffer: the records of [`events`](crate::events).
    pub const EVENTS: &str = "EVENTS";
    /// Array of `u64`, mappable: what is lost and other facts, by the indices of [`counters`](crate::counters).
    pub const COUNTERS: &str = "COUNTERS";
    /// Array of `u64`, mappable: the indices of [`counters::state`](crate::counters::state).
    pub const STATE: &str = "STATE";
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
    /// `sched_switch`, once a program has jobs.
    pub const JOB_SWITCH: &str = "job_switch";
    /// `sched_stat_runtime`, likewise.
    pub const JOB_TICK: &str = "job_tick";
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
    pub const BASELINES: [(&str, &str, &str); 3] = [
        ("nothing", "empty_enter", "empty_exit"),
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
