//! Rows of a recording: the list of its columns, from which files are written and read.

use gpuos_tracer_abi::{events::EventHeader, ioctl::DeviceId};
use polars_core::prelude::*;

use crate::interner::{StringId, StringInterner};

/// The names of a call, as codes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NameCodes {
    pub(crate) syscall: StringId,
    pub(crate) device: StringId,
    pub(crate) command: StringId,
    pub(crate) detail: StringId,
    pub(crate) category: StringId,
    pub(crate) role: StringId,
}

/// An event before it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableRow {
    pub(crate) head: EventHeader,
    pub(crate) process: u64,
    pub(crate) duration: Option<u64>,
    pub(crate) event: &'static str,
    pub(crate) comm: StringId,
    pub(crate) phase: StringId,
    pub(crate) abi: &'static str,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 4],
    pub(crate) returned: Option<i64>,
    pub(crate) error: StringId,
    pub(crate) names: NameCodes,
    pub(crate) device: DeviceId,
    pub(crate) command: u32,
    pub(crate) detail: u32,
    pub(crate) status_name: StringId,
    pub(crate) status: u32,
    pub(crate) fields: String,
}

/// How a column is written and read, by its kind: `long` u64, `maybe_long` u64 or null, `signed` i64 or null, `short` u32,
/// `text` str, `coded` str that is interned before it is written.
macro_rules! kind {
    (type long) => { u64 };
    (type maybe_long) => { Option<u64> };
    (type signed) => { Option<i64> };
    (type short) => { u32 };
    (type text) => { &'a str };
    (type coded) => { &'a str };
    (column long, $name:expr, $rows:ident, $strings:ident, $value:expr) => {
        UInt64Chunked::from_iter_values($name.into(), $rows.iter().map($value)).into_column()
    };
    (column maybe_long, $name:expr, $rows:ident, $strings:ident, $value:expr) => {
        UInt64Chunked::from_iter_options($name.into(), $rows.iter().map($value)).into_column()
    };
    (column signed, $name:expr, $rows:ident, $strings:ident, $value:expr) => {
        Int64Chunked::from_iter_options($name.into(), $rows.iter().map($value)).into_column()
    };
    (column short, $name:expr, $rows:ident, $strings:ident, $value:expr) => {
        UInt32Chunked::from_iter_values($name.into(), $rows.iter().map($value)).into_column()
    };
    (column text, $name:expr, $rows:ident, $strings:ident, $value:expr) => {
        StringChunked::from_iter_values($name.into(), $rows.iter().map($value as fn(&TableRow) -> &str)).into_column()
    };
    (column coded, $name:expr, $rows:ident, $strings:ident, $value:expr) => {{
        let code: fn(&TableRow) -> StringId = $value;
        StringChunked::from_iter_values($name.into(), $rows.iter().map(|row| $strings.get(code(row)))).into_column()
    }};
    (array long, $column:expr) => { $column.u64()? };
    (array maybe_long, $column:expr) => { $column.u64()? };
    (array signed, $column:expr) => { $column.i64()? };
    (array short, $column:expr) => { $column.u32()? };
    (array text, $column:expr) => { $column.str()? };
    (array coded, $column:expr) => { $column.str()? };
    (value maybe_long, $value:expr) => { $value };
    (value signed, $value:expr) => { $value };
    (value $other:ident, $value:expr) => { $value.unwrap_or_default() };
}

macro_rules! columns {
    ($(#[doc = $doc:literal] $constant:ident, $name:literal, $field:ident: $kind:ident, $value:expr;)*) => {
        /// Names of the columns.
        pub mod column {
            $(#[doc = $doc] pub const $constant: &str = $name;)*
        }

        /// Names of the columns, in the order of the file.
        pub const COLUMNS: &[&str] = &[$($name),*];

        /// One row. Columns that only make sense for other events hold zeros and empty words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct EventRow<'a> {
            $(#[doc = $doc] pub $field: kind!(type $kind),)*
        }

        /// Rows as a frame. `strings` has those of the codes.
        ///
        /// # Errors
        /// Never in practice: all columns have the same length.
        pub(crate) fn frame(rows: &[TableRow], strings: &StringInterner) -> PolarsResult<DataFrame> {
            DataFrame::new_infer_height(vec![$(kind!(column $kind, $name, rows, strings, $value)),*])
        }

        /// Gives each row of a frame to `take`.
        ///
        /// # Errors
        /// When a column is missing or of another type; that of `take`.
        pub fn each<E: From<PolarsError>>(
            frame: &DataFrame,
            mut take: impl FnMut(EventRow<'_>) -> Result<(), E>,
        ) -> Result<(), E> {
            $(let $field = kind!(array $kind, frame.column($name)?);)*
            for at in 0..frame.height() {
                take(EventRow { $($field: kind!(value $kind, $field.get(at)),)* })?;
            }
            Ok(())
        }
    };
}

columns! {
    #[doc = "u64: `CLOCK_MONOTONIC` in nanoseconds when it began."]
    TIME, "time_ns", time: long, |row| row.head.at_ns;
    #[doc = "u64, null where it has none: nanoseconds that it lasted."]
    DURATION, "duration_ns", duration: maybe_long, |row| row.duration;
    #[doc = "str: what happened."]
    EVENT, "event", event: text, |row| row.event;
    #[doc = "u64: process id, unique within the recording."]
    PROCESS, "process", process: long, |row| row.process;
    #[doc = "u32: process number."]
    PID, "pid", pid: short, |row| row.head.pid;
    #[doc = "u32: thread number."]
    THREAD, "thread", thread: short, |row| row.head.thread;
    #[doc = "str: name of the thread."]
    COMM, "comm", comm: coded, |row| row.comm;
    #[doc = "str: phase, empty where none was marked."]
    PHASE, "phase", phase: coded, |row| row.phase;
    #[doc = "str: `native` or `compat`; empty for what is no call."]
    ABI, "abi", abi: text, |row| row.abi;
    #[doc = "u32: system call number."]
    NUMBER, "number", number: short, |row| row.number;
    #[doc = "str: its name."]
    SYSCALL, "syscall", syscall: coded, |row| row.names.syscall;
    #[doc = "u64: the first argument."]
    ARGUMENT_0, "argument0", argument0: long, |row| row.arguments[0];
    #[doc = "u64: the second argument."]
    ARGUMENT_1, "argument1", argument1: long, |row| row.arguments[1];
    #[doc = "u64: the third argument."]
    ARGUMENT_2, "argument2", argument2: long, |row| row.arguments[2];
    #[doc = "u64: the fourth argument."]
    ARGUMENT_3, "argument3", argument3: long, |row| row.arguments[3];
    #[doc = "i64, null where it has not returned: what it returned."]
    RETURNED, "returned", returned: signed, |row| row.returned;
    #[doc = "str: name of the error."]
    ERROR, "error", error: coded, |row| row.error;
    #[doc = "str: device."]
    DEVICE, "device", device: coded, |row| row.names.device;
    #[doc = "u32: its number."]
    DEVICE_NUMBER, "device_number", device_number: short, |row| row.device.0;
    #[doc = "str: the driver's command."]
    COMMAND, "ioctl", command: coded, |row| row.names.command;
    #[doc = "u32: its number."]
    COMMAND_NUMBER, "ioctl_number", command_number: short, |row| row.command;
    #[doc = "str: what tells calls of one command apart; of a switch the state, of a job its class."]
    DETAIL, "detail", detail: coded, |row| row.names.detail;
    #[doc = "u32: its number."]
    DETAIL_NUMBER, "detail_number", detail_number: short, |row| row.detail;
    #[doc = "str: the driver's own status, empty for success."]
    STATUS, "status", status: coded, |row| row.status_name;
    #[doc = "u32: its number."]
    STATUS_NUMBER, "status_number", status_number: short, |row| row.status;
    #[doc = "str: fields of the argument of a GPU driver's call, `name=value` with spaces between; `path=` and the path in quotes, where paths are recorded."]
    FIELDS, "fields", fields: text, |row| &row.fields;
    #[doc = "str: kind of kernel service."]
    CATEGORY, "category", category: coded, |row| row.names.category;
    #[doc = "str: role."]
    ROLE, "role", role: coded, |row| row.names.role;
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
        self.argument0 == 1
    }

    /// The first four arguments.
    #[must_use]
    pub const fn arguments(&self) -> [u64; 4] {
        [self.argument0, self.argument1, self.argument2, self.argument3]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_files_has_every_column() {
        let page = include_str!("../../docs/file-format.md");
        let recordings = &page[page.find("# Recordings").expect("a chapter on recordings")..];
        let first: Vec<&str> = recordings.lines().filter_map(|line| line.split('|').nth(1)).collect();
        for name in COLUMNS.iter().filter(|name| !name.starts_with("argument")) {
            assert!(
                first.iter().any(|cell| cell.contains(&format!("`{name}`"))),
                "docs/file-format.md has no `{name}`"
            );
        }
    }
}
