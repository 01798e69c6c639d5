//! The first screen of a report: what a dataset answers to the three questions, in three sentences, and its claims as a person
//! would say them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    axis::{Axis, short},
    claims::{Claim, Spoken},
    counted::CallKind,
    findings::Findings,
    series_findings::SeriesFindings,
    verdict::{FLAT_CALLS_PER_ITERATION, Scaling},
};

/// As many claims are on the first screen.
const MOST_CLAIMS: usize = 6;

/// A number of calls, in words where it is a small whole one.
pub(crate) fn number(calls: f64) -> String {
    const WORDS: [&str; 11] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let whole = calls.round();
    // Nearer than what is no growth along iterations.
    if (calls - whole).abs() <= FLAT_CALLS_PER_ITERATION && (0.0..=10.0).contains(&whole) {
        WORDS[whole as usize].to_owned()
    } else {
        short(calls)
    }
}

/// `call` or `calls`.
pub(crate) fn calls(number: f64) -> &'static str {
    if (number - 1.0).abs() <= FLAT_CALLS_PER_ITERATION { "call" } else { "calls" }
}

/// What is named in a sentence: the workload with what it holds constant.
fn name(series: &SeriesFindings) -> String {
    series.name.clone()
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The answers to the three questions.
pub fn answers(findings: &Findings) -> [String; 3] {
    [size(findings), repetition(findings), execution(findings)]
}

fn along(findings: &Findings, axis: Axis) -> impl Iterator<Item = &SeriesFindings> {
    findings.series.iter().filter(move |series| series.axis == axis)
}

fn size(findings: &Findings) -> String {
    let (mut changes, mut same, mut open) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for series in along(findings, Axis::Bytes) {
        let Some(verdict) = series.kind(&CallKind::All).map(|found| &found.verdict) else {
            if series.is_flat(&CallKind::All) {
                same.insert(name(series))
            } else {
                open.insert(name(series))
            };
            continue;
        };
        let sign = if verdict.difference < 0.0 { "fewer" } else { "more" };
        match (verdict.scaling, verdict.steps.as_slice()) {
            (Scaling::Flat, _) => drop(same.insert(name(series))),
            (Scaling::Step, [(below, above)]) => changes.push(format!(
                "{} makes {} {} {sign} in all, by one step between {} and {}",
                name(series),
                short(verdict.difference.abs()),
                calls(verdict.difference.abs()),
                Axis::Bytes.level(*below),
                Axis::Bytes.level(*above)
            )),
            _ if series.grows(&CallKind::All) => {
                changes.push(format!("{}: {}", name(series), series.words(&CallKind::All)));
            }
            _ => drop(open.insert(name(series))),
        }
    }
    if changes.is_empty() && same.is_empty() && open.is_empty() {
        return "Size: the plan does not vary it.".to_owned();
    }
    let mut text = "Size: ".to_owned();
    text += &if changes.is_empty() { "no change is shown".to_owned() } else { changes.join("; ") };
    if !same.is_empty() {
        text += &format!("; the same for every size: {}", list(&same));
    }
    if !open.is_empty() {
        text += &format!("; not shown: {}", list(&open));
    }
    text + "."
}

fn repetition(findings: &Findings) -> String {
    let mut each: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut none, mut open) = (BTreeSet::new(), BTreeSet::new());
    for series in along(findings, Axis::Iterations) {
        let kind = series.kind(&CallKind::All);
        match kind.map(|found| &found.verdict) {
            None if series.is_flat(&CallKind::All) => drop(none.insert(name(series))),
            Some(verdict) if verdict.scaling == Scaling::Flat => drop(none.insert(name(series))),
            Some(verdict) if verdict.scaling == Scaling::Linear => {
                let rate = verdict.per_second.map(|rate| format!(" (or {} a second)", short(rate)));
                let calls = if verdict.slope_words() == short(verdict.slope) {
                    format!("{} {}", number(verdict.slope), calls(verdict.slope))
                } else {
                    format!("{} calls", verdict.slope_words())
                };
                each.entry(format!("{calls}{} each time", rate.unwrap_or_default())).or_default().insert(name(series));
            }
            Some(_) if series.grows(&CallKind::All) => {
                each.entry(series.words(&CallKind::All)).or_default().insert(name(series));
            }
            _ => drop(open.insert(name(series))),
        }
    }
    let mut parts: Vec<String> = each.iter().map(|(calls, names)| format!("{calls}: {}", list(names))).collect();
    if !none.is_empty() {
        parts.push(format!("none (fewer than {FLAT_CALLS_PER_ITERATION} each time): {}", list(&none)));
    }
    if !open.is_empty() {
        parts.push(format!("not shown: {}", list(&open)));
    }
    if parts.is_empty() {
        return "Repetition: the plan does not vary it.".to_owned();
    }
    format!("Repetition: {}.", parts.join("; "))
}

fn execution(findings: &Findings) -> String {
    let start: Vec<String> = findings
        .start_up
        .iter()
        .map(|(backend, (fewest, most))| {
            let calls = if fewest == most { short(*fewest) } else { format!("{} to {}", short(*fewest), short(*most)) };
            let word = if fewest == most { self::calls(*most) } else { "calls" };
            format!("{backend} makes {calls} {word} on devices before the work")
        })
        .collect();
    let execution = &findings.execution;
    let brought: BTreeSet<&str> = execution.appears.iter().map(|found| found.category.as_str()).collect();
    let mut text = "Execution: ".to_owned();
    text += &if start.is_empty() { "no runtime calls a device before the work".to_owned() } else { start.join("; ") };
    if !execution.has_cpu {
        text += "; the plan has no work on the CPU to compare with";
    } else if brought.is_empty() {
        text += "; no category of calls is there with a runtime alone";
    } else {
        let are = if brought.len() == 1 { "category of calls is" } else { "categories of calls are" };
        text += &format!("; {} {are} there with a runtime alone", brought.len());
    }
    text + "."
}

/// What other threads did, as those of a runtime: calls a second with their interval, by series; `None` where no dataset says.
pub fn others(findings: &Findings) -> Option<String> {
    let rate = |series: &SeriesFindings| {
        let others = series.kind(&CallKind::All)?.others?;
        // A thread that was not seen to make a call is not named.
        (others.interval.high > 0.0).then_some(())?;
        let rate = |rate: f64| if rate.abs() < 100.0 { short(rate) } else { format!("{rate:.0}") };
        let (low, high) = (rate(others.interval.low), rate(others.interval.high));
        let each = format!(", {} an iteration", short(others.per_iteration));
        let each = if others.per_iteration < FLAT_CALLS_PER_ITERATION { "" } else { &each };
        Some(format!("{} {} a second ({low} to {high}){each}", name(series), rate(others.per_second)))
    };
    if !findings.knows_threads || findings.series.is_empty() {
        return None;
    }
    let rates: Vec<String> = findings.series.iter().filter_map(rate).collect();
    Some(if rates.is_empty() { "none was seen".to_owned() } else { rates.join("; ") })
}

/// Claims as a person would say them, each once, those that differ in what is counted as one, those of all calls first; and how
/// many more there are.
pub fn spoken(claims: &[Claim]) -> (Vec<String>, usize) {
    let mut groups: Vec<(&Spoken, Vec<(&CallKind, &str)>)> = Vec::new();
    let all = claims.iter().filter(|claim| claim.kind == CallKind::All);
    for Claim { spoken, kind, .. } in all.chain(claims) {
        let what = (kind, spoken.what.as_str());
        match groups.iter_mut().find(|(other, _)| (&other.before, &other.after) == (&spoken.before, &spoken.after)) {
            Some((_, whats)) if whats.contains(&what) => {}
            Some((_, whats)) => whats.push(what),
            None => groups.push((spoken, vec![what])),
        }
    }
    // Roles and categories are two ways to part the same calls.
    for (_, whats) in &mut groups {
        if whats.iter().any(|(kind, _)| matches!(kind, CallKind::Role(_))) {
            whats.retain(|(kind, _)| !matches!(kind, CallKind::Category(_)));
        }
    }
    let mut sentences: Vec<String> =
        groups.iter().map(|(spoken, whats)| Spoken::of_all(&spoken.before, whats, &spoken.after)).collect();
    let more = sentences.len().saturating_sub(MOST_CLAIMS);
    sentences.truncate(MOST_CLAIMS);
    (sentences, more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Tag;

    #[test]
    fn small_whole_numbers_are_words() {
        let words = [0.0, 5.998, 6.5, 7.0, 10.004, 299.9].map(number);
        assert_eq!(words, ["no", "six", "6.5", "seven", "ten", "299.9"]);
        assert_eq!([0.999, 2.0].map(calls), ["call", "calls"]);
    }

    #[test]
    fn claims_that_differ_in_what_is_counted_are_one_sentence() {
        let claim = |what: &str, kind: CallKind| Claim {
            backend: String::new(),
            model: String::new(),
            options: String::new(),
            kind,
            depends_on: String::new(),
            insensitive_to: String::new(),
            rules_out: String::new(),
            spoken: Spoken { before: "it makes".to_owned(), what: what.to_owned(), after: "each time".to_owned() },
            tag: Tag::Uncertain,
        };
        let category = |name: &str| CallKind::Category(name.to_owned());
        // At two sizes the same is claimed.
        let parts = [
            claim("three calls of uvm", category("uvm")),
            claim("four calls of ctl", category("ctl")),
            claim("four calls of ctl", category("ctl")),
        ];
        assert_eq!(spoken(&parts), (vec!["it makes three calls of uvm and four calls of ctl each time".to_owned()], 0));
        // The same calls by role are not more of them.
        let by_role = [parts[0].clone(), claim("seven calls for memory", CallKind::Role(gpuos_model::Role::Memory))];
        assert_eq!(spoken(&by_role).0, ["it makes seven calls for memory each time"]);
        let with_all = [parts[0].clone(), claim("seven calls", CallKind::All)];
        assert_eq!(spoken(&with_all).0, ["it makes seven calls each time"]);
    }
}
