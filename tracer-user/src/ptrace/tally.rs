//! What is counted at the stops of traced threads: the same rows, phases, processes and events as from the kernel side.

use std::collections::{HashMap, HashSet};

use gpuos_decode::{
    arguments,
    devices::Devices,
    syscalls::{self, Syscall},
};
use gpuos_host::{proc_text, processes::name_of};
use gpuos_model::Usage;
use gpuos_recording::Recorder;
use gpuos_runs::{losses::Losses, phases, run::Process};
use gpuos_tracer_abi::{
    events::{
        ARGUMENT, CALL, COMPAT, Call, DEVICE_CALL, DeviceCall, END, EXEC, EventHeader, Lifecycle, NAME, PATH,
        PATH_CALL, PHASE, PROCESS, PathCall, PhaseChange, THREAD, UNFINISHED, UNREADABLE, UNTIMED,
    },
    jobs::OPERATION_SLOT,
    phases::{
        LABEL, MARKER, Marker, OPERATION_BEGIN, OPERATION_END, OPERATION_ITERATIONS, OPERATION_SWITCH, SCOPE_PROCESS,
        SCOPE_THREAD,
    },
    syscalls::{ABI_COMPAT, ABI_NATIVE, CallOutcome, RowCounts, RowKey, bucket_of, is_code, outcome_of},
    tasks::process_id,
};

use super::{
    device::{Drivers, Mapped, OnDevice},
    fds::{bytes_of, text_of, value_of},
    phases::{Open, Phases},
};
use crate::{aggregate::Totals, probe::Settings};

/// A call in flight.
#[derive(Debug)]
struct Flight {
    key: RowKey,
    arguments: [u64; 6],
    on_device: OnDevice,
    path: Option<[u8; PATH]>,
    /// 0: it is not timed.
    entered_ns: u64,
    head: EventHeader,
}

/// A traced thread.
#[derive(Debug, Default)]
struct Thread {
    /// Number of its process.
    pid: u32,
    flight: Option<Flight>,
    own: Open,
    mapped: Mapped,
    /// Calls since the last that was timed.
    untimed: u32,
}

/// A traced process.
#[derive(Debug)]
struct OfProcess {
    process: Process,
    open: Open,
    /// Number of the process that made it, where that is traced.
    parent: Option<u32>,
    /// Its children that have ended, and what they used with theirs: the kernel adds that to it where it waits for them.
    children: Vec<(u32, Usage)>,
    /// What those used that it has waited for.
    waited: Usage,
}

/// Children that have ended are looked at when they are so many.
const MOST_CHILDREN: usize = 1024;

impl OfProcess {
    /// Takes the children that are not there any more as waited for.
    fn settle(&mut self) {
        let ignores = ignores_children(self.process.pid);
        let (gone, still): (Vec<_>, Vec<_>) =
            self.children.drain(..).partition(|(pid, _)| !std::path::Path::new(&format!("/proc/{pid}")).exists());
        self.children = still;
        if !ignores {
            self.waited = gone.into_iter().fold(self.waited, |sum, (_, usage)| sum.and(usage));
        }
    }
}

/// Whether a process ignores `SIGCHLD`, so that the kernel does away with its children.
fn ignores_children(pid: u32) -> bool {
    let status = proc_text::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = proc_text::field(&status, "SigIgn").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    ignored.unwrap_or(0) >> (libc::SIGCHLD - 1) & 1 == 1
}

/// Everything that was counted so far.
pub(super) struct Tally<'a> {
    settings: &'a Settings,
    recorder: Option<&'a Recorder>,
    wanted: Option<HashSet<u32>>,
    rows: HashMap<RowKey, RowCounts>,
    phases: Phases,
    devices: Devices,
    drivers: Drivers,
    processes: HashMap<u32, OfProcess>,
    threads: HashMap<u32, Thread>,
    ended: Vec<Process>,
    markers: u64,
    markers_without_meaning: u64,
    compat_calls_filtered: u64,
    rings_filtered: u64,
}

fn comm_of(thread: u32) -> String {
    let name = name_of(thread).unwrap_or_default();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..length]).into_owned()
}

fn bytes(comm: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().take(15).zip(comm.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

impl<'a> Tally<'a> {
    pub(super) fn new(settings: &'a Settings, recorder: Option<&'a Recorder>, attaches: bool) -> Self {
        let wanted: Option<HashSet<u32>> = settings.wanted.as_ref().map(|wanted| wanted.iter().copied().collect());
        let sees_ioctl = wanted.as_ref().is_none_or(|calls| calls.contains(&(libc::SYS_ioctl as u32)));
        let devices = settings.devices.clone();
        let drivers = Drivers::new(&devices, settings.objects, attaches || !sees_ioctl);
        let phases = Phases::new(settings.phases.max(1) as usize);
        Self {
            settings,
            recorder,
            wanted,
            rows: HashMap::new(),
            phases,
            devices,
            drivers,
            processes: HashMap::new(),
            threads: HashMap::new(),
            ended: Vec::new(),
            markers: 0,
            markers_without_meaning: 0,
            compat_calls_filtered: 0,
            rings_filtered: 0,
        }
    }

    /// Whether a thread is traced.
    pub(super) fn knows(&self, thread: u32) -> bool {
        self.threads.contains_key(&thread)
    }

    /// Whether a thread is in a call that is counted.
    pub(super) fn is_in_call(&self, thread: u32) -> bool {
        self.threads.get(&thread).is_some_and(|thread| thread.flight.is_some())
    }

    /// Traced threads that have not ended.
    pub(super) fn alive(&self) -> Vec<u32> {
        self.threads.keys().copied().collect()
    }

    /// A driver may have come.
    pub(super) fn look_again(&mut self) {
        if self.devices.look_again() {
            self.drivers.look_again(&self.devices);
        }
    }

    fn head(&self, thread: u32, kind: u8, at_ns: u64) -> EventHeader {
        let pid = self.threads.get(&thread).map_or(thread, |thread| thread.pid);
        EventHeader { at_ns, pid, thread, phase: self.phase_of(thread), kind, flags: 0, padding: 0 }
    }

    fn phase_of(&self, thread: u32) -> u32 {
        let Some(thread) = self.threads.get(&thread) else { return 0 };
        if thread.own.is_any() {
            return thread.own.phase();
        }
        self.processes.get(&thread.pid).map_or(0, |process| process.open.phase())
    }

    fn lifecycle(&self, thread: u32, kind: u8, parent: u64, exit_code: u32, at_ns: u64) {
        let Some(recorder) = self.recorder else { return };
        let head = self.head(thread, kind, at_ns);
        let process = self.processes.get(&head.pid).map_or(0, |process| process.process.id);
        recorder.add(&Lifecycle {
            head,
            process,
            parent,
            exit_code,
            comm: name_of(thread).unwrap_or_default(),
            padding: 0,
        });
    }

    /// A process is traced from now on.
    pub(super) fn begin_process(&mut self, pid: u32, parent: Option<u32>, now_ns: u64) {
        let parent = self.process_around(parent);
        let parent_pid = parent.map(|parent| parent.process.pid);
        let (parent_id, around) = parent.map_or((0, 0), |parent| (parent.process.id, parent.open.phase()));
        let process = Process {
            id: process_id(pid, now_ns),
            parent: parent_id,
            pid,
            command: comm_of(pid),
            stands_for: 1,
            threads: 1,
            threads_alive: 1,
            started_ns: now_ns,
            ..Process::default()
        };
        let open = Open::inside(around);
        let (children, waited) = (Vec::new(), Usage::default());
        self.processes.insert(pid, OfProcess { process, open, parent: parent_pid, children, waited });
        self.threads.insert(pid, Thread { pid, ..Thread::default() });
        self.lifecycle(pid, PROCESS, parent_id, 0, now_ns);
    }

    /// The process of a thread.
    fn process_around(&self, thread: Option<u32>) -> Option<&OfProcess> {
        self.processes.get(&self.threads.get(&thread?)?.pid)
    }

    /// Says who made a process, where that was not known for sure.
    pub(super) fn set_parent(&mut self, child: u32, by: u32) {
        let Some((pid, id, around)) =
            self.process_around(Some(by)).map(|of| (of.process.pid, of.process.id, of.open.phase()))
        else {
            return;
        };
        if let Some(of) = self.processes.get_mut(&child).filter(|of| of.parent != Some(pid)) {
            of.process.parent = id;
            of.parent = Some(pid);
            of.open = Open::inside(around);
        }
    }

    /// Processes that have not ended.
    pub(super) fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.keys().copied()
    }

    /// A thread is about to end: its process with it, where it is the first one.
    pub(super) fn ends(&mut self, thread: u32) {
        if let Some(of) = self.processes.get_mut(&thread) {
            of.settle();
        }
    }

    /// A thread of a process is traced from now on.
    pub(super) fn begin_thread(&mut self, pid: u32, thread: u32, now_ns: u64) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.process.threads += 1;
            process.process.threads_alive += 1;
        }
        self.threads.insert(thread, Thread { pid, ..Thread::default() });
        self.lifecycle(thread, THREAD, 0, 0, now_ns);
    }

    /// A process has executed a program; the thread that did was `before`.
    pub(super) fn executed(&mut self, pid: u32, before: u32, now_ns: u64) {
        if before != pid
            && let Some(thread) = self.threads.remove(&before)
        {
            // It has the number of the first thread now.
            self.threads.insert(pid, thread);
        }
        let others: Vec<u32> = self
            .threads
            .iter()
            .filter(|(number, thread)| thread.pid == pid && **number != pid)
            .map(|(number, _)| *number)
            .collect();
        for other in others {
            self.threads.remove(&other);
        }
        if let Some(thread) = self.threads.get_mut(&pid) {
            self.phases.end_all(&mut thread.own, now_ns);
            thread.mapped = None;
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.process.threads_alive = 1;
            process.process.command = comm_of(pid);
            self.phases.end_all(&mut process.open, now_ns);
        }
        self.lifecycle(pid, EXEC, 0, 0, now_ns);
    }

    /// A thread has ended; its process with it, where it is the first one, which ends last.
    pub(super) fn ended(&mut self, thread: u32, status: u32, usage: Usage, now_ns: u64) {
        let Some(of_thread) = self.threads.get(&thread) else { return };
        let (pid, head) = (of_thread.pid, self.head(thread, END, now_ns));
        if let Some(recorder) = self.recorder {
            if let Some(flight) = self.threads.get_mut(&thread).and_then(|thread| thread.flight.take()) {
                Self::record(recorder, &flight, now_ns.saturating_sub(flight.entered_ns), 0, 0, UNFINISHED);
            }
            let process =
                self.processes.get(&pid).map_or((0, String::new()), |of| (of.process.id, of.process.command.clone()));
            recorder.add(&Lifecycle {
                head,
                process: process.0,
                parent: 0,
                exit_code: status,
                comm: bytes(&process.1),
                padding: 0,
            });
        }
        if let Some(mut gone) = self.threads.remove(&thread) {
            self.phases.end_all(&mut gone.own, now_ns);
        }
        if let Some(of) = self.processes.get_mut(&pid) {
            of.process.threads_alive = of.process.threads_alive.saturating_sub(1);
        }
        if thread == pid
            && let Some(mut of) = self.processes.remove(&pid)
        {
            self.phases.end_all(&mut of.open, now_ns);
            let wall_ns = now_ns.saturating_sub(of.process.started_ns);
            if let Some(parent) = of.parent.and_then(|parent| self.processes.get_mut(&parent)) {
                parent.children.push((pid, usage));
                if parent.children.len() > MOST_CHILDREN {
                    parent.settle();
                }
            }
            let usage = usage.since(of.waited);
            self.ended.push(Process { usage, wall_ns, exit_code: status, threads_alive: 0, ..of.process });
        }
    }

    /// A thread enters a call. `now_ns` is set again by [`Tally::resumed`], when it goes on.
    pub(super) fn entered(&mut self, thread: u32, is_compat: bool, number: u32, arguments: [u64; 6], now_ns: u64) {
        let is_ioctl = !is_compat && i64::from(number) == libc::SYS_ioctl;
        if is_ioctl && arguments[1] as u32 == MARKER && arguments[0] as u32 == u32::MAX {
            self.mark(thread, arguments[2], now_ns);
            return;
        }
        if is_compat && self.wanted.is_some() {
            self.compat_calls_filtered += 1;
            return;
        }
        let call = syscalls::by_number(number).filter(|_| !is_compat);
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&number)) {
            self.rings_filtered += u64::from(call.is_some_and(|call| call.name == "io_uring_setup"));
            return;
        }
        let mut head = self.head(thread, CALL, now_ns);
        head.flags = if is_compat { COMPAT } else { 0 };
        let Some(of_thread) = self.threads.get_mut(&thread) else { return };
        let keeps_all = self.recorder.is_some();
        let on_device = match call {
            Some(_) if is_ioctl => self.drivers.ioctl(thread, &arguments, keeps_all),
            Some(call) => self.drivers.other(thread, call.name, &arguments, &mut of_thread.mapped),
            None => OnDevice::default(),
        };
        let paths = self.settings.recording.is_some_and(|recording| recording.paths);
        let path_at = call.filter(|_| paths).and_then(|call: &Syscall| arguments::path_argument(call.name));
        of_thread.untimed += 1;
        let is_timed = self.settings.timed && of_thread.untimed >= self.settings.sample;
        if is_timed {
            of_thread.untimed = 0;
        }
        let key = RowKey {
            process: self.processes.get(&of_thread.pid).map_or(0, |process| process.process.id),
            thread: if self.settings.per_thread { thread } else { 0 },
            phase: head.phase,
            number,
            abi: if is_compat { ABI_COMPAT } else { ABI_NATIVE },
            device: on_device.device,
            // Of a device without a driver of GPUs the command tells calls apart, too.
            command: if is_ioctl { on_device.command } else { 0 },
            detail: on_device.detail,
            padding: 0,
        };
        self.rows.entry(key).or_default().calls += 1;
        let path = path_at.and_then(|place| text_of(thread, arguments[place]));
        of_thread.flight = Some(Flight { key, arguments, on_device, path, entered_ns: u64::from(is_timed), head });
    }

    /// A thread that has entered a call goes on, at this moment.
    pub(super) fn resumed(&mut self, thread: u32, now_ns: u64) {
        if let Some(flight) = self.threads.get_mut(&thread).and_then(|thread| thread.flight.as_mut()) {
            flight.head.at_ns = now_ns;
            if flight.entered_ns != 0 {
                flight.entered_ns = now_ns;
            }
        }
    }

    /// A thread returns from its call.
    pub(super) fn returned(&mut self, thread: u32, returned: i64, now_ns: u64) {
        let Some(of_thread) = self.threads.get_mut(&thread) else { return };
        let Some(flight) = of_thread.flight.take() else { return };
        let status = self.drivers.returned(thread, &flight.on_device, returned, &mut of_thread.mapped);
        let is_foreign = flight.key.abi == ABI_NATIVE && i64::from(flight.key.number) == libc::SYS_rt_sigreturn;
        let counts = self.rows.entry(flight.key).or_default();
        if is_code(returned) && !is_foreign {
            match outcome_of(returned) {
                CallOutcome::Restart => counts.restarted += 1,
                CallOutcome::Error | CallOutcome::Success => counts.errors += 1,
            }
        }
        if status != 0 {
            counts.refused += 1;
            counts.status = status.into();
        }
        let duration = now_ns.saturating_sub(flight.entered_ns);
        if flight.entered_ns == 0 {
            counts.untimed += 1;
        } else {
            counts.total_ns = counts.total_ns.saturating_add(duration);
            counts.max_ns = counts.max_ns.max(duration);
            counts.buckets[bucket_of(duration)] += 1;
        }
        if let Some(recorder) = self.recorder {
            let flags = if flight.entered_ns == 0 { UNTIMED } else { 0 };
            Self::record(recorder, &flight, duration, returned, status, flags);
            let sets_name =
                i64::from(flight.key.number) == libc::SYS_prctl && flight.arguments[0] == libc::PR_SET_NAME as u64;
            if sets_name && flight.key.abi == ABI_NATIVE {
                self.lifecycle(thread, NAME, 0, 0, now_ns);
            }
        }
    }

    fn record(recorder: &Recorder, flight: &Flight, duration_ns: u64, returned: i64, status: u32, flags: u8) {
        let Flight { key, arguments, on_device, path, head, .. } = flight;
        let [first, second, third, fourth, ..] = *arguments;
        let call = |kind, flags| Call {
            head: EventHeader { kind, flags: head.flags | flags, ..*head },
            duration_ns,
            returned,
            arguments: [first, second, third, fourth],
            number: key.number,
            device: key.device,
        };
        if let Some(place) = on_device.argument.as_ref().filter(|_| flags & UNFINISHED == 0) {
            let mut argument = [0; ARGUMENT];
            let read = bytes_of(head.thread, place.address, (place.size as usize).min(ARGUMENT));
            argument[..read.len()].copy_from_slice(&read);
            let flags = flags | if read.is_empty() && place.size != 0 { UNREADABLE } else { 0 };
            recorder.add(&DeviceCall {
                call: call(DEVICE_CALL, flags),
                command: key.command,
                detail: key.detail,
                status,
                length: read.len() as u32,
                argument,
            });
        } else if let Some(path) = path {
            recorder.add(&PathCall { call: call(PATH_CALL, flags), path: *path });
        } else {
            recorder.add(&call(CALL, flags));
        }
    }

    /// Does what a marker says.
    fn mark(&mut self, thread: u32, address: u64, now_ns: u64) {
        self.markers += 1;
        let marker: Option<Marker> = value_of(thread, address);
        // The label may end where its memory does.
        let head: Option<[u64; 2]> = marker.is_none().then(|| value_of(thread, address)).flatten();
        let marker = marker.or_else(|| {
            let [word, count] = head?;
            let label = text_of(thread, address + std::mem::offset_of!(Marker, label) as u64).unwrap_or([0; LABEL]);
            Some(Marker { operation: word as u32, scope: (word >> 32) as u32, count, label })
        });
        let Some(Marker { operation, scope, count, label }) = marker else {
            self.markers_without_meaning += 1;
            return;
        };
        if operation == OPERATION_SLOT {
            return;
        }
        if !(OPERATION_BEGIN..=OPERATION_ITERATIONS).contains(&operation) || scope > SCOPE_THREAD {
            self.markers_without_meaning += 1;
            return;
        }
        let current = self.phase_of(thread);
        let Some(of_thread) = self.threads.get_mut(&thread) else { return };
        let Some(process) = self.processes.get_mut(&of_thread.pid) else { return };
        let mut change = PhaseChange {
            head: EventHeader::default(),
            operation,
            scope,
            count: 0,
            begun: 0,
            parent: 0,
            label: [0; LABEL],
        };
        if operation == OPERATION_ITERATIONS {
            self.phases.iterated(current, count);
            change.count = count;
        } else {
            let open = if scope == SCOPE_PROCESS {
                &mut process.open
            } else {
                if !of_thread.own.is_any() {
                    of_thread.own.around = process.open.phase();
                }
                &mut of_thread.own
            };
            let ended = operation != OPERATION_BEGIN && self.phases.end(open, now_ns);
            if operation == OPERATION_END && !ended {
                self.markers_without_meaning += 1;
            }
            if matches!(operation, OPERATION_BEGIN | OPERATION_SWITCH) {
                change.parent = open.phase();
                change.label = label;
                // What is behind the end of a label means nothing.
                let length = label.iter().position(|byte| *byte == 0).unwrap_or(LABEL - 1);
                let mut clean = [0; LABEL];
                clean[..length].copy_from_slice(&label[..length]);
                change.begun = self.phases.begin(open, scope, clean, now_ns);
            }
        }
        if let Some(recorder) = self.recorder {
            change.head = self.head(thread, PHASE, now_ns);
            recorder.add(&change);
        }
    }

    /// Everything, at the end.
    pub(super) fn finish(mut self, now_ns: u64) -> Totals {
        if let Some(recorder) = self.recorder {
            for flight in self.threads.values().filter_map(|thread| thread.flight.as_ref()) {
                Self::record(recorder, flight, now_ns.saturating_sub(flight.head.at_ns), 0, 0, UNFINISHED);
            }
        }
        let threads_running = self.threads.len() as u64;
        let mut processes = self.ended;
        for (_, mut of) in self.processes {
            self.phases.end_all(&mut of.open, now_ns);
            let wall_ns = now_ns.saturating_sub(of.process.started_ns);
            processes.push(Process { wall_ns, ..of.process });
        }
        processes.sort_by_key(|process| (process.started_ns, process.id));
        let losses = Losses { phases: self.phases.ignored, objects: self.drivers.without_class, ..Losses::default() };
        Totals {
            rows: self.rows,
            phases: phases::from_kernel(&self.phases.nodes),
            markers: self.markers,
            markers_without_meaning: self.markers_without_meaning,
            processes,
            losses,
            devices: self.devices,
            unreadable_arguments: self.drivers.unreadable,
            threads_running,
            compat_calls_filtered: self.compat_calls_filtered,
            rings_filtered: self.rings_filtered,
            ..Totals::default()
        }
    }
}
