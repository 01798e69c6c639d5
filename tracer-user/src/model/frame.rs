//! The table of counts as a polars frame: built from kernel rows, grouped for the summary.
//!
//! What is grouped is the very frame that is written to files. Its columns are described in
//! `docs/file-format.md`.

use std::collections::HashMap;

use gpuos_tracer_abi::{
    ioctl::{DETAIL_NOT_SEEN, OTHER_COMMANDS},
    syscalls::{ABI_NATIVE, RowCounts, RowKey},
};
use polars_core::prelude::*;

use super::{
    histogram::Histogram,
    phases::Phase,
    roles::{Role, Roles},
    run::{Process, SCHEMA_VERSION},
};
use crate::names::{
    self,
    devices::{Devices, Kind},
    ioctls::{self, Decoded},
};

/// Names of the columns.
pub mod column {
    /// u64: process id, unique within the run.
    pub const PROCESS: &str = "process";
    /// u32: process number.
    pub const PID: &str = "pid";
    /// str: command name of the process.
    pub const COMMAND: &str = "command";
    /// u32: thread number with `--per-thread`, else 0.
    pub const THREAD: &str = "thread";
    /// str: phase, empty before any was marked.
    pub const PHASE: &str = "phase";
    /// str: `native` or `compat`.
    pub const ABI: &str = "abi";
    /// u32: system call number.
    pub const NUMBER: &str = "number";
    /// str: its name, or `syscall_NUMBER`.
    pub const SYSCALL: &str = "syscall";
    /// str: for `ioctl`, and for other calls on GPUs, the device: the name of its node, or what the descriptor is.
    pub const DEVICE: &str = "device";
    /// u32: its number, major in the upper 12 bits; 0 where nobody looked.
    pub const DEVICE_NUMBER: &str = "device_number";
    /// str: the driver's command of an `ioctl` on a GPU; an unknown one by its parts.
    pub const COMMAND_NAME: &str = "ioctl";
    /// u32: its number.
    pub const COMMAND_NUMBER: &str = "ioctl_number";
    /// str: control command, class, or other word that tells calls of one command apart.
    pub const DETAIL: &str = "detail";
    /// u32: its number.
    pub const DETAIL_NUMBER: &str = "detail_number";
    /// str: of calls on GPU devices: `yes` when the tables know the command, `no` when not; else empty.
    pub const DECODED: &str = "decoded";
    /// str: kind of kernel service.
    pub const CATEGORY: &str = "category";
    /// str: role.
    pub const ROLE: &str = "role";
    /// u64: entries.
    pub const CALLS: &str = "calls";
    /// u64: returns with an error.
    pub const ERRORS: &str = "errors";
    /// u64: returns without an error after which the driver's own status told of one.
    pub const REFUSED: &str = "refused";
    /// str: the last such status.
    pub const STATUS: &str = "status";
    /// u64: returns because of a signal, to be restarted or not.
    pub const RESTARTED: &str = "restarted";
    /// u64: entries without a return: never returns, or still running.
    pub const UNFINISHED: &str = "unfinished";
    /// u64: with `--driver-hooks`, calls that reached a watched function of the driver; else 0.
    pub const DRIVER_CALLS: &str = "driver_calls";
    /// u64: nanoseconds in it.
    pub const DRIVER_NS: &str = "driver_ns";
    /// u64: nanoseconds inside the call, finished ones.
    pub const TOTAL_NS: &str = "total_ns";
    /// u64: the longest.
    pub const MAX_NS: &str = "max_ns";
    /// list of u64: log2 histogram of nanoseconds.
    pub const LATENCY: &str = "latency_log2";

    /// Columns that are summed when rows are grouped.
    pub const SUMMED: [&str; 8] = [CALLS, ERRORS, REFUSED, RESTARTED, UNFINISHED, DRIVER_CALLS, DRIVER_NS, TOTAL_NS];
}

/// Name of a call as shown: 32-bit calls are never given a 64-bit name.
fn name_of(key: &RowKey) -> String {
    match names::by_number(key.number) {
        _ if key.abi != ABI_NATIVE => format!("compat_{}", key.number),
        Some(call) => call.name.to_owned(),
        None => format!("syscall_{}", key.number),
    }
}

/// Builds the frame, rows in the order process, thread, phase, number.
///
/// # Errors
/// Never in practice: all columns have the same length.
pub fn build(
    rows: &HashMap<RowKey, RowCounts>,
    processes: &[Process],
    phases: &[Phase],
    roles: &Roles,
    devices: &Devices,
) -> PolarsResult<DataFrame> {
    let order: HashMap<u64, (usize, &Process)> =
        processes.iter().enumerate().map(|(at, process)| (process.id, (at, process))).collect();
    let place = |key: &RowKey| order.get(&key.process).map_or(usize::MAX, |(at, _)| *at);
    let mut rows: Vec<(&RowKey, &RowCounts)> = rows.iter().collect();
    rows.sort_by_key(|(key, _)| {
        (place(key), (key.process, key.thread, key.phase, key.abi, key.number), (key.device, key.command, key.detail))
    });
    let names: Vec<Names> = rows.iter().map(|(key, _)| names_of(key, roles, devices)).collect();

    let keys = || rows.iter().map(|(key, _)| *key);
    let counts = || rows.iter().map(|(_, counts)| *counts);
    let numbers = |name: &str, value: fn(&RowCounts) -> u64| -> Column {
        UInt64Chunked::from_iter_values(name.into(), counts().map(value)).into_column()
    };
    let codes = |name: &str, value: fn(&RowKey) -> u32| -> Column {
        UInt32Chunked::from_iter_values(name.into(), keys().map(value)).into_column()
    };
    let named = |name: &str, value: fn(&Names) -> &str| -> Column {
        StringChunked::from_iter_values(name.into(), names.iter().map(value)).into_column()
    };
    let words = |name: &str, value: &dyn Fn(&RowKey) -> String| -> Column {
        StringChunked::from_iter_values(name.into(), keys().map(value)).into_column()
    };
    let process = |key: &RowKey| order.get(&key.process).map(|(_, process)| *process);
    let mut latency = ListPrimitiveChunkedBuilder::<UInt64Type>::new(
        column::LATENCY.into(),
        rows.len(),
        rows.len() * 8,
        DataType::UInt64,
    );
    for counts in counts() {
        let used = counts.buckets.iter().rposition(|&count| count != 0).map_or(0, |last| last + 1);
        latency.append_slice(&counts.buckets[..used]);
    }
    DataFrame::new_infer_height(vec![
        UInt64Chunked::from_iter_values(column::PROCESS.into(), keys().map(|key| key.process)).into_column(),
        UInt32Chunked::from_iter_values(column::PID.into(), keys().map(|key| process(key).map_or(0, |p| p.pid)))
            .into_column(),
        words(column::COMMAND, &|key| process(key).map_or_else(String::new, |p| p.command.clone())),
        UInt32Chunked::from_iter_values(column::THREAD.into(), keys().map(|key| key.thread)).into_column(),
        words(column::PHASE, &|key| phase_of(key.phase, phases)),
        words(column::ABI, &|key| if key.abi == ABI_NATIVE { "native" } else { "compat" }.to_owned()),
        codes(column::NUMBER, |key| key.number),
        named(column::SYSCALL, |names| &names.syscall),
        named(column::DEVICE, |names| &names.device),
        codes(column::DEVICE_NUMBER, |key| key.device),
        named(column::COMMAND_NAME, |names| &names.command),
        codes(column::COMMAND_NUMBER, |key| key.command),
        named(column::DETAIL, |names| &names.detail),
        UInt32Chunked::from_iter_values(
            column::DETAIL_NUMBER.into(),
            // Of a device of no GPU there was nothing to look at.
            keys().zip(&names).map(|(key, names)| match names.decoded {
                "" if key.detail == DETAIL_NOT_SEEN => 0,
                _ => key.detail,
            }),
        )
        .into_column(),
        named(column::DECODED, |names| names.decoded),
        named(column::CATEGORY, |names| &names.category),
        named(column::ROLE, |names| names.role),
        numbers(column::CALLS, |counts| counts.calls),
        numbers(column::ERRORS, |counts| counts.errors),
        numbers(column::REFUSED, |counts| counts.refused),
        StringChunked::from_iter_values(
            column::STATUS.into(),
            rows.iter().map(|(key, counts)| status_name(key.device, counts.status as u32, devices)),
        )
        .into_column(),
        numbers(column::RESTARTED, |counts| counts.restarted),
        numbers(column::UNFINISHED, |counts| counts.unfinished()),
        numbers(column::DRIVER_CALLS, |counts| counts.driver_calls),
        numbers(column::DRIVER_NS, |counts| counts.driver_ns),
        numbers(column::TOTAL_NS, |counts| counts.total_ns),
        numbers(column::MAX_NS, |counts| counts.max_ns),
        latency.finish().into_column(),
    ])
}

/// Path of a phase. A number without one is of a phase that was not read.
fn phase_of(number: u32, phases: &[Phase]) -> String {
    match (number as usize).checked_sub(1) {
        None => String::new(),
        Some(at) => phases.get(at).map_or_else(|| format!("phase {number}"), |phase| phase.path.clone()),
    }
}

/// What the tables know of a call on a device.
fn decode(key: &RowKey, devices: &Devices) -> Decoded {
    if key.device == 0 || key.abi != ABI_NATIVE {
        return Decoded::default();
    }
    match names::by_number(key.number).map(|call| call.name) {
        Some("ioctl") if (key.command, key.detail) == (OTHER_COMMANDS, OTHER_COMMANDS) => Decoded {
            command: "other commands".to_owned(),
            on_gpu: devices.kind(key.device) != Kind::NotGpu,
            ..Decoded::default()
        },
        Some("ioctl") => ioctls::decode(devices, key.device, key.command, key.detail)
            .unwrap_or_else(|| Decoded { command: ioctls::parts(key.command), ..Decoded::default() }),
        Some("mmap") => ioctls::decode_mapping(devices, key.device, key.detail).unwrap_or_default(),
        // The kernel side names the device of other calls only where it is a GPU's.
        _ => Decoded { known: true, on_gpu: true, ..Decoded::default() },
    }
}

/// A call as it is named in one column, and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The system call, or the device with what was asked of it.
    pub name: String,
    /// Its role.
    pub role: Role,
}

/// A call by all its names, as the columns of files have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The system call.
    pub syscall: String,
    /// What its descriptor is; empty where nobody looked.
    pub device: String,
    /// The driver's command.
    pub command: String,
    /// What tells calls of one command apart.
    pub detail: String,
    /// Of a GPU driver's call: `yes` where a table has it, else `no`.
    pub decoded: &'static str,
    /// Kind of kernel service.
    pub category: String,
    /// Role.
    pub role: &'static str,
}

/// Names a row's call in every column.
#[must_use]
pub fn names_of(key: &RowKey, roles: &Roles, devices: &Devices) -> Names {
    let decoded = decode(key, devices);
    Names {
        syscall: name_of(key),
        device: if key.device == 0 { String::new() } else { devices.name(key.device) },
        role: role_of(key, &decoded, roles).name(),
        decoded: match (decoded.on_gpu, decoded.known) {
            (false, _) => "",
            (true, true) => "yes",
            (true, false) => "no",
        },
        category: if key.abi == ABI_NATIVE { roles.category(key.number) } else { "unknown" }.to_owned(),
        command: decoded.command,
        detail: decoded.detail,
    }
}

/// Names a row's call.
#[must_use]
pub fn call_of(key: &RowKey, roles: &Roles, devices: &Devices) -> Call {
    let decoded = decode(key, devices);
    let role = role_of(key, &decoded, roles);
    let mut name = name_of(key);
    if decoded.on_gpu {
        let what = if decoded.command.is_empty() { &name } else { &decoded.command };
        name = format!("{} {what} {}", devices.name(key.device), decoded.detail).trim_end().to_owned();
    }
    Call { name, role }
}

/// Role of a row: what the user said of the call, else that of the driver's command, else that of the call.
fn role_of(key: &RowKey, decoded: &Decoded, roles: &Roles) -> Role {
    match decoded.role {
        _ if key.abi != ABI_NATIVE => Role::Unknown,
        Some(role) if !roles.changes(key.number) => role,
        _ => roles.role(key.number),
    }
}

/// Name of a driver's status; empty for 0.
#[must_use]
pub fn status_name(device: u32, status: u32, devices: &Devices) -> String {
    match devices.kind(device) {
        _ if status == 0 => String::new(),
        // KFD_IOC_WAIT_RESULT_TIMEOUT and _FAIL of kfd_ioctl.h.
        Kind::Kfd if status == 1 => "timeout".to_owned(),
        Kind::Kfd if status == 2 => "failed".to_owned(),
        Kind::Nvidia | Kind::NvidiaUvm => {
            ioctls::nvidia_status(status).map_or_else(|| format!("status {status:#x}"), str::to_owned)
        }
        _ => format!("status {status:#x}"),
    }
}

/// Counts of a group of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Values of the columns that were grouped by, in their order.
    pub key: Vec<String>,
    /// Entries.
    pub calls: u64,
    /// Returns with an error.
    pub errors: u64,
    /// Returns without an error whose status told of one.
    pub refused: u64,
    /// The last such status, of one of the rows.
    pub status: String,
    /// Returns because of a signal.
    pub restarted: u64,
    /// Entries without a return.
    pub unfinished: u64,
    /// Calls that reached a watched function of the driver.
    pub driver_calls: u64,
    /// Nanoseconds in it.
    pub driver_ns: u64,
    /// Nanoseconds inside, finished calls.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Histogram of nanoseconds.
    pub latency: Histogram,
}

impl Group {
    /// Mean duration of the timed calls in nanoseconds.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.latency.count())
    }

    /// Time inside all finished calls: what was timed, scaled by how many were (`--sample`).
    #[must_use]
    pub fn estimated_total_ns(&self) -> u64 {
        let (finished, timed) = (self.calls.saturating_sub(self.unfinished), self.latency.count());
        if timed == 0 || timed >= finished {
            return self.total_ns;
        }
        (u128::from(self.total_ns) * u128::from(finished) / u128::from(timed)) as u64
    }
}

/// Groups the rows by some text columns.
///
/// # Errors
/// When the frame lacks a column, as a foreign file may.
pub fn group(calls: &DataFrame, by: &[&str]) -> PolarsResult<Vec<Group>> {
    if calls.height() == 0 {
        return Ok(Vec::new());
    }
    let names: Vec<PlSmallStr> = by.iter().map(|name| (*name).into()).collect();
    calls.partition_by_stable(names, true)?.iter().map(|part| summarize(part, by)).collect()
}

/// The rows of calls on GPU devices.
///
/// # Errors
/// As [`group`].
pub fn on_gpu(calls: &DataFrame) -> PolarsResult<DataFrame> {
    let decoded = calls.column(column::DECODED)?.str()?;
    let wanted: BooleanChunked = decoded.iter().map(|word| word.is_some_and(|word| !word.is_empty())).collect();
    calls.filter(&wanted)
}

/// Sums a whole frame into one group.
///
/// # Errors
/// As [`group`].
pub fn summarize(part: &DataFrame, by: &[&str]) -> PolarsResult<Group> {
    let sum = |name: &str| -> PolarsResult<u64> { Ok(part.column(name)?.u64()?.sum().unwrap_or(0)) };
    let mut latency = Histogram::default();
    let lists = part.column(column::LATENCY)?.list()?;
    for list in (0..lists.len()).filter_map(|row| lists.get_as_series(row)) {
        latency.add(&Histogram::from_counts(list.u64()?.iter().flatten()));
    }
    Ok(Group {
        key: by
            .iter()
            .map(|name| Ok(part.column(name)?.str()?.get(0).unwrap_or("").to_owned()))
            .collect::<PolarsResult<_>>()?,
        calls: sum(column::CALLS)?,
        errors: sum(column::ERRORS)?,
        refused: sum(column::REFUSED)?,
        status: part.column(column::STATUS)?.str()?.iter().flatten().rfind(|s| !s.is_empty()).unwrap_or("").to_owned(),
        restarted: sum(column::RESTARTED)?,
        unfinished: sum(column::UNFINISHED)?,
        driver_calls: sum(column::DRIVER_CALLS)?,
        driver_ns: sum(column::DRIVER_NS)?,
        total_ns: sum(column::TOTAL_NS)?,
        max_ns: part.column(column::MAX_NS)?.u64()?.max().unwrap_or(0),
        latency,
    })
}

/// A frame without rows: every column with its type.
///
/// # Errors
/// Never in practice.
pub fn empty() -> PolarsResult<DataFrame> {
    build(&HashMap::new(), &[], &[], &Roles::default(), &Devices::default())
}

/// Columns that files of older schema versions do not have.
const SINCE_VERSION_1: [&str; 11] = [
    column::DEVICE,
    column::DEVICE_NUMBER,
    column::COMMAND_NAME,
    column::COMMAND_NUMBER,
    column::DETAIL,
    column::DETAIL_NUMBER,
    column::DECODED,
    column::REFUSED,
    column::STATUS,
    // Since version 3.
    column::DRIVER_CALLS,
    column::DRIVER_NS,
];

/// Adds the columns that an older file does not have, empty.
///
/// # Errors
/// Never in practice.
pub fn complete(calls: &mut DataFrame, schema_version: u32) -> PolarsResult<()> {
    if schema_version >= SCHEMA_VERSION {
        return Ok(());
    }
    let empty = empty()?;
    for name in SINCE_VERSION_1 {
        if calls.column(name).is_err() {
            let value = match empty.column(name)?.dtype() {
                DataType::String => AnyValue::String(""),
                DataType::UInt32 => AnyValue::UInt32(0),
                _ => AnyValue::UInt64(0),
            };
            let scalar = Scalar::new(empty.column(name)?.dtype().clone(), value.into_static());
            calls.with_column(Column::new_scalar(name.into(), scalar, calls.height()))?;
        }
    }
    Ok(())
}

/// Fails unless every column is there with its type.
///
/// # Errors
/// Says which column is missing or of another type.
pub fn check(calls: &DataFrame) -> PolarsResult<()> {
    let empty = empty()?;
    for expected in empty.columns() {
        let found = calls.column(expected.name())?;
        polars_ensure!(found.dtype() == expected.dtype(), SchemaMismatch: "column `{}` is {}, not {}", expected.name(), found.dtype(), expected.dtype());
    }
    for name in column::SUMMED {
        let sum = calls.column(name)?.u64()?.iter().flatten().try_fold(0, u64::checked_add);
        polars_ensure!(sum.is_some(), ComputeError: "the numbers in column `{}` are too large to be counts", name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::syscalls::ABI_COMPAT;

    fn row(process: u64, number: i64, abi: u32, calls: u64) -> (RowKey, RowCounts) {
        let mut counts = RowCounts { calls, errors: 1, total_ns: 100, max_ns: 60, ..RowCounts::ZERO };
        counts.buckets[5] = calls - 1;
        (RowKey { process, number: number as u32, abi, ..Default::default() }, counts)
    }

    #[test]
    fn rows_are_named_and_grouped() {
        let rows = HashMap::from([
            row(1, libc::SYS_mmap, ABI_NATIVE, 3),
            row(2, libc::SYS_mmap, ABI_NATIVE, 4),
            row(1, libc::SYS_futex, ABI_NATIVE, 5),
            row(1, libc::SYS_mmap, ABI_COMPAT, 6),
            row(3, 5000, ABI_NATIVE, 2),
        ]);
        let processes = [
            Process { id: 2, pid: 20, command: "b".into(), ..Default::default() },
            Process { id: 1, pid: 10, command: "a".into(), ..Default::default() },
        ];
        let frame = build(&rows, &processes, &[], &Roles::default(), &Devices::default()).unwrap();
        check(&frame).unwrap();
        let text = |name: &str| {
            frame.column(name).unwrap().str().unwrap().iter().map(|v| v.unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(text(column::COMMAND), ["b", "a", "a", "a", ""]);
        let compat = format!("compat_{}", libc::SYS_mmap);
        assert_eq!(text(column::SYSCALL)[3..], [compat, "syscall_5000".to_owned()]);
        let mut roles = group(&frame, &[column::ROLE]).unwrap();
        roles.sort_by(|a, b| a.key.cmp(&b.key));
        let calls: Vec<_> = roles.iter().map(|group| (group.key[0].as_str(), group.calls)).collect();
        assert_eq!(calls, [("memory", 7), ("synchronization", 5), ("unknown", 8)]);
        assert_eq!((roles[0].unfinished, roles[0].errors, roles[0].total_ns, roles[0].max_ns), (2, 2, 200, 60));
        assert_eq!(roles[0].latency.count(), 5);
        assert_eq!(roles[0].mean_ns(), Some(40));
    }

    #[test]
    fn an_empty_run_groups_to_nothing() {
        let frame = empty().unwrap();
        assert!(group(&frame, &[column::ROLE]).unwrap().is_empty());
        assert_eq!(summarize(&frame, &[]).unwrap().calls, 0);
    }

    #[test]
    fn a_foreign_frame_is_refused() {
        assert!(check(&DataFrame::empty()).is_err());
    }

    #[test]
    fn counts_that_no_run_makes_are_refused() {
        let rows =
            HashMap::from([row(1, libc::SYS_mmap, ABI_NATIVE, 1 << 63), row(2, libc::SYS_mmap, ABI_NATIVE, 1 << 63)]);
        let frame = build(&rows, &[], &[], &Roles::default(), &Devices::default()).unwrap();
        assert!(check(&frame).unwrap_err().to_string().contains("`calls` are too large to be counts"));
    }
}
