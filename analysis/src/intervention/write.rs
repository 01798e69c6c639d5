//! Interventions for people: what was predicted, what came, and what follows for each mechanism.

use std::fmt::Write as _;

use super::{Held, InterventionFindings, KindFinding, PlaceboOutcome, Shape, Threads, Where, judge::DoseFinding};
use crate::{
    axis::short,
    page::plain,
    report::{folded, table},
};

/// Which mechanisms are confirmed and which are ruled out, a line each.
pub(crate) fn summary(found: &[InterventionFindings]) -> Vec<String> {
    let line = |one: &InterventionFindings| {
        let postdiction = if one.plan.postdiction { ", a postdiction on this driver" } else { "" };
        let pilot = if one.is_pilot { format!(", a pilot of {} blocks", one.blocks) } else { String::new() };
        let outcome = one.outcome.name();
        format!("{}: {}: {} ({outcome}{postdiction}{pilot})", one.plan.name, one.plan.mechanism, one.mechanism())
    };
    found.iter().map(line).collect()
}

fn predicted(kind: &KindFinding, interval: [f64; 2]) -> String {
    let [low, high] = interval.map(short);
    match kind.shape {
        Shape::Inverse => format!("{} × 1/k, {low} to {high} of it", short(kind.base)),
        Shape::Proportional => format!("{} × k, {low} to {high} of it", short(kind.base)),
        Shape::Zero => format!("none ({low} to {high})"),
        Shape::Constant => format!("{} as at the base ({low} to {high} more)", short(kind.base)),
    }
}

fn measured(doses: &[DoseFinding]) -> String {
    let of = |dose: &DoseFinding| {
        format!("{}: {} ({} to {})", dose.dose, short(dose.calls), short(dose.interval.low), short(dose.interval.high))
    };
    doses.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// How long an iteration takes at each dose, in a sentence; nothing where nothing was timed.
fn latencies(one: &InterventionFindings) -> String {
    let timed: Vec<String> = one
        .latency
        .iter()
        .filter(|(_, ns)| *ns > 0.0)
        .map(|(dose, ns)| format!("{} {}", dose, gpuos_model::units::duration(*ns as u64)))
        .collect();
    if timed.is_empty() {
        return String::new();
    }
    format!(" An iteration takes, without the tracer: {}.", plain(&timed.join(", ")))
}

/// Where calls are counted, in words.
const fn place(phase: Where) -> &'static str {
    match phase {
        Where::Work => "in the timed work",
        Where::StartUp => "before the warm-up and outside of phases, for the whole run",
    }
}

/// What came of a kind; of a pilot nothing is settled.
fn outcome_of(one: &InterventionFindings, kind: &KindFinding) -> String {
    if one.is_pilot { format!("pilot, {} so far", kind.outcome.name()) } else { kind.outcome.name().to_owned() }
}

/// The section of a report; nothing where a plan has none.
pub(crate) fn section(text: &mut String, found: &[InterventionFindings]) {
    if found.is_empty() {
        return;
    }
    text.push_str("## Which mechanisms are confirmed, and which are ruled out?\n\nExecution is restructured and the work left alone; what is predicted was written in the plan before anything was run. Confirmed: the 95 % interval lies inside the predicted one at every dose, and placebos stay. A placebo that moves voids the intervention.\n\n");
    let rows = found.iter().map(|one| {
        let mut outcome = one.outcome.name().to_owned();
        if one.plan.postdiction {
            outcome += ", known on this driver before: a postdiction";
        }
        if one.is_pilot {
            outcome += &format!(", a pilot: {} blocks", one.blocks);
        }
        let mechanism = one.plan.mechanism.clone();
        vec![one.plan.name.clone(), one.plan.constraint.clone(), mechanism, one.mechanism().to_owned(), outcome]
    });
    table(text, &["", "constraint", "mechanism", "is", "prediction"], rows);
    if found.iter().any(|one| one.blocks > 0) {
        text.push_str("![Calls of a unit along the doses, with what was predicted](doses.svg)\n\n");
    }
    for one in found {
        let _ = writeln!(
            text,
            "{}: {}. Counted {}, of {}, with {} held{}. Base: {}; {} {}.{}\n",
            plain(&one.plan.name),
            plain(&one.plan.reason),
            place(one.plan.phase),
            match (one.plan.phase, one.plan.threads) {
                (Where::Work, Threads::Caller) => "the issuing thread",
                (Where::Work, Threads::All) | (Where::StartUp, _) => "all threads",
            },
            match one.plan.held {
                Held::Iterations => "iterations",
                Held::Work => "the amount of work",
            },
            one.plan.placebo_phase.map_or_else(String::new, |phase| format!("; placebos {}", place(phase))),
            plain(&one.base),
            plain(&one.plan.option),
            plain(&one.plan.doses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            latencies(one)
        );
    }
    let rows = found.iter().flat_map(|one| {
        let of = |kind: &KindFinding, interval: [f64; 2], outcome: &str| {
            vec![
                one.plan.name.clone(),
                kind.kind.to_string(),
                predicted(kind, interval),
                measured(&kind.doses),
                outcome.to_owned(),
            ]
        };
        let kinds = one.kinds.iter().zip(&one.plan.predictions);
        let mut rows: Vec<Vec<String>> =
            kinds.map(|(kind, expected)| of(kind, expected.interval, &outcome_of(one, kind))).collect();
        rows.extend(one.placebos.iter().map(|(kind, outcome)| {
            let within = kind
                .doses
                .first()
                .map_or([0.0; 2], |dose| [dose.predicted.low - kind.base, dose.predicted.high - kind.base]);
            let outcome = match outcome {
                PlaceboOutcome::Stays => "placebo, stays",
                PlaceboOutcome::NotExercised => "placebo, no call at the base nor at any dose",
                PlaceboOutcome::Moved => "placebo, moved",
                PlaceboOutcome::Undecided => "placebo, not shown to stay",
            };
            of(kind, within, outcome)
        }));
        rows
    });
    let head = ["", "of what", "predicted for a unit", "measured, by dose", ""];
    folded(text, "Every prediction, dose by dose", &head, rows);
}
