//! What was predicted before anything was run, and what the data say of it. Only real vendors' runtimes count: what a CPU
//! executes says nothing about a driver.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    axis::{Axis, short},
    counted::{Counted, Kind, Runs},
    execution::all_runs,
    findings::SeriesFindings,
    plan::SeriesPlan,
    resample::median,
    variants::{Outcome, VariantPair},
    verdict::{LEAST_BLOCKS, Word},
};

/// Runtimes of vendors, executed by their hardware.
pub const VENDORS: [&str; 2] = ["cuda", "hip"];
/// Where allocators of vendors change how they work.
const LARGE_BYTES: u64 = 2 << 20;
/// "Hundreds": from, and below.
const HUNDREDS: (f64, f64) = (100.0, 1000.0);
/// A constant differs by this share between runs at most.
const CONSTANT_SHARE: f64 = 0.02;

/// What came of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// As predicted.
    Confirmed,
    /// Part of it is as predicted, and nothing against it.
    DirectionOnly,
    /// Otherwise.
    Refuted,
    /// The data do not say.
    Unresolved,
}

impl Came {
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
    pub name: &'static str,
    /// Its words.
    pub text: &'static str,
    /// Of which runtime the data are.
    pub backend: String,
    /// What came of it.
    pub came: Came,
    /// From what that follows.
    pub evidence: String,
}

struct Judge<'a> {
    series: &'a [SeriesFindings],
    variants: &'a [VariantPair],
    plans: &'a [SeriesPlan],
    runs: &'a Runs,
}

type Answer = (Came, String);

pub(crate) fn judge(
    series: &[SeriesFindings],
    variants: &[VariantPair],
    plans: &[SeriesPlan],
    runs: &Runs,
) -> Vec<Prediction> {
    let judge = Judge { series, variants, plans, runs };
    type Rule<'a> = fn(&Judge<'a>, &str) -> Answer;
    let of_vendors: [(&'static str, &'static str, Rule<'_>); 5] = [
        ("P1", "a kernel launch makes no system call in steady state", Judge::launches),
        ("P2", "allocating and freeing is linear in repetition above 2 MiB, and a staircase below", Judge::allocations),
        ("P3", "waiting depends on the wait policy and on how long a kernel takes, not on bytes", Judge::waits),
        ("P4", "start-up is a constant of hundreds of driver calls", Judge::start_up),
        ("P5", "copies show no growth for each byte, and steps at staging sizes", Judge::copies),
    ];
    let mut found = Vec::new();
    let is_there = |backend: &str| plans.iter().any(|plan| plan.backend == backend);
    for (name, text, rule) in of_vendors {
        for backend in VENDORS.into_iter().filter(|backend| is_there(backend)) {
            let (came, evidence) = rule(&judge, backend);
            found.push(Prediction { name, text, backend: backend.to_owned(), came, evidence });
        }
        let absent: Vec<&str> = VENDORS.into_iter().filter(|backend| !is_there(backend)).collect();
        if !absent.is_empty() {
            let evidence = "the plan has no series of it".to_owned();
            found.push(Prediction { name, text, backend: absent.join(", "), came: Came::Unresolved, evidence });
        }
    }
    let (came, evidence) = judge.hip_cpu();
    let text = "hip-cpu shows none of the driver's roles";
    found.push(Prediction { name: "P6", text, backend: "hip-cpu".to_owned(), came, evidence });
    found
}

impl<'a> Judge<'a> {
    fn along(&self, backend: &str, models: &[&str], axis: Axis) -> Vec<&'a SeriesFindings> {
        let is_of = |plan: &SeriesPlan| plan.backend == backend && models.contains(&plan.model.as_str());
        self.series.iter().filter(|series| series.axis == axis && is_of(&series.plan)).collect()
    }

    /// P1.
    fn launches(&self, backend: &str) -> Answer {
        let launches = self.along(backend, &["launch"], Axis::Iterations);
        let evidence: Vec<String> =
            launches.iter().map(|series| format!("{}: {}", series.name, series.words(&Kind::All))).collect();
        let came = match () {
            () if launches.iter().any(|series| series.grows(&Kind::All)) => Came::Refuted,
            () if !launches.is_empty() && launches.iter().all(|series| series.is_flat(&Kind::All)) => Came::Confirmed,
            () => Came::Unresolved,
        };
        let none = "no series of the model launch along iterations".to_owned();
        (came, if evidence.is_empty() { none } else { evidence.join("; ") })
    }

    /// P2.
    fn allocations(&self, backend: &str) -> Answer {
        let all = self.along(backend, &["alloc"], Axis::Iterations);
        let plain = all.into_iter().filter(|series| series.plan.options.is_empty());
        let is_large = |series: &SeriesFindings| series.plan.bytes.first().is_some_and(|bytes| bytes.0 >= LARGE_BYTES);
        let (above, below): (Vec<_>, Vec<_>) = plain.partition(|series| is_large(series));
        let word =
            |series: &SeriesFindings| series.kind(&Kind::All).map_or(Word::Inconclusive, |kind| kind.verdict.word);
        let evidence = |series: &[&SeriesFindings]| {
            series.iter().map(|series| format!("{}: {}", series.name, series.words(&Kind::All))).collect::<Vec<_>>()
        };
        let text = [evidence(&above), evidence(&below)].concat().join("; ");
        let open = [Word::Inconclusive, Word::Timed];
        let judge = |series: &[&SeriesFindings], expected: &[Word]| {
            let words: Vec<Word> = series.iter().map(|series| word(series)).collect();
            match () {
                () if words.iter().any(|word| !open.contains(word) && !expected.contains(word)) => Came::Refuted,
                () if words.is_empty() || words.iter().any(|word| open.contains(word)) => Came::Unresolved,
                () => Came::Confirmed,
            }
        };
        let both = [judge(&above, &[Word::Linear]), judge(&below, &[Word::Step, Word::Sublinear])];
        (together(&both), if text.is_empty() { "no series of allocations along iterations".to_owned() } else { text })
    }

    /// P3.
    fn waits(&self, backend: &str) -> Answer {
        let kind = Kind::All;
        let of_option = |option: &str| {
            let pairs = self.variants.iter().filter(|pair| pair.backend == backend && pair.option == option);
            let outcomes = pairs.filter_map(|pair| {
                let found = pair.kinds.iter().find(|found| found.kind == kind)?;
                let name = |value: &str| if value.is_empty() { "default".to_owned() } else { value.to_owned() };
                let text = format!(
                    "{option} {} against {} in `{}`: {} calls an iteration more ({})",
                    name(&pair.second),
                    name(&pair.first),
                    pair.cell,
                    short(found.per_iteration),
                    match found.outcome {
                        Outcome::Differs => "differs",
                        Outcome::Same => "the same",
                        Outcome::Undecided => "undecided",
                    }
                );
                Some((found.outcome, text))
            });
            outcomes.collect::<Vec<_>>()
        };
        let [waits, durations] = ["--wait", "--duration-us"].map(of_option);
        let depends = |outcomes: &[(Outcome, String)]| match () {
            () if outcomes.iter().any(|(outcome, _)| *outcome == Outcome::Differs) => Came::Confirmed,
            () if !outcomes.is_empty() && outcomes.iter().all(|(outcome, _)| *outcome == Outcome::Same) => {
                Came::Refuted
            }
            () => Came::Unresolved,
        };
        let along_bytes: Vec<_> = self
            .along(backend, &["kernel", "sync"], Axis::Bytes)
            .into_iter()
            .filter(|series| series.plan.options.iter().any(|option| option.contains("--duration-us")))
            .collect();
        let bytes = match () {
            () if along_bytes.iter().any(|series| series.grows(&kind)) => Came::Refuted,
            () if !along_bytes.is_empty() && along_bytes.iter().all(|series| series.is_flat(&kind)) => Came::Confirmed,
            () => Came::Unresolved,
        };
        let mut evidence: Vec<String> = waits.iter().chain(&durations).map(|(_, text)| text.clone()).collect();
        evidence.extend(along_bytes.iter().map(|series| format!("{}: {}", series.name, series.words(&kind))));
        if evidence.is_empty() {
            evidence.push(
                "no series that differ in --wait or --duration-us, and none of a fixed duration along bytes".to_owned(),
            );
        }
        (together(&[depends(&waits), depends(&durations), bytes]), evidence.join("; "))
    }

    /// Every run of a backend.
    fn runs_of(&self, backend: &str) -> Vec<&'a Counted> {
        self.runs.used.iter().filter(|((cell, _), _)| cell.backend == backend).map(|(_, run)| run).collect()
    }

    /// P4.
    fn start_up(&self, backend: &str) -> Answer {
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
            return (Came::Unresolved, format!("fewer than {LEAST_BLOCKS} runs"));
        }
        let mut came = Vec::new();
        let mut evidence = Vec::new();
        for (model, mut counts) in by_model {
            let middle = median(&mut counts);
            let (least, most) = (counts[0], counts[counts.len() - 1]);
            let constant = most - least <= (CONSTANT_SHARE * middle).max(1.0);
            let hundreds = middle >= HUNDREDS.0 && middle < HUNDREDS.1;
            came.push(match (constant, hundreds) {
                (true, true) => Came::Confirmed,
                (false, true) => Came::DirectionOnly,
                (_, false) => Came::Refuted,
            });
            evidence.push(format!("{model}: {middle} calls on devices, {least} to {most} in {} runs", counts.len()));
        }
        (together(&came), evidence.join("; "))
    }

    /// P5. What changes and is not told from time is no answer.
    fn copies(&self, backend: &str) -> Answer {
        let copies = self.along(backend, &["copy"], Axis::Bytes);
        let came: Vec<Came> = copies
            .iter()
            .map(|series| match series.kind(&Kind::All).map(|kind| kind.verdict.word) {
                Some(Word::Step) => Came::Confirmed,
                Some(Word::Flat | Word::Sublinear) => Came::DirectionOnly,
                Some(Word::Linear | Word::Superlinear) => Came::Refuted,
                _ => Came::Unresolved,
            })
            .collect();
        let evidence = copies.iter().map(|series| format!("{}: {}", series.name, series.words(&Kind::All)));
        let evidence: Vec<String> = evidence.collect();
        if evidence.is_empty() {
            return (Came::Unresolved, "no series of copies along bytes".to_owned());
        }
        (together(&came), evidence.join("; "))
    }

    /// P6.
    fn hip_cpu(&self) -> Answer {
        let runs = self.runs_of("hip-cpu");
        let with = runs.iter().filter(|run| run.on_devices() > 0.0).count();
        let bound = 3.0 / runs.len().max(1) as f64;
        let evidence = format!("{with} of {} runs call a GPU's driver", runs.len());
        match () {
            () if with > 0 => (Came::Refuted, evidence),
            () if runs.len() >= LEAST_BLOCKS => {
                (Came::Confirmed, format!("{evidence} (true rate below {bound:.3}, 95 %)"))
            }
            () => (Came::Unresolved, evidence),
        }
    }
}

/// All parts confirmed, one refuted, some of each, or nothing known.
fn together(parts: &[Came]) -> Came {
    let any = |came: Came| parts.contains(&came);
    match () {
        () if any(Came::Refuted) => Came::Refuted,
        () if !parts.is_empty() && parts.iter().all(|part| *part == Came::Confirmed) => Came::Confirmed,
        () if any(Came::Confirmed) || any(Came::DirectionOnly) => Came::DirectionOnly,
        () => Came::Unresolved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_against_it_refutes_and_one_for_it_is_a_direction() {
        use Came::{Confirmed, DirectionOnly, Refuted, Unresolved};
        assert_eq!(together(&[Confirmed, Confirmed]), Confirmed);
        assert_eq!(together(&[Confirmed, Refuted]), Refuted);
        assert_eq!(together(&[Confirmed, Unresolved]), DirectionOnly);
        assert_eq!(together(&[Unresolved]), Unresolved);
        assert_eq!(together(&[]), Unresolved);
    }
}
