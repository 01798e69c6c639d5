//! Sizes the maps, writes the settings, loads and attaches the programs, arms the suspended child.

use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use gpuos_tracer_abi::{
    maps, programs,
    settings::{SpecialNumbers, TaskOffsets, globals},
    syscalls::{CHUNK_ROWS, DIRECTORY},
    tasks::{ProcessRecord, ThreadState, process_id},
};

use super::{
    call_tracepoints::CallTracepoints,
    error::LoadError,
    kernel_btf::{BtfError, KernelBtf},
    kernel_objects::{KernelObjects, Place},
    object,
    snapshot::Counters,
};

/// What is asked of the BPF side. Every size is a number of entries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time every call.
    pub timed: bool,
    /// Threads that run already will be traced: their first return may belong to a call that began before.
    pub attaching: bool,
    /// Time every Nth call of a thread; 1: every call.
    pub sample: u32,
    /// Keep rows by thread, not by process.
    pub per_thread: bool,
    /// Count only these syscall numbers; `None`: all.
    pub wanted: Option<Vec<u32>>,
    /// Rows of live threads, 392 bytes each; rounded up to chunks of 16, at most 65,520.
    pub rows: u32,
    /// Rows of exited threads of processes not yet read, about 400 bytes each while used.
    pub totals: u32,
    /// Processes not yet read, about 200 bytes each while used.
    pub processes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timed: true,
            attaching: false,
            sample: 1,
            per_thread: false,
            wanted: None,
            rows: 16_384,
            totals: 262_144,
            processes: 65_536,
        }
    }
}

impl Settings {
    /// The largest `rows`: a directory entry is 16 bits wide, with 0 for none.
    pub const MOST_ROWS: u32 = 65_520;

    fn chunks(&self) -> u32 {
        self.rows.clamp(1, Self::MOST_ROWS).div_ceil(CHUNK_ROWS)
    }

    fn bitmap(&self) -> [u64; DIRECTORY / 64] {
        let mut words = [0; DIRECTORY / 64];
        for &number in self.wanted.iter().flatten() {
            if let Some(word) = words.get_mut(number as usize / 64) {
                *word |= 1 << (number % 64);
            }
        }
        words
    }
}

/// The loaded and attached programs. Dropping it detaches and frees everything.
#[derive(Debug)]
pub struct Tracer {
    objects: KernelObjects,
    rows: u32,
}

const SPECIAL_NUMBERS: SpecialNumbers = SpecialNumbers {
    execve: libc::SYS_execve as u32,
    execveat: libc::SYS_execveat as u32,
    rt_sigreturn: libc::SYS_rt_sigreturn as u32,
    io_uring_setup: libc::SYS_io_uring_setup as u32,
    exit: libc::SYS_exit as u32,
    exit_group: libc::SYS_exit_group as u32,
};

/// Offsets in this kernel's structures. A kernel without BTF cannot be traced; a kernel without
/// one of the accounting fields shows 0 there.
fn task_offsets(btf: &KernelBtf) -> Result<TaskOffsets, BtfError> {
    let task = btf.structure("task_struct")?;
    let registers = btf.structure("pt_regs")?;
    let shared = btf.structure("signal_struct")?;
    let of_task = |path| task.offset_of(path);
    let optional = |path| of_task(path).unwrap_or(0);
    let (compat_word, compat_mask, registers_number) = if cfg!(target_arch = "x86_64") {
        // TS_COMPAT in arch/x86/include/asm/thread_info.h.
        (
            of_task("thread_info.status")?,
            2,
            registers.offset_of("orig_ax").or_else(|_| registers.offset_of("orig_rax"))?,
        )
    } else {
        // TIF_32BIT in arch/arm64/include/asm/thread_info.h.
        (of_task("thread_info.flags")?, 1 << 22, registers.offset_of("syscallno")?)
    };
    Ok(TaskOffsets {
        compat_word,
        compat_mask,
        voluntary_switches: optional("nvcsw"),
        involuntary_switches: optional("nivcsw"),
        minor_faults: optional("min_flt"),
        major_faults: optional("maj_flt"),
        user_time: optional("utime"),
        system_time: optional("stime"),
        run_time: optional("se.sum_exec_runtime"),
        exit_code: of_task("exit_code")?,
        signal: of_task("signal")?,
        signal_flags: shared.offset_of("flags")?,
        group_exit_code: shared.offset_of("group_exit_code")?,
        registers_number,
    })
}

impl Tracer {
    /// Loads and attaches the embedded object. Nothing is traced until [`Tracer::arm`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start(settings: &Settings) -> Result<Self, LoadError> {
        Self::start_object(object::BYTES, settings)
    }

    /// Likewise for an object from elsewhere (a fresh build, a damaged one in a test).
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start_object(bytes: &[u8], settings: &Settings) -> Result<Self, LoadError> {
        object::check_abi(bytes)?;
        let btf = KernelBtf::of_running_kernel().map_err(LoadError::NoTypeInformation)?;
        let offsets = task_offsets(&btf).map_err(LoadError::UnknownKernel)?;
        let rows = settings.chunks() * CHUNK_ROWS;
        let calls = settings.wanted.as_deref().and_then(CallTracepoints::of);
        let exit_only = calls.is_none() && !settings.timed && !settings.attaching && has_task_registers();
        let mut wanted: Vec<(&'static str, Place)> = Vec::new();
        for (program, tracepoint) in programs::TRACEPOINTS {
            let program = match program {
                programs::SYS_ENTER if exit_only || calls.is_some() => continue,
                programs::SYS_EXIT if calls.is_some() => continue,
                programs::SYS_EXIT if exit_only => programs::COUNT_EXIT,
                program => program,
            };
            let id = btf.id_of_typedef(&format!("btf_trace_{tracepoint}")).map_err(LoadError::UnknownKernel)?;
            wanted.push((program, Place::Typed(id)));
        }
        if calls.is_some() {
            wanted.extend([(programs::CALL_ENTER, Place::Calls), (programs::CALL_EXIT, Place::Calls)]);
        }
        let mut objects = KernelObjects::load(
            bytes,
            &[
                (globals::TIMED, &u32::from(settings.timed).to_ne_bytes()),
                (globals::EXIT_ONLY, &u32::from(exit_only).to_ne_bytes()),
                (globals::SAMPLE, &settings.sample.to_ne_bytes()),
                (globals::PER_THREAD, &u32::from(settings.per_thread).to_ne_bytes()),
                (globals::FILTERED, &u32::from(settings.wanted.is_some()).to_ne_bytes()),
                (globals::WANTED, &settings.bitmap().map(u64::to_ne_bytes).concat()),
                (globals::SPECIAL_NUMBERS, &SPECIAL_NUMBERS.words().map(u32::to_ne_bytes).concat()),
                (globals::TASK_OFFSETS, &offsets.words().map(u32::to_ne_bytes).concat()),
            ],
            &[
                (maps::ROWS, rows),
                (maps::FREE_CHUNKS, settings.chunks()),
                (maps::TOTALS, settings.totals.max(1)),
                (maps::PROCESSES, settings.processes.max(1)),
            ],
            &wanted,
        )?;
        let free = objects.map(maps::FREE_CHUNKS)?;
        for chunk in (0..settings.chunks()).rev() {
            super::syscall::push(free, &chunk)
                .map_err(|error| LoadError::from_step("filling the map of free rows", &error))?;
        }
        for (program, place) in wanted {
            objects.attach(program, place)?;
        }
        if let Some(calls) = &calls {
            let links = calls
                .attach(objects.program(programs::CALL_ENTER)?, objects.program(programs::CALL_EXIT)?)
                .map_err(|error| LoadError::from_step("attaching to the tracepoints of single calls", &error))?;
            objects.keep(links);
        }
        Ok(Self { objects, rows })
    }

    /// Marks a suspended child: its calls are counted from its first `execve` on.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the child is gone or the kernel has no memory.
    pub fn arm(&self, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        super::syscall::set_task_storage(self.objects.map(maps::THREADS)?, pidfd, &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }

    /// Counts a running process from now on: all its threads and later children. The call that a thread
    /// is in already is not counted.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach_to(&self, pid: u32, now_ns: u64) -> Result<(), AttachError> {
        let gone = |_| AttachError::NoSuchProcess(pid);
        let mut comm = [0; 16];
        let name = std::fs::read(format!("/proc/{pid}/comm")).map_err(gone)?;
        for (to, from) in comm[..15].iter_mut().zip(name.iter().take_while(|byte| **byte != b'\n')) {
            *to = *from;
        }
        let id = process_id(pid, now_ns);
        let record = ProcessRecord { started_ns: now_ns, pid, comm, ..Default::default() };
        super::syscall::insert(self.objects.map(maps::PROCESSES)?, &id, &record)
            .map_err(|error| LoadError::from_step("making a record of the process", &error))?;
        let storage = self.objects.map(maps::THREADS)?;
        let mut marked = std::collections::HashSet::new();
        loop {
            let mut found_new = false;
            for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
                let name = entry.map_err(gone)?.file_name();
                let Some(thread) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
                if !marked.insert(thread) {
                    continue;
                }
                found_new = true;
                match mark_thread(storage, pid, thread, &ThreadState::attached(id, thread)) {
                    // Its parent was marked before it, and so is it.
                    Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                    // It ended meanwhile.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => {}
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        return Err(AttachError::OldKernel(pid));
                    }
                    other => other.map_err(|error| LoadError::from_step("marking a thread", &error))?,
                }
            }
            // Every thread that was listed is marked, so whoever is made from now on inherits it.
            if !found_new {
                return Ok(());
            }
        }
    }

    /// The maps that hold the counts.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses to map them.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let step = |error| LoadError::from_step("mapping the counters", &error);
        let clone = |name| self.objects.map(name)?.try_clone_to_owned().map_err(step);
        let (rows, losses) = (clone(maps::ROWS)?, clone(maps::LOSSES)?);
        Counters::new(&rows, self.rows, clone(maps::TOTALS)?, clone(maps::PROCESSES)?, &losses).map_err(step)
    }

    /// Each loaded program, and how many instructions the verifier looked at.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn verified_instructions(&self) -> Result<Vec<(String, u32)>, LoadError> {
        self.objects
            .programs()
            .map(|(name, program)| Ok((name.to_owned(), super::syscall::facts_of(program)?.verified_instructions)))
            .collect::<std::io::Result<_>>()
            .map_err(|error| LoadError::from_step("asking about a program", &error))
    }

    /// Detaches the programs; afterwards nothing changes any more. Returns how many events they missed because one of them was
    /// running already on that CPU.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn detach(mut self, tree_is_empty: bool) -> Result<u64, LoadError> {
        // Forks first: a process that begins now is not of this run.
        self.objects.detach();
        if !tree_is_empty {
            // Wait for programs that run on other CPUs. With nobody left to trace there are none, and this
            // takes ten milliseconds.
            wait_for_readers();
        }
        let mut misses = 0;
        for (_, program) in self.objects.programs() {
            misses += super::syscall::facts_of(program)
                .map_err(|error| LoadError::from_step("reading what the programs missed", &error))?
                .recursion_misses;
        }
        Ok(misses)
    }
}

/// A pair of programs that does next to nothing, attached while this lives: what every call then pays is
/// the floor under any tracer. For the benchmarks.
#[derive(Debug)]
pub struct Floor {
    objects: KernelObjects,
}

impl Floor {
    /// Loads and attaches a pair of [`programs::FLOORS`] by what it does.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start(what: &str) -> Result<Self, LoadError> {
        let pair = programs::FLOORS.into_iter().find(|(does, ..)| *does == what);
        let (_, enter, exit) = pair.ok_or_else(|| LoadError::no_program(what))?;
        let wanted = [(enter, Place::Raw("sys_enter")), (exit, Place::Raw("sys_exit"))];
        let mut objects = KernelObjects::load(object::BYTES, &[], &[], &wanted)?;
        for (program, place) in wanted {
            objects.attach(program, place)?;
        }
        Ok(Self { objects })
    }

    /// Gives a task storage, as a traced one has.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn mark(&self, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        super::syscall::set_task_storage(self.objects.map(maps::THREADS)?, pidfd, &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }
}

/// Why a running process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is not there.
    #[error("there is no process {0}\nhint: `pgrep -a NAME` finds it; inside a container, give its number there")]
    NoSuchProcess(u32),
    /// Threads cannot be named to this kernel.
    #[error(
        "process {0} has several threads, and attaching to those needs Linux 6.9\nhint: start it with `gpuos-trace run -- …`"
    )]
    OldKernel(u32),
    /// The BPF side refused.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Whether programs can ask for the registers of a task: `bpf_task_pt_regs` came with Linux 5.15.
fn has_task_registers() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 15)
}

/// Gives one thread task storage, unless it has some.
fn mark_thread(storage: BorrowedFd<'_>, pid: u32, thread: u32, state: &ThreadState) -> std::io::Result<()> {
    // PIDFD_THREAD, Linux 6.9; a process's first thread needs no flag.
    let flags = if thread == pid { 0 } else { libc::O_EXCL };
    // SAFETY: two integers; what the call returns is a new descriptor.
    let pidfd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, thread, flags);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    super::syscall::set_task_storage(storage, pidfd.as_fd(), state)
}

/// Returns when every code in the kernel that ran before has left its read-side section, programs included.
fn wait_for_readers() {
    // MEMBARRIER_CMD_GLOBAL waits for an RCU grace period (`membarrier(2)`). Where it is refused, the
    // programs have ended long before the counts are read.
    // SAFETY: three integers.
    unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
}
