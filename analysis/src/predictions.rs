//! What came of the predictions of a study: each judged by its rule, on each backend that it is about.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    axis::{Axis, short, upper_bound},
    counted::{CallKind, Counted, Runs},
    execution::all_runs,
    plan::SeriesPlan,
    resample::median,
    series_findings::SeriesFindings,
    study::{Rule, Study},
    variants::{Contrast, VariantPair},
    verdict::{LEAST_BLOCKS, Scaling, Verdict},
};

/// What came of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As predicted.
    Confirmed,
    /// Part of it is as predicted, and nothing against it.
    DirectionOnly,
    /// Otherwise.
    Refuted,
    /// The data do not say.
    Unresolved,
}

impl Outcome {
    /// As reports have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::DirectionOnly => "direction only",
            Self::Refuted => "refuted",
            Self::Unresolved => "unresolved",
        }
    }
}

/// One prediction on one backend.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// `P1` and so on.
    pub name: String,
    /// Its words.
    pub text: String,
    /// Of which runtime the data are.
    pub backend: String,
    /// What came of it.
    #[serde(rename = "came")]
    pub outcome: Outcome,
    /// From what that follows.
    pub evidence: String,
}

/// Evidence of what a plan has no series for begins so.
const NO_SERIES: [&str; 2] = ["the plan has no series", "no series"];

impl Prediction {
    /// Whether the dataset cannot speak to it: its plan has no series that would.
    pub fn is_unasked(&self) -> bool {
        self.outcome == Outcome::Unresolved && NO_SERIES.iter().any(|start| self.evidence.starts_with(start))
    }
}

/// What the rules read.
pub(crate) struct Data<'a> {
    pub(crate) series: &'a [SeriesFindings],
    pub(crate) variants: &'a [VariantPair],
    pub(crate) plans: &'a [SeriesPlan],
    pub(crate) runs: &'a Runs,
}

type Answer = (Outcome, String);

/// What is expected below a size.
struct Below<'a> {
    scalings: &'a [Scaling],
    /// Fewer calls an iteration than this confirm it, too.
    each: f64,
}

/// Judges every prediction of a study. Backends of which the plan has no series are said together.
pub(crate) fn judge(study: &Study, data: &Data<'_>) -> Vec<Prediction> {
    let mut found = Vec::new();
    for hypothesis in &study.predictions {
        let backends =
            if hypothesis.on == "vendors" { study.vendors.as_slice() } else { std::slice::from_ref(&hypothesis.on) };
        let (there, absent): (Vec<&String>, Vec<&String>) = backends.iter().partition(|backend| data.has(backend));
        let prediction = |backend: String, (outcome, evidence): Answer| Prediction {
            name: hypothesis.name.clone(),
            text: hypothesis.text.clone(),
            backend,
            outcome,
            evidence,
        };
        for backend in there {
            found.push(prediction(backend.clone(), data.answer(&hypothesis.rule, backend)));
        }
        if !absent.is_empty() {
            let names = absent.into_iter().cloned().collect::<Vec<_>>().join(", ");
            found.push(prediction(names, (Outcome::Unresolved, "the plan has no series of it".to_owned())));
        }
    }
    found
}

/// What series show of all calls together, or that there is none.
fn words(series: &[&SeriesFindings], none: &str) -> String {
    if series.is_empty() {
        return none.to_owned();
    }
    series
        .iter()
        .map(|series| format!("{}: {}", series.name, series.words(&CallKind::All)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// What may be a heartbeat, or is told from time by nothing.
fn may_be_a_heartbeat(series: &SeriesFindings) -> bool {
    series.kind(&CallKind::All).is_some_and(|found| found.verdict.per_second.is_some())
}

/// Whether all of some series are flat: refuted where one grows. What comes with the first iteration and not again is not
/// growth, and a heartbeat is open.
fn all_flat(series: &[&SeriesFindings]) -> Outcome {
    let once = |series: &SeriesFindings| {
        series.axis == Axis::Iterations
            && series.kind(&CallKind::All).is_some_and(|found| {
                let first = series.levels.first().copied().unwrap_or_default();
                found.verdict.scaling == Scaling::Step && found.verdict.steps == [(0.0, first)]
            })
    };
    let grows = |series: &&SeriesFindings| series.grows(&CallKind::All) && !once(series) && !may_be_a_heartbeat(series);
    if series.iter().any(grows) {
        Outcome::Refuted
    } else if !series.is_empty() && series.iter().all(|series| series.is_flat(&CallKind::All) || once(series)) {
        Outcome::Confirmed
    } else {
        Outcome::Unresolved
    }
}

/// How a series scales, where it made a call.
fn scaling(series: &SeriesFindings) -> Option<Scaling> {
    series.kind(&CallKind::All).map(|kind| kind.verdict.scaling)
}

/// Whether all of some series scale as expected.
fn all_scale(series: &[&SeriesFindings], expected: &[Scaling]) -> Outcome {
    let is_open = |scaling: &Scaling| matches!(scaling, Scaling::Inconclusive | Scaling::Timed);
    let found: Vec<Scaling> = series.iter().map(|series| scaling(series).unwrap_or(Scaling::Inconclusive)).collect();
    if found.iter().any(|scaling| !is_open(scaling) && !expected.contains(scaling)) {
        Outcome::Refuted
    } else if found.is_empty() || found.iter().any(is_open) {
        Outcome::Unresolved
    } else {
        Outcome::Confirmed
    }
}

impl<'a> Data<'a> {
    fn has(&self, backend: &str) -> bool {
        self.plans.iter().any(|plan| plan.backend == backend)
    }

    fn answer(&self, rule: &Rule, backend: &str) -> Answer {
        match rule {
            Rule::Flat { models, axis } => {
                let series = self.along(backend, models, *axis);
                let none = format!("no series of the model {} along {}", models.join(" or "), axis.name());
                (all_flat(&series), words(&series, &none))
            }
            Rule::Scaling { models, axis, expected, direction } => {
                self.scales(backend, models, *axis, expected, direction)
            }
            Rule::SizeDecides { models, bytes, from_there, below, below_each } => {
                self.size_decides(backend, models, bytes.0, from_there, &Below { scalings: below, each: *below_each })
            }
            Rule::OptionsDecide { options, models } => self.options_decide(backend, options, models),
            Rule::StartUp { least, below, share } => self.start_up(backend, *least, *below, *share),
            Rule::NoDriverCalls => self.no_driver_calls(backend),
        }
    }

    fn along(&self, backend: &str, models: &[String], axis: Axis) -> Vec<&'a SeriesFindings> {
        let is_of = |plan: &SeriesPlan| plan.backend == backend && models.contains(&plan.model);
        self.series.iter().filter(|series| series.axis == axis && is_of(&series.plan)).collect()
    }

    /// What changes and is not told from time is no answer.
    fn scales(
        &self,
        backend: &str,
        models: &[String],
        axis: Axis,
        expected: &[Scaling],
        direction: &[Scaling],
    ) -> Answer {
        let series = self.along(backend, models, axis);
        let outcome = |series: &&SeriesFindings| match scaling(series) {
            None | Some(Scaling::Inconclusive | Scaling::Timed) => Outcome::Unresolved,
            Some(scaling) if expected.contains(&scaling) => Outcome::Confirmed,
            Some(scaling) if direction.contains(&scaling) => Outcome::DirectionOnly,
            Some(_) => Outcome::Refuted,
        };
        let outcomes: Vec<Outcome> = series.iter().map(outcome).collect();
        let none = format!("no series of the model {} along {}", models.join(" or "), axis.name());
        (together(&outcomes), words(&series, &none))
    }

    fn size_decides(
        &self,
        backend: &str,
        models: &[String],
        bytes: u64,
        from_there: &[Scaling],
        below: &Below<'_>,
    ) -> Answer {
        let all = self.along(backend, models, Axis::Iterations);
        let plain = all.into_iter().filter(|series| series.plan.options.is_empty());
        let is_large = |series: &&SeriesFindings| series.plan.bytes.first().is_some_and(|first| first.0 >= bytes);
        let (large, small): (Vec<_>, Vec<_>) = plain.partition(is_large);
        // Fewer calls than iterations are a staircase, whatever its shape is called.
        let is_rare = |series: &&SeriesFindings| {
            let verdict = series.kind(&CallKind::All).map(|found| &found.verdict);
            let is_linear = |verdict: &Verdict| verdict.scaling == Scaling::Linear && !may_be_a_heartbeat(series);
            verdict.is_some_and(|verdict| is_linear(verdict) && verdict.slope_95.high < below.each)
        };
        let (rare, other): (Vec<_>, Vec<_>) = small.iter().copied().partition(is_rare);
        let of_small = match (rare.is_empty(), other.is_empty()) {
            (false, true) => Outcome::Confirmed,
            _ => all_scale(&other, below.scalings),
        };
        let outcomes = [all_scale(&large, from_there), of_small];
        let none = format!("no series of the model {} along iterations", models.join(" or "));
        (together(&outcomes), words(&[large, small].concat(), &none))
    }

    /// What pairs of series that differ in one option show, and in which words.
    fn contrasts(&self, backend: &str, option: &str) -> Vec<(Contrast, String)> {
        let pairs = self.variants.iter().filter(|pair| pair.backend == backend && pair.option == option);
        let contrast = |pair: &VariantPair| {
            let found = pair.kinds.iter().find(|found| found.kind == CallKind::All)?;
            let name = |value: &str| if value.is_empty() { "default".to_owned() } else { value.to_owned() };
            let text = format!(
                "{option} {} against {} in {}: {} calls an iteration more ({})",
                name(&pair.second),
                name(&pair.first),
                pair.cell,
                short(found.per_iteration),
                match found.outcome {
                    Contrast::Differs => "differs",
                    Contrast::Same => "the same",
                    Contrast::Undecided => "undecided",
                }
            );
            Some((found.outcome, text))
        };
        pairs.filter_map(contrast).collect()
    }

    fn options_decide(&self, backend: &str, options: &[String], models: &[String]) -> Answer {
        let mut outcomes = Vec::new();
        let mut evidence = Vec::new();
        for option in options {
            let contrasts = self.contrasts(backend, option);
            outcomes.push(if contrasts.iter().any(|(contrast, _)| *contrast == Contrast::Differs) {
                Outcome::Confirmed
            } else if !contrasts.is_empty() && contrasts.iter().all(|(contrast, _)| *contrast == Contrast::Same) {
                Outcome::Refuted
            } else {
                Outcome::Unresolved
            });
            evidence.extend(contrasts.into_iter().map(|(_, text)| text));
        }
        let held = options.last().map_or("", String::as_str);
        let mut along_bytes = self.along(backend, models, Axis::Bytes);
        along_bytes.retain(|series| series.plan.options.iter().any(|option| option.contains(held)));
        outcomes.push(all_flat(&along_bytes));
        evidence.extend(along_bytes.iter().map(|series| format!("{}: {}", series.name, series.words(&CallKind::All))));
        if evidence.is_empty() {
            let options = options.join(" or ");
            evidence.push(format!("no series that differ in {options}, and none that holds {held} along bytes"));
        }
        (together(&outcomes), evidence.join("; "))
    }

    fn start_up(&self, backend: &str, least: f64, below: f64, share: f64) -> Answer {
        let of_backend = || self.plans.iter().filter(|plan| plan.backend == backend && plan.model != "infer");
        let models: BTreeSet<&str> = of_backend().map(|plan| plan.model.as_str()).collect();
        let mut by_model: Vec<(&str, Vec<f64>)> = models
            .into_iter()
            .map(|model| {
                let runs = all_runs(of_backend().filter(|plan| plan.model == model), self.runs);
                (model, runs.into_iter().map(Counted::start_up_on_devices).collect())
            })
            .collect();
        by_model.retain(|(_, counts)| counts.len() >= LEAST_BLOCKS);
        if by_model.is_empty() {
            return (Outcome::Unresolved, format!("fewer than {LEAST_BLOCKS} runs"));
        }
        let mut outcomes = Vec::new();
        let mut evidence = Vec::new();
        for (model, mut counts) in by_model {
            let median = median(&mut counts);
            let (fewest, most) = (counts[0], counts[counts.len() - 1]);
            let is_constant = most - fewest <= (share * median).max(1.0);
            outcomes.push(match (is_constant, (least..below).contains(&median)) {
                (true, true) => Outcome::Confirmed,
                (false, true) => Outcome::DirectionOnly,
                (_, false) => Outcome::Refuted,
            });
            evidence.push(format!("{model}: {median} calls on devices, {fewest} to {most} in {} runs", counts.len()));
        }
        (together(&outcomes), evidence.join("; "))
    }

    fn no_driver_calls(&self, backend: &str) -> Answer {
        let runs = || self.runs.used.iter().filter(|((cell, _), _)| cell.backend == backend).map(|(_, run)| run);
        let (all, with) = (runs().count(), runs().filter(|run| run.on_devices() > 0.0).count());
        let evidence = format!("{with} of {all} runs call a GPU's driver");
        if with > 0 {
            (Outcome::Refuted, evidence)
        } else if all >= LEAST_BLOCKS {
            // The rule of three.
            (Outcome::Confirmed, format!("{evidence} (true rate below {}, 95 %)", upper_bound(3.0 / all as f64)))
        } else {
            (Outcome::Unresolved, evidence)
        }
    }
}

/// All parts confirmed, one refuted, some of each, or nothing known.
fn together(parts: &[Outcome]) -> Outcome {
    let any = |outcome: Outcome| parts.contains(&outcome);
    if any(Outcome::Refuted) {
        Outcome::Refuted
    } else if !parts.is_empty() && parts.iter().all(|part| *part == Outcome::Confirmed) {
        Outcome::Confirmed
    } else if any(Outcome::Confirmed) || any(Outcome::DirectionOnly) {
        Outcome::DirectionOnly
    } else {
        Outcome::Unresolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_against_it_refutes_and_one_for_it_is_a_direction() {
        use Outcome::{Confirmed, DirectionOnly, Refuted, Unresolved};
        assert_eq!(together(&[Confirmed, Confirmed]), Confirmed);
        assert_eq!(together(&[Confirmed, Refuted]), Refuted);
        assert_eq!(together(&[Confirmed, Unresolved]), DirectionOnly);
        assert_eq!(together(&[Unresolved]), Unresolved);
        assert_eq!(together(&[]), Unresolved);
    }
}
