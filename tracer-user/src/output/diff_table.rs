//! Two runs side by side: a line for each group of calls, what changed most first.

use comfy_table::{Cell, Row};
use gpuos_model::units::{count, duration, plural, printable};
use gpuos_runs::{
    diff::{self, BY, Measure, Pair},
    run::Run,
};

use super::layout::{TerminalStyle, finish, fit, head, plain_table, rate, right, role_cell};

/// What is listed and in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// What changed most in this.
    pub(crate) order: Measure,
    /// How many lines; 0: all.
    pub(crate) top: usize,
    /// Numbers are by unit of work.
    pub(crate) by_unit: bool,
}

/// What both runs are.
pub(crate) fn heads(first: &Run, second: &Run) -> String {
    let line = |name: &str, run: &Run| {
        let command = printable(&run.header.command.join(" "));
        let short: String = command.chars().take(80).collect();
        let cut = if short.len() < command.len() { "…" } else { "" };
        format!("{name}  {short}{cut}  ({}, {})\n", printable(&run.header.started), duration(run.header.wall_ns))
    };
    line("A", first) + &line("B", second)
}

/// A number of a measure.
fn number(value: f64, measure: Measure, by_unit: bool) -> String {
    match measure {
        Measure::Time => duration(value.round() as u64),
        Measure::Calls | Measure::Errors if by_unit => rate(value),
        Measure::Calls | Measure::Errors => count(value.round() as u64),
    }
}

/// By how much it changed: the difference, and in hundredths where there was something before.
fn change(pair: &Pair, measure: Measure, by_unit: bool) -> String {
    let (by, first) = (pair.change(measure), pair.first[measure as usize]);
    if by == 0.0 {
        return String::new();
    }
    let sign = if by > 0.0 { '+' } else { '−' };
    let share = if first == 0.0 { String::new() } else { format!(" {sign}{:.1} %", (by / first * 100.0).abs()) };
    format!("{sign}{}{share}", number(by.abs(), measure, by_unit))
}

/// What a rule was about, in both runs.
pub(crate) fn numbers(pair: &Pair, measure: Measure) -> String {
    let is_whole = [pair.first, pair.second].iter().all(|side| side[measure as usize].fract() == 0.0);
    let text = |value: f64| number(value, measure, !is_whole);
    let (name, _) = Measure::ALL[measure as usize];
    format!("{name} {} in A, {} in B", text(pair.first[measure as usize]), text(pair.second[measure as usize]))
}

/// The table of calls that are told apart by the columns at these places of [`BY`].
pub(crate) fn table(pairs: &[Pair], places: &[usize], view: View, is_timed: bool, style: TerminalStyle) -> String {
    let mut lines = diff::by(pairs, places);
    lines.sort_by(|one, other| {
        let by = |pair: &Pair| pair.change(view.order).abs();
        by(other).total_cmp(&by(one)).then_with(|| one.key.cmp(&other.key))
    });
    let all = lines.len();
    let is_changed = |pair: &Pair| pair.first[..2] != pair.second[..2] || (view.order == Measure::Time && is_timed);
    if view.top > 0 {
        lines.retain(is_changed);
    }
    let same = all - lines.len();
    let cut = lines.len() - view.top.min(lines.len());
    if view.top > 0 {
        lines.truncate(view.top);
    }
    let has_errors = lines.iter().any(|pair| pair.first[1] + pair.second[1] > 0.0);
    let measures: Vec<Measure> = Measure::ALL
        .into_iter()
        .map(|(_, measure)| measure)
        .filter(|measure| match measure {
            Measure::Calls => true,
            Measure::Errors => has_errors,
            Measure::Time => is_timed,
        })
        .collect();
    let mut text = String::new();
    if !lines.is_empty() {
        text = drawn(&lines, places, &measures, view.by_unit, style) + "\n";
    }
    if cut > 0 {
        text += &format!(" … {}; `--top 0` lists them\n", plural(cut as u64, "more change", "more changes"));
    }
    if same > 0 {
        let unit = if view.by_unit { " a unit" } else { "" };
        text += &format!(" {} with as many calls{unit} and errors in both\n", plural(same as u64, "line", "lines"));
    }
    text
}

fn drawn(lines: &[Pair], places: &[usize], measures: &[Measure], by_unit: bool, style: TerminalStyle) -> String {
    let mut table = plain_table();
    let mut heads: Vec<Cell> = places.iter().map(|place| head(BY[*place].0, false, style)).collect();
    for measure in measures {
        let (name, _) = Measure::ALL[*measure as usize];
        let heads_of = [format!("{name} A"), format!("{name} B"), format!("{name} change")];
        heads.extend(heads_of.iter().map(|text| head(text, true, style)));
    }
    table.set_header(heads);
    for pair in lines {
        let mut row: Vec<Cell> = pair
            .key
            .iter()
            .zip(places)
            .map(
                |(value, place)| {
                    if BY[*place].0 == "role" { role_cell(value, style) } else { Cell::new(printable(value)) }
                },
            )
            .collect();
        for measure in measures {
            row.push(right(number(pair.first[*measure as usize], *measure, by_unit)));
            row.push(right(number(pair.second[*measure as usize], *measure, by_unit)));
            row.push(right(change(pair, *measure, by_unit)));
        }
        table.add_row(Row::from(row));
    }
    // Columns that are empty everywhere go, then those of times.
    let is_empty = |place: usize| lines.iter().all(|pair| pair.key[place].is_empty());
    let mut dispensable: Vec<(u8, usize)> = Vec::new();
    for place in (0..places.len()).filter(|place| is_empty(*place)) {
        if let Some(column) = table.column_mut(place) {
            column.set_constraint(comfy_table::ColumnConstraint::Hidden);
        }
    }
    if let Some(time) = measures.iter().position(|measure| *measure == Measure::Time) {
        let at = places.len() + 3 * time;
        dispensable.extend([(3, at), (2, at + 1), (1, at + 2)]);
    }
    fit(&mut table, &mut dispensable, style.width);
    finish(&mut table, style)
}
