//! Sizes the maps, writes the settings, loads and attaches the programs, arms the suspended child.

use std::os::fd::BorrowedFd;

use gpuos_tracer_abi::{
    hooks::HOOKS,
    losses, maps,
    phases::{INFERRED, LABEL, MOST_FUNCTIONS, PhaseKey},
    programs,
    settings::globals,
    syscalls::{CHUNK_ROWS, DIRECTORY},
    tasks::ThreadState,
};

use super::{
    api_probes::ApiFunction,
    call_tracepoints,
    driver_hooks::DriverHook,
    error::{self, LoadError},
    kernel_btf::{BtfError, KernelBtf},
    kernel_objects::{KernelObjects, Place},
    object,
    offsets::{SPECIAL_NUMBERS, offsets_without_types, task_offsets},
    structure_cast::StructureCast,
    syscall, tasks_by_id, uninterrupted,
};
use crate::names::devices::Devices;

/// What a recording asks of it.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// Bytes of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Record when threads do not run.
    pub switches: bool,
    /// Record page faults.
    pub faults: bool,
}

/// What is asked of the BPF side. Every size is a number of entries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time every call.
    pub timed: bool,
    /// Threads that run already will be traced: their first return may belong to a call that began before.
    pub attaching: bool,
    /// Time every Nth call of a thread; 1: every call.
    pub sample: u32,
    /// Follow tasks by number and through perf's tracepoints also where the kernel has the better way.
    pub tasks_by_id: bool,
    /// Threads alive at a time where tasks are followed by number.
    pub threads: u32,
    /// Keep rows by thread, not by process.
    pub per_thread: bool,
    /// Count only these syscall numbers; `None`: all.
    pub wanted: Option<Vec<u32>>,
    /// Rows of live threads, 448 bytes each; rounded up to chunks of 16, at most 65,520.
    pub rows: u32,
    /// Rows of exited threads of processes not yet read, about 400 bytes each while used.
    pub totals: u32,
    /// Processes not yet read, about 200 bytes each while used.
    pub processes: u32,
    /// Objects of NVIDIA's driver whose class is remembered, about 70 bytes each while used.
    pub objects: u32,
    /// Phases that are kept apart, some 200 bytes each.
    pub phases: u32,
    /// Functions of drivers to watch.
    pub hooks: Vec<DriverHook>,
    /// Functions of GPU libraries to watch, at most [`MOST_FUNCTIONS`].
    pub functions: Vec<ApiFunction>,
    /// User stacks and places in programs that are kept; 0: none.
    pub stacks: u32,
    /// Drivers of this machine, to decode their calls.
    pub devices: Devices,
    /// Infer phases from calls on GPU devices.
    pub infer_phases: bool,
    /// Send every call through the ring, too.
    pub recording: Option<Recording>,
    /// What the programs say of their work.
    #[cfg(feature = "bpf-log")]
    pub log: Option<log::LevelFilter>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timed: true,
            attaching: false,
            sample: 1,
            tasks_by_id: false,
            threads: 65_536,
            per_thread: false,
            wanted: None,
            rows: 16_384,
            totals: 262_144,
            processes: 65_536,
            objects: 65_536,
            phases: 1024,
            hooks: Vec::new(),
            functions: Vec::new(),
            stacks: 0,
            devices: Devices::default(),
            infer_phases: false,
            recording: None,
            #[cfg(feature = "bpf-log")]
            log: None,
        }
    }
}

/// Nodes of devices whose paths are known, on kernels without type information.
pub(super) const MOST_PATHS: u32 = 4096;

/// Descriptors of devices, and processes, that are known there. The kernel hands room out to each CPU, 128 places at a time
/// (`bpf_lru_list.h`), and takes it from used ones when the rest is handed out.
fn descriptors_kept() -> u32 {
    aya::util::nr_cpus().map_or(16_384, |cpus| 512 * cpus as u32).max(16_384)
}

/// Of a trace without a recording: a page of any size the kernel may have.
const SMALLEST_RING: u32 = 64 << 10;

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
    pub(super) objects: KernelObjects,
    pub(super) rows: u32,
    pub(super) phases: u32,
    pub(super) totals: u32,
    /// Whether tasks are known by their number.
    by_id: bool,
    /// Why the kernel's structures are not read, where they are not.
    pub(super) without_types: Option<String>,
    #[cfg(feature = "bpf-log")]
    _log: Option<super::log::Reader>,
}

impl Tracer {
    /// Loads and attaches the embedded object. Nothing is traced until [`Tracer::arm`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn start(settings: &Settings) -> Result<Self, LoadError> {
        object::check_abi(object::BYTES)?;
        let (types, without_types) = match KernelBtf::of_running_kernel() {
            Ok(types) => (Some(types), None),
            Err(error) => (None, Some(error::chain(&error))),
        };
        let offsets = match &types {
            Some(types) => task_offsets(types).map_err(LoadError::UnknownKernel)?,
            None => offsets_without_types(),
        };
        let rows = settings.chunks() * CHUNK_ROWS;
        // From 7.0 on the tracepoints of single calls run preemptibly, and who is preempted there costs the others' events.
        // Without types, descriptors are followed by calls that nobody wants.
        let wanted_calls = settings.wanted.as_deref().filter(|_| types.is_some() && !tasks_by_id::is_preemptible());
        let calls = wanted_calls.and_then(call_tracepoints::of_calls);
        let by_id = tasks_by_id::choose(settings.tasks_by_id, settings.attaching, types.is_some());
        let by_id = by_id.map_err(|error| match (&without_types, error) {
            (Some(reason), LoadError::InContainer | LoadError::NoTracepoints) => {
                LoadError::NoTypeInformation(reason.clone())
            }
            (_, error) => error,
        })?;
        let typed_tracepoint = |name: &str| match &types {
            Some(types) => types.id_of_typedef(&format!("btf_trace_{name}")),
            None => Err(BtfError::NoTypedef(name.to_owned())),
        };
        let exit_only = calls.is_none() && by_id.is_none() && !settings.timed && !settings.attaching;
        let untyped = by_id.as_ref().is_some_and(|by_id| by_id.untyped);
        let mut wanted: Vec<(&'static str, Place)> = Vec::new();
        let typed = if by_id.is_some() { &[][..] } else { &programs::TRACEPOINTS };
        for &(program, tracepoint) in typed {
            let program = match program {
                programs::SYS_ENTER if exit_only || calls.is_some() => continue,
                programs::SYS_EXIT if calls.is_some() => continue,
                programs::SYS_EXIT if exit_only => programs::COUNT_EXIT,
                program => program,
            };
            wanted.push((program, Place::Typed(typed_tracepoint(tracepoint).map_err(LoadError::UnknownKernel)?)));
        }
        if let Some(by_id) = &by_id {
            wanted.extend([
                (programs::POINT_FORK, Place::Points(vec![by_id.fork])),
                (programs::POINT_EXIT, Place::Points(vec![by_id.exit])),
                (programs::POINT_EXEC, Place::Points(vec![by_id.exec])),
            ]);
        }
        for (wish, typed, point, name) in [
            (
                settings.recording.is_some_and(|wish| wish.switches),
                programs::TASK_SWITCH,
                programs::POINT_SWITCH,
                "sched_switch",
            ),
            (
                settings.recording.is_some_and(|wish| wish.faults),
                programs::TASK_FAULT,
                programs::POINT_FAULT,
                "page_fault_user",
            ),
        ] {
            if !wish {
                continue;
            }
            let found = match &by_id {
                Some(by_id) => by_id.point(name).map(|id| (point, Place::Points(vec![id]))),
                None => typed_tracepoint(name).ok().map(|id| (typed, Place::Typed(id))),
            };
            wanted.push(found.ok_or(LoadError::NoSuchTracepoint(name))?);
        }
        // Markers are ioctls; the general tracepoints show them anyway.
        let markers = calls.as_ref().and_then(|_| call_tracepoints::entry_of_markers(settings.wanted.as_deref()));
        let single = calls.or_else(|| by_id.as_ref().map(|by_id| vec![(by_id.call_enter, by_id.call_exit)]));
        if let Some(pairs) = single {
            // Exits first: no entry is counted whose exit would be missed.
            let (mut enters, exits): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            enters.extend(markers);
            wanted.push((programs::CALL_EXIT, Place::Points(exits)));
            wanted.push((programs::CALL_ENTER, Place::Points(enters)));
        }
        for hook in &settings.hooks {
            let (programs, name) = (&HOOKS[hook.index], hook.function);
            wanted.push((programs.exit, Place::Function { name, at_return: true }));
            wanted.push((programs.enter, Place::Function { name, at_return: false }));
        }
        if !settings.functions.is_empty() {
            // Returns first: what is entered while they are attached would never be left.
            for (program, at_return) in [(programs::API_EXIT, true), (programs::API_ENTER, false)] {
                wanted.push((program, Place::Library { functions: settings.functions.clone(), at_return }));
            }
        }
        // From 7.0 on for the sake of other traces, whose events come through perf's tracepoints.
        if wanted.iter().any(|(_, place)| matches!(place, Place::Points(_))) || tasks_by_id::is_preemptible() {
            uninterrupted::want();
        }
        let cast = match (&types, typed_tracepoint("sys_enter")) {
            (Some(types), Ok(tracepoint)) if !untyped => StructureCast::of(types, tracepoint),
            _ => StructureCast::default(),
        };
        let points = by_id.as_ref().map(|by_id| by_id.offsets).unwrap_or_default();
        let mut objects = KernelObjects::load(
            object::BYTES,
            &[
                (globals::TIMED, &u32::from(settings.timed).to_ne_bytes()),
                (globals::EXIT_ONLY, &u32::from(exit_only).to_ne_bytes()),
                (globals::SAMPLE, &settings.sample.to_ne_bytes()),
                (globals::PER_THREAD, &u32::from(settings.per_thread).to_ne_bytes()),
                (globals::FILTERED, &u32::from(settings.wanted.is_some()).to_ne_bytes()),
                (globals::WANTED, &settings.bitmap().map(u64::to_ne_bytes).concat()),
                (globals::TASKS_BY_ID, &u32::from(by_id.is_some()).to_ne_bytes()),
                (globals::UNTYPED, &u32::from(untyped).to_ne_bytes()),
                (globals::WITHOUT_TYPES, &u32::from(types.is_none()).to_ne_bytes()),
                (globals::FILE_TYPE, &cast.file.to_ne_bytes()),
                (globals::INODE_TYPE, &cast.inode.to_ne_bytes()),
                (globals::WORD_TYPE, &cast.word.to_ne_bytes()),
                (globals::RECORDED, &u32::from(settings.recording.is_some()).to_ne_bytes()),
                (globals::INFER_PHASES, &u32::from(settings.infer_phases).to_ne_bytes()),
                (globals::FUNCTIONS_WATCHED, &u32::from(!settings.functions.is_empty()).to_ne_bytes()),
                (globals::STACKS_KEPT, &u32::from(settings.stacks != 0).to_ne_bytes()),
                (globals::POINT_OFFSETS, &points.words().map(u32::to_ne_bytes).concat()),
                (globals::SPECIAL_NUMBERS, &SPECIAL_NUMBERS.words().map(u32::to_ne_bytes).concat()),
                (globals::TASK_OFFSETS, &offsets.words().map(u32::to_ne_bytes).concat()),
                #[cfg(feature = "bpf-log")]
                (aya_log::LEVEL, &[super::log::number_of(settings.log)]),
            ],
            &[
                (maps::ROWS, rows),
                (maps::THREADS_BY_ID, if by_id.is_some() { settings.threads.max(1) } else { 1 }),
                (maps::FREE_CHUNKS, settings.chunks()),
                (maps::TOTALS, settings.totals.max(1)),
                (maps::PROCESSES, settings.processes.max(1)),
                (maps::OBJECTS, settings.objects.max(1)),
                (maps::DEVICE_PATHS, if types.is_none() { MOST_PATHS } else { 1 }),
                (maps::FOLLOWED, if types.is_none() { descriptors_kept() } else { 1 }),
                (maps::DESCRIPTORS, if types.is_none() { descriptors_kept() } else { 1 }),
                (maps::EVENTS, settings.recording.map_or(SMALLEST_RING, |wish| wish.ring_bytes)),
                (maps::STACKS, settings.stacks.max(1)),
                (maps::SITES, settings.stacks.max(1)),
                (maps::PHASES, settings.phases.max(1)),
                (maps::PHASE_NODES, settings.phases.max(1)),
                (maps::FREE_PHASES, settings.phases.max(1)),
            ],
            &wanted,
            cast,
            untyped,
        )?;
        let free = objects.map(maps::FREE_CHUNKS)?;
        for chunk in (0..settings.chunks()).rev() {
            syscall::push(free, &chunk)
                .map_err(|error| LoadError::from_step("filling the map of free rows", &error))?;
        }
        let free = objects.map(maps::FREE_PHASES)?;
        let step = |error| LoadError::from_step("filling the map of phases", &error);
        let inferred = if settings.infer_phases { INFERRED.as_slice() } else { &[] };
        for number in (inferred.len() as u32 + 1..=settings.phases.max(1)).rev() {
            syscall::push(free, &number).map_err(step)?;
        }
        for (number, label) in (1_u32..).zip(inferred) {
            let mut key = PhaseKey::EMPTY;
            key.label[..label.len()].copy_from_slice(label.as_bytes());
            syscall::insert(objects.map(maps::PHASES)?, &key, &number).map_err(step)?;
        }
        for (place, function) in (0_u32..).zip(settings.functions.iter().take(MOST_FUNCTIONS as usize)) {
            // As a path has it apart from a marked phase.
            let mut label = [0_u8; LABEL];
            label.iter_mut().take(LABEL - 1).zip(function.name.bytes().chain(*b"()")).for_each(|(to, from)| *to = from);
            syscall::set_element(objects.map(maps::FUNCTION_LABELS)?, &place, &label).map_err(step)?;
        }
        // Calls on GPUs that the filter leaves out, or that were made before, cannot tell that there are any.
        let sees_ioctl = settings.wanted.as_ref().is_none_or(|calls| calls.contains(&(libc::SYS_ioctl as u32)));
        if settings.attaching || !sees_ioctl {
            syscall::set_element(objects.map(maps::LOSSES)?, &losses::GPU_SEEN, &1_u64)
                .map_err(|error| LoadError::from_step("writing the counters", &error))?;
        }
        #[cfg(feature = "bpf-log")]
        let log = match (settings.log, objects.programs().find(|(name, _)| name.ends_with("_exec"))) {
            (Some(_), Some((_, program))) => Some(super::log::Reader::begin(program)?),
            _ => None,
        };
        for (program, place) in wanted {
            objects.attach(program, place)?;
        }
        Ok(Self {
            objects,
            rows,
            phases: settings.phases.max(1),
            totals: settings.totals.max(1),
            by_id: by_id.is_some(),
            without_types,
            #[cfg(feature = "bpf-log")]
            _log: log,
        })
    }

    /// Marks a suspended child: its calls are counted from its first `execve` on.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the child is gone or the kernel has no memory.
    pub fn arm(&self, pid: u32, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        let state = ThreadState::ARMED;
        let step = |error| LoadError::from_step("marking the command", &error);
        match self.threads_by_id()? {
            Some(threads) => syscall::insert(threads, &pid, &state).map_err(step),
            None => syscall::set_task_storage(self.objects.map(maps::THREADS)?, pidfd, &state).map_err(step),
        }
    }

    /// Why descriptors are only followed by the calls that make them, where the kernel shows no type information.
    #[must_use]
    pub fn without_types(&self) -> Option<&str> {
        self.without_types.as_deref()
    }

    /// The map of threads by number, where tasks are followed so.
    pub(super) fn threads_by_id(&self) -> Result<Option<BorrowedFd<'_>>, LoadError> {
        if self.by_id { self.objects.map(maps::THREADS_BY_ID).map(Some) } else { Ok(None) }
    }

    /// Each loaded program, and how many instructions the verifier looked at.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn verified_instructions(&self) -> Result<Vec<(String, u32)>, LoadError> {
        self.objects
            .programs()
            .map(|(name, program)| Ok((name.to_owned(), syscall::facts_of(program)?.verified_instructions)))
            .collect::<std::io::Result<_>>()
            .map_err(|error| LoadError::from_step("asking about a program", &error))
    }

    /// Detaches the programs; afterwards nothing changes any more. Returns how many events they missed because one of them was
    /// running already on that CPU.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn detach(&mut self, tree_is_empty: bool) -> Result<u64, LoadError> {
        // Forks first: a process that begins now is not of this run.
        self.objects.detach();
        if !tree_is_empty {
            // Wait for programs that run on other CPUs. With nobody left to trace there are none, and this
            // waits for a grace period.
            wait_for_readers();
        }
        let mut misses = 0;
        for (_, program) in self.objects.programs() {
            misses += syscall::facts_of(program)
                .map_err(|error| LoadError::from_step("reading what the programs missed", &error))?
                .recursion_misses;
        }
        Ok(misses)
    }
}

/// Returns when every code in the kernel that ran before has left its read-side section, programs included.
fn wait_for_readers() {
    // MEMBARRIER_CMD_GLOBAL waits for an RCU grace period (`membarrier(2)`). Where it is refused, the
    // programs have ended long before the counts are read.
    // SAFETY: three integers.
    unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
}
