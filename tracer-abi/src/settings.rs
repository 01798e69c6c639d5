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
    pub const TASKS_BY_ID: &str = "TASKS_BY_ID";
    /// `u32`: 1 when the kernel does not give programs the current task and its registers as typed pointers (before 5.15).
    pub const UNTYPED: &str = "UNTYPED";
    /// `u32`: 1 when the kernel shows no type information: nothing of its structures is read, and descriptors are
    /// followed through the calls that make and close them. [`TASKS_BY_ID`] and [`UNTYPED`] are set, too.
    pub const WITHOUT_TYPES: &str = "WITHOUT_TYPES";
    /// `u32`: type id of `struct file` where programs may take an address for a pointer to a structure
    /// ([`CAST`](super::CAST), Linux 6.2), else 0.
    pub const FILE_TYPE: &str = "FILE_TYPE";
    /// `u32`: of `struct inode`, likewise.
    pub const INODE_TYPE: &str = "INODE_TYPE";
    /// `u32`: of a structure that begins with a number of 64 bits, likewise.
    pub const WORD_TYPE: &str = "WORD_TYPE";
    /// `u32`: 1 when every call is written to the ring, too.
    pub const RECORDED: &str = "RECORDED";
    /// `u32`: 1 when phases are inferred from calls on GPU devices.
    pub const INFER_PHASES: &str = "INFER_PHASES";
    /// `u32`: 1 when functions of libraries are watched, whose probes make system calls of their own.
    pub const FUNCTIONS_WATCHED: &str = "FUNCTIONS_WATCHED";
    /// `u32`: 1 when user stacks are kept.
    pub const STACKS_KEPT: &str = "STACKS_KEPT";
    /// `[u32; N]`: the [`PointOffsets`](super::PointOffsets) of this kernel.
    pub const POINT_OFFSETS: &str = "POINT_OFFSETS";
    /// `[u32; N]`: the [`TaskOffsets`](super::TaskOffsets) of this kernel.
    pub const TASK_OFFSETS: &str = "TASK_OFFSETS";
}

/// In the object, the number of a helper that does not exist, where an address becomes a pointer to a structure. User
/// space puts the kernel's function for that in its place, which it knows by its type id (`bpf_rdonly_cast`), or nothing.
pub const CAST: u32 = 0x6361_7374;

/// Syscall numbers that the BPF side treats apart. They differ by architecture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialNumbers {
    /// `execve`: counting begins with the first one.
    pub execve: u32,
    /// `execveat`: likewise.
    pub execveat: u32,
    /// `rt_sigreturn`: its return value belongs to the interrupted code.
    pub rt_sigreturn: u32,
    /// `io_uring_setup`: mentioned even where a filter leaves it out.
    pub io_uring_setup: u32,
    /// `exit`: never returns.
    pub exit: u32,
    /// `exit_group`: likewise.
    pub exit_group: u32,
    /// `ioctl`: what its descriptor is decides what it does.
    pub ioctl: u32,
    /// `mmap`: on a GPU device it maps memory, registers or doorbells.
    pub mmap: u32,
    /// `read`: on a GPU device it fetches events.
    pub read: u32,
    /// `poll`: on a GPU device it waits for the GPU. `u32::MAX` where the architecture has none.
    pub poll: u32,
    /// `ppoll`: likewise.
    pub ppoll: u32,
    /// `epoll_ctl`: puts a GPU device among what is waited for.
    pub epoll_ctl: u32,
    /// `epoll_wait`: waits for it. `u32::MAX` where the architecture has none.
    pub epoll_wait: u32,
    /// `epoll_pwait`: likewise.
    pub epoll_pwait: u32,
    /// `epoll_pwait2`: likewise.
    pub epoll_pwait2: u32,
    /// `prctl`: it may give the thread another name.
    pub prctl: u32,
    /// `close`: where phases are inferred, that of a GPU device tells.
    pub close: u32,
    /// `clone`: a new task returns from it.
    pub clone: u32,
    /// `clone3`: likewise.
    pub clone3: u32,
    /// `fork`: likewise. `u32::MAX` where the architecture has none.
    pub fork: u32,
    /// `vfork`: likewise.
    pub vfork: u32,
    /// `open`: makes a descriptor. `u32::MAX` where the architecture has none.
    pub open: u32,
    /// `creat`: likewise.
    pub creat: u32,
    /// `openat`: likewise, everywhere.
    pub openat: u32,
    /// `openat2`: likewise.
    pub openat2: u32,
    /// `dup`: makes another descriptor of the same file.
    pub dup: u32,
    /// `dup2`: likewise. `u32::MAX` where the architecture has none.
    pub dup2: u32,
    /// `dup3`: likewise.
    pub dup3: u32,
    /// `fcntl`: may do so, too.
    pub fcntl: u32,
    /// `close_range`: closes many.
    pub close_range: u32,
    /// `io_uring_enter`: what is in a ring may close descriptors.
    pub io_uring_enter: u32,
    /// `unshare`: tables or mounts of its own.
    pub unshare: u32,
    /// `setns`: mounts of others.
    pub setns: u32,
    /// `chroot`: paths lead elsewhere.
    pub chroot: u32,
    /// `pivot_root`: likewise.
    pub pivot_root: u32,
    /// `uretprobe`: how watched functions return (Linux 6.11, x86_64). `u32::MAX` elsewhere.
    pub uretprobe: u32,
    /// `uprobe`: how they are entered (6.18, x86_64).
    pub uprobe: u32,
}

/// [`SpecialNumbers`] as words, the form in which it crosses into the object.
pub type SpecialNumberWords = [u32; size_of::<SpecialNumbers>() / 4];

impl SpecialNumbers {
    /// The same numbers as an array of words, in field order.
    #[must_use]
    pub const fn words(self) -> SpecialNumberWords {
        [
            self.execve,
            self.execveat,
            self.rt_sigreturn,
            self.io_uring_setup,
            self.exit,
            self.exit_group,
            self.ioctl,
            self.mmap,
            self.read,
            self.poll,
            self.ppoll,
            self.epoll_ctl,
            self.epoll_wait,
            self.epoll_pwait,
            self.epoll_pwait2,
            self.prctl,
            self.close,
            self.clone,
            self.clone3,
            self.fork,
            self.vfork,
            self.open,
            self.creat,
            self.openat,
            self.openat2,
            self.dup,
            self.dup2,
            self.dup3,
            self.fcntl,
            self.close_range,
            self.io_uring_enter,
            self.unshare,
            self.setns,
            self.chroot,
            self.pivot_root,
            self.uretprobe,
            self.uprobe,
        ]
    }
}

/// Byte offsets in the records of tracepoints, from their `format` files.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointOffsets {
    /// `child_pid` of `sched_process_fork`.
    pub fork_child: u32,
    /// `old_pid` of `sched_process_exec`.
    pub exec_before: u32,
    /// `prev_state` of `sched_switch`.
    pub switch_state: u32,
    /// `next_pid` there.
    pub switch_next: u32,
    /// `address` of `page_fault_user`.
    pub fault_address: u32,
    /// `error_code` there.
    pub fault_code: u32,
}

/// Byte offsets inside the kernel's `task_struct`, `pt_regs` and what descriptors lead to, read from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `__state`, before 5.14 `state`: why it does not run.
    pub state: u32,
    /// Word of `thread_info` that tells a 32-bit call (x86_64: `status`, aarch64: `flags`).
    pub compat_word: u32,
    /// Bits of that word (x86_64: `TS_COMPAT` 2, aarch64: `TIF_32BIT` 1 << 22); 0: no such calls here.
    pub compat_mask: u32,
    /// `nvcsw`: voluntary context switches.
    pub voluntary_switches: u32,
    /// `nivcsw`: involuntary context switches.
    pub involuntary_switches: u32,
    /// `min_flt`: page faults served without input or output.
    pub minor_faults: u32,
    /// `maj_flt`: page faults that waited for a device.
    pub major_faults: u32,
    /// `utime`: user time in nanoseconds, sampled by the tick.
    pub user_time: u32,
    /// `stime`: system time in nanoseconds, sampled by the tick.
    pub system_time: u32,
    /// `se.sum_exec_runtime`: exact time on a CPU in nanoseconds.
    pub run_time: u32,
    /// `exit_code`, as `wait` would return it.
    pub exit_code: u32,
    /// `signal`: pointer to what the threads of a process share.
    pub signal: u32,
    /// `flags` there; bit 2 is `SIGNAL_GROUP_EXIT`.
    pub signal_flags: u32,
    /// `group_exit_code` there.
    pub group_exit_code: u32,
    /// System call number in `pt_regs` (x86_64: `orig_ax`, aarch64: `syscallno`).
    pub registers_number: u32,
    /// `stack`: where the kernel's stack of the task begins.
    pub stack: u32,
    /// `pt_regs` on that stack.
    pub stack_registers: u32,
    /// First argument of the call in `pt_regs` (aarch64: `orig_x0`, which the return value leaves alone).
    pub argument0: u32,
    /// Second argument.
    pub argument1: u32,
    /// Third.
    pub argument2: u32,
    /// Fourth: r10 on x86_64, not rcx.
    pub argument3: u32,
    /// Fifth.
    pub argument4: u32,
    /// Sixth.
    pub argument5: u32,
    /// `files`: pointer to the table of descriptors.
    pub files: u32,
    /// `fdt` there.
    pub files_table: u32,
    /// `max_fds` there.
    pub table_length: u32,
    /// `fd` there: array of pointers to open files.
    pub table_files: u32,
    /// First byte of `struct file` that is read, a window of [`FILE_WINDOW`](crate::ioctl::FILE_WINDOW) bytes.
    pub file_window: u32,
    /// `f_inode`, in that window.
    pub file_inode: u32,
    /// `f_mode`, in that window.
    pub file_mode: u32,
    /// `f_path.dentry`, from the beginning of `struct file`.
    pub file_dentry: u32,
    /// `i_mode`, in the first [`INODE_WINDOW`](crate::ioctl::INODE_WINDOW) bytes of `struct inode`.
    pub inode_mode: u32,
    /// `i_rdev`, likewise.
    pub inode_device: u32,
    /// `i_sb`, likewise.
    pub inode_superblock: u32,
    /// `s_magic` of `struct super_block`.
    pub superblock_magic: u32,
    /// `d_name.name` of `struct dentry`.
    pub dentry_name: u32,
    /// `private_data`, from the beginning of `struct file`.
    pub file_private: u32,
    /// `rbr`, the tree of what it waits for, of `struct eventpoll`; 0 when the kernel does not say.
    pub epoll_tree: u32,
    /// `ffd.file` of `struct epitem`, which begins with its node of that tree.
    pub epoll_file: u32,
    /// `rb_left` of `struct rb_node`.
    pub node_left: u32,
    /// `rb_right` there.
    pub node_right: u32,
}

/// [`TaskOffsets`] as words, the form in which it crosses into the object.
pub type TaskOffsetWords = [u32; size_of::<TaskOffsets>() / 4];

/// [`PointOffsets`] as words, the form in which it crosses into the object.
pub type PointOffsetWords = [u32; size_of::<PointOffsets>() / 4];

impl PointOffsets {
    /// The same offsets as an array of words, in field order.
    #[must_use]
    pub const fn words(self) -> PointOffsetWords {
        [self.fork_child, self.exec_before, self.switch_state, self.switch_next, self.fault_address, self.fault_code]
    }
}

impl TaskOffsets {
    /// The same offsets as an array of words, in field order.
    #[must_use]
    pub const fn words(self) -> TaskOffsetWords {
        [
            self.state,
            self.compat_word,
            self.compat_mask,
            self.voluntary_switches,
            self.involuntary_switches,
            self.minor_faults,
            self.major_faults,
            self.user_time,
            self.system_time,
            self.run_time,
            self.exit_code,
            self.signal,
            self.signal_flags,
            self.group_exit_code,
            self.registers_number,
            self.stack,
            self.stack_registers,
            self.argument0,
            self.argument1,
            self.argument2,
            self.argument3,
            self.argument4,
            self.argument5,
            self.files,
            self.files_table,
            self.table_length,
            self.table_files,
            self.file_window,
            self.file_inode,
            self.file_mode,
            self.file_dentry,
            self.inode_mode,
            self.inode_device,
            self.inode_superblock,
            self.superblock_magic,
            self.dentry_name,
            self.file_private,
            self.epoll_tree,
            self.epoll_file,
            self.node_left,
            self.node_right,
        ]
    }
}
