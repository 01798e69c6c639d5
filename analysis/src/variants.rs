//! Series that are alike in all but one option of the workload (how it waits, how long a kernel takes, how long memory
//! lives): whether that option changes what is counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    axis::Axis,
    counted::{CallKind, Runs},
    plan::{Cell, SeriesPlan},
    resample::{Interval, median, median_interval},
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, FLAT_SHARE, LEAST_BLOCKS, noise_floor},
};

/// Two series that differ in one option.
#[derive(Debug, Serialize)]
pub struct VariantPair {
    /// What both are.
    pub backend: String,
    /// See `backend`.
    pub model: String,
    /// The option, such as `--wait`.
    pub option: String,
    /// Its value in the first series, and in the second; empty where it is left to the workload's default.
    pub first: String,
    /// See `first`.
    pub second: String,
    /// The options that both have.
    pub others: BTreeMap<String, String>,
    /// The cell that is compared, as arguments of the first series: the largest level.
    pub cell: String,
    /// Blocks that have both.
    pub blocks: usize,
    /// Every kind that made a call in either.
    pub kinds: Vec<VariantKind>,
}

/// What an option does to a kind.
#[derive(Debug, Serialize)]
pub struct VariantKind {
    /// The role or category, or all calls together.
    pub kind: CallKind,
    /// Calls more in the second series, and its interval at 95 % for all that were asked together.
    pub difference: f64,
    /// See `difference`.
    pub interval: Interval,
    /// The same for each iteration.
    pub per_iteration: f64,
    /// What follows.
    pub outcome: Contrast,
}

/// Whether an option matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contrast {
    /// The interval lies beyond what is no difference.
    Differs,
    /// Equivalence: the 90 % interval lies within it.
    Same,
    /// Neither is shown.
    Undecided,
}

/// Options by their names.
pub(crate) fn options(series: &SeriesPlan) -> BTreeMap<String, String> {
    let text = series.options.join(" ").replace('=', " ");
    let mut found = BTreeMap::new();
    let mut last = None;
    for word in text.split_whitespace() {
        if word.starts_with("--") {
            found.insert(word.to_owned(), String::new());
            last = Some(word.to_owned());
        } else if let Some(value) = last.as_ref().and_then(|name| found.get_mut(name)) {
            word.clone_into(value);
        }
    }
    found
}

/// The one option in which two series differ, with its value in each.
fn one_difference(first: &SeriesPlan, second: &SeriesPlan) -> Option<(String, String, String)> {
    let alike = (&first.backend, &first.model, &first.bytes, &first.iters, &first.program)
        == (&second.backend, &second.model, &second.bytes, &second.iters, &second.program);
    if !alike {
        return None;
    }
    let (first, second) = (options(first), options(second));
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let mut different = names.into_iter().filter(|name| first.get(*name) != second.get(*name));
    let (name, None) = (different.next()?, different.next()) else { return None };
    let value = |of: &BTreeMap<String, String>| of.get(name).cloned().unwrap_or_default();
    Some((name.clone(), value(&first), value(&second)))
}

pub(crate) fn find(series: &[SeriesPlan], runs: &Runs) -> Vec<VariantPair> {
    let mut drafted = Vec::new();
    for (place, first) in series.iter().enumerate() {
        for second in &series[place + 1..] {
            let Some(option) = one_difference(first, second) else { continue };
            let (Some(one), Some(other)) = (first.cells().pop(), second.cells().pop()) else { continue };
            let values = values(runs, &one, &other);
            drafted.push((first, option, [one, other], values));
        }
    }
    let asked: usize = drafted.iter().map(|(.., values)| values.len()).sum();
    let certainty = 1.0 - 0.05 / asked.max(1) as f64;
    let pairs = drafted.into_iter().map(|(plan, (option, first, second), [cell, other], values)| VariantPair {
        backend: plan.backend.clone(),
        model: plan.model.clone(),
        others: options(plan).into_iter().filter(|(name, _)| *name != option).collect(),
        option,
        first,
        second,
        cell: cell.arguments().join(" "),
        blocks: values.first().map_or(0, |(_, values)| values.len()),
        kinds: values
            .into_iter()
            .map(|(kind, values)| {
                let noise = noise(runs, &cell, &kind).max(noise(runs, &other, &kind));
                judge(plan, &cell, kind, &values, certainty, noise)
            })
            .collect(),
    });
    pairs.collect()
}

/// Of every kind, the counts of both cells in each block that has them, start-up subtracted.
fn values(runs: &Runs, one: &Cell, other: &Cell) -> Vec<(CallKind, Vec<(f64, f64)>)> {
    let both: Vec<_> = runs
        .of_cell(one)
        .filter_map(|(block, run)| {
            let start = runs.get(&one.without_work(), block)?;
            Some([run, start, runs.get(other, block)?, runs.get(&other.without_work(), block)?])
        })
        .collect();
    let kinds: BTreeSet<&CallKind> =
        both.iter().flat_map(|[first, _, second, _]| first.work.keys().chain(second.work.keys())).collect();
    let of = |kind: &CallKind| {
        let value = |[first, start, second, second_start]: &[&crate::counted::Counted; 4]| {
            (first.work(kind) - start.work(kind), second.work(kind) - second_start.work(kind))
        };
        both.iter().map(value).collect()
    };
    kinds.into_iter().map(|kind| (kind.clone(), of(kind))).collect()
}

/// By how much a cell differs from itself; 0 where it was not run twice.
fn noise(runs: &Runs, cell: &Cell, kind: &CallKind) -> f64 {
    let twin = Cell { twin: true, ..cell.clone() };
    let both = runs.of_cell(cell).filter_map(|(block, run)| Some((run.work(kind), runs.get(&twin, block)?.work(kind))));
    let (first, second): (Vec<f64>, Vec<f64>) = both.unzip();
    noise_floor(&first, &second).unwrap_or_default()
}

fn judge(
    plan: &SeriesPlan,
    cell: &Cell,
    kind: CallKind,
    values: &[(f64, f64)],
    certainty: f64,
    noise: f64,
) -> VariantKind {
    let differences: Vec<f64> = values.iter().map(|(first, second)| second - first).collect();
    let tolerance = match plan.axis() {
        Axis::Iterations => FLAT_CALLS_PER_ITERATION * cell.iters as f64,
        Axis::Bytes => {
            let first = median(&mut values.iter().map(|(first, _)| *first).collect::<Vec<_>>());
            FLAT_CALLS.max(FLAT_SHARE * first.abs())
        }
    };
    let (difference, interval) = median_interval(&differences, certainty);
    let (_, narrow) = median_interval(&differences, 0.90);
    let outcome = if values.len() < LEAST_BLOCKS {
        Contrast::Undecided
    } else if interval.low > tolerance.max(noise) || interval.high < -tolerance.max(noise) {
        Contrast::Differs
    } else if narrow.is_inside(-tolerance, tolerance) {
        Contrast::Same
    } else {
        Contrast::Undecided
    };
    VariantKind { kind, difference, interval, per_iteration: difference / cell.iters.max(1) as f64, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counted::Counted,
        dataset::{Count, Thread},
        plan::Plan,
    };
    use gpuos_model::Role;

    const PLAN: &str = "
name = \"test\"
seed = 1
blocks = 11
[[series]]
backend = \"cuda\"
model = \"sync\"
iters = [1, 10, 100]
options = [\"--duration-us\", \"300\"]
[[series]]
backend = \"cuda\"
model = \"sync\"
iters = [1, 10, 100]
options = [\"--duration-us=300\", \"--wait=block\"]
[[series]]
backend = \"cuda\"
model = \"sync\"
iters = [1, 10, 100]
options = [\"--wait\", \"spin\", \"--duration-us\", \"10\"]
";

    #[test]
    fn an_option_that_changes_counts_is_told_from_one_that_does_not() {
        let plan = Plan::parse(PLAN).unwrap();
        let mut runs = Runs::default();
        for block in 2..=11 {
            for cell in plan.cells() {
                let row = |category, calls| Count {
                    phase: "work",
                    thread: Thread::Caller,
                    role: Role::Unknown,
                    category,
                    syscall: "",
                    device: "",
                    ioctl: "",
                    calls,
                };
                let blocks = cell.options.contains("block");
                let rows =
                    [row("poll", if blocks { 2 * cell.iters } else { 0 }), row("sync", 5 + u64::from(block) % 2)];
                runs.used.insert((cell, block), Counted::of(rows));
            }
        }
        let found = find(&plan.series, &runs);
        // The first and the third differ in two options, as do the second and the third.
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].option.as_str(), found[0].first.as_str(), found[0].second.as_str()),
            ("--wait", "", "block")
        );
        let outcome = |name: &str| {
            let kind = CallKind::Category(name.to_owned());
            let found = found[0].kinds.iter().find(|found| found.kind == kind).unwrap();
            (found.per_iteration, found.outcome)
        };
        assert_eq!(outcome("poll"), (2.0, Contrast::Differs));
        assert_eq!(outcome("sync"), (0.0, Contrast::Same));
        // Nine blocks say nothing.
        runs.used.retain(|(_, block), _| *block < 11);
        let few = find(&plan.series, &runs);
        assert!(few[0].kinds.iter().all(|kind| kind.outcome == Contrast::Undecided));
    }
}
