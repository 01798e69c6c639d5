//! Events as rows of a table: every number with its name beside it. The columns are described in
//! `docs/file-format.md`.

use gpuos_decode::{
    call::{self, Names},
    devices::Devices,
    fields, ioctls,
    roles::Roles,
};
use gpuos_runs::phases::{Scope, label_of};
use gpuos_tracer_abi::{
    events::{COMPAT, Call, DeviceCall, END, EXEC, EventHeader, NAME, PROCESS, THREAD, UNFINISHED, UNTIMED},
    ioctl::{DETAIL_NOT_SEEN, DeviceId},
    phases::OPERATION_ITERATIONS,
    syscalls::{ABI_COMPAT, ABI_NATIVE, CallOutcome, RowKey, is_code, outcome_of},
    tasks::EXIT_UNKNOWN,
};
use hashbrown::HashMap;
use nix::errno::Errno;
use polars_core::prelude::*;

use crate::{
    event::{Event, returns_foreign_value},
    interner::StringInterner,
    replay::{Change, TraceState},
    rows::{self, NameCodes, TableRow},
};

/// Values of the column [`EVENT`](rows::column::EVENT).
pub mod word {
    /// A system call that returned.
    pub const CALL: &str = "call";
    /// One that had not when its thread, or the recording, ended.
    pub const UNFINISHED: &str = "unfinished call";
    /// A process began.
    pub const PROCESS: &str = "process";
    /// A thread of it began.
    pub const THREAD: &str = "thread";
    /// It executed another program.
    pub const EXEC: &str = "exec";
    /// It has another name.
    pub const NAME: &str = "name";
    /// It ended.
    pub const END: &str = "end";
    /// A phase began.
    pub const PHASE_BEGIN: &str = "phase begin";
    /// It ended.
    pub const PHASE_END: &str = "phase end";
    /// The program reported iterations.
    pub const ITERATIONS: &str = "iterations";
    /// The thread did not run.
    pub const OFF_CPU: &str = "off cpu";
    /// A page fault.
    pub const FAULT: &str = "page fault";
    /// A job of the program has ended: from its submission until that was known.
    pub const JOB: &str = "job";
    /// Events were lost.
    pub const LOST: &str = "lost";
}

/// Number, ABI, device, command, detail.
type CallKey = (u32, u32, DeviceId, u32, u32);

/// Rows that wait to be written, and what is needed to name the next ones.
#[derive(Debug)]
pub struct Table {
    state: TraceState,
    roles: Roles,
    devices: Devices,
    calls: HashMap<CallKey, NameCodes>,
    rows: Vec<TableRow>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(roles: Roles, devices: Devices) -> Self {
        Self { state: TraceState::default(), roles, devices, calls: HashMap::new(), rows: Vec::new() }
    }

    /// Rows that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Names the next calls by the drivers that are loaded now: one may have come.
    pub fn look_again(&mut self) {
        if self.devices.look_again() {
            self.calls.clear();
        }
    }

    /// Adds an event.
    pub fn take(&mut self, event: &Event) {
        let head = *event.head();
        match event {
            Event::Call(call) => {
                let row = self.call(call, 0, 0);
                self.rows.push(row);
            }
            Event::DeviceCall(call) => {
                let row = self.device_call(call);
                self.rows.push(row);
            }
            Event::PathCall(call) => {
                let mut row = self.call(&call.call, 0, 0);
                row.fields = format!("path={}", quoted(&call.path));
                self.rows.push(row);
            }
            Event::Lifecycle(life) => {
                // Whose they are is known before the step is taken.
                let (process, comm) = (self.state.process(head.pid), self.state.thread_name(head.thread));
                for change in self.state.live(life) {
                    let row = self.change(head, change);
                    self.rows.push(TableRow { process, comm, ..row });
                }
                let event = match head.kind {
                    PROCESS => word::PROCESS,
                    THREAD => word::THREAD,
                    EXEC => word::EXEC,
                    NAME => word::NAME,
                    _ => word::END,
                };
                let mut row = self.row(head, event);
                row.process = life.process;
                match head.kind {
                    PROCESS => row.arguments[0] = life.parent,
                    END => {
                        row.comm = comm;
                        row.returned = (life.exit_code != EXIT_UNKNOWN).then(|| life.exit_code.into());
                    }
                    _ => {}
                }
                self.rows.push(row);
            }
            Event::Phase(change) if change.operation == OPERATION_ITERATIONS => {
                let mut row = self.row(head, word::ITERATIONS);
                row.arguments[0] = change.count;
                self.rows.push(row);
            }
            Event::Phase(change) => {
                for change in self.state.mark(change) {
                    let row = self.change(head, change);
                    self.rows.push(row);
                }
            }
            Event::Switch(switch) => {
                let mut row = self.row(head, word::OFF_CPU);
                row.duration = Some(switch.duration_ns);
                row.arguments[0] = switch.cpu.into();
                row.detail = switch.state;
                row.names.detail = self.state.strings.intern(state_name(switch.state));
                self.rows.push(row);
            }
            Event::Fault(fault) => {
                let mut row = self.row(head, word::FAULT);
                row.arguments[0] = fault.address;
                row.arguments[1] = fault.code;
                self.rows.push(row);
            }
            Event::Job(job) => {
                let mut row = self.row(head, word::JOB);
                row.duration = Some(job.duration_ns);
                row.arguments = [job.number, job.knower.into(), job.looked_ns, 0];
                row.returned = Some(-i64::from(job.failed != 0));
                row.names.detail = self.state.strings.intern(&label_of(&job.label));
                self.rows.push(row);
            }
            Event::Gap(gap) => {
                let mut row = self.row(head, word::LOST);
                row.duration = Some(gap.duration_ns);
                row.arguments[0] = gap.lost;
                self.rows.push(row);
            }
        }
    }

    fn change(&mut self, head: EventHeader, change: Change) -> TableRow {
        let event = if change.began { word::PHASE_BEGIN } else { word::PHASE_END };
        let mut row = self.row(EventHeader { phase: change.phase, thread: change.thread, ..head }, event);
        row.arguments[0] = u64::from(change.scope != Scope::Process);
        row
    }

    fn row(&mut self, head: EventHeader, event: &'static str) -> TableRow {
        TableRow {
            head,
            process: self.state.process(head.pid),
            event,
            comm: self.state.thread_name(head.thread),
            phase: self.state.phase_path(head.phase),
            ..TableRow::default()
        }
    }

    fn call(&mut self, call: &Call, command: u32, detail: u32) -> TableRow {
        let is_unfinished = call.head.flags & UNFINISHED != 0;
        let abi = if call.head.flags & COMPAT != 0 { ABI_COMPAT } else { ABI_NATIVE };
        let is_ioctl = abi == ABI_NATIVE && i64::from(call.number) == libc::SYS_ioctl;
        // The device of a call that is none of a GPU driver's has its command in the arguments.
        let command =
            if command == 0 && is_ioctl && call.device != DeviceId::NONE { call.arguments[1] as u32 } else { command };
        // What the kernel side knew of its argument comes with the return.
        let is_on_gpu = || ioctls::decode(&self.devices, call.device, command, detail).is_some();
        let detail = match detail {
            _ if is_unfinished && is_ioctl && is_on_gpu() => DETAIL_NOT_SEEN,
            DETAIL_NOT_SEEN if !is_on_gpu() => 0,
            detail => detail,
        };
        let mut row = self.row(call.head, if is_unfinished { word::UNFINISHED } else { word::CALL });
        row.abi = if abi == ABI_COMPAT { "compat" } else { "native" };
        row.duration = (call.head.flags & UNTIMED == 0).then_some(call.duration_ns);
        row.number = call.number;
        row.arguments = call.arguments;
        row.returned = (!is_unfinished).then_some(call.returned);
        row.error = if is_code(call.returned) && !is_unfinished && !returns_foreign_value(call) {
            self.state.strings.intern(&error_name(call.returned))
        } else {
            StringInterner::EMPTY
        };
        (row.device, row.command, row.detail) = (call.device, command, detail);
        row.names = self.names(&row, abi);
        row
    }

    fn device_call(&mut self, device_call: &DeviceCall) -> TableRow {
        let mut row = self.call(&device_call.call, device_call.command, device_call.detail);
        row.status = device_call.status;
        row.status_name = self.state.strings.intern(&call::status_name(row.device, row.status, &self.devices));
        let length = (device_call.length as usize).min(device_call.argument.len());
        row.fields = fields::decode(&self.devices, row.device, row.command, &device_call.argument[..length]);
        row
    }

    fn names(&mut self, row: &TableRow, abi: u32) -> NameCodes {
        let TableRow { number, device, command, detail, .. } = *row;
        if let Some(names) = self.calls.get(&(number, abi, device, command, detail)) {
            return *names;
        }
        let key = RowKey { number, abi, device, command, detail, ..RowKey::default() };
        let Names { syscall, device, command, detail, category, role, .. } =
            call::names_of(&key, &self.roles, &self.devices);
        let names = NameCodes {
            syscall: self.state.strings.intern(&syscall),
            device: self.state.strings.intern(&device),
            command: self.state.strings.intern(&command),
            detail: self.state.strings.intern(&detail),
            category: self.state.strings.intern(&category),
            role: self.state.strings.intern(role.name()),
        };
        self.calls.insert((key.number, abi, key.device, key.command, key.detail), names);
        names
    }

    /// The rows that wait, as a frame; none waits afterwards.
    ///
    /// # Errors
    /// Never in practice: all columns have the same length.
    pub fn frame(&mut self) -> PolarsResult<DataFrame> {
        let rows = std::mem::take(&mut self.rows);
        rows::frame(&rows, &self.state.strings)
    }
}

/// A path as it is written in a program, with what is no UTF-8 or would move a cursor escaped; `…` behind one that is longer.
fn quoted(path: &[u8]) -> String {
    let (path, end) = match path.iter().position(|byte| *byte == 0) {
        // The kernel side ends what it cuts, too.
        Some(length) if length + 1 < path.len() => (&path[..length], ""),
        _ => (&path[..path.len().saturating_sub(1)], "…"),
    };
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '\'' { text.push(letter) } else { text.extend(letter.escape_debug()) }
        }
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    format!("\"{text}\"{end}")
}

/// Name of the error that a call returned; restarts have names that programs never see.
fn error_name(returned: i64) -> String {
    let code = -returned as i32;
    match (outcome_of(returned), Errno::from_raw(code)) {
        (CallOutcome::Success, _) => String::new(),
        (CallOutcome::Restart, _) => match code {
            512 => "ERESTARTSYS".to_owned(),
            513 => "ERESTARTNOINTR".to_owned(),
            514 => "ERESTARTNOHAND".to_owned(),
            516 => "ERESTART_RESTARTBLOCK".to_owned(),
            _ => format!("error {code}"),
        },
        (CallOutcome::Error, Errno::UnknownErrno) => format!("error {code}"),
        (CallOutcome::Error, error) => format!("{error:?}"),
    }
}

/// Name of the state in which a thread stopped running, from the kernel's `sched.h`.
fn state_name(state: u32) -> &'static str {
    match state & 0xff {
        0 => "preempted",
        1 => "sleeping",
        2 => "waiting for a device",
        4 => "stopped",
        8 => "traced",
        16 | 32 => "ended",
        _ => "waiting",
    }
}
