//! The columns of the table of counts: name, type, since which schema version, whether groups sum it, and how a row gives
//! its value. Whoever builds, checks, completes or sums a table reads this list.

use std::borrow::Cow;

use gpuos_decode::{
    call::{Names, status_name},
    devices::Devices,
};
use gpuos_tracer_abi::{
    ioctl::DETAIL_NOT_SEEN,
    syscalls::{ABI_NATIVE, RowCounts, RowKey},
};

use crate::{phases::Phase, run::Process};

/// One row, with all that its columns are made of.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) key: &'a RowKey,
    pub(crate) counts: &'a RowCounts,
    pub(crate) names: &'a Names,
    /// `None` for a process without a record.
    pub(crate) process: Option<&'a Process>,
    pub(crate) phases: &'a [Phase],
    pub(crate) devices: &'a Devices,
}

/// How a row gives the value of a column, and with that the column's type.
#[derive(Clone, Copy)]
pub(crate) enum Values {
    /// u64.
    Number(fn(&Line<'_>) -> u64),
    /// u32.
    Code(fn(&Line<'_>) -> u32),
    /// str.
    Text(for<'a> fn(&Line<'a>) -> Cow<'a, str>),
    /// List of u64, the zeros at its end left out.
    Histogram(for<'a> fn(&Line<'a>) -> &'a [u64]),
}

/// A column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The first schema version that has it.
    pub(crate) since: u32,
    /// Groups have its sum.
    pub(crate) is_summed: bool,
    pub(crate) values: Values,
}

macro_rules! columns {
    ($(#[doc = $doc:literal] $constant:ident, $name:literal, since $since:literal, $summed:ident, $kind:ident($value:expr);)*) => {
        /// Names of the columns.
        pub mod column {
            $(#[doc = $doc] pub const $constant: &str = $name;)*
        }

        /// All columns, in the order of the files.
        pub(crate) const COLUMNS: &[Column] = &[
            $(Column {
                name: column::$constant,
                since: $since,
                is_summed: matches!(stringify!($summed).as_bytes(), b"summed"),
                values: Values::$kind($value),
            },)*
        ];
    };
}

columns! {
    /// u64: Process id, unique within the run.
    PROCESS, "process", since 1, plain, Number(|line| line.key.process);
    /// u32: Process number.
    PID, "pid", since 1, plain, Code(|line| line.process.map_or(0, |process| process.pid));
    /// str: Command name of the process.
    COMMAND, "command", since 1, plain, Text(|line| line.process.map_or("", |process| &process.command).into());
    /// u32: Thread number with `--per-thread`, else 0.
    THREAD, "thread", since 1, plain, Code(|line| line.key.thread);
    /// str: Phase, empty before any was marked.
    PHASE, "phase", since 1, plain, Text(|line| phase_of(line.key.phase, line.phases));
    /// str: `native` or `compat`.
    ABI, "abi", since 1, plain, Text(|line| if line.key.abi == ABI_NATIVE { "native" } else { "compat" }.into());
    /// u32: System call number.
    NUMBER, "number", since 1, plain, Code(|line| line.key.number);
    /// str: Its name, or `syscall_NUMBER`.
    SYSCALL, "syscall", since 1, plain, Text(|line| line.names.syscall.as_str().into());
    /// str: For `ioctl`, and for other calls on GPUs, the device: the name of its node, or what the fd is.
    DEVICE, "device", since 2, plain, Text(|line| line.names.device.as_str().into());
    /// u32: Its number, major in the upper 12 bits; 0 where nobody looked.
    DEVICE_NUMBER, "device_number", since 2, plain, Code(|line| line.key.device.0);
    /// str: The driver's command of an `ioctl` on a GPU; an unknown one by its parts.
    COMMAND_NAME, "ioctl", since 2, plain, Text(|line| line.names.command.as_str().into());
    /// u32: Its number.
    COMMAND_NUMBER, "ioctl_number", since 2, plain, Code(|line| line.key.command);
    /// str: Control command, class, or other word that tells calls of one command apart.
    DETAIL, "detail", since 2, plain, Text(|line| line.names.detail.as_str().into());
    /// u32: Its number.
    DETAIL_NUMBER, "detail_number", since 2, plain, Code(detail_number);
    /// str: Of calls on GPU devices: `yes` when the tables know the command, `no` when not; else empty.
    DECODED, "decoded", since 2, plain, Text(|line| line.names.decoded.into());
    /// str: Kind of kernel service.
    CATEGORY, "category", since 1, plain, Text(|line| line.names.category.as_str().into());
    /// str: Role.
    ROLE, "role", since 1, plain, Text(|line| line.names.role.name().into());
    /// u64: Entries.
    CALLS, "calls", since 1, summed, Number(|line| line.counts.calls);
    /// u64: Returns with an error.
    ERRORS, "errors", since 1, summed, Number(|line| line.counts.errors);
    /// u64: Returns without an error after which the driver's own status told of one.
    REFUSED, "refused", since 2, summed, Number(|line| line.counts.refused);
    /// str: The last such status.
    STATUS, "status", since 2, plain, Text(|line| status_name(line.key.device, line.counts.status as u32, line.devices).into());
    /// u64: Returns because of a signal, to be restarted or not.
    RESTARTED, "restarted", since 1, summed, Number(|line| line.counts.restarted);
    /// u64: Entries without a return: never returns, or still running.
    UNFINISHED, "unfinished", since 1, summed, Number(|line| line.counts.unfinished());
    /// u64: With `--driver-hooks`, calls that reached a watched function of the driver; else 0.
    DRIVER_CALLS, "driver_calls", since 3, summed, Number(|line| line.counts.driver_calls);
    /// u64: Nanoseconds in it.
    DRIVER_NS, "driver_ns", since 3, summed, Number(|line| line.counts.driver_ns);
    /// u64: Nanoseconds inside the call, finished ones.
    TOTAL_NS, "total_ns", since 1, summed, Number(|line| line.counts.total_ns);
    /// u64: The longest.
    MAX_NS, "max_ns", since 1, plain, Number(|line| line.counts.max_ns);
    /// list of u64: Log2 histogram of nanoseconds: counts by bucket, without the empty ones at the end.
    LATENCY, "latency_log2", since 1, plain, Histogram(|line| line.counts.buckets.as_slice());
}

/// Path of a phase. A number without one is of a phase that was not read.
fn phase_of(number: u32, phases: &[Phase]) -> Cow<'_, str> {
    match (number as usize).checked_sub(1) {
        None => "".into(),
        Some(at) => phases.get(at).map_or_else(|| format!("phase {number}").into(), |phase| phase.path.as_str().into()),
    }
}

/// Of a device of no GPU there was nothing to look at.
fn detail_number(line: &Line<'_>) -> u32 {
    if line.names.decoded.is_empty() && line.key.detail == DETAIL_NOT_SEEN { 0 } else { line.key.detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_files_has_every_column() {
        let page = include_str!("../../docs/file-format.md");
        let counts = &page[..page.find("# Recordings").expect("a chapter on recordings")];
        let first: Vec<&str> = counts.lines().filter_map(|line| line.split('|').nth(1)).collect();
        for column in COLUMNS {
            let quoted = format!("`{}`", column.name);
            assert!(first.iter().any(|cell| cell.contains(&quoted)), "docs/file-format.md has no {quoted}");
        }
    }
}
