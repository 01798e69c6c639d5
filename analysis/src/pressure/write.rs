//! The list of pressures for people.

use std::fmt::Write as _;

use super::{Mechanism, Paid, Pressure, Pressures};
use crate::report::table;

/// What is multiplied, as it is printed.
const FORMULA: &str = "Price = core-µs a unit × units a second; of what happens once in the life of a process (*once*) core-µs each time, which has no place among rates. Times in calls are under the tracer, those of waits without it.";

/// A measured number, with the digits that mean something.
fn number(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 1.0 => 1,
        _ => 3,
    };
    if number == 0.0 { "0".to_owned() } else { format!("{number:.digits$}") }
}

fn or(number_of: Option<f64>, none: &str) -> String {
    number_of.map_or_else(|| none.to_owned(), number)
}

/// What stands behind a pressure, in a phrase.
fn standing(one: &Pressure) -> String {
    let met = match (one.is_met, one.is_met_once) {
        (true, _) => "met each second",
        (false, true) => "met once",
        (false, false) => "no real model here meets it",
    };
    let confirmed = match (one.is_confirmed, one.mechanisms.is_empty()) {
        (true, _) if one.mechanisms.iter().all(|one| one.was_known) => "confirmed, known before",
        (true, _) => "confirmed",
        (false, true) => "no intervention asked about it",
        (false, false) => "not every mechanism is confirmed",
    };
    format!("{confirmed}; {met}")
}

fn each(paid: &Paid) -> [String; 4] {
    let rate = if paid.is_once { "once".to_owned() } else { number(paid.per_second) };
    [or(paid.us, "not counted"), rate, or(paid.price, "not counted"), or(paid.lateness_us, "–")]
}

/// The list as Markdown.
pub fn markdown(pressures: &Pressures) -> String {
    let mut text = format!("{FORMULA}\n\n");
    let rows = pressures.list.iter().enumerate().map(|(place, one)| {
        let mut row = vec![(place + 1).to_string(), one.plan.name.clone(), standing(one)];
        let dearest = one.paid.iter().find(|paid| paid.is_met).or_else(|| one.paid.first());
        row.push(dearest.map_or_else(|| "–".to_owned(), |paid| paid.model.clone()));
        row.extend(dearest.map_or_else(|| ["–", "–", "–", "–"].map(str::to_owned), each));
        row
    });
    table(
        &mut text,
        &["", "pressure", "stands", "dearest in", "core-µs a unit", "units a second", "price", "later asleep, µs"],
        rows,
    );
    for one in &pressures.list {
        let _ = writeln!(text, "## {}\n", one.plan.name);
        for Mechanism { intervention, mechanism, outcome, was_known } in &one.mechanisms {
            let known = if *was_known { ", known before" } else { "" };
            let _ = writeln!(text, "- {intervention}: {mechanism}: {outcome}{known}");
        }
        let _ = writeln!(text, "- Its cost is {}.", one.plan.cost);
        if (one.is_met || one.is_met_once) && one.is_confirmed {
            let _ = writeln!(text, "- {}", one.plan.fails);
        }
        text.push('\n');
        let rows = one.paid.iter().map(|paid| {
            let mut row = vec![paid.model.clone()];
            row.extend(each(paid));
            row.push(if paid.is_met { "met" } else { "not met" }.to_owned());
            row
        });
        table(&mut text, &["model", "core-µs a unit", "units a second", "price", "later asleep, µs", ""], rows);
    }
    text
}
