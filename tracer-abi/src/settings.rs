//! Globals that user space writes into the object before it is loaded, and never after.

/// Names of the global variables of the BPF object.
pub mod globals {
    /// `u32`: 1 when every call is timed, 0 with `--no-latency`.
    pub const TIMED: &str = "TIMED";
    /// `u32`: 1 when calls are counted at exit only, by [`COUNT_EXIT`](super::super::programs::COUNT_EXIT).
    pub const EXIT_ONLY: &str = "EXIT_ONLY";
    /// `u32`: time every Nth call of a thread; 1: every call.
    pub const SAMPLE: &str = "SAMPLE";
    /// `u32`: 1 when rows are kept by thread (`--per-thread`), 0 by process.
    pub const PER_THREAD: &str = "PER_THREAD";
    /// `u32`: 1 when only the calls of [`WANTED`] are counted.
    pub const FILTERED: &str = "FILTERED";
    /// `[u64; 8]`: bit n of word w is syscall number 64 w + n.
    pub const WANTED: &str = "WANTED";
    /// `[u32; N]`: the [`SpecialNumbers`](super::SpecialNumbers) of this architecture.
    pub const SPECIAL_NUMBERS: &str = "SPECIAL_NUMBERS";
    /// `u32`: 1 when threads are known by their number and events come from perf's tracepoints, 0 with task storage
    /// and BTF tracepoints.
    pub const TASKS_BY_TID: &str = "TASKS_BY_TID";
    /// `u32`: 1 when the kernel does not give programs the current task and its registers as typed pointers (before 5.15).
    pub const PLAIN_POINTERS: &str = "PLAIN_POINTERS";
    /// `u32`: 1 when the kernel shows no type information: nothing of its structures is read, and fds are
    /// followed through the calls that make and close them. [`TASKS_BY_TID`] and [`PLAIN_POINTERS`] are set, too.
    pub const NO_BTF: &str = "NO_BTF";
    /// `u32`: type id of `struct file` where programs may take an address for a pointer to a structure
    /// ([`CAST`](super::CAST), Linux 6.2), else 0.
    pub const FILE_TYPE: &str = "FILE_TYPE";
    /// `u32`: of `struct inode`, likewise.
    pub const INODE_TYPE: &str = "INODE_TYPE";
    /// `u32`: of a structure that begins with a number of 64 bits, likewise.
    pub const WORD_TYPE: &str = "WORD_TYPE";
    /// `u32`: 1 when every call is written to the ring, too.
    pub const RECORDED: &str = "RECORDED";
    /// `u32`: 1 when the paths that calls are about are recorded.
    pub const PATHS: &str = "PATHS";
    /// `[u8; 512]`, by system call number: 1 + which of the first four arguments is the address of a path; 0: none is.
    pub const PATH_ARGUMENTS: &str = "PATH_ARGUMENTS";
    /// `u32`: 1 when phases are inferred from calls on GPU devices.
    pub const INFER_PHASES: &str = "INFER_PHASES";
    /// `u32`: 1 when functions of libraries are watched, whose probes make system calls of their own.
    pub const FUNCTIONS_WATCHED: &str = "FUNCTIONS_WATCHED";
    /// [`Caller`](super::Caller): whose tasks alone may be looked at, as bytes.
    pub const CALLER: &str = "CALLER";
    /// `u32`: 1 when user stacks are kept.
    pub const STACKS_KEPT: &str = "STACKS_KEPT";
    /// `[u32; N]`: the [`TracepointOffsets`](super::TracepointOffsets) of this kernel.
    pub const TRACEPOINT_OFFSETS: &str = "TRACEPOINT_OFFSETS";
    /// `[u32; N]`: the [`TaskOffsets`](super::TaskOffsets) of this kernel.
    pub const TASK_OFFSETS: &str = "TASK_OFFSETS";
}

/// In the object, the number of a helper that does not exist, where an address becomes a pointer to a structure. User
/// space puts the kernel's function for that in its place, which it knows by its type id (`bpf_rdonly_cast`), or nothing.
pub const CAST: u32 = 0x6361_7374;

/// Gives every field of [`SpecialNumbers`](crate::settings::SpecialNumbers), with its meaning, to a macro: the one list of them.
#[macro_export]
macro_rules! special_numbers {
    ($each:ident) => {
        $each! {
            "`execve`: counting begins with the first one." execve;
            "`execveat`: likewise." execveat;
            "`rt_sigreturn`: its return value belongs to the interrupted code." rt_sigreturn;
            "`io_uring_setup`: mentioned even where a filter leaves it out." io_uring_setup;
            "`exit`: never returns." exit;
            "`exit_group`: likewise." exit_group;
            "`ioctl`: what its fd is decides what it does." ioctl;
            "`mmap`: on a GPU device it maps memory, registers or doorbells." mmap;
            "`read`: on a GPU device it fetches events." read;
            "`poll`: on a GPU device it waits for the GPU. `u32::MAX` where the architecture has none." poll;
            "`ppoll`: likewise." ppoll;
            "`epoll_ctl`: puts a GPU device among what is waited for." epoll_ctl;
            "`epoll_wait`: waits for it. `u32::MAX` where the architecture has none." epoll_wait;
            "`epoll_pwait`: likewise." epoll_pwait;
            "`epoll_pwait2`: likewise." epoll_pwait2;
            "`prctl`: it may give the thread another name." prctl;
            "`close`: where phases are inferred, that of a GPU device tells." close;
            "`clone`: a new task returns from it." clone;
            "`clone3`: likewise." clone3;
            "`fork`: likewise. `u32::MAX` where the architecture has none." fork;
            "`vfork`: likewise." vfork;
            "`open`: makes an fd. `u32::MAX` where the architecture has none." open;
            "`creat`: likewise." creat;
            "`openat`: likewise, everywhere." openat;
            "`openat2`: likewise." openat2;
            "`dup`: makes another fd of the same file." dup;
            "`dup2`: likewise. `u32::MAX` where the architecture has none." dup2;
            "`dup3`: likewise." dup3;
            "`fcntl`: may do so, too." fcntl;
            "`close_range`: closes many." close_range;
            "`io_uring_enter`: what is in a ring may close fds." io_uring_enter;
            "`unshare`: tables or mounts of its own." unshare;
            "`setns`: mounts of others." setns;
            "`chroot`: paths lead elsewhere." chroot;
            "`pivot_root`: likewise." pivot_root;
            "`uretprobe`: how watched functions return (Linux 6.11, `x86_64`). `u32::MAX` elsewhere." uretprobe;
            "`uprobe`: how they are entered (6.18, `x86_64`)." uprobe;
        }
    };
}

/// Whose tasks alone may be looked at, where the tracer has its rights from its file and not from who calls it.
#[repr(C)]
#[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// 1 when only tasks of this user and group are looked at, that hold no capabilities; 0: all.
    pub is_limit: u32,
    /// Its real user.
    pub user: u32,
    /// Its real group.
    pub group: u32,
}

/// [`Caller`] as words, the form in which it crosses into the object.
pub type CallerWords = [u32; size_of::<Caller>() / 4];

macro_rules! special_numbers_struct {
    ($($doc:literal $field:ident;)*) => {
        /// Syscall numbers that the BPF side treats apart. They differ by architecture.
        #[repr(C)]
        #[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct SpecialNumbers {
            $(#[doc = $doc] pub $field: u32,)*
        }
    };
}
special_numbers!(special_numbers_struct);

/// [`SpecialNumbers`] as words, the form in which it crosses into the object.
pub type SpecialNumberWords = [u32; size_of::<SpecialNumbers>() / 4];

/// Gives every field of [`TracepointOffsets`](crate::settings::TracepointOffsets), with its meaning, to a macro: the one list of them.
#[macro_export]
macro_rules! tracepoint_offsets {
    ($each:ident) => {
        $each! {
            "`child_pid` of `sched_process_fork`." fork_child;
            "`old_pid` of `sched_process_exec`." exec_before;
            "`prev_state` of `sched_switch`." switch_state;
            "`next_pid` there." switch_next;
            "`address` of `page_fault_user`." fault_address;
            "`error_code` there." fault_code;
        }
    };
}

macro_rules! tracepoint_offsets_struct {
    ($($doc:literal $field:ident;)*) => {
        /// Byte offsets in the records of tracepoints, from their `format` files.
        #[repr(C)]
        #[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TracepointOffsets {
            $(#[doc = $doc] pub $field: u32,)*
        }
    };
}
tracepoint_offsets!(tracepoint_offsets_struct);

/// Gives every field of [`TaskOffsets`](crate::settings::TaskOffsets), with its meaning, to a macro: the one list of them.
#[macro_export]
macro_rules! task_offsets {
    ($each:ident) => {
        $each! {
            "`__state`, before 5.14 `state`: why it does not run." run_state;
            "Word of `thread_info` that tells a 32-bit call (`x86_64`: `status`, aarch64: `flags`)." compat_word;
            "Bits of that word (`x86_64`: `TS_COMPAT` 2, aarch64: `TIF_32BIT` 1 << 22); 0: no such calls here." compat_mask;
            "`nvcsw`: voluntary context switches." voluntary_switches;
            "`nivcsw`: involuntary context switches." involuntary_switches;
            "`min_flt`: page faults served without input or output." minor_faults;
            "`maj_flt`: page faults that waited for a device." major_faults;
            "`utime`: user time in nanoseconds, sampled by the tick." user_time;
            "`stime`: system time in nanoseconds, sampled by the tick." system_time;
            "`se.sum_exec_runtime`: exact time on a CPU in nanoseconds." run_time;
            "`exit_code`, as `wait` would return it." exit_code;
            "`signal`: pointer to what the threads of a process share." signal;
            "`flags` there; bit 2 is `SIGNAL_GROUP_EXIT`." signal_flags;
            "`group_exit_code` there." group_exit_code;
            "System call number in `pt_regs` (`x86_64`: `orig_ax`, aarch64: `syscallno`)." registers_number;
            "`stack`: where the kernel's stack of the task begins." stack;
            "`pt_regs` on that stack." stack_registers;
            "First argument of the call in `pt_regs` (aarch64: `orig_x0`, which the return value leaves alone)." argument0;
            "Second argument." argument1;
            "Third." argument2;
            "Fourth: r10 on `x86_64`, not rcx." argument3;
            "Fifth." argument4;
            "Sixth." argument5;
            "`files`: pointer to the fd table." files;
            "`fdt` there." files_table;
            "`max_fds` there." table_length;
            "`fd` there: array of pointers to open files." table_files;
            "First byte of `struct file` that is read, a window of `FILE_WINDOW` bytes." file_window;
            "`f_inode`, in that window." file_inode;
            "`f_mode`, in that window." file_mode;
            "`f_path.dentry`, from the beginning of `struct file`." file_dentry;
            "`i_mode`, in the first `INODE_WINDOW` bytes of `struct inode`." inode_mode;
            "`i_rdev`, likewise." inode_device;
            "`i_sb`, likewise." inode_superblock;
            "`s_magic` of `struct super_block`." superblock_magic;
            "`d_name.name` of `struct dentry`." dentry_name;
            "`private_data`, from the beginning of `struct file`." file_private;
            "`rbr`, the tree of what it waits for, of `struct eventpoll`; 0 when the kernel does not say." epoll_tree;
            "`ffd.file` of `struct epitem`, which begins with its node of that tree." epoll_file;
            "`rb_left` of `struct rb_node`." node_left;
            "`rb_right` there." node_right;
            "`real_cred`: pointer to the rights that others check." credentials;
            "`uid` there." user;
            "`gid` there." group;
            "`suid` there." saved_user;
            "`sgid` there." saved_group;
            "`euid` there." effective_user;
            "`egid` there." effective_group;
            "`cap_permitted` there." capabilities;
            "`user_ns` there: pointer to the user namespace." namespace;
            "`mm`: pointer to the memory of the task." memory;
            "`flags` there; the lowest two bits are 1 where who has the same rights may look at it. 0: not known." memory_flags;
            "`level` of `struct user_namespace`: 0 for the initial one." namespace_level;
        }
    };
}

macro_rules! task_offsets_struct {
    ($($doc:literal $field:ident;)*) => {
        /// Byte offsets inside the kernel's `task_struct`, `pt_regs` and what fds lead to, read from the running kernel's BTF.
        #[repr(C)]
        #[cfg_attr(feature = "pod", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TaskOffsets {
            $(#[doc = $doc] pub $field: u32,)*
        }
    };
}
task_offsets!(task_offsets_struct);

/// [`TaskOffsets`] as words, the form in which it crosses into the object.
pub type TaskOffsetWords = [u32; size_of::<TaskOffsets>() / 4];

/// [`TracepointOffsets`] as words, the form in which it crosses into the object.
pub type TracepointOffsetWords = [u32; size_of::<TracepointOffsets>() / 4];
