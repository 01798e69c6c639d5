//! What was fixed before it was measured (`phase4/falsifiers.toml`), judged by the runs of `phase4/judge.py`.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use gpuos_analysis::{
    resample::{Interval, median, median_interval},
    scatter::{Point, Scatter},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Files;

const RULES: &str = "phase4/falsifiers.toml";
const RUNS: &str = "phase4/h200/runs.jsonl.gz";
const JUDGED: &str = "phase4/falsifiers.json";
const MEDIANS: &str = "phase4/medians.json";
/// Blocks that a verdict needs, as everywhere; fewer are a pilot.
const LEAST_BLOCKS: usize = 10;
const CERTAINTY: f64 = 0.95;

/// A rule.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Falsifier {
    /// Of what abstraction.
    part: String,
    says: String,
    /// Words that `{}` stands for, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    each: Vec<String>,
    /// A cell, and which figure of it; absent where other data decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<(String, String)>,
    /// What those say, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Outcome>,
    /// See `found`.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    /// Cells whose largest figure it is divided by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    of: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Rules {
    falsifier: Vec<Falsifier>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Holds,
    Undecided,
    Falsified,
}

/// One word of `each`.
#[derive(Debug, Serialize)]
struct Case {
    word: String,
    blocks: usize,
    median: f64,
    interval: Interval,
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Judged {
    #[serde(flatten)]
    rule: Falsifier,
    /// The worst of its cases.
    outcome: Outcome,
    /// Fewer blocks than a verdict needs.
    is_pilot: bool,
    cases: Vec<Case>,
}

/// Figures by cell and block.
type Runs = BTreeMap<String, BTreeMap<u64, Value>>;

impl Falsifier {
    /// Where an interval lies.
    fn outcome(&self, Interval { low, high }: Interval) -> Outcome {
        let is_above = |value: f64| self.at_most.is_some_and(|most| value > most);
        let is_below = |value: f64| self.at_least.is_some_and(|least| value < least);
        if is_above(low) || is_below(high) {
            Outcome::Falsified
        } else if is_above(high) || is_below(low) || low.is_nan() {
            Outcome::Undecided
        } else {
            Outcome::Holds
        }
    }

    fn case(&self, runs: &Runs, word: &str) -> Result<Case> {
        let (cell, figure) = self.value.as_ref().with_context(|| format!("{}: no `value`", self.says))?;
        let of_cell = |name: &String| {
            let name = name.replace("{}", word);
            runs.get(&name).with_context(|| format!("{}: no cell `{name}` was run", self.says))
        };
        let number = |run: &Value| run.get(figure).and_then(Value::as_f64);
        let others = self.of.iter().map(of_cell).collect::<Result<Vec<_>>>()?;
        let in_block = |(block, run): (&u64, &Value)| {
            let values = others.iter().map(|other| other.get(block).and_then(number)).collect::<Option<Vec<f64>>>()?;
            let below = values.into_iter().reduce(f64::max).unwrap_or(1.0);
            Some(number(run)? / below)
        };
        // The first block is not used, as everywhere.
        let values: Vec<f64> = of_cell(cell)?.iter().filter(|(block, _)| **block > 1).filter_map(in_block).collect();
        ensure!(!values.is_empty(), "{}: no block has `{figure}` of `{cell}`", self.says);
        let (median, interval) = median_interval(&values, CERTAINTY);
        let outcome = self.outcome(interval);
        Ok(Case { word: word.to_owned(), blocks: values.len(), median, interval, outcome })
    }

    fn judged(self, runs: &Runs) -> Result<Judged> {
        if let Some(outcome) = self.found {
            ensure!(
                self.value.is_none() && self.because.is_some(),
                "{}: `found` says `because`, and has no value",
                self.says
            );
            return Ok(Judged { rule: self, outcome, is_pilot: false, cases: Vec::new() });
        }
        ensure!(self.at_most.is_some() || self.at_least.is_some(), "{}: a value needs a bound", self.says);
        let words = if self.each.is_empty() { vec![String::new()] } else { self.each.clone() };
        let cases = words.iter().map(|word| self.case(runs, word)).collect::<Result<Vec<_>>>()?;
        let outcome = cases.iter().map(|case| case.outcome).max().unwrap_or(Outcome::Undecided);
        let is_pilot = cases.iter().any(|case| case.blocks < LEAST_BLOCKS);
        Ok(Judged { rule: self, outcome, is_pilot, cases })
    }
}

/// Whole blocks of a file of runs: of the last one, which may be cut off, only if it has as many cells as the first. A run that failed
/// is a finding that no rule here has: it is for a person to say what it means.
fn runs(text: &str) -> Result<Runs> {
    let mut runs = Runs::new();
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for line in text.lines() {
        let run: Value = serde_json::from_str(line)?;
        let block = run["block"].as_u64().context("a run without its block")?;
        let cell = run["cell"].as_str().context("a run without its cell")?.to_owned();
        *sizes.entry(block).or_default() += 1;
        runs.entry(cell).or_default().insert(block, run);
    }
    let whole = sizes.values().max().copied().unwrap_or_default();
    let is_whole = |block: &u64| sizes.get(block) == Some(&whole);
    runs.values_mut().for_each(|blocks| blocks.retain(|block, _| is_whole(block)));
    for (cell, blocks) in &runs {
        if let Some((block, run)) = blocks.iter().find(|(_, run)| run.get("failed").is_some()) {
            bail!("`{cell}` failed in block {block}: {}", run["failed"]);
        }
    }
    Ok(runs)
}

/// The runs on the H200.
///
/// # Errors
/// They cannot be read.
fn committed(study: &Path) -> Result<Runs> {
    let path = study.join(RUNS);
    let mut text = String::new();
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    GzDecoder::new(file).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    runs(&text).with_context(|| path.display().to_string())
}

/// `phase4/falsifiers.json`.
///
/// # Errors
/// Rules or runs cannot be read, or a rule asks for what was not run.
pub(crate) fn make(study: &Path) -> Result<Files> {
    let path = study.join(RULES);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let rules: Rules = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let runs = committed(study)?;
    let judged = rules.falsifier.into_iter().map(|rule| rule.judged(&runs)).collect::<Result<Vec<_>>>()?;
    let medians = runs.iter().map(|(cell, runs)| (cell, medians(runs))).collect::<BTreeMap<_, _>>();
    Ok([(JUDGED.into(), pretty(&judged)?), (MEDIANS.into(), pretty(&medians)?)].into())
}

/// What a wait costs against how late its end is known, medians of the blocks that are used.
///
/// # Errors
/// Runs cannot be read, or one of these was not run.
pub(crate) fn waits(study: &Path) -> Result<Vec<Scatter>> {
    let runs = committed(study)?;
    let facet = |figure: &str, name: &str| -> Result<Scatter> {
        let ways = [("spin", "spinning"), ("block", "asleep in the driver"), ("job", "a job")];
        let ways = ways.map(|(way, words)| Ok((words.to_owned(), points(&runs, way, figure)?)));
        Ok(Scatter {
            name: name.to_owned(),
            along: "CPU time of a wait, µs".to_owned(),
            up: "known later than the kernel's duration, µs".to_owned(),
            ways: ways.into_iter().collect::<Result<_>>()?,
        })
    };
    Ok(vec![facet("p50_us", "half of the waits (p50)")?, facet("p99_us", "99 of 100 (p99)")?])
}

/// Waits of one kind by the duration of what is waited for.
fn points(runs: &Runs, way: &str, figure: &str) -> Result<Vec<Point>> {
    let point = |us: u32| {
        let cell = format!("wait {way} {us}");
        let known = runs.get(&cell).map(medians).with_context(|| format!("no cell `{cell}` was run"))?;
        let of = |figure: &str| known.get(figure).copied().with_context(|| format!("no `{figure}` of `{cell}`"));
        let name = if us < 1000 { format!("{us} µs") } else { format!("{} ms", us / 1000) };
        let up = of(figure)? - f64::from(us);
        ensure!(up > 0.0, "`{cell}` is known before it ends: it has no place on the axis");
        Ok(Point { along: of("cpu_us")?, up, name })
    };
    [50, 100, 300, 1000, 5000].into_iter().map(point).collect()
}

/// Of every figure of a cell, over the blocks that are used.
fn medians(runs: &BTreeMap<u64, Value>) -> BTreeMap<&str, f64> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (_, run) in runs.iter().filter(|(block, _)| **block > 1) {
        for (figure, value) in run.as_object().into_iter().flatten() {
            values.entry(figure).or_default().extend(value.as_f64());
        }
    }
    let is_figure = |name: &str| name != "block";
    let of = |(name, mut values): (_, Vec<f64>)| (name, median(&mut values));
    values.into_iter().filter(|(name, values)| is_figure(name) && !values.is_empty()).map(of).collect()
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Falsifier {
        toml::from_str(&format!("part = \"p\"\nsays = \"s\"\n{text}")).unwrap()
    }

    fn lines(cells: &[(&str, &[f64])]) -> String {
        let line = |cell: &str, block: usize, value: f64| {
            format!("{{\"block\": {block}, \"cell\": \"{cell}\", \"us\": {value}}}\n")
        };
        let of_cell = |(cell, values): &(&str, &[f64])| {
            values.iter().enumerate().map(|(place, value)| line(cell, place + 1, *value)).collect::<String>()
        };
        cells.iter().map(of_cell).collect()
    }

    #[test]
    fn a_ratio_is_judged_within_blocks_and_the_first_is_not_used() {
        // Machines drift: both cells do, and their ratio stays.
        let runs =
            runs(&lines(&[("job", &[900.0, 101.0, 202.0, 404.0]), ("spin", &[1.0, 100.0, 200.0, 400.0])])).unwrap();
        let judged = rule("value = [\"job\", \"us\"]\nof = [\"spin\"]\nat_most = 1.02").judged(&runs).unwrap();
        assert_eq!((judged.outcome, judged.is_pilot, judged.cases[0].blocks), (Outcome::Holds, true, 3));
        assert!((judged.cases[0].median - 1.01).abs() < 1e-9);
        let judged = rule("value = [\"job\", \"us\"]\nof = [\"spin\"]\nat_most = 1.005").judged(&runs).unwrap();
        assert_eq!(judged.outcome, Outcome::Falsified);
    }

    #[test]
    fn an_interval_across_the_bound_decides_nothing_and_the_worst_case_counts() {
        let runs = runs(&lines(&[
            ("a 1", &[0.0, 1.0, 1.0, 1.0]),
            ("a 2", &[0.0, 0.5, 1.5, 1.0]),
            ("a 3", &[0.0, 3.0, 3.0, 3.0]),
        ]))
        .unwrap();
        let of = |each: &str| {
            rule(&format!("each = {each}\nvalue = [\"a {{}}\", \"us\"]\nat_most = 1.2")).judged(&runs).unwrap().outcome
        };
        assert_eq!(of("[\"1\"]"), Outcome::Holds);
        assert_eq!(of("[\"1\", \"2\"]"), Outcome::Undecided);
        assert_eq!(of("[\"1\", \"2\", \"3\"]"), Outcome::Falsified);
        let below = rule("value = [\"a 1\", \"us\"]\nat_least = 1.1").judged(&runs).unwrap().outcome;
        assert_eq!(below, Outcome::Falsified);
        assert!(rule("value = [\"b\", \"us\"]\nat_most = 1").judged(&runs).is_err());
        let found = rule("found = \"falsified\"\nbecause = \"elsewhere\"").judged(&runs).unwrap();
        assert_eq!((found.outcome, found.cases.len()), (Outcome::Falsified, 0));
        assert!(rule("found = \"holds\"").judged(&runs).is_err() && rule("at_most = 1").judged(&runs).is_err());
        assert!(rule("value = [\"a 1\", \"us\"]").judged(&runs).is_err(), "no bound would always hold");
    }

    #[test]
    fn of_several_the_largest_counts_and_a_block_that_is_cut_off_does_not() {
        let text = lines(&[("a", &[0.0, 4.0, 4.0]), ("b", &[0.0, 2.0]), ("c", &[0.0, 8.0])]);
        let judged =
            rule("value = [\"a\", \"us\"]\nof = [\"b\", \"c\"]\nat_most = 1").judged(&runs(&text).unwrap()).unwrap();
        assert_eq!((judged.cases[0].blocks, judged.cases[0].median), (1, 0.5));
        let failed = "{\"block\": 1, \"cell\": \"a\", \"failed\": \"no device\"}";
        assert!(runs(failed).unwrap_err().to_string().contains("`a` failed in block 1: \"no device\""));
    }
}
