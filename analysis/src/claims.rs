//! Claims: what depends on one thing and is insensitive to another, so that an explanation is ruled out. A claim needs both
//! a resolved effect and a passed test of equivalence; what has only one of them is listed as not shown.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    answers::{self, number},
    axis::{Axis, short},
    counted::CallKind,
    execution::Execution,
    plan::SeriesPlan,
    resample::Interval,
    series_findings::SeriesFindings,
    variants::{Contrast, VariantPair, options},
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, SAME_RATE, Scaling},
};

/// Everything that was asked.
#[derive(Debug, Default, Serialize)]
pub struct Claims {
    /// What is shown.
    pub shown: Vec<Claim>,
    /// What is not, and why.
    pub not_shown: Vec<NotShown>,
    /// What is known of repetition beside the same kind in real inference on the same backend.
    pub in_inference: Vec<InInference>,
}

/// One elimination.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// On what.
    pub backend: String,
    /// See `backend`.
    pub model: String,
    /// Further arguments of the workload.
    pub options: String,
    /// What is counted.
    pub kind: CallKind,
    /// On what it depends, with the verdict.
    pub depends_on: String,
    /// To what it is insensitive, with the verdict.
    pub insensitive_to: String,
    /// The explanation that this rules out.
    pub rules_out: String,
    /// All of it as a person would say it.
    pub spoken: Spoken,
    /// How far it goes: what was seen on one stack says nothing about others.
    pub tag: Tag,
}

/// A claim as a person would say it: what is counted stands in the middle, so that claims that differ in that alone are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Spoken {
    /// Before it.
    pub before: String,
    /// What is counted.
    pub what: String,
    /// After it.
    pub after: String,
}

impl From<Spoken> for String {
    fn from(spoken: Spoken) -> Self {
        let Spoken { before, what, after } = spoken;
        [before, what, after].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

impl Spoken {
    /// Several that differ in what is counted as one; of all calls together, where that is one of them.
    pub(crate) fn of_all(before: &str, whats: &[(&CallKind, &str)], after: &str) -> String {
        let all = whats.iter().find(|(kind, _)| **kind == CallKind::All);
        let what = match (all, whats) {
            (Some((_, what)), _) => (*what).to_owned(),
            (None, [one @ .., (_, last)]) if !one.is_empty() => {
                format!("{} and {last}", one.iter().map(|(_, what)| *what).collect::<Vec<_>>().join(", "))
            }
            (None, _) => whats.iter().map(|(_, what)| *what).collect(),
        };
        String::from(Self { before: before.to_owned(), what, after: after.to_owned() })
    }
}

/// How far a claim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// The same verdict, and exponents that overlap, on the stacks of two vendors.
    VendorAgnostic,
    /// A resolved difference between the stacks of two vendors.
    VendorSpecific,
    /// All else: one stack, or one that a CPU executes.
    Uncertain,
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::VendorAgnostic => "vendor-agnostic",
            Self::VendorSpecific => "vendor-specific",
            Self::Uncertain => "uncertain",
        })
    }
}

/// A claim that cannot be made.
#[derive(Debug, Serialize)]
pub struct NotShown {
    /// Of what.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Whether what is known of repetition holds for a real model.
#[derive(Debug, Serialize)]
pub struct InInference {
    /// The series, what is counted, and its verdict.
    pub claim: String,
    /// The series of the real model.
    pub model: String,
    /// `holds`, `does not hold`, `not exercised`, `not shown`.
    pub outcome: &'static str,
    /// The verdict there.
    pub why: String,
}

fn stack(plan: &SeriesPlan) -> (&str, &str, String) {
    (&plan.backend, &plan.model, [plan.program.join(" "), plan.options.join(" ")].join(" ").trim().to_owned())
}

pub(crate) fn form(series: &[SeriesFindings], execution: &Execution, variants: &[VariantPair]) -> Claims {
    let mut claims = Claims::default();
    let along = |axis: Axis| series.iter().filter(move |series| series.axis == axis && series.plan.model != "infer");
    for iterations in along(Axis::Iterations) {
        let alike = |bytes: &&SeriesFindings| stack(&bytes.plan) == stack(&iterations.plan);
        for bytes in along(Axis::Bytes).filter(alike) {
            let kinds: BTreeSet<&CallKind> =
                iterations.kinds.iter().chain(&bytes.kinds).map(|found| &found.kind).collect();
            for kind in kinds {
                // What another series along the same axis shows to grow is not flat there.
                let others_agree = along(Axis::Bytes).filter(alike).all(|other| !other.grows(kind))
                    || along(Axis::Bytes).filter(alike).all(|other| other.grows(kind));
                if others_agree && lie_within_each_other(iterations, bytes) {
                    both_axes(iterations, bytes, kind, &mut claims);
                } else {
                    claims.not_shown.push(NotShown {
                        what: format!("{} and {}: {kind}", iterations.name, bytes.name),
                        why: if others_agree {
                            "what one holds constant is outside of what the other varies".to_owned()
                        } else {
                            "series along size contradict each other".to_owned()
                        },
                    });
                }
            }
        }
    }
    of_runtimes(series, execution, &mut claims);
    of_variants(series, variants, &mut claims);
    claims.in_inference = in_inference(series);
    claims
}

/// Whether what each of two series holds constant is within what the other varies.
fn lie_within_each_other(iterations: &SeriesFindings, bytes: &SeriesFindings) -> bool {
    let within = |level: Option<f64>, of: &SeriesFindings| {
        let ends = of.levels.first().zip(of.levels.last());
        level.zip(ends).is_none_or(|(level, (first, last))| (*first..=*last).contains(&level))
    };
    within(iterations.plan.bytes.first().map(|bytes| bytes.0 as f64), bytes)
        && within(bytes.plan.iters.first().map(|iters| *iters as f64), iterations)
}

/// Size against repetition. What one is shown to be insensitive to must have been varied where there are calls: below a
/// step in size nothing can be said about repetition above it.
fn both_axes(iterations: &SeriesFindings, bytes: &SeriesFindings, kind: &CallKind, claims: &mut Claims) {
    let (backend, model, options) = stack(&iterations.plan);
    let size = iterations.plan.bytes.first().map_or(0.0, |bytes| bytes.0 as f64);
    let repetition = bytes.plan.iters.first().copied().unwrap_or_default();
    let both = [
        format!("repetition ({}, at {})", iterations.words(kind), Axis::Bytes.level(size)),
        format!("size ({}, with {repetition} iterations)", bytes.words(kind)),
    ];
    let calls = |at: Option<f64>| at.is_some_and(|calls| calls > FLAT_CALLS);
    let on = format!("{backend} {model} {options}");
    let on = on.trim_end();
    let spoken = |depends_on: usize| match depends_on {
        0 if iterations.kind(kind).is_some_and(|found| found.verdict.scaling == Scaling::Linear) => Spoken {
            before: format!("{on} makes"),
            what: of_kind(iterations, kind),
            after: format!("each time, whatever the size{}", bytes.range()),
        },
        0 => Spoken {
            before: format!("{on},"),
            what: kind.to_string(),
            after: format!("with repetition: {}, whatever the size{}", iterations.words(kind), bytes.range()),
        },
        _ => Spoken {
            before: format!("{on},"),
            what: kind.to_string(),
            after: format!("with size: {}, however often it is done", bytes.words(kind)),
        },
    };
    let claim = |depends_on: usize, rules_out: &str| Claim {
        spoken: spoken(depends_on),
        backend: backend.to_owned(),
        model: model.to_owned(),
        options: options.clone(),
        kind: kind.clone(),
        depends_on: both[depends_on].clone(),
        insensitive_to: both[1 - depends_on].clone(),
        rules_out: rules_out.to_owned(),
        tag: Tag::Uncertain,
    };
    let not_shown =
        |why: String| NotShown { what: format!("{backend} {model} {options}: {kind}").replace(" :", ":"), why };
    let [first, second] = &both;
    // What may be a heartbeat is no cost.
    let costs = |series: &SeriesFindings| {
        series.grows(kind) && series.kind(kind).is_some_and(|found| found.verdict.per_second.is_none())
    };
    match ([costs(iterations), costs(bytes)], [iterations.is_flat(kind), bytes.is_flat(kind)]) {
        ([true, _], [_, true]) if calls(bytes.least(kind)) => {
            claims.shown.push(claim(0, "a cost for each byte or page: the same calls are made for any size"));
        }
        ([_, true], [true, _]) if calls(bytes.at(kind, size)) => {
            claims.shown.push(claim(1, "a cost for each operation: calls follow the size, not how often it is used"));
        }
        ([true, true], _) => claims.not_shown.push(not_shown(format!("it depends on both: {first}, {second}"))),
        ([true, _], [_, true]) | ([_, true], [true, _]) => {
            claims.not_shown.push(not_shown(format!("one is varied where the other makes no call: {first}; {second}")));
        }
        // Nothing happens along either, and nothing is to be explained.
        (_, [true, true]) => {}
        _ => claims.not_shown.push(not_shown(format!("{first}; {second}"))),
    }
}

/// How many calls of a kind each iteration makes, as a person says it.
fn of_kind(series: &SeriesFindings, kind: &CallKind) -> String {
    let verdict = series.kind(kind).map(|found| &found.verdict);
    let count = verdict.map_or_else(String::new, |verdict| {
        if verdict.slope_words() == short(verdict.slope) { number(verdict.slope) } else { verdict.slope_words() }
    });
    let calls = answers::calls(verdict.map_or(0.0, |verdict| verdict.slope));
    match kind {
        CallKind::All => format!("{count} {calls}"),
        CallKind::Role(role) => format!("{count} {calls} for {role}"),
        CallKind::Category(category) => format!("{count} {calls} of {category}"),
    }
}

/// Execution against size: a category that only a runtime brings, that is there in the timed work, and that the size does
/// not change.
fn of_runtimes(series: &[SeriesFindings], execution: &Execution, claims: &mut Claims) {
    for found in &execution.appears {
        let kind = CallKind::Category(found.category.clone());
        let along_bytes = series.iter().filter(|series| series.axis == Axis::Bytes);
        for bytes in along_bytes.filter(|bytes| format!("{} {}", bytes.plan.backend, bytes.plan.model) == found.cell) {
            if bytes.is_flat(&kind) && bytes.least(&kind).is_some_and(|calls| calls > FLAT_CALLS) {
                let (backend, model, options) = stack(&bytes.plan);
                claims.shown.push(Claim {
                    spoken: Spoken {
                        before: format!(
                            "the runtime alone brings {} its calls of",
                            format!("{backend} {model} {options}").trim_end()
                        ),
                        what: found.category.clone(),
                        after: format!("whatever the size{}", bytes.range()),
                    },
                    backend: backend.to_owned(),
                    model: model.to_owned(),
                    options,
                    kind: kind.clone(),
                    depends_on: format!(
                        "execution (in {} of {} runs with the runtime, 0 of {} on the CPU)",
                        found.with, found.of, found.without
                    ),
                    insensitive_to: format!("size ({})", bytes.words(&kind)),
                    rules_out: "the data as its cause: the runtime brings it".to_owned(),
                    tag: Tag::Uncertain,
                });
            }
        }
    }
}

/// An option against size: waits and durations, where the same kind is flat along bytes with one of the option's values
/// and all others alike. `sync` is a kernel of one word, so `kernel` is its series along bytes.
fn of_variants(series: &[SeriesFindings], variants: &[VariantPair], claims: &mut Claims) {
    let alike =
        |one: &str, other: &str| one == other || [one, other].iter().all(|model| ["sync", "kernel"].contains(model));
    for pair in variants {
        let flat_along_bytes = |kind: &CallKind| {
            let is_alike = |series: &&SeriesFindings| {
                let mut options = options(&series.plan);
                let value = options.remove(&pair.option).unwrap_or_default();
                let is_of = series.plan.backend == pair.backend && alike(&series.plan.model, &pair.model);
                is_of && (value == pair.first || value == pair.second) && options == pair.others
            };
            let along_bytes = || series.iter().filter(|series| series.axis == Axis::Bytes).filter(is_alike);
            // With neither value may it be shown to grow, or be open.
            if !along_bytes().all(|series| series.is_flat(kind)) {
                return None;
            }
            let found = along_bytes().find(|series| series.least(kind).is_some_and(|calls| calls > FLAT_CALLS))?;
            Some(format!("size ({}, by {})", found.words(kind), found.name))
        };
        let value = |value: &str| if value.is_empty() { "default".to_owned() } else { value.to_owned() };
        let (first, second) = (value(&pair.first), value(&pair.second));
        for found in pair.kinds.iter().filter(|found| found.outcome == Contrast::Differs) {
            let effect = format!(
                "{} ({} an iteration more with {second} than with {first})",
                pair.option,
                short(found.per_iteration)
            );
            match flat_along_bytes(&found.kind) {
                Some(insensitive_to) => claims.shown.push(Claim {
                    spoken: {
                        let more = if found.per_iteration < 0.0 { "fewer" } else { "more" };
                        let calls = number(found.per_iteration.abs());
                        Spoken {
                            before: format!("{} {} makes", pair.backend, pair.model),
                            what: match &found.kind {
                                CallKind::All => {
                                    format!("{calls} {more} {}", answers::calls(found.per_iteration.abs()))
                                }
                                CallKind::Role(role) => format!("{calls} {more} for {role}"),
                                CallKind::Category(category) => format!("{calls} {more} of {category}"),
                            },
                            after: format!(
                                "each time with {} {second} than with {first}, whatever the size",
                                pair.option
                            ),
                        }
                    },
                    backend: pair.backend.clone(),
                    model: pair.model.clone(),
                    options: format!("{} {first} and {second}", pair.option),
                    kind: found.kind.clone(),
                    depends_on: effect,
                    insensitive_to,
                    rules_out: "the amount of data as its cause: the option decides".to_owned(),
                    tag: Tag::Uncertain,
                }),
                None => claims.not_shown.push(NotShown {
                    what: format!("{} {}: {}", pair.backend, pair.model, found.kind),
                    why: format!("it depends on {effect}, but no series alike but for the size is flat along bytes"),
                }),
            }
        }
    }
}

/// What a kind does along iterations, for a comparison.
enum Seen {
    /// The same calls however often: or none.
    Flat,
    /// So many calls a second, whatever the work does.
    Heartbeat(f64),
    /// It grows with the work.
    Grows(Scaling, Interval),
    /// Not shown.
    Open,
}

impl Seen {
    fn of(series: &SeriesFindings, kind: &CallKind) -> Self {
        let Some(found) = series.kind(kind).map(|found| &found.verdict) else {
            return if series.is_flat(kind) { Self::Flat } else { Self::Open };
        };
        match (found.scaling, found.per_second) {
            (Scaling::Flat, _) => Self::Flat,
            // Linear in repetition is linear in time: what comes at the rate of a heartbeat is taken for one.
            (Scaling::Linear | Scaling::Timed, Some(rate)) => Self::Heartbeat(rate),
            (Scaling::Inconclusive | Scaling::Timed, _) => Self::Open,
            (scaling, _) => Self::Grows(scaling, found.slope_95),
        }
    }
}

/// Whether a real model does what a series showed, and why. Kind, slope (within what is no growth) and rate must agree.
fn holds(claim: &Seen, model: &Seen) -> (&'static str, String) {
    match (claim, model) {
        (Seen::Flat, Seen::Flat) => ("holds", String::new()),
        (Seen::Flat, Seen::Heartbeat(rate)) => {
            ("holds", format!("but for {} a second, as of a thread that wakes up now and then", short(*rate)))
        }
        (Seen::Heartbeat(one), Seen::Heartbeat(other)) if one.max(*other) <= SAME_RATE * one.min(*other) => {
            ("holds", "the same rate".to_owned())
        }
        (Seen::Heartbeat(one), Seen::Heartbeat(other)) => {
            ("does not hold", format!("{} a second there, {} here", short(*one), short(*other)))
        }
        (Seen::Grows(one, first), Seen::Grows(other, second)) => {
            let apart = |a: &Interval, b: &Interval| a.high + FLAT_CALLS_PER_ITERATION < b.low;
            if one != other {
                ("does not hold", format!("{} there, {} here", one.name(), other.name()))
            } else if apart(first, second) || apart(second, first) {
                ("does not hold", "another number of calls an iteration".to_owned())
            } else {
                ("holds", String::new())
            }
        }
        // Nothing of the kind is done in steady state: neither for nor against it.
        (Seen::Grows(..), Seen::Flat | Seen::Heartbeat(_)) => ("not exercised", String::new()),
        (Seen::Flat, Seen::Grows(..)) => ("does not hold", String::new()),
        _ => ("not shown", String::new()),
    }
}

/// What is known of repetition, beside the same kind in the inference of a real model on the same backend.
fn in_inference(series: &[SeriesFindings]) -> Vec<InInference> {
    let along = || series.iter().filter(|series| series.axis == Axis::Iterations);
    let mut found = Vec::new();
    for model in along().filter(|series| series.plan.model == "infer") {
        let alike = |other: &&SeriesFindings| {
            other.plan.backend == model.plan.backend && other.plan.model != "infer" && other.plan.options.is_empty()
        };
        for other in along().filter(alike) {
            let kinds = other.kinds.iter().map(|found| &found.kind);
            for kind in kinds.filter(|kind| !matches!(kind, CallKind::Category(_))) {
                let (outcome, why) = holds(&Seen::of(other, kind), &Seen::of(model, kind));
                let words = model.words(kind);
                found.push(InInference {
                    claim: format!("{}: {kind}, {}", other.name, other.words(kind)),
                    model: model.name.clone(),
                    outcome,
                    why: if why.is_empty() { words } else { format!("{words}; {why}") },
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counted::{Counted, Runs},
        dataset::{Count, Thread},
        plan::Plan,
        series_findings,
    };
    use gpuos_model::Role;

    /// The claims and what is not shown, where one iteration of so many bytes makes so many polls, as `what → shown`.
    fn of(polls: impl Fn(u64, u64) -> u64) -> (Vec<String>, Vec<String>) {
        of_plan("1M", polls)
    }

    /// Repetition is varied at this size.
    fn of_plan(size: &str, polls: impl Fn(u64, u64) -> u64) -> (Vec<String>, Vec<String>) {
        let plan = "
name = \"t\"
seed = 1
blocks = 11
[[series]]
backend = \"cuda\"
model = \"alloc\"
bytes = [\"1M\"]
iters = [1, 3, 10, 30, 100, 300, 1000]
[[series]]
backend = \"cuda\"
model = \"alloc\"
bytes = [\"4K\", \"64K\", \"1M\", \"8M\", \"32M\", \"64M\", \"256M\"]
iters = [100]
";
        let plan = Plan::parse(&plan.replacen("1M", size, 1)).unwrap();
        let mut runs = Runs::default();
        for block in 2..=11 {
            for cell in plan.cells() {
                let calls = polls(cell.bytes.unwrap(), cell.iters) * u64::from(cell.iters > 0);
                let row = Count {
                    phase: "work",
                    thread: Thread::Caller,
                    role: Role::Memory,
                    category: "memory",
                    syscall: "",
                    device: "",
                    ioctl: "",
                    calls,
                };
                runs.used.insert((cell, block), Counted::of([row]));
            }
        }
        let series = series_findings::judge_all(&plan.series, &runs, plan.blocks);
        let claims = form(&series, &Execution::default(), &[]);
        let shown =
            claims.shown.iter().filter(|claim| claim.kind == CallKind::All).map(|claim| claim.rules_out.clone());
        let not_shown = claims.not_shown.iter().filter(|claim| claim.what.ends_with("all calls"));
        (shown.collect(), not_shown.map(|claim| claim.why.clone()).collect())
    }

    #[test]
    fn a_claim_needs_an_effect_and_an_equivalence_where_there_are_calls() {
        let (shown, not_shown) = of(|_, iters| 7 * iters);
        assert!(shown.len() == 1 && shown[0].starts_with("a cost for each byte") && not_shown.is_empty(), "{shown:?}");
        let (shown, not_shown) = of(|bytes, _| if bytes < 1 << 20 { 0 } else { 400 });
        assert!(shown.is_empty() && not_shown.len() == 1, "400 at once is a step along iterations: {shown:?}");
        // Above the step each iteration makes calls; repetition was varied below it, so nothing is ruled out.
        let (shown, not_shown) = of(|bytes, iters| if bytes < 32 << 20 { 0 } else { 3 * iters });
        assert!(shown.is_empty() && not_shown[0].starts_with("one is varied where"), "{shown:?} {not_shown:?}");
        let (shown, not_shown) = of(|bytes, iters| if bytes < 32 << 20 { 7 * iters } else { 10 * iters });
        assert!(shown.is_empty() && not_shown[0].starts_with("it depends on both"), "{not_shown:?}");
        assert_eq!(of(|_, _| 0), (Vec::new(), Vec::new()));
        // Repetition was varied at a size beyond those that were: nothing is said of it.
        let (shown, not_shown) = of_plan("1G", |_, iters| 7 * iters);
        assert!(
            shown.is_empty() && not_shown[0].contains("outside of what the other varies"),
            "{shown:?} {not_shown:?}"
        );
    }

    #[test]
    fn a_real_model_holds_to_a_claim_when_kind_slope_and_rate_agree() {
        let grows = |slope: f64| Seen::Grows(Scaling::Linear, Interval { low: slope, high: slope });
        let outcome = |claim: &Seen, model: &Seen| holds(claim, model).0;
        // As on an H200: a launch makes no call, an allocation seven, and the runtime's thread polls ten times a second.
        assert_eq!(outcome(&Seen::Flat, &Seen::Heartbeat(10.2)), "holds");
        assert_eq!(outcome(&grows(7.0), &Seen::Heartbeat(10.2)), "not exercised");
        assert_eq!(outcome(&grows(7.0), &grows(0.04)), "does not hold");
        assert_eq!(outcome(&grows(7.0), &grows(7.0)), "holds");
        assert_eq!(outcome(&Seen::Heartbeat(10.0), &Seen::Heartbeat(10.3)), "holds");
        assert_eq!(outcome(&Seen::Heartbeat(10.0), &Seen::Heartbeat(100.0)), "does not hold");
        assert_eq!(outcome(&Seen::Flat, &grows(1.0)), "does not hold");
        assert_eq!(outcome(&Seen::Flat, &Seen::Open), "not shown");
    }
}
