//! What a series shows: its cost, and a verdict for every role and category.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    axis::{Axis, short},
    counted::{CallKind, Runs},
    dataset::RunRow,
    plan::{Cell, SeriesPlan},
    resample::{Interval, median, median_interval},
    series::{Others, Series, Work},
    verdict::{LEAST_LEVELS, Scaling, Verdict, effect, holm, intervals, is_enough, is_wide, judge, noise_floor},
};

/// What a series shows.
#[derive(Debug, Serialize)]
pub struct SeriesFindings {
    /// In words.
    pub name: String,
    /// Which it is.
    pub plan: SeriesPlan,
    /// What is varied.
    pub axis: Axis,
    /// Its levels.
    pub levels: Vec<f64>,
    /// Blocks that have every cell.
    pub blocks: usize,
    /// Calls by which the same cell differs from itself in one block.
    pub noise: Option<f64>,
    /// What the work costs at the largest level.
    pub cost: Option<Cost>,
    /// All calls together, then each role and category that made a call anywhere.
    pub kinds: Vec<KindFindings>,
}

/// What the timed work of a cell costs, without the tracer but for the overhead: latencies are medians of the blocks, the rest is
/// of one run, whose work took the middle of all times.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Which cell.
    pub cell: String,
    /// Latency of an iteration: the median, and the 99th percentile.
    pub p50_ns: f64,
    /// See `p50_ns`.
    pub p99_ns: f64,
    /// Median latency with the tracer over that without, in the same block, and its 95 % interval.
    pub overhead: f64,
    /// See `overhead`.
    pub overhead_95: Interval,
    /// How long the work took.
    pub wall_ns: f64,
    /// CPU time in user space, and in the kernel.
    pub user_ns: f64,
    /// See `user_ns`.
    pub system_ns: f64,
    /// Context switches of its own accord, and because others ran.
    pub voluntary_switches: f64,
    /// See `voluntary_switches`.
    pub involuntary_switches: f64,
    /// Page faults that read nothing, and that read from a disk.
    pub minor_faults: f64,
    /// See `minor_faults`.
    pub major_faults: f64,
}

/// The median, where there is a value.
fn median_of(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() { None } else { Some(median(&mut values)) }
}

impl SeriesFindings {
    /// What a kind does along it. A kind that made no call in any block is not in [`SeriesFindings::kinds`].
    pub fn kind(&self, kind: &CallKind) -> Option<&KindFindings> {
        self.kinds.iter().find(|found| found.kind == *kind)
    }

    /// From where to where it goes, in words after others.
    pub fn range(&self) -> String {
        let ends = self.levels.first().zip(self.levels.last());
        ends.map_or_else(String::new, |(first, last)| {
            format!(" from {} to {}", self.axis.level(*first), self.axis.level(*last))
        })
    }

    /// Calls at a level, or at the next one below.
    pub fn at(&self, kind: &CallKind, level: f64) -> Option<f64> {
        let place = self.levels.iter().rposition(|other| *other <= level)?;
        self.kind(kind)?.medians.get(place).copied()
    }

    /// Calls at the level that has fewest.
    pub fn least(&self, kind: &CallKind) -> Option<f64> {
        self.kind(kind)?.medians.iter().copied().reduce(f64::min)
    }

    /// Whether equivalence is shown: also of a kind that made no call in any run, where there were runs enough.
    pub fn is_flat(&self, kind: &CallKind) -> bool {
        match self.kind(kind) {
            Some(found) => found.verdict.scaling == Scaling::Flat,
            None => is_enough(self.blocks, &self.levels),
        }
    }

    /// Whether it is shown to change with the axis.
    pub fn grows(&self, kind: &CallKind) -> bool {
        let words = [Scaling::Linear, Scaling::Sublinear, Scaling::Superlinear, Scaling::Step];
        self.kind(kind).is_some_and(|found| words.contains(&found.verdict.scaling))
    }

    /// The verdict in a few words.
    pub fn words(&self, kind: &CallKind) -> String {
        let Some(found) = self.kind(kind) else {
            return if self.blocks == 0 { "no usable block".to_owned() } else { "no call in any run".to_owned() };
        };
        let verdict = &found.verdict;
        let words = match verdict.scaling {
            Scaling::Linear if self.axis == Axis::Iterations => {
                let once = verdict.once.map_or_else(String::new, |once| format!(" and {} once", short(once)));
                let rate =
                    verdict.per_second.map_or_else(String::new, |rate| format!(" (or {} a second)", short(rate)));
                format!("linear, {} an iteration{once}{rate}", verdict.slope_words())
            }
            Scaling::Timed => {
                let rate = verdict.per_second.unwrap_or_default();
                format!("changes, not told from time ({} a second)", short(rate))
            }
            Scaling::Step => {
                let places = verdict.steps.iter().map(|(below, above)| {
                    format!("between {} and {}", self.axis.level(*below), self.axis.level(*above))
                });
                format!("step {}", places.collect::<Vec<_>>().join(" and "))
            }
            Scaling::Flat => match &self.levels[..] {
                [first, .., last] => format!("flat from {} to {}", self.axis.level(*first), self.axis.level(*last)),
                _ => "flat".to_owned(),
            },
            Scaling::Inconclusive if !is_wide(&self.levels) => {
                format!("inconclusive; a verdict needs {LEAST_LEVELS} levels over three decades")
            }
            Scaling::Inconclusive => match verdict.blocks_needed {
                Some(blocks) => format!("inconclusive; {blocks} blocks might settle it"),
                None => "inconclusive; more of the same would not settle it, levels between or beyond might".to_owned(),
            },
            scaling @ (Scaling::Linear | Scaling::Sublinear | Scaling::Superlinear) => {
                match (verdict.exponent, verdict.exponent_95) {
                    // A power below 0 says that growth ends, and not how it begins.
                    (Some(_), Some(Interval { low, .. })) if low <= 0.0 => format!("{}, levels off", scaling.name()),
                    (Some(exponent), Some(Interval { low, high })) => {
                        format!("{}, exponent {exponent:.2} ({low:.2} to {high:.2})", scaling.name())
                    }
                    _ => scaling.name().to_owned(),
                }
            }
        };
        if verdict.difference < 0.0 && self.grows(kind) {
            let first = found.medians.first().copied().unwrap_or_default();
            match self.axis {
                Axis::Bytes => format!("falls by {} of {}: {words}", short(-verdict.difference), short(first)),
                Axis::Iterations => format!("falls: {words}"),
            }
        } else {
            words
        }
    }
}

/// What a role or a category does along a series.
#[derive(Debug, Serialize)]
pub struct KindFindings {
    /// The role or category, or all calls together.
    pub kind: CallKind,
    /// The median count at each level.
    #[serde(rename = "middles")]
    pub medians: Vec<f64>,
    /// Its 95 % interval at each level.
    pub intervals: Vec<Interval>,
    /// How it scales.
    pub verdict: Verdict,
    /// What other threads did meanwhile, which is not in the counts; `None` where the dataset does not say who made a call, and
    /// the counts are those of all threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<OtherThreads>,
}

/// What threads did that are not the work's, as those of a runtime.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OtherThreads {
    /// Calls a second of the timed work, at the largest level.
    pub per_second: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// The same for each iteration of that level: threads that do work make calls with it, and not with time.
    pub per_iteration: f64,
}

/// A verdict for every kind along every series; each question is asked of all at once.
pub(crate) fn judge_all(plans: &[SeriesPlan], runs: &Runs, blocks: u32) -> Vec<SeriesFindings> {
    let mut series: Vec<_> = plans.iter().map(|plan| Drafted::new(plan, runs, blocks)).collect();
    for axis in [Axis::Bytes, Axis::Iterations] {
        let asked: Vec<&mut Draft> = series
            .iter_mut()
            .filter(|drafted| drafted.plan.axis() == axis)
            .flat_map(|drafted| &mut drafted.drafts)
            .collect();
        let probabilities: Vec<f64> = asked.iter().map(|draft| effect(&draft.series, axis)).collect();
        for (draft, is_rejected) in asked.into_iter().zip(holm(&probabilities)) {
            draft.is_rejected = is_rejected;
        }
    }
    series.into_iter().map(Drafted::judge).collect()
}

/// A series with its counts, before it is judged.
struct Drafted<'a> {
    plan: &'a SeriesPlan,
    levels: Vec<f64>,
    blocks: usize,
    noise: Option<f64>,
    cost: Option<Cost>,
    drafts: Vec<Draft>,
}

struct Draft {
    kind: CallKind,
    series: Series,
    is_rejected: bool,
}

impl<'a> Drafted<'a> {
    fn new(plan: &'a SeriesPlan, runs: &Runs, blocks: u32) -> Self {
        let cells = plan.cells();
        let has = |cell: &Cell, block: u32| runs.get(cell, block).is_some();
        // Blocks that have the whole series, its start-up included.
        let whole: Vec<u32> = (2..=blocks)
            .filter(|block| cells.iter().all(|cell| has(cell, *block) && has(&cell.without_work(), *block)))
            .collect();
        let found = |cell: &Cell, block: u32| {
            runs.get(cell, block).into_iter().flat_map(|run| run.work.keys().chain(run.others.keys()))
        };
        let kinds: BTreeSet<&CallKind> = whole
            .iter()
            .flat_map(|block| cells.iter().flat_map(move |cell| found(cell, *block)))
            .chain([&CallKind::All])
            .collect();
        let count = |cell: &Cell, block: u32, kind: &CallKind| runs.get(cell, block).map_or(0.0, |run| run.work(kind));
        let value = |cell: &Cell, block: u32, kind: &CallKind| {
            count(cell, block, kind) - count(&cell.without_work(), block, kind)
        };
        let levels: Vec<f64> = cells.iter().map(|cell| plan.level(cell)).collect();
        let of_runs = |cell: &Cell, of: &dyn Fn(&RunRow) -> u64| {
            let all = whole.iter().filter_map(|block| Some(of(&runs.get(cell, *block)?.run) as f64));
            median_of(all.collect())
        };
        // The calls were counted under the tracer, so it is that time that they took; older datasets have the other alone.
        let seconds = |run: &RunRow| if run.traced_wall_ns > 0 { run.traced_wall_ns } else { run.wall_ns };
        let work = |cell: &Cell| Work {
            seconds: of_runs(cell, &seconds).unwrap_or(f64::NAN) / 1e9,
            iterations: cell.iters as f64,
        };
        let work: Vec<Work> = cells.iter().map(work).collect();
        let noise_of = |kind: &CallKind| {
            let cell = cells.last()?;
            let twin = Cell { twin: true, ..cell.clone() };
            let both = whole.iter().filter(|block| has(&twin, **block));
            let (first, second): (Vec<f64>, Vec<f64>) =
                both.map(|block| (count(cell, *block, kind), count(&twin, *block, kind))).unzip();
            noise_floor(&first, &second)
        };
        // At the largest level, which takes longest.
        let others = |kind: &CallKind| {
            let Some(cell) = cells.last() else { return Others::Unknown };
            let rates: Option<Vec<f64>> =
                whole.iter().map(|block| runs.get(cell, *block)?.rate_of_others(kind)).collect();
            rates.map_or(Others::Unknown, |rates| {
                let (rate, interval) = median_interval(&rates, 0.95);
                Others::Apart(rate, interval)
            })
        };
        let drafts = kinds.into_iter().filter_map(|kind| {
            let values = whole.iter().map(|block| cells.iter().map(|cell| value(cell, *block, kind)).collect());
            let series = Series::new(levels.clone(), values.collect()).ok()?.with_work(work.clone());
            let series = series.with_others(others(kind)).with_noise(noise_of(kind).unwrap_or_default());
            Some(Draft { kind: kind.clone(), series, is_rejected: false })
        });
        let noise = noise_of(&CallKind::All);
        let cost = cells.last().map(|cell| {
            let of = |of: fn(&RunRow) -> u64| of_runs(cell, &of).unwrap_or_default();
            // Of one run, so that its parts add up: the one whose work took the middle of all times.
            let mut of_cell: Vec<&RunRow> =
                whole.iter().filter_map(|block| Some(&runs.get(cell, *block)?.run)).collect();
            of_cell.sort_by_key(|run| (run.wall_ns, run.block));
            let middle = of_cell.get(of_cell.len().saturating_sub(1) / 2).copied();
            let of_middle = |of: fn(&RunRow) -> u64| middle.map_or(0.0, |run| of(run) as f64);
            let ratios = whole.iter().filter_map(|block| {
                let run = &runs.get(cell, *block)?.run;
                (run.bare_p50_ns > 0).then(|| run.traced_p50_ns as f64 / run.bare_p50_ns as f64)
            });
            let (overhead, overhead_95) = median_interval(&ratios.collect::<Vec<_>>(), 0.95);
            Cost {
                cell: cell.arguments().join(" "),
                p50_ns: of(|run| run.bare_p50_ns),
                p99_ns: of(|run| run.bare_p99_ns),
                overhead,
                overhead_95,
                wall_ns: of_middle(|run| run.wall_ns),
                user_ns: of_middle(|run| run.usage.user_ns),
                system_ns: of_middle(|run| run.usage.system_ns),
                voluntary_switches: of_middle(|run| run.usage.voluntary_switches),
                involuntary_switches: of_middle(|run| run.usage.involuntary_switches),
                minor_faults: of_middle(|run| run.usage.minor_faults),
                major_faults: of_middle(|run| run.usage.major_faults),
            }
        });
        let cost = cost.filter(|_| !whole.is_empty());
        let drafts = drafts.collect();
        Self { plan, blocks: whole.len(), noise, cost, drafts, levels }
    }

    fn judge(self) -> SeriesFindings {
        let axis = self.plan.axis();
        let kinds = self.drafts.into_iter().map(|draft| KindFindings {
            medians: draft.series.medians(&(0..draft.series.blocks()).collect::<Vec<_>>()),
            intervals: intervals(&draft.series),
            verdict: judge(&draft.series, axis, draft.is_rejected),
            others: match draft.series.others() {
                Others::Unknown => None,
                Others::Apart(per_second, interval) => {
                    let of_work = |work: &Work| per_second * work.seconds / work.iterations;
                    let last = draft.series.work().and_then(<[Work]>::last);
                    Some(OtherThreads { per_second, interval, per_iteration: last.map_or(0.0, of_work) })
                }
            },
            kind: draft.kind,
        });
        SeriesFindings {
            name: self.plan.name(),
            plan: self.plan.clone(),
            axis,
            blocks: self.blocks,
            noise: self.noise,
            cost: self.cost,
            kinds: kinds.collect(),
            levels: self.levels,
        }
    }
}
