//! Sizes the maps, writes the settings, loads and attaches the programs, arms the suspended child.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, Stack},
    programs::{BtfTracePoint, RawTracePoint},
};
use gpuos_tracer_abi::{
    maps, programs,
    settings::{SpecialNumbers, TaskOffsets, globals},
    syscalls::{CHUNK_ROWS, DIRECTORY},
    tasks::ThreadState,
};

use super::{
    error::LoadError,
    kernel_btf::{BtfError, KernelBtf},
    object,
    snapshot::Counters,
};

/// What is asked of the BPF side. Every size is a number of entries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time every call.
    pub timed: bool,
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
        Self { timed: true, per_thread: false, wanted: None, rows: 16_384, totals: 262_144, processes: 65_536 }
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
    ebpf: Ebpf,
    rows: u32,
}

fn special_numbers() -> SpecialNumbers {
    SpecialNumbers {
        execve: libc::SYS_execve as u32,
        execveat: libc::SYS_execveat as u32,
        rt_sigreturn: libc::SYS_rt_sigreturn as u32,
    }
}

/// Offsets in this kernel's structures. A kernel without BTF cannot be traced; a kernel without
/// one of the accounting fields shows 0 there.
fn task_offsets(btf: &KernelBtf) -> Result<TaskOffsets, BtfError> {
    let of_task = |path| btf.offset_of("task_struct", path);
    let optional = |path| of_task(path).unwrap_or(0);
    let (compat_word, compat_mask, registers_number) = if cfg!(target_arch = "x86_64") {
        // TS_COMPAT in arch/x86/include/asm/thread_info.h.
        (
            of_task("thread_info.status")?,
            2,
            btf.offset_of("pt_regs", "orig_ax").or_else(|_| btf.offset_of("pt_regs", "orig_rax"))?,
        )
    } else {
        // TIF_32BIT in arch/arm64/include/asm/thread_info.h.
        (of_task("thread_info.flags")?, 1 << 22, btf.offset_of("pt_regs", "syscallno")?)
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
        let offsets = KernelBtf::of_running_kernel()
            .and_then(|btf| task_offsets(&btf))
            .map_err(LoadError::NoTypeInformation)?
            .words();
        let numbers = special_numbers();
        let numbers = [numbers.execve, numbers.execveat, numbers.rt_sigreturn];
        let wanted = settings.bitmap();
        let rows = settings.chunks() * CHUNK_ROWS;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .allow_unsupported_maps()
            .map_max_entries(maps::ROWS, rows)
            .map_max_entries(maps::FREE_CHUNKS, settings.chunks())
            .map_max_entries(maps::TOTALS, settings.totals.max(1))
            .map_max_entries(maps::PROCESSES, settings.processes.max(1))
            .override_global(globals::TIMED, &u32::from(settings.timed), true)
            .override_global(globals::PER_THREAD, &u32::from(settings.per_thread), true)
            .override_global(globals::FILTERED, &u32::from(settings.wanted.is_some()), true)
            .override_global(globals::WANTED, &wanted, true)
            .override_global(globals::SPECIAL_NUMBERS, &numbers, true)
            .override_global(globals::TASK_OFFSETS, &offsets, true)
            .load(bytes)
            .map_err(|error| LoadError::from_step("creating the maps", &error))?;
        fill_free_chunks(&mut ebpf, settings.chunks())?;
        attach(&mut ebpf)?;
        Ok(Self { ebpf, rows })
    }

    /// Marks a suspended child: its calls are counted from its first `execve` on.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the child is gone or the kernel has no memory.
    pub fn arm(&self, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        super::syscall::set_task_storage(self.map(maps::THREADS), pidfd, &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }

    /// The maps that hold the counts.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses to map them.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let clone = |name| self.map(name).try_clone_to_owned();
        let files = || Ok((clone(maps::ROWS)?, clone(maps::TOTALS)?, clone(maps::PROCESSES)?, clone(maps::LOSSES)?));
        files()
            .and_then(|(rows, totals, processes, losses)| Counters::new(&rows, self.rows, totals, processes, losses))
            .map_err(|error| LoadError::from_step("mapping the counters", &error))
    }

    /// Detaches and frees the programs. Returns how many events they missed because one of them was
    /// running already on that CPU.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn detach(self) -> Result<u64, LoadError> {
        let mut misses = 0;
        for (_, program) in self.ebpf.programs() {
            let Ok(program) = program.fd() else { continue };
            misses += super::syscall::recursion_misses(program.as_fd())
                .map_err(|error| LoadError::from_step("reading what the programs missed", &error))?;
        }
        Ok(misses)
    }

    fn map(&self, name: &str) -> BorrowedFd<'_> {
        match self.ebpf.map(name) {
            Some(Map::Array(data) | Map::HashMap(data) | Map::Unsupported(data) | Map::Stack(data)) => {
                data.fd().as_fd()
            }
            _ => unreachable!("the object was checked to be of this ABI, which has the map {name}"),
        }
    }
}

fn fill_free_chunks(ebpf: &mut Ebpf, chunks: u32) -> Result<(), LoadError> {
    let step = "filling the map of free rows";
    let map =
        ebpf.map_mut(maps::FREE_CHUNKS).ok_or(LoadError::Other { what: step, reason: "no such map".to_owned() })?;
    let mut stack = Stack::<_, u32>::try_from(map).map_err(|error| LoadError::from_step(step, &error))?;
    for chunk in (0..chunks).rev() {
        stack.push(chunk, 0).map_err(|error| LoadError::from_step(step, &error))?;
    }
    Ok(())
}

fn attach(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    // Needed once, for the type id of the fork tracepoint.
    let btf = Btf::from_sys_fs().map_err(|error| LoadError::from_step("reading kernel BTF", &error))?;
    // Children first: no moment in which a call is counted and a fork is not followed.
    let fork: &mut BtfTracePoint = program(ebpf, programs::TASK_FORK)?;
    fork.load("sched_process_fork", &btf).map_err(|error| LoadError::from_program(programs::TASK_FORK, &error))?;
    fork.attach().map_err(|error| LoadError::from_program(programs::TASK_FORK, &error))?;
    for (name, tracepoint) in [
        (programs::TASK_EXEC, "sched_process_exec"),
        (programs::TASK_EXIT, "sched_process_exit"),
        (programs::SYS_EXIT, "sys_exit"),
        (programs::SYS_ENTER, "sys_enter"),
    ] {
        let raw: &mut RawTracePoint = program(ebpf, name)?;
        raw.load().map_err(|error| LoadError::from_program(name, &error))?;
        raw.attach(tracepoint).map_err(|error| LoadError::from_program(name, &error))?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(LoadError::Refused { program: name, reason: "the object has no such program".to_owned() })?
        .try_into()
        .map_err(|error| LoadError::from_program(name, &error))
}
