//! The tables that people read: by role, the top system calls, processes, and what was lost.

use std::{collections::HashMap, io::Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

use super::{
    Codec, CodecError,
    api_table::api_table,
    device_table::{device_phase_table, device_table},
    palette::color_of,
    phase_table::phase_table,
    units::{count, duration, plural, printable, share},
};
use crate::model::{
    frame::{self, Group, column},
    roles::Role,
    run::{End, Header, Process, Run},
};

/// What is listed and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How many system calls and processes to list.
    pub top: usize,
    /// The largest first.
    pub order: Order,
}

/// What tables are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Number of calls.
    Calls,
    /// Time inside the calls.
    Total,
    /// Number of errors, and of calls that a driver refused.
    Errors,
    /// The longest call.
    Max,
}

impl Order {
    pub(super) fn key(self, group: &Group) -> u64 {
        match self {
            Self::Calls => group.calls,
            Self::Total => group.estimated_total_ns(),
            Self::Errors => group.errors.saturating_add(group.refused),
            Self::Max => group.max_ns,
        }
    }
}

/// How the place that is printed to looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Characters in a line; tables leave columns out to fit.
    pub width: usize,
    /// Whether it shows colours.
    pub color: bool,
}

impl Look {
    /// For files: everything, no colour.
    pub const FILE: Self = Self { width: usize::MAX, color: false };
}

/// The text format: tables without colours. It cannot be read back.
pub(super) struct Text;

impl Codec for Text {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        to.write_all(render(run, View { top: usize::MAX, order: Order::Calls }, Look::FILE)?.as_bytes())?;
        Ok(())
    }

    fn read(&self, _: Vec<u8>) -> Result<Run, CodecError> {
        Err("tables as text cannot be read back".into())
    }
}

/// All tables of a run.
///
/// # Errors
/// When the frame lacks a column, as a foreign file may.
pub fn render(run: &Run, view: View, look: Look) -> Result<String, CodecError> {
    let header = &run.header;
    let total = frame::summarize(&run.calls, &[])?;
    let mut sections = vec![headline(header, &total)];
    if total.calls == 0 {
        sections.push("no system call was counted".to_owned());
    } else {
        sections.push(role_table(run, view, look, &total)?);
        sections.extend(phase_table(run, view, look, &total)?);
        sections.extend(api_table(run, view, look)?);
        sections.push(syscall_table(run, view, look, &total)?);
        sections.extend(device_table(run, view, look)?);
        sections.extend(device_phase_table(run, view, look)?);
        if !header.processes.is_empty() {
            sections.push(process_table(run, view, look)?);
        }
    }
    let remarks = remarks(header, &total);
    if !remarks.is_empty() {
        sections.push(remarks.join("\n"));
    }
    Ok(sections.join("\n\n") + "\n")
}

fn headline(header: &Header, total: &Group) -> String {
    let words: Vec<String> = header.command.iter().map(|word| printable(word)).collect();
    let end = match header.end {
        End::Exited(status) => format!("exit status {status}"),
        End::Killed(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        End::Detached => "detached".to_owned(),
        End::NotRecorded => "its end is not recorded".to_owned(),
    };
    let threads = header.processes.iter().map(|process| u64::from(process.threads)).sum();
    let mut parts = vec![
        end,
        duration(header.wall_ns),
        plural(
            header.processes.iter().map(|process| process.stands_for).fold(0, u64::saturating_add),
            "process",
            "processes",
        ),
        plural(threads, "thread", "threads"),
        plural(total.calls, "system call", "system calls"),
    ];
    if total.errors != 0 {
        parts.push(plural(total.errors, "error", "errors"));
    }
    if total.refused != 0 {
        parts.push(format!("{} refused by a driver's status", plural(total.refused, "call", "calls")));
    }
    format!("{}\n{}", words.join(" "), parts.join(" · "))
}

/// A column of a table of counts: head, how soon it is left out where space is short (0: never),
/// and its text.
struct Measure {
    head: &'static str,
    dispensable: u8,
    text: fn(&Group, &Group) -> String,
}

fn optional(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), duration)
}

const CALLS: Measure = Measure { head: "calls", dispensable: 0, text: |group, _| count(group.calls) };
const ERRORS: Measure = Measure {
    head: "errors",
    dispensable: 0,
    text: |group, _| if group.errors == 0 { String::new() } else { count(group.errors) },
};
const SHARE: Measure = Measure { head: "share", dispensable: 3, text: |group, total| share(group.calls, total.calls) };
/// Refused by the driver's own status.
const REFUSED: Measure = Measure {
    head: "refused",
    dispensable: 0,
    text: |group, _| {
        if group.refused == 0 {
            String::new()
        } else {
            format!("{} {}", count(group.refused), printable(&group.status))
        }
    },
};
/// Inside the driver's own function.
const DRIVER: Measure = Measure {
    head: "in driver",
    dispensable: 0,
    text: |group, _| if group.driver_calls == 0 { String::new() } else { duration(group.driver_ns) },
};
const TOTAL: Measure = Measure { head: "total", dispensable: 0, text: |group, _| duration(group.estimated_total_ns()) };
const MEAN: Measure = Measure { head: "mean", dispensable: 5, text: |group, _| optional(group.mean_ns()) };
const P50: Measure =
    Measure { head: "p50", dispensable: 2, text: |group, _| optional(group.latency.quantile(0.5, group.max_ns)) };
const P99: Measure =
    Measure { head: "p99", dispensable: 1, text: |group, _| optional(group.latency.quantile(0.99, group.max_ns)) };
const MAX: Measure = Measure {
    head: "max",
    dispensable: 4,
    text: |group, _| optional((group.latency.count() != 0).then_some(group.max_ns)),
};

/// A list of measures: those that need no times, then those that do, and whether histograms are drawn.
pub(super) struct Measures {
    counted: &'static [Measure],
    timed: &'static [Measure],
    pictures: bool,
}

const OF_CALLS: Measures =
    Measures { counted: &[CALLS, ERRORS, SHARE], timed: &[TOTAL, MEAN, P50, P99, MAX], pictures: true };
pub(super) const OF_HOOKED_DEVICES: Measures =
    Measures { counted: &[CALLS, ERRORS, REFUSED, DRIVER], timed: &[TOTAL, P50, P99, MAX], pictures: false };
pub(super) const OF_DEVICES: Measures =
    Measures { counted: &[CALLS, ERRORS, REFUSED], timed: &[TOTAL, P50, P99, MAX], pictures: false };

pub(super) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

pub(super) fn head(text: &str, right: bool, look: Look) -> Cell {
    let cell = Cell::new(text).set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left });
    if look.color { cell.add_attribute(Attribute::Bold) } else { cell }
}

pub(super) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

pub(super) fn role_cell(name: &str, look: Look) -> Cell {
    let cell = Cell::new(printable(name));
    match name.parse::<Role>() {
        Ok(role) if look.color => {
            let (r, g, b) = color_of(role);
            cell.fg(Color::Rgb { r, g, b })
        }
        _ => cell,
    }
}

/// A table of groups: `names` columns at the left, the measures, and the histograms at the right.
pub(super) fn group_table(
    header: &Header,
    groups: &[Group],
    names: &[&str],
    total: &Group,
    last: Option<&Group>,
    wanted: &Measures,
    look: Look,
) -> Table {
    let timed = if header.mode.timed { wanted.timed } else { &[] };
    let measures = || wanted.counted.iter().chain(timed);
    let span = if header.mode.timed && wanted.pictures { total.latency.span() } else { None };
    let mut table = plain_table();
    let mut heads: Vec<Cell> = names.iter().map(|name| head(name, false, look)).collect();
    heads.extend(measures().map(|measure| head(measure.head, true, look)));
    if let Some((first, last)) = span {
        heads.push(head(
            &format!("latency {} … {}", duration(1 << first), duration((1 << (last + 1)) - 1)),
            false,
            look,
        ));
    }
    table.set_header(heads);
    for group in groups.iter().chain(last) {
        let mut row: Vec<Cell> = group
            .key
            .iter()
            .zip(names)
            .map(|(value, name)| if *name == "role" { role_cell(value, look) } else { Cell::new(printable(value)) })
            .collect();
        row.extend(measures().map(|measure| right((measure.text)(group, total))));
        if let Some((first, last)) = span {
            row.push(Cell::new(group.latency.picture(first, last)));
        }
        table.add_row(Row::from(row));
    }
    // A column that says nothing goes first. What is refused is in the headline, too.
    let is_empty = |measure: &Measure| groups.iter().all(|group| (measure.text)(group, total).is_empty());
    let mut dispensable: Vec<(u8, usize)> = measures()
        .enumerate()
        .map(|(at, measure)| (if is_empty(measure) { 7 } else { measure.dispensable }, names.len() + at))
        .filter(|(dispensable, _)| *dispensable != 0)
        .collect();
    if span.is_some() {
        dispensable.push((6, names.len() + measures().count()));
    }
    let call = names.iter().position(|name| *name == "call");
    let refused = measures().position(|measure| measure.head == REFUSED.head).map(|at| names.len() + at);
    for column in call.into_iter().chain(refused) {
        wrap(&mut table, column, look.width, usize::MAX);
    }
    fit(&mut table, &mut dispensable, look.width);
    if let Some(call) = call {
        wrap(&mut table, call, look.width, NARROWEST_NAMES);
    }
    table
}

/// Names are cut into lines of so many characters before a table gets wider than its place.
const NARROWEST_NAMES: usize = 20;

/// Lets the cells of a column go on in a next line, as far as that makes the table fit. Words stay whole where they have
/// no more characters than `longest`.
fn wrap(table: &mut Table, index: usize, width: usize, longest: usize) {
    let over = widest_line(table).saturating_sub(width);
    let (mut widest, mut longest_word) = (0, 0);
    let head = table.header().and_then(|heads| heads.cell_iter().nth(index));
    for text in table.column_cells_iter(index).flatten().chain(head).map(Cell::content) {
        widest = widest.max(text.chars().count());
        longest_word = text.split(' ').map(|word| word.chars().count()).fold(longest_word, usize::max);
    }
    let Some(column) = table.column_mut(index).filter(|_| over != 0) else { return };
    if let Some(ColumnConstraint::Absolute(Width::Fixed(now))) = column.constraint() {
        widest = usize::from(now.saturating_sub(column.padding_width()));
    }
    let content = widest.saturating_sub(over).max(longest_word.min(longest));
    let width = u16::try_from(content).unwrap_or(u16::MAX).saturating_add(column.padding_width());
    column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
}

/// Hides columns, the most dispensable first, until the table fits.
pub(super) fn fit(table: &mut Table, dispensable: &mut [(u8, usize)], width: usize) {
    dispensable.sort_unstable();
    for &(_, index) in dispensable.iter().rev() {
        if widest_line(table) <= width {
            return;
        }
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

fn widest_line(table: &Table) -> usize {
    let mut plain = table.clone();
    plain.force_no_tty();
    plain.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0)
}

pub(super) fn finish(table: &mut Table, look: Look) -> String {
    if look.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn role_table(run: &Run, view: View, look: Look, total: &Group) -> Result<String, CodecError> {
    let mut groups = frame::group(&run.calls, &[column::ROLE])?;
    groups.sort_by_key(|group| std::cmp::Reverse(view.order.key(group)));
    let last = Group { key: vec!["total".to_owned()], ..total.clone() };
    let mut table = group_table(&run.header, &groups, &["role"], total, Some(&last), &OF_CALLS, look);
    Ok(finish(&mut table, look))
}

fn syscall_table(run: &Run, view: View, look: Look, total: &Group) -> Result<String, CodecError> {
    let mut groups = frame::group(&run.calls, &[column::SYSCALL, column::ROLE])?;
    groups.sort_by_key(|group| (std::cmp::Reverse(view.order.key(group)), group.key.clone()));
    let left_out = groups.split_off(view.top.min(groups.len()));
    let mut table = group_table(&run.header, &groups, &["syscall", "role"], total, None, &OF_CALLS, look);
    Ok(finish(&mut table, look) + &left_out_line(&left_out, "more system call", "more system calls"))
}

/// A rate: whole from 100 on, else with three digits.
pub(super) fn rate(value: f64) -> String {
    match value {
        value if value >= 99.95 => count(value.round() as u64),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Says what a table does not list.
pub(super) fn left_out_line(left_out: &[Group], one: &str, many: &str) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let calls = left_out.iter().map(|group| group.calls).fold(0, u64::saturating_add);
    format!(
        "\n … {} with {}; `--top 0` lists them",
        plural(left_out.len() as u64, one, many),
        plural(calls, "call", "calls")
    )
}

fn process_table(run: &Run, view: View, look: Look) -> Result<String, CodecError> {
    let calls: HashMap<u64, u64> = run
        .calls
        .partition_by_stable([column::PROCESS], true)?
        .iter()
        .map(|part| {
            Ok::<_, CodecError>((
                part.column(column::PROCESS)?.u64()?.get(0).unwrap_or(0),
                frame::summarize(part, &[])?.calls,
            ))
        })
        .collect::<Result<_, _>>()?;
    let calls_of = |process: &Process| calls.get(&process.id).copied().unwrap_or(0);
    let mut processes: Vec<&Process> = run.header.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(calls_of(process)));
    let left_out = processes.split_off(view.top.min(processes.len()));
    let mut table = plain_table();
    let heads = [
        "process",
        "pid",
        "threads",
        "calls",
        "wall",
        "user",
        "system",
        "switches",
        "forced",
        "minor faults",
        "major faults",
    ];
    table.set_header(heads.iter().enumerate().map(|(at, text)| head(text, at != 0, look)));
    for process in processes {
        let about = match (process.stands_for, process.threads_alive) {
            (1, 0) => String::new(),
            (1, _) => " (running)".to_owned(),
            (many, _) => format!(" ({} processes)", count(many)),
        };
        let known = |text: String| if process.has_usage() { text } else { "-".to_owned() };
        let mut row = vec![Cell::new(printable(&process.command) + &about)];
        row.extend(
            [
                if process.stands_for == 1 { process.pid.to_string() } else { String::new() },
                count(process.threads.into()),
                count(calls_of(process)),
                duration(process.wall_ns),
                known(duration(process.user_ns)),
                known(duration(process.system_ns)),
                known(count(process.voluntary_switches)),
                known(count(process.involuntary_switches)),
                known(count(process.minor_faults)),
                known(count(process.major_faults)),
            ]
            .map(right),
        );
        table.add_row(row);
    }
    fit(&mut table, &mut [(1, 10), (2, 8), (3, 9), (4, 2), (5, 1)], look.width);
    let mut text = finish(&mut table, look);
    if !left_out.is_empty() {
        text +=
            &format!("\n … {}; `--top 0` lists them", plural(left_out.len() as u64, "more process", "more processes"));
    }
    Ok(text)
}

/// Losses first: they decide whether the rest can be trusted.
fn remarks(header: &Header, total: &Group) -> Vec<String> {
    let losses = header.losses;
    let mut lines = Vec::new();
    for (number, what) in [
        (
            losses.calls,
            "calls were not counted because the table of totals was full (`--totals`) or the kernel had no memory",
        ),
        (losses.sites, "calls are in no stack of `--stacks`: no room for their place in the program (`--stacks-kept`)"),
        (losses.children, "child threads or processes were not followed because the kernel gave them no storage"),
        (
            losses.process_records,
            "processes have no record because the table was full (`--processes`) or the kernel had no memory",
        ),
        (
            losses.phases,
            "phases began that were not kept: no place (`--phases`), more than eight inside each other, or a label that could not be read",
        ),
        (losses.objects, "objects of NVIDIA's driver found no place (`--objects`): calls on them have no class"),
        (losses.events, "events found no place in the ring (`--ring` makes it larger); the recording says when"),
        (losses.recursion_misses, "events were missed because a BPF program was running already on that CPU"),
    ] {
        if number != 0 {
            lines.push(format!("LOST: {} {what}", count(number)));
        }
    }
    if total.unfinished != 0 {
        lines.push(format!(
            "note: {} did not return (`exit_group`, or still running at the end)",
            plural(total.unfinished, "call", "calls")
        ));
    }
    if total.restarted != 0 {
        lines.push(format!(
            "note: {} interrupted by a signal, to be restarted or not; not counted as errors",
            plural(total.restarted, "call was", "calls were")
        ));
    }
    if header.mode.sample > 1 {
        lines.push(format!(
            "note: one call in {} of each thread was timed; totals are estimates, maxima are of those",
            header.mode.sample
        ));
    }
    lines.extend(header.notes.iter().map(|note| format!("note: {}", printable(note))));
    lines
}
