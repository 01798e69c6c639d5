//! The table of counts as a polars frame: built from kernel rows, checked when it comes from a file.
//!
//! What is grouped for the summary is the very frame that is written to files. `docs/file-format.md` describes its columns.

use std::collections::HashMap;

use gpuos_decode::{
    call::{Names, names_of},
    devices::Devices,
    roles::Roles,
};
use gpuos_tracer_abi::syscalls::{RowCounts, RowKey};
use polars_core::prelude::{Column as Series, *};

use crate::{
    columns::{COLUMNS, Column, Line, Values},
    phases::Phase,
    run::{Process, SCHEMA_VERSION},
};

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
    let lines: Vec<Line<'_>> = rows
        .into_iter()
        .zip(&names)
        .map(|((key, counts), names)| {
            let process = order.get(&key.process).map(|(_, process)| *process);
            Line { key, counts, names, process, phases, devices }
        })
        .collect();
    DataFrame::new_infer_height(COLUMNS.iter().map(|column| series(column, &lines)).collect())
}

/// One column of all rows.
fn series(column: &Column, lines: &[Line<'_>]) -> Series {
    let name = PlSmallStr::from_static(column.name);
    match column.values {
        Values::Number(value) => UInt64Chunked::from_iter_values(name, lines.iter().map(value)).into_column(),
        Values::Code(value) => UInt32Chunked::from_iter_values(name, lines.iter().map(value)).into_column(),
        Values::Text(value) => StringChunked::from_iter_values(name, lines.iter().map(value)).into_column(),
        Values::Histogram(value) => {
            let mut lists =
                ListPrimitiveChunkedBuilder::<UInt64Type>::new(name, lines.len(), lines.len() * 8, DataType::UInt64);
            for counts in lines.iter().map(value) {
                let used = counts.iter().rposition(|&count| count != 0).map_or(0, |last| last + 1);
                lists.append_slice(&counts[..used]);
            }
            lists.finish().into_column()
        }
    }
}

/// A frame without rows: every column with its type.
///
/// # Errors
/// Never in practice.
pub fn empty() -> PolarsResult<DataFrame> {
    build(&HashMap::new(), &[], &[], &Roles::default(), &Devices::default())
}

/// Adds the columns that an older file does not have, empty.
///
/// # Errors
/// Never in practice.
pub fn complete(calls: &mut DataFrame, schema_version: u32) -> PolarsResult<()> {
    if schema_version >= SCHEMA_VERSION {
        return Ok(());
    }
    for column in COLUMNS.iter().filter(|column| column.since > 1) {
        if calls.column(column.name).is_err() {
            let (kind, value) = match column.values {
                Values::Number(_) => (DataType::UInt64, AnyValue::UInt64(0)),
                Values::Code(_) => (DataType::UInt32, AnyValue::UInt32(0)),
                Values::Text(_) => (DataType::String, AnyValue::StringOwned("".into())),
                // No version had none.
                Values::Histogram(_) => continue,
            };
            calls.with_column(Series::new_scalar(column.name.into(), Scalar::new(kind, value), calls.height()))?;
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
    for column in COLUMNS.iter().filter(|column| column.is_summed) {
        let sum = calls.column(column.name)?.u64()?.iter().flatten().try_fold(0, u64::checked_add);
        polars_ensure!(sum.is_some(), ComputeError: "the numbers in column `{}` are too large to be counts", column.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        columns::column,
        group::{group, summarize},
    };
    use gpuos_tracer_abi::syscalls::{ABI_COMPAT, ABI_NATIVE};

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
