//! Rows of the table of counts, summed by what they have in common.

use std::collections::HashSet;

use polars_core::prelude::*;

use crate::{
    columns::column,
    histogram::Histogram,
    phases::{Phase, marked_around},
    run::Run,
};

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

/// The column that [`with_callers`] adds.
pub const CALLER: &str = "caller";
/// Its value in rows of callers; it is empty in others.
pub const IS_CALLER: &str = "caller";

/// The calls, and who made them: the caller is the first thread of the command itself, not of processes that it starts. The run
/// was traced with `--per-thread`.
///
/// # Errors
/// As [`group`].
pub fn with_callers(run: &Run) -> PolarsResult<DataFrame> {
    let processes: HashSet<u64> = run.header.processes.iter().map(|process| process.id).collect();
    let roots = run.header.processes.iter().filter(|process| !processes.contains(&process.parent));
    let commands: HashSet<u32> = roots.map(|process| process.pid).collect();
    let numbers = |name: &str| Ok::<_, PolarsError>(run.calls.column(name)?.u32()?.iter());
    let is_caller = numbers(column::PID)?
        .zip(numbers(column::THREAD)?)
        .map(|(pid, thread)| pid == thread && pid.is_some_and(|pid| commands.contains(&pid)));
    let who: Vec<&str> = is_caller.map(|is_caller| if is_caller { IS_CALLER } else { "" }).collect();
    let mut calls = run.calls.clone();
    calls.with_column(Column::new(CALLER.into(), who))?;
    Ok(calls)
}

/// The calls, each in the phase that the program marked: what is called in a function of a GPU library, or for a class of jobs, is part
/// of the phase around it.
///
/// # Errors
/// As [`group`].
pub fn in_marked_phases(calls: &DataFrame, phases: &[Phase]) -> PolarsResult<DataFrame> {
    let around = marked_around(phases);
    let marked: StringChunked = calls
        .column(column::PHASE)?
        .str()?
        .iter()
        .map(|path| path.map(|path| around.get(path).copied().unwrap_or(path)))
        .collect();
    let mut calls = calls.clone();
    calls.with_column(marked.with_name(column::PHASE.into()).into_column())?;
    Ok(calls)
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
