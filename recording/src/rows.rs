//! Rows of a recording, read back one by one.

use polars_core::prelude::*;

use crate::table::column;

/// One row. Columns that only make sense for other events hold zeros and empty words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name in `table::column`")]
pub struct EventRow<'a> {
    pub time: u64,
    pub duration: Option<u64>,
    pub event: &'a str,
    pub process: u64,
    pub pid: u32,
    pub thread: u32,
    pub comm: &'a str,
    pub phase: &'a str,
    pub abi: &'a str,
    pub number: u32,
    pub syscall: &'a str,
    pub arguments: [u64; 4],
    pub returned: Option<i64>,
    pub error: &'a str,
    pub device: &'a str,
    pub device_number: u32,
    pub command: &'a str,
    pub command_number: u32,
    pub detail: &'a str,
    pub detail_number: u32,
    pub status: &'a str,
    pub status_number: u32,
    pub fields: &'a str,
    pub category: &'a str,
    pub role: &'a str,
}

impl EventRow<'_> {
    /// When it was over.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.time.saturating_add(self.duration.unwrap_or(0))
    }

    /// Of a phase: whether it is that of one thread.
    #[must_use]
    pub fn is_threads_own(&self) -> bool {
        self.arguments[0] == 1
    }

    /// A call in one word or two: the system call, or for drivers their command with what tells it apart.
    #[must_use]
    pub fn call(&self) -> String {
        match (self.command, self.detail) {
            ("", "") => self.syscall.to_owned(),
            ("", detail) => format!("{} {detail}", self.syscall),
            (command, "") => command.to_owned(),
            (command, detail) => format!("{command} {detail}"),
        }
    }
}

/// Gives each row of a frame to `take`.
///
/// # Errors
/// When a column is missing or of another type; that of `take`.
pub fn each<E: From<PolarsError>>(
    frame: &DataFrame,
    mut take: impl FnMut(EventRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let text = |name: &str| frame.column(name)?.str();
    let long = |name: &str| frame.column(name)?.u64();
    let short = |name: &str| frame.column(name)?.u32();
    let (time, duration, process) = (long(column::TIME)?, long(column::DURATION)?, long(column::PROCESS)?);
    let (event, comm, phase) = (text(column::EVENT)?, text(column::COMM)?, text(column::PHASE)?);
    let (pid, thread, number) = (short(column::PID)?, short(column::THREAD)?, short(column::NUMBER)?);
    let (abi, syscall, error) = (text(column::ABI)?, text(column::SYSCALL)?, text(column::ERROR)?);
    let [first, second, third, fourth] = column::ARGUMENTS;
    let arguments = [long(first)?, long(second)?, long(third)?, long(fourth)?];
    let returned = frame.column(column::RETURNED)?.i64()?;
    let (device, device_number) = (text(column::DEVICE)?, short(column::DEVICE_NUMBER)?);
    let (command, command_number) = (text(column::COMMAND)?, short(column::COMMAND_NUMBER)?);
    let (detail, detail_number) = (text(column::DETAIL)?, short(column::DETAIL_NUMBER)?);
    let (status, status_number) = (text(column::STATUS)?, short(column::STATUS_NUMBER)?);
    let (fields, category, role) = (text(column::FIELDS)?, text(column::CATEGORY)?, text(column::ROLE)?);
    for at in 0..frame.height() {
        let long = |column: &UInt64Chunked| column.get(at).unwrap_or(0);
        let short = |column: &UInt32Chunked| column.get(at).unwrap_or(0);
        let [first, second, third, fourth] = arguments;
        take(EventRow {
            time: long(time),
            duration: duration.get(at),
            event: event.get(at).unwrap_or(""),
            process: long(process),
            pid: short(pid),
            thread: short(thread),
            comm: comm.get(at).unwrap_or(""),
            phase: phase.get(at).unwrap_or(""),
            abi: abi.get(at).unwrap_or(""),
            number: short(number),
            syscall: syscall.get(at).unwrap_or(""),
            arguments: [long(first), long(second), long(third), long(fourth)],
            returned: returned.get(at),
            error: error.get(at).unwrap_or(""),
            device: device.get(at).unwrap_or(""),
            device_number: short(device_number),
            command: command.get(at).unwrap_or(""),
            command_number: short(command_number),
            detail: detail.get(at).unwrap_or(""),
            detail_number: short(detail_number),
            status: status.get(at).unwrap_or(""),
            status_number: short(status_number),
            fields: fields.get(at).unwrap_or(""),
            category: category.get(at).unwrap_or(""),
            role: role.get(at).unwrap_or(""),
        })?;
    }
    Ok(())
}
