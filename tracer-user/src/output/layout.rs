//! How tables are laid out: what is listed, how each number is written, which columns give way to a narrow terminal.

use std::{io::IsTerminal, os::fd::AsFd};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};
use gpuos_model::{
    Role,
    units::{count, duration, plural, printable, share},
};
use gpuos_runs::{group::Group, run::Header};

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
pub struct TerminalStyle {
    /// Characters in a line; tables leave columns out to fit.
    pub width: usize,
    /// Whether it shows colours.
    pub color: bool,
}

impl TerminalStyle {
    /// For files: everything, no colour.
    pub const FILE: Self = Self { width: usize::MAX, color: false };
}

/// How the terminal behind a stream shows tables; a stream that is none gets plain tables of 120 columns.
#[must_use]
pub fn style_of(stream: &(impl IsTerminal + AsFd), choice: anstream::ColorChoice) -> TerminalStyle {
    if !stream.is_terminal() {
        return TerminalStyle { width: 120, color: choice == anstream::ColorChoice::Always };
    }
    let width = terminal_size::terminal_size_of(stream).map_or(80, |(width, _)| usize::from(width.0));
    TerminalStyle { width, color: choice != anstream::ColorChoice::Never }
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

pub(super) const OF_CALLS: Measures =
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

pub(super) fn head(text: &str, right: bool, style: TerminalStyle) -> Cell {
    let cell = Cell::new(text).set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left });
    if style.color { cell.add_attribute(Attribute::Bold) } else { cell }
}

pub(super) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

pub(super) fn role_cell(name: &str, style: TerminalStyle) -> Cell {
    let cell = Cell::new(printable(name));
    match name.parse::<Role>() {
        Ok(role) if style.color => {
            let (r, g, b) = role.color();
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
    style: TerminalStyle,
) -> Table {
    let timed = if header.mode.timed { wanted.timed } else { &[] };
    let measures = || wanted.counted.iter().chain(timed);
    let span = if header.mode.timed && wanted.pictures { total.latency.span() } else { None };
    let mut table = plain_table();
    let mut heads: Vec<Cell> = names.iter().map(|name| head(name, false, style)).collect();
    heads.extend(measures().map(|measure| head(measure.head, true, style)));
    if let Some((first, last)) = span {
        heads.push(head(
            &format!("latency {} … {}", duration(1 << first), duration((1 << (last + 1)) - 1)),
            false,
            style,
        ));
    }
    table.set_header(heads);
    for group in groups.iter().chain(last) {
        let mut row: Vec<Cell> = group
            .key
            .iter()
            .zip(names)
            .map(|(value, name)| if *name == "role" { role_cell(value, style) } else { Cell::new(printable(value)) })
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
        wrap(&mut table, column, style.width, usize::MAX);
    }
    fit(&mut table, &mut dispensable, style.width);
    if let Some(call) = call {
        wrap(&mut table, call, style.width, NARROWEST_NAMES);
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

pub(super) fn finish(table: &mut Table, style: TerminalStyle) -> String {
    if style.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
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
