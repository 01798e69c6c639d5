//! The third question: which categories are there only with a GPU runtime, and which dominate with one, compared to the CPU
//! doing the same work.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    counted::{CallKind, Counted, Runs},
    plan::{Cell, SeriesPlan},
    resample::{Interval, median_interval},
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, LEAST_BLOCKS},
};

/// A category is with a runtime when this share of its runs has it.
const PRESENT: f64 = 0.95;
/// Chance of one wrong answer to all that is asked of one kind, divided by their number (Bonferroni; with intervals Holm's
/// steps are not defined).
const WRONG: f64 = 0.05;

/// What comes with a runtime.
#[derive(Debug, Default, Serialize)]
pub struct Execution {
    /// Whether the plan has the CPU's runs to compare with.
    pub has_cpu: bool,
    /// Categories that are there only with a runtime, in any phase.
    pub appears: Vec<Appearance>,
    /// Shares of categories in the timed work, beside the CPU's at the same size and repetition.
    pub shares: Vec<Share>,
}

/// A category that some backend has and the CPU has not.
#[derive(Debug, Serialize)]
pub struct Appearance {
    /// Which backend and model.
    pub cell: String,
    /// Which category.
    pub category: String,
    /// Runs with it, of so many.
    pub with: u64,
    /// See `with`.
    pub of: u64,
    /// Runs on the CPU, none of which has it.
    pub without: u64,
    /// The most that its true rate there may be: the rule of three, at 95 %.
    pub bound: f64,
}

/// The share of a category in the timed work, start-up subtracted.
#[derive(Debug, Serialize)]
pub struct Share {
    /// Which backend and model, at which size and repetition.
    pub cell: String,
    /// Which category.
    pub category: String,
    /// Median share with the runtime, and on the CPU; 0 where no call was made.
    pub with: f64,
    /// See `with`.
    pub without: f64,
    /// The difference of the shares, and its interval at 95 % for all that were asked together.
    pub difference: f64,
    /// See `difference`.
    pub interval: Interval,
    /// Whether the interval lies above 0, with blocks enough.
    pub dominates: bool,
}

pub(crate) fn find(series: &[SeriesPlan], runs: &Runs) -> Execution {
    let of_cpu = all_runs(series.iter().filter(|series| series.model == "cpu"), runs);
    Execution {
        has_cpu: !of_cpu.is_empty(),
        // Fewer runs bound no rate.
        appears: if of_cpu.len() < LEAST_BLOCKS { Vec::new() } else { appearances(series, runs, &of_cpu) },
        shares: shares(series, runs),
    }
}

/// With a runtime; inference on the CPU has none.
fn has_runtime(series: &SeriesPlan) -> bool {
    series.backend != "cpu" && series.backend != "host"
}

/// The runs of every cell with work, each once: a cell may be on two axes.
pub(crate) fn all_runs<'a, 'p>(series: impl Iterator<Item = &'p SeriesPlan>, runs: &'a Runs) -> Vec<&'a Counted> {
    let cells: BTreeSet<Cell> = series.flat_map(SeriesPlan::cells).collect();
    cells.iter().flat_map(|cell| runs.of_cell(cell).map(|(_, run)| run).collect::<Vec<_>>()).collect()
}

/// Categories in 95 % of a backend's runs, in all phases, and in none of the CPU's.
fn appearances(series: &[SeriesPlan], runs: &Runs, of_cpu: &[&Counted]) -> Vec<Appearance> {
    let mut of_runtime: BTreeMap<String, Vec<&SeriesPlan>> = BTreeMap::new();
    for with in series.iter().filter(|series| has_runtime(series)) {
        of_runtime.entry(format!("{} {}", with.backend, with.model)).or_default().push(with);
    }
    let mut found = Vec::new();
    for (cell, of) in of_runtime {
        let of = all_runs(of.into_iter(), runs);
        let categories: BTreeSet<&String> = of.iter().flat_map(|run| &run.categories).collect();
        for category in categories {
            let has = |runs: &[&Counted]| runs.iter().filter(|run| run.categories.contains(category)).count() as u64;
            let (with, total, without) = (has(&of), of.len() as u64, of_cpu.len() as u64);
            if has(of_cpu) == 0 && with as f64 >= PRESENT * total as f64 {
                let (cell, category) = (cell.clone(), category.clone());
                found.push(Appearance { cell, category, with, of: total, without, bound: 3.0 / without as f64 });
            }
        }
    }
    found
}

/// The cell of a series with the most repetition, and among those the largest size, that the CPU has, too.
fn comparable(series: &SeriesPlan, cpu: &BTreeSet<Cell>) -> Option<(Cell, Cell)> {
    let mut pairs = series.cells().into_iter().filter_map(|cell| {
        let twin = cpu.iter().find(|other| other.bytes == cell.bytes && other.iters == cell.iters)?;
        Some((cell.clone(), twin.clone()))
    });
    let first = pairs.next()?;
    Some(pairs.fold(first, |best, pair| if pair.0.iters >= best.0.iters { pair } else { best }))
}

/// The shares of a category with a runtime, and on the CPU, in each block that has both.
struct Asked {
    cell: String,
    category: String,
    values: Vec<(f64, f64)>,
    /// Calls with the runtime in each block.
    calls: Vec<f64>,
    /// As many calls are none.
    none: f64,
}

fn shares(series: &[SeriesPlan], runs: &Runs) -> Vec<Share> {
    let cpu: BTreeSet<Cell> =
        series.iter().filter(|series| series.model == "cpu").flat_map(SeriesPlan::cells).collect();
    let pairs: BTreeSet<(Cell, Cell)> =
        series.iter().filter(|series| has_runtime(series)).filter_map(|series| comparable(series, &cpu)).collect();
    let mut asked: Vec<Asked> = Vec::new();
    for (with, without) in &pairs {
        let both: Vec<[&Counted; 4]> = runs
            .of_cell(with)
            .filter_map(|(block, run)| {
                let start = runs.get(&with.without_work(), block)?;
                Some([run, start, runs.get(without, block)?, runs.get(&without.without_work(), block)?])
            })
            .collect();
        let categories: BTreeSet<&CallKind> = both.iter().flat_map(|[run, ..]| run.work.keys()).collect();
        for kind in categories {
            let CallKind::Category(category) = kind else { continue };
            let values =
                both.iter().map(|[run, start, cpu, cpu_start]| (share(run, start, kind), share(cpu, cpu_start, kind)));
            let cell = with.arguments().join(" ");
            let calls = both.iter().map(|[run, start, ..]| run.work(kind) - start.work(kind)).collect();
            let none = FLAT_CALLS.max(FLAT_CALLS_PER_ITERATION * with.iters as f64);
            asked.push(Asked { cell, category: category.clone(), values: values.collect(), calls, none });
        }
    }
    let certainty = 1.0 - WRONG / asked.len().max(1) as f64;
    let found = asked.into_iter().map(|Asked { cell, category, values, calls, none }| {
        let differences: Vec<f64> = values.iter().map(|(with, without)| with - without).collect();
        let (difference, wide) = median_interval(&differences, certainty);
        // No difference of shares is larger than all.
        let interval = Interval { low: wide.low.max(-1.0), high: wide.high.min(1.0) };
        let middle = |of: fn(&(f64, f64)) -> f64| median_interval(&values.iter().map(of).collect::<Vec<_>>(), 0.95).0;
        Share {
            cell,
            category,
            with: middle(|pair| pair.0),
            without: middle(|pair| pair.1),
            difference,
            interval,
            // All of next to nothing is nothing.
            dominates: values.len() >= LEAST_BLOCKS && interval.low > 0.0 && median_interval(&calls, 0.95).0 > none,
        }
    });
    found.collect()
}

/// Part of the calls in the timed work that are of a kind, start-up subtracted; 0 where there are none.
fn share(run: &Counted, start: &Counted, kind: &CallKind) -> f64 {
    let more = |kind: &CallKind| (run.work(kind) - start.work(kind)).max(0.0);
    let all: f64 = run.work.keys().filter(|kind| matches!(kind, CallKind::Category(_))).map(more).sum();
    if all > 0.0 { more(kind) / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Thread;
    use crate::{dataset::Count, plan::Plan};
    use gpuos_model::Role;

    const PLAN: &str = "
name = \"test\"
seed = 1
blocks = 11
[[series]]
backend = \"cuda\"
model = \"kernel\"
bytes = [\"1M\"]
iters = [1, 10, 100]
[[series]]
backend = \"cpu\"
model = \"cpu\"
bytes = [\"1M\"]
iters = [1, 10, 100]
";

    fn row<'a>(phase: &'a str, category: &'a str, calls: u64) -> Count<'a> {
        Count {
            phase,
            thread: Thread::Caller,
            role: Role::Unknown,
            category,
            syscall: "",
            device: "",
            ioctl: "",
            calls,
        }
    }

    #[test]
    fn what_only_a_runtime_does_appears_and_what_it_does_most_dominates() {
        let plan = Plan::parse(PLAN).unwrap();
        let mut runs = Runs::default();
        for block in 2..=11 {
            for cell in plan.cells() {
                let mut rows = vec![row("init", "memory", 3)];
                if cell.model == "kernel" {
                    rows.extend([
                        row("init", "ioctl", 500),
                        row("work", "poll", 2 * cell.iters),
                        row("work", "sync", 1),
                    ]);
                } else {
                    rows.push(row("work", "memory", 2));
                }
                runs.used.insert((cell, block), Counted::of(rows));
            }
        }
        let found = find(&plan.series, &runs);
        let appears: Vec<_> = found.appears.iter().map(|found| found.category.as_str()).collect();
        // Nowhere does the CPU poll or make an ioctl; `poll` is in all runs but those without work.
        assert_eq!(appears, ["ioctl", "poll", "sync"]);
        assert_eq!((found.appears[0].with, found.appears[0].of, found.appears[0].without), (30, 30, 30));
        assert!((found.appears[0].bound - 0.1).abs() < 1e-12);
        // `sync` is subtracted with the start-up; what is left is all `poll`.
        let shares: Vec<_> =
            found.shares.iter().map(|share| (share.category.as_str(), share.with, share.dominates)).collect();
        assert_eq!(shares, [("poll", 1.0, true), ("sync", 0.0, false)]);
    }

    #[test]
    fn without_the_cpu_nothing_is_said() {
        let plan = Plan::parse(PLAN).unwrap();
        let found = find(&plan.series[..1], &Runs::default());
        assert!(!found.has_cpu && found.appears.is_empty() && found.shares.is_empty());
    }
}
