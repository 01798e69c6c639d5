//! Sizes the maps, writes the settings, loads and attaches the programs, arms the suspended child.

use std::{
    cell::{Cell, OnceCell},
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::NoUninit;
use gpuos_decode::{arguments, syscalls};
use gpuos_tracer_abi::{
    counters::state::GPU_SEEN,
    hooks::HOOKS,
    maps,
    phases::{INFERRED, LABEL, MOST_FUNCTIONS, PhaseKey},
    programs,
    settings::globals,
    syscalls::SYSCALL_NUMBERS,
    tasks::ThreadState,
};

use super::{
    attach_point::AttachPoint,
    bpf_syscall,
    by_tid::{self, ByTid},
    call_tracepoints,
    error::{self, LoadError},
    kernel_btf::{BtfError, KernelBtf},
    kernel_objects::KernelObjects,
    map::Map,
    no_preempt, object,
    offsets::{offsets_without_btf, special_numbers, task_offsets},
    rights,
    settings::Settings,
    structure_cast::StructureCast,
};

/// Nodes of devices whose paths are known, on kernels without type information.
pub(super) const MOST_PATHS: u32 = 4096;

/// Fds of devices, and processes, that are known there. The kernel hands room out to each CPU, 128 places at a time
/// (`bpf_lru_list.h`), and takes it from used ones when the rest is handed out.
fn fds_kept() -> u32 {
    aya::util::nr_cpus().map_or(16_384, |cpus| 512 * cpus as u32).max(16_384)
}

/// What of the kernel decides how it is traced.
struct Ways {
    /// The kernel's type information.
    types: Option<KernelBtf>,
    /// Why there is none.
    without_btf: Option<String>,
    /// Tasks are known by their number.
    by_tid: Option<ByTid>,
    /// Tracepoints of single calls, entry and exit, in place of the general ones.
    calls: Option<Vec<(u64, u64)>>,
    /// Calls are counted at their exit only.
    exit_only: bool,
}

/// Programs, and what each is to be attached to.
type Wanted = Vec<(&'static str, AttachPoint)>;

impl Ways {
    fn choose(settings: &Settings) -> Result<Self, LoadError> {
        let (types, without_btf) = match KernelBtf::of_running_kernel() {
            Ok(types) => (Some(types), None),
            Err(error) => (None, Some(error::chain(&error))),
        };
        // From 7.0 on the tracepoints of single calls run preemptibly, and who is preempted there costs the others' events.
        // Without BTF, fds are followed by calls that nobody wants.
        let wanted_calls = settings.wanted.as_deref().filter(|_| types.is_some() && !by_tid::is_preemptible());
        let calls = wanted_calls.and_then(call_tracepoints::of_calls);
        let by_tid = by_tid::choose(settings.tasks_by_id, settings.attaching, types.is_some());
        let by_tid = by_tid.map_err(|error| match (&without_btf, error) {
            (Some(reason), LoadError::InContainer | LoadError::NoTracepoints) => {
                LoadError::NoTypeInformation(reason.clone())
            }
            (_, error) => error,
        })?;
        let exit_only = calls.is_none() && by_tid.is_none() && !settings.timed && !settings.attaching;
        Ok(Self { types, without_btf, by_tid, calls, exit_only })
    }

    /// Whether the kernel gives programs no typed pointer to the current task.
    fn plain_pointers(&self) -> bool {
        self.by_tid.as_ref().is_some_and(|by_tid| by_tid.plain_pointers)
    }

    /// Type id of a BTF tracepoint.
    fn typed_tracepoint(&self, name: &str) -> Result<u32, BtfError> {
        match &self.types {
            Some(types) => types.id_of_typedef(&format!("btf_trace_{name}")),
            None => Err(BtfError::NoTypedef(name.to_owned())),
        }
    }

    /// Every program that is needed, in the order in which they are attached.
    fn wanted(&self, settings: &Settings) -> Result<Wanted, LoadError> {
        let mut wanted = self.of_tasks()?;
        wanted.extend(self.of_recording(settings)?);
        wanted.extend(self.of_calls(settings));
        for hook in &settings.hooks {
            let (programs, name) = (&HOOKS[hook.index], hook.function);
            wanted.push((programs.exit, AttachPoint::Function { name, at_return: true }));
            wanted.push((programs.enter, AttachPoint::Function { name, at_return: false }));
        }
        if !settings.functions.is_empty() {
            // Returns first: what is entered while they are attached would never be left.
            for (program, at_return) in [(programs::API_EXIT, true), (programs::API_ENTER, false)] {
                wanted.push((program, AttachPoint::Library { functions: settings.functions.clone(), at_return }));
            }
        }
        Ok(wanted)
    }

    /// The life of tasks, and where they are BTF tracepoints, the calls.
    fn of_tasks(&self) -> Result<Wanted, LoadError> {
        if let Some(by_tid) = &self.by_tid {
            return Ok(vec![
                (programs::POINT_FORK, AttachPoint::Points(vec![by_tid.fork])),
                (programs::POINT_EXIT, AttachPoint::Points(vec![by_tid.exit])),
                (programs::POINT_EXEC, AttachPoint::Points(vec![by_tid.exec])),
            ]);
        }
        let mut wanted = Vec::new();
        for (program, tracepoint) in programs::TRACEPOINTS {
            let program = match program {
                programs::SYS_ENTER if self.exit_only || self.calls.is_some() => continue,
                programs::SYS_EXIT if self.calls.is_some() => continue,
                programs::SYS_EXIT if self.exit_only => programs::COUNT_EXIT,
                program => program,
            };
            let id = self.typed_tracepoint(tracepoint).map_err(LoadError::UnknownKernel)?;
            wanted.push((program, AttachPoint::Typed(id)));
        }
        Ok(wanted)
    }

    /// What recordings want besides calls.
    fn of_recording(&self, settings: &Settings) -> Result<Wanted, LoadError> {
        let Some(recording) = settings.recording else { return Ok(Vec::new()) };
        let mut wanted = Vec::new();
        for (is_wanted, typed, point, name) in [
            (recording.switches, programs::TASK_SWITCH, programs::POINT_SWITCH, "sched_switch"),
            (recording.faults, programs::TASK_FAULT, programs::POINT_FAULT, "page_fault_user"),
        ] {
            if !is_wanted {
                continue;
            }
            let found = match &self.by_tid {
                Some(by_tid) => by_tid.point(name).map(|id| (point, AttachPoint::Points(vec![id]))),
                None => self.typed_tracepoint(name).ok().map(|id| (typed, AttachPoint::Typed(id))),
            };
            wanted.push(found.ok_or(LoadError::NoSuchTracepoint(name))?);
        }
        Ok(wanted)
    }

    /// What looks at threads that work for jobs while they make no call: attached once there are any. Not where threads are
    /// followed by number: what a class uses is known at its calls alone there.
    fn of_jobs(&self) -> Wanted {
        let points = [(programs::JOB_SWITCH, "sched_switch"), (programs::JOB_TICK, "sched_stat_runtime")];
        let found = points.into_iter().filter(|_| self.by_tid.is_none());
        found
            .filter_map(|(program, point)| Some((program, AttachPoint::Typed(self.typed_tracepoint(point).ok()?))))
            .collect()
    }

    /// Calls through perf's tracepoints, of single calls or of all.
    fn of_calls(&self, settings: &Settings) -> Wanted {
        // Markers are ioctls; the general tracepoints show them anyway.
        let markers = self.calls.as_ref().and_then(|_| call_tracepoints::entry_of_markers(settings.wanted.as_deref()));
        let general = || self.by_tid.as_ref().map(|by_tid| vec![(by_tid.call_enter, by_tid.call_exit)]);
        let Some(pairs) = self.calls.clone().or_else(general) else { return Vec::new() };
        let (mut enters, exits): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        enters.extend(markers);
        // Exits first: no entry is counted whose exit would be missed.
        vec![(programs::CALL_EXIT, AttachPoint::Points(exits)), (programs::CALL_ENTER, AttachPoint::Points(enters))]
    }

    /// Numbers of entries of the maps.
    fn sizes(&self, settings: &Settings) -> Vec<(&'static str, u32)> {
        let if_by_tid = |size: u32| if self.by_tid.is_some() { size.max(1) } else { 1 };
        let if_without_btf = |size: u32| if self.types.is_none() { size } else { 1 };
        vec![
            (maps::SLOTS, settings.slots()),
            (maps::THREADS_BY_TID, if_by_tid(settings.threads)),
            (maps::FREE_CHUNKS, settings.chunks()),
            (maps::TOTALS, settings.totals.max(1)),
            (maps::PROCESSES, settings.processes.max(1)),
            (maps::OBJECTS, settings.objects.max(1)),
            (maps::DEVICE_PATHS, if_without_btf(MOST_PATHS)),
            (maps::FD_TABLES, if_without_btf(fds_kept())),
            (maps::OPEN_FDS, if_without_btf(fds_kept())),
            (maps::EVENTS, settings.recording.map_or(Settings::SMALLEST_RING, |recording| recording.ring_bytes)),
            (maps::STACKS, settings.stacks.max(1)),
            (maps::STACK_SITES, settings.stacks.max(1)),
            (maps::PHASES, settings.phases.max(1)),
            (maps::PHASE_NODES, settings.phases.max(1)),
            (maps::FREE_PHASES, settings.phases.max(1)),
        ]
    }

    /// The values of the global variables, as bytes.
    fn globals(&self, settings: &Settings, cast: StructureCast) -> Result<Vec<(&'static str, Vec<u8>)>, LoadError> {
        fn bytes<T: NoUninit>(value: &T) -> Vec<u8> {
            bytemuck::bytes_of(value).to_vec()
        }
        let offsets = match &self.types {
            Some(types) => task_offsets(types).map_err(LoadError::UnknownKernel)?,
            None => offsets_without_btf(),
        };
        let points = self.by_tid.as_ref().map(|by_tid| by_tid.offsets).unwrap_or_default();
        let truth = |truth: bool| bytes(&u32::from(truth));
        Ok(vec![
            (globals::TIMED, truth(settings.timed)),
            (globals::EXIT_ONLY, truth(self.exit_only)),
            (globals::SAMPLE, bytes(&settings.sample)),
            (globals::PER_THREAD, truth(settings.per_thread)),
            (globals::FILTERED, truth(settings.wanted.is_some())),
            (globals::WANTED, bytes(&settings.bitmap())),
            (globals::TASKS_BY_TID, truth(self.by_tid.is_some())),
            (globals::PLAIN_POINTERS, truth(self.plain_pointers())),
            (globals::NO_BTF, truth(self.types.is_none())),
            (globals::FILE_TYPE, bytes(&cast.file)),
            (globals::INODE_TYPE, bytes(&cast.inode)),
            (globals::WORD_TYPE, bytes(&cast.word)),
            (globals::RECORDED, truth(settings.recording.is_some())),
            (globals::PATHS, truth(settings.recording.is_some_and(|recording| recording.paths))),
            (globals::PATH_ARGUMENTS, path_arguments()),
            (globals::INFER_PHASES, truth(settings.infer_phases)),
            (globals::FUNCTIONS_WATCHED, truth(!settings.functions.is_empty())),
            (globals::STACKS_KEPT, truth(settings.stacks != 0)),
            (globals::TRACEPOINT_OFFSETS, bytes(&points)),
            (globals::SPECIAL_NUMBERS, bytes(&special_numbers())),
            (globals::TASK_OFFSETS, bytes(&offsets)),
            (globals::CALLER, bytes(&rights::caller())),
            #[cfg(feature = "bpf-log")]
            (aya_log::LEVEL, vec![super::log::number_of(settings.log)]),
        ])
    }
}

/// Which argument of each call is the address of a path, see [`globals::PATH_ARGUMENTS`].
fn path_arguments() -> Vec<u8> {
    let mut arguments = vec![0; SYSCALL_NUMBERS];
    for call in syscalls::native_syscalls() {
        if let (Some(to), Some(place)) = (arguments.get_mut(call.number as usize), arguments::path_argument(call.name))
        {
            *to = place as u8 + 1;
        }
    }
    arguments
}

/// Writes what programs need to find: rows and phases to give away, labels, and what a filter hides.
fn fill(objects: &KernelObjects, settings: &Settings) -> Result<(), LoadError> {
    let free_chunks = objects.typed_map::<(), u32>(maps::FREE_CHUNKS)?;
    for chunk in (0..settings.chunks()).rev() {
        free_chunks.push(&chunk).map_err(|error| LoadError::from_step("filling the map of free rows", &error))?;
    }
    let step = |error| LoadError::from_step("filling the map of phases", &error);
    let free_phases = objects.typed_map::<(), u32>(maps::FREE_PHASES)?;
    let inferred = if settings.infer_phases { INFERRED.as_slice() } else { &[] };
    for number in (inferred.len() as u32 + 1..=settings.phases.max(1)).rev() {
        free_phases.push(&number).map_err(step)?;
    }
    let phases = objects.typed_map::<PhaseKey, u32>(maps::PHASES)?;
    for (number, label) in (1_u32..).zip(inferred) {
        let mut key = PhaseKey::EMPTY;
        key.label[..label.len()].copy_from_slice(label.as_bytes());
        phases.insert(&key, &number).map_err(step)?;
    }
    let labels = objects.typed_map::<u32, [u8; LABEL]>(maps::FUNCTION_LABELS)?;
    for (place, function) in (0_u32..).zip(settings.functions.iter().take(MOST_FUNCTIONS as usize)) {
        // As a path has it apart from a marked phase.
        let mut label = [0_u8; LABEL];
        label.iter_mut().take(LABEL - 1).zip(function.name.bytes().chain(*b"()")).for_each(|(to, from)| *to = from);
        labels.set(&place, &label).map_err(step)?;
    }
    // Calls on GPUs that the filter leaves out, or that were made before, cannot tell that there are any.
    let sees_ioctl = settings.wanted.as_ref().is_none_or(|calls| calls.contains(&(libc::SYS_ioctl as u32)));
    if settings.attaching || !sees_ioctl {
        let state = objects.typed_map::<u32, u64>(maps::STATE)?;
        state.set(&GPU_SEEN, &1).map_err(|error| LoadError::from_step("writing the counters", &error))?;
    }
    Ok(())
}

/// The loaded and attached programs. Dropping it detaches and frees everything.
#[derive(Debug)]
pub struct Tracer {
    pub(super) objects: KernelObjects,
    pub(super) rows: u32,
    pub(super) phases: u32,
    pub(super) totals: u32,
    /// Threads by number, where tasks are followed so.
    threads: Option<Map<u32, ThreadState>>,
    /// Why the kernel's structures are not read, where they are not.
    pub(super) without_btf: Option<String>,
    /// What looks at threads that work for jobs while they make no call.
    job_programs: Vec<&'static str>,
    job_links: OnceCell<Vec<OwnedFd>>,
    /// Slots of threads that were attached to.
    pub(super) job_slots: Cell<u64>,
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
        let ways = Ways::choose(settings)?;
        if rights::are_of_another_user() {
            return Err(LoadError::OfAnotherUser);
        }
        if rights::are_of_file() && ways.types.is_none() {
            return Err(LoadError::NoCredentials);
        }
        let wanted = ways.wanted(settings)?;
        let of_jobs = ways.of_jobs();
        // From 7.0 on for the sake of other traces, whose events come through perf's tracepoints.
        if wanted.iter().any(|(_, point)| matches!(point, AttachPoint::Points(_))) || by_tid::is_preemptible() {
            no_preempt::want();
        }
        let cast = match (&ways.types, ways.typed_tracepoint("sys_enter")) {
            (Some(types), Ok(tracepoint)) if !ways.plain_pointers() => StructureCast::of(types, tracepoint),
            _ => StructureCast::default(),
        };
        let globals = ways.globals(settings, cast)?;
        let globals: Vec<(&str, &[u8])> = globals.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let loaded: Wanted = wanted.iter().chain(&of_jobs).cloned().collect();
        let mut objects =
            KernelObjects::load(object::BYTES, &globals, &ways.sizes(settings), &loaded, cast, ways.plain_pointers())?;
        fill(&objects, settings)?;
        #[cfg(feature = "bpf-log")]
        let log = match (settings.log, objects.programs().find(|(name, _)| name.ends_with("_exec"))) {
            (Some(_), Some((_, program))) => Some(super::log::Reader::begin(program)?),
            _ => None,
        };
        for (program, point) in wanted {
            objects.attach(program, point)?;
        }
        Ok(Self {
            threads: ways.by_tid.as_ref().map(|_| objects.typed_map(maps::THREADS_BY_TID)).transpose()?,
            objects,
            rows: settings.slots(),
            phases: settings.phases.max(1),
            totals: settings.totals.max(1),
            without_btf: ways.without_btf,
            job_programs: of_jobs.into_iter().map(|(program, _)| program).collect(),
            job_links: OnceCell::new(),
            job_slots: Cell::new(0),
            #[cfg(feature = "bpf-log")]
            _log: log,
        })
    }

    /// Looks at switches of threads that work for jobs, from now on: what a class uses is known to the nanosecond then.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel refuses.
    pub fn watch_jobs(&self) -> Result<(), LoadError> {
        if self.job_links.get().is_none() {
            let links = self.job_programs.iter().map(|program| self.objects.open_tracepoint(program));
            // No other code attaches them.
            let _ = self.job_links.set(links.collect::<Result<_, LoadError>>()?);
        }
        Ok(())
    }

    /// Marks a suspended child: its calls are counted from its first `execve` on.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the child is gone or the kernel has no memory.
    pub fn arm(&self, pid: u32, pidfd: BorrowedFd<'_>) -> Result<(), LoadError> {
        self.mark(pid, || Ok(pidfd), &ThreadState::ARMED)
            .map_err(|error| LoadError::from_step("marking the command", &error))
    }

    /// Gives a thread state, unless it has some: by its number, or by its fd, which is asked for where it is needed.
    pub(super) fn mark<F: AsRawFd>(
        &self,
        thread: u32,
        pidfd: impl FnOnce() -> io::Result<F>,
        state: &ThreadState,
    ) -> io::Result<()> {
        match &self.threads {
            Some(threads) => threads.insert(&thread, state),
            None => self.storage()?.insert(&pidfd()?.as_raw_fd(), state),
        }
    }

    /// Takes the state away that a thread was given by its number.
    pub(super) fn unmark(&self, thread: u32, given: &ThreadState) {
        if let Some(threads) = &self.threads
            && threads.get(&thread).is_ok_and(|state| state.process == given.process)
        {
            // It may have ended, and taken it along.
            let _ = threads.delete(&[thread]);
        }
    }

    /// The state of a thread, likewise.
    pub(super) fn state_of(&self, thread: u32, pidfd: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<ThreadState> {
        match &self.threads {
            Some(threads) => threads.get(&thread),
            None => self.storage()?.get(&pidfd()?.as_raw_fd()),
        }
    }

    /// Task storage, by the fd of a task.
    fn storage(&self) -> io::Result<Map<i32, ThreadState>> {
        self.objects.typed_map(maps::THREADS).map_err(io::Error::other)
    }

    /// Why fds are only followed by the calls that make them, where the kernel shows no type information.
    #[must_use]
    pub fn without_btf(&self) -> Option<&str> {
        self.without_btf.as_deref()
    }

    /// Each loaded program, and how many instructions the verifier looked at.
    ///
    /// # Errors
    /// [`LoadError::Other`] when the kernel does not say.
    pub fn verified_instructions(&self) -> Result<Vec<(String, u32)>, LoadError> {
        self.objects
            .programs()
            .map(|(name, program)| Ok((name.to_owned(), bpf_syscall::facts_of(program)?.verified_instructions)))
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
        drop(self.job_links.take());
        if !tree_is_empty {
            // Wait for programs that run on other CPUs. With nobody left to trace there are none, and this
            // waits for a grace period.
            wait_for_readers();
        }
        let mut misses = 0;
        for (_, program) in self.objects.programs() {
            misses += bpf_syscall::facts_of(program)
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
