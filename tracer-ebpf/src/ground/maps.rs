//! Every map and every global, with who writes it and who reads it.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf, Stack, StackTrace},
};
use gpuos_tracer_abi::{
    counters::{COUNTERS as COUNTER_COUNT, state},
    fd_table::{DevicePath, FdKey, FdTable, OpenFd},
    hooks::{HOOKS, HookCounts},
    ioctl::{DeviceId, MAJORS, Object, RULES as RULE_COUNT, Rule},
    phases::{LABEL, MOST_FUNCTIONS, PhaseKey, PhaseNode},
    settings::{Caller, CallerWords, SpecialNumberWords, TaskOffsetWords, TracepointOffsetWords},
    stacks::StackSite,
    syscalls::{CounterSlot, RowCounts, RowKey, SYSCALL_NUMBERS},
    tasks::{ProcessRecord, ThreadState},
};

/// Declares a `BPF_MAP_TYPE_TASK_STORAGE` (29) in BTF; aya-ebpf 0.2 has no type for it.
#[repr(C)]
pub(crate) struct TaskStorage<T> {
    r#type: *const [i32; 29],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the static is only a description for the loader; the kernel synchronises the map.
unsafe impl<T> Sync for TaskStorage<T> {}

/// State of each traced thread. Written by the fork, entry and exit programs, and once by user
/// space (through a pidfd) for the launched command; read by every program.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub(crate) static THREADS: TaskStorage<ThreadState> = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// The same by thread number, where `TASKS_BY_TID` is set. Written by the fork, exec and exit programs, and by user
/// space for the launched command; read by every program. User space sets the size.
#[map]
pub(crate) static THREADS_BY_TID: HashMap<u32, ThreadState> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Rows of live threads. Written by the thread a row belongs to; read by user space through mmap.
/// User space sets the size.
#[map]
pub(crate) static SLOTS: Array<CounterSlot> = Array::with_max_entries(16, BPF_F_MMAPABLE);

/// Chunks of `SLOTS` that no thread holds. Filled by user space before attaching; taken and given
/// back by the programs.
#[map]
pub(crate) static FREE_CHUNKS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Counts of threads that have exited. Written by the exit program and the slow path; read, and
/// for dead processes emptied, by user space.
#[map]
pub(crate) static TOTALS: HashMap<RowKey, RowCounts> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Processes. Written by the programs of `programs/tasks.rs`; read, and for dead ones emptied, by user space.
#[map]
pub(crate) static PROCESSES: HashMap<u64, ProcessRecord> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Drivers by major number. Written by user space, again when a module brings a new one; read by `count/ioctl.rs`.
#[map]
pub(crate) static DRIVERS: Array<u32> = Array::with_max_entries(MAJORS, 0);

/// How to read arguments. Written by user space before the command is released, and again when a driver comes
/// later; read by `count/ioctl.rs`.
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(RULE_COUNT, 0);

/// Classes of the NVIDIA driver's objects. Written and read by `count/ioctl.rs`.
#[map]
pub(crate) static OBJECTS: HashMap<Object, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Nodes of devices by their paths, on kernels without BTF. Written by user space, again and again;
/// read by `ground/fd_table.rs`.
#[map]
pub(crate) static DEVICE_PATHS: HashMap<DevicePath, DeviceId> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// What is known of processes, likewise; what is not used for long makes room, and nothing is known of it then. Written by
/// `ground/fd_table.rs`, and by user space for processes that run already; read by `ground/fd_table.rs`.
#[map]
pub(crate) static FD_TABLES: LruHashMap<u64, FdTable> = LruHashMap::with_max_entries(1, 0);

/// Fds that lead to them, likewise; those that are not used for long make room for others, and are not known
/// then. Written and read by `ground/fd_table.rs`; written by user space for processes that
/// run already.
#[map]
pub(crate) static OPEN_FDS: LruHashMap<FdKey, OpenFd> = LruHashMap::with_max_entries(1, 0);

/// Numbers of phases. Written by `count/phases.rs`; read by user space.
#[map]
pub(crate) static PHASES: HashMap<PhaseKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// What is counted about them. Written by `count/phases.rs`; read by user space through mmap.
#[map]
pub(crate) static PHASE_NODES: Array<PhaseNode> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Numbers that no phase has yet. Filled by user space before attaching; taken by `count/phases.rs`.
#[map]
pub(crate) static FREE_PHASES: Stack<u32> = Stack::with_max_entries(1, 0);

/// A word that the programs change: in the object's `.bss`, so that reading it is one instruction.
pub(crate) struct Word(pub(crate) core::cell::UnsafeCell<u32>);

// SAFETY: an aligned word, read whole and changed by atomic additions only.
unsafe impl Sync for Word {}

/// How often any process has changed its phase. Written by `count/phases.rs`; a thread that has seen another value looks its
/// phase up.
#[unsafe(no_mangle)]
pub(crate) static PHASE_CHANGES: Word = Word(core::cell::UnsafeCell::new(0));

/// User stacks. Written by `count/stacks.rs`, read by user space at the end, which also sets the size of both maps.
#[map]
pub(crate) static STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// Places in programs at which calls are made, and how many. Likewise.
#[map]
pub(crate) static STACK_SITES: HashMap<StackSite, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Labels of the phases of watched functions, by their cookies. Written by user space before they are attached.
#[map]
pub(crate) static FUNCTION_LABELS: Array<[u8; LABEL]> = Array::with_max_entries(MOST_FUNCTIONS, 0);

/// Counts at the functions of drivers. Written by `programs/hooks.rs`; read by user space through mmap.
#[map]
pub(crate) static HOOK_COUNTS: Array<HookCounts> = Array::with_max_entries(HOOKS.len() as u32, BPF_F_MMAPABLE);

/// Recorded events. Written by `count/emit.rs`, read by user space through mmap. User space sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Losses and other facts. Written by every program, read by user space through mmap.
#[map]
pub(crate) static COUNTERS: Array<u64> = Array::with_max_entries(COUNTER_COUNT, BPF_F_MMAPABLE);

/// What the programs ask each other: whether a GPU was seen, who is alive. Written by them, and at the start by user space,
/// which reads it through mmap.
#[map]
pub(crate) static STATE: Array<u64> = Array::with_max_entries(state::WORDS, BPF_F_MMAPABLE);

/// See `settings::globals` in the ABI crate; so for all that follow. Frozen before loading, so the
/// verifier removes the branches that a setting switches off.
#[unsafe(no_mangle)]
pub(crate) static TIMED: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(crate) static EXIT_ONLY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SAMPLE: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(crate) static PER_THREAD: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FILTERED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static WANTED: Global<[u64; 8]> = Global::new([0; 8]);
#[unsafe(no_mangle)]
pub(crate) static SPECIAL_NUMBERS: Global<SpecialNumberWords> = Global::new([0; _]);
#[unsafe(no_mangle)]
pub(crate) static TASKS_BY_TID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PLAIN_POINTERS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static NO_BTF: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FILE_TYPE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static INODE_TYPE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static WORD_TYPE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static RECORDED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PATHS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PATH_ARGUMENTS: Global<[u8; SYSCALL_NUMBERS]> = Global::new([0; _]);
#[unsafe(no_mangle)]
pub(crate) static INFER_PHASES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FUNCTIONS_WATCHED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CALLER: Global<CallerWords> = Global::new([0; size_of::<Caller>() / 4]);
#[unsafe(no_mangle)]
pub(crate) static STACKS_KEPT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TRACEPOINT_OFFSETS: Global<TracepointOffsetWords> = Global::new([0; _]);
#[unsafe(no_mangle)]
pub(crate) static TASK_OFFSETS: Global<TaskOffsetWords> = Global::new([0; _]);
