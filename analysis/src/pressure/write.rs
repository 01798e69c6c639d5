//! The list of pressures for people.

use std::fmt::Write as _;

use super::{Mechanism, Pressure, Pressures};
use crate::report::table;

/// What is multiplied, as it is printed.
const FORMULA: &str = "core-µs a second = core-µs a unit × units a second (of what happens once, such as a load, as if one followed the other)";

/// A measured number, with the digits that mean something.
fn short(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 1.0 => 1,
        _ => 3,
    };
    if number == 0.0 { "0".to_owned() } else { format!("{number:.digits$}") }
}

/// What stands behind a pressure, in a phrase.
fn standing(one: &Pressure) -> &'static str {
    match (one.is_met, one.is_confirmed) {
        (true, _) if one.mechanisms.is_empty() => "met; no intervention asked about it",
        (true, true) => "confirmed, and met",
        (true, false) => "met; not every mechanism is confirmed",
        (false, true) => "confirmed; no real model here meets it",
        (false, false) => "neither confirmed nor met",
    }
}

/// The list as Markdown.
pub fn markdown(pressures: &Pressures) -> String {
    let mut text = format!("{FORMULA}; the dearest model of each pressure decides its place.\n\n");
    let rows = pressures.list.iter().enumerate().map(|(place, one)| {
        let dearest = one.paid.first();
        let of = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), short);
        vec![
            (place + 1).to_string(),
            one.plan.name.clone(),
            standing(one).to_owned(),
            dearest.map_or_else(|| "–".to_owned(), |paid| paid.model.clone()),
            of(dearest.map(|paid| paid.us)),
            of(dearest.map(|paid| paid.per_second)),
            of(dearest.map(|paid| paid.us_per_second)),
            of(dearest.and_then(|paid| paid.lateness_us)),
        ]
    });
    let head = [
        "",
        "pressure",
        "stands",
        "dearest in",
        "core-µs a unit",
        "units a second",
        "core-µs a second",
        "later asleep, µs",
    ];
    table(&mut text, &head, rows);
    for one in &pressures.list {
        let _ = writeln!(text, "### {}\n", one.plan.name);
        for Mechanism { intervention, mechanism, outcome } in &one.mechanisms {
            let _ = writeln!(text, "- {intervention}: {mechanism}: {outcome}");
        }
        let from = short(one.plan.least_us);
        let _ = writeln!(text, "- Its cost is {}; a model meets it from {from} core-µs a unit on.", one.plan.cost);
        if one.is_met && one.is_confirmed {
            let _ = writeln!(text, "- {}", one.plan.fails);
        }
        text.push('\n');
        let rows = one.paid.iter().map(|paid| {
            vec![
                paid.model.clone(),
                short(paid.us),
                short(paid.per_second),
                short(paid.us_per_second),
                paid.lateness_us.map_or_else(|| "–".to_owned(), short),
                if paid.is_met { "met" } else { "not met" }.to_owned(),
            ]
        });
        table(
            &mut text,
            &["model", "core-µs a unit", "units a second", "core-µs a second", "later asleep, µs", ""],
            rows,
        );
    }
    text
}
