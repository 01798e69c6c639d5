//! The columns of a dataset's Parquet files: those of a run, those of its calls, and those that say which cell a file is of.

use gpuos_tables::TableWriter;
use polars_core::{frame::DataFrame, prelude::*};

use super::{CountRow, Counts, RunRow};
use crate::plan::Cell;

/// Every column that a file of a dataset may have.
pub(super) fn columns() -> Vec<&'static str> {
    let mut names = vec![
        "bytes",
        "iters",
        "options",
        "twin",
        "place",
        "command",
        "load",
        "load_after",
        "error",
        "calls",
        "errors",
        "total_ns",
        "detail",
    ];
    names.extend(Counts::WORDS);
    names.extend(numbers(&mut RunRow::default()).map(|(name, _)| name));
    names
}

/// A Parquet file in memory.
pub(super) fn parquet(frame: &DataFrame) -> PolarsResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut table = TableWriter::begin(&mut bytes, frame.schema())?;
    table.add(frame)?;
    table.finish(&[])?;
    Ok(bytes)
}

/// The columns that say which cell it is, but those that the folders say.
fn cell_columns(cell: &Cell, rows: usize) -> Vec<Column> {
    vec![
        Column::new("bytes".into(), vec![cell.bytes; rows]),
        Column::new("iters".into(), vec![cell.iters; rows]),
        Column::new("options".into(), vec![cell.options.as_str(); rows]),
        Column::new("twin".into(), vec![cell.twin; rows]),
    ]
}

/// Whether a file has the cell that its name says.
pub(super) fn is_of(frame: &DataFrame, cell: &Cell) -> PolarsResult<()> {
    for own in cell_columns(cell, frame.height()) {
        if !frame.column(own.name())?.equals_missing(&own) {
            return Err(PolarsError::ComputeError(format!("it is of another cell: `{}` differs", own.name()).into()));
        }
    }
    Ok(())
}

/// The row of a run.
pub(super) fn run_frame(cell: &Cell, run: &RunRow) -> PolarsResult<DataFrame> {
    let mut columns = cell_columns(cell, 1);
    columns.extend([
        Column::new("place".into(), [run.place]),
        Column::new("command".into(), [run.command.as_str()]),
        Column::new("load".into(), [run.load]),
        Column::new("load_after".into(), [run.load_after]),
        Column::new("error".into(), [run.error.as_str()]),
    ]);
    let mut run = run.clone();
    columns.extend(numbers(&mut run).map(|(name, value)| Column::new(name.into(), [*value])));
    DataFrame::new(1, columns)
}

/// A column that version 2 has not.
const TRACED_WALL: &str = "traced_wall_ns";

/// The columns of a run that are whole numbers.
fn numbers(run: &mut RunRow) -> [(&'static str, &mut u64); 14] {
    [
        ("traced_p50_ns", &mut run.traced_p50_ns),
        ("bare_p50_ns", &mut run.bare_p50_ns),
        ("bare_p90_ns", &mut run.bare_p90_ns),
        ("bare_p99_ns", &mut run.bare_p99_ns),
        ("bare_max_ns", &mut run.bare_max_ns),
        ("wall_ns", &mut run.wall_ns),
        (TRACED_WALL, &mut run.traced_wall_ns),
        ("user_ns", &mut run.usage.user_ns),
        ("system_ns", &mut run.usage.system_ns),
        ("voluntary_switches", &mut run.usage.voluntary_switches),
        ("involuntary_switches", &mut run.usage.involuntary_switches),
        ("minor_faults", &mut run.usage.minor_faults),
        ("major_faults", &mut run.usage.major_faults),
        ("lost", &mut run.lost),
    ]
}

/// A run as its row says.
pub(super) fn run_row(frame: &DataFrame, block: u32) -> PolarsResult<RunRow> {
    let null = |name: &str| PolarsError::ComputeError(format!("`{name}` is null").into());
    let word = |name: &str| -> PolarsResult<String> {
        Ok(frame.column(name)?.str()?.get(0).ok_or_else(|| null(name))?.to_owned())
    };
    let real = |name: &str| -> PolarsResult<f64> { frame.column(name)?.f64()?.get(0).ok_or_else(|| null(name)) };
    let mut run = RunRow {
        block,
        place: frame.column("place")?.u32()?.get(0).ok_or_else(|| null("place"))?,
        command: word("command")?,
        load: real("load")?,
        load_after: real("load_after")?,
        error: word("error")?,
        ..RunRow::default()
    };
    for (name, value) in numbers(&mut run) {
        if name != TRACED_WALL || frame.column(name).is_ok() {
            *value = frame.column(name)?.u64()?.get(0).ok_or_else(|| null(name))?;
        }
    }
    Ok(run)
}

/// The rows of the calls of a run.
pub(super) fn counts_frame(cell: &Cell, counts: &[CountRow]) -> PolarsResult<DataFrame> {
    let words =
        |name: &str, of: fn(&CountRow) -> &str| Column::new(name.into(), counts.iter().map(of).collect::<Vec<_>>());
    let numbers =
        |name: &str, of: fn(&CountRow) -> u64| Column::new(name.into(), counts.iter().map(of).collect::<Vec<_>>());
    let mut columns = cell_columns(cell, counts.len());
    columns.extend([
        words("phase", |row| &row.phase),
        words(Counts::THREAD, |row| row.thread.name()),
        words("role", |row| row.role.name()),
        words("category", |row| &row.category),
        words("syscall", |row| &row.syscall),
        words("device", |row| &row.device),
        words("ioctl", |row| &row.ioctl),
        words("detail", |row| &row.detail),
        numbers("calls", |row| row.calls),
        numbers("errors", |row| row.errors),
        numbers("total_ns", |row| row.total_ns),
    ]);
    DataFrame::new(counts.len(), columns)
}
