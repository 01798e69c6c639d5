//! What a dataset shows: a verdict for every role along every series, what appears only with a runtime, and what was left
//! out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    dataset::{CountRow, Dataset, DatasetError},
    plan::{Cell, SeriesPlan},
    series::Series,
    verdict::{Axis, Verdict, effect, holm, judge, noise_floor},
};

/// The phases that verdicts read: of `bench`'s models, and of `bench infer`.
pub const WORK: [&str; 2] = ["work", "infer"];
/// All roles together.
const ALL: &str = "all calls";

/// What a dataset shows.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Of the plan.
    pub plan: String,
    /// On what it was run, JSON.
    pub environment: serde_json::Value,
    /// Runs that could be used, of all that were asked for.
    pub used: u64,
    /// See `used`.
    pub wanted: u64,
    /// Runs that were left out, and why.
    pub left_out: Vec<String>,
    /// One for each series of the plan.
    pub series: Vec<SeriesFindings>,
    /// Categories that are there only with a runtime (the third question).
    pub only_with_a_runtime: Vec<Appearance>,
}

/// What a series shows.
#[derive(Debug, Serialize)]
pub struct SeriesFindings {
    /// In words.
    pub name: String,
    /// What is varied.
    pub axis: Axis,
    /// Its levels.
    pub levels: Vec<f64>,
    /// Blocks that have every cell.
    pub blocks: usize,
    /// Calls by which the same cell differs from itself in one block.
    pub noise: Option<f64>,
    /// One for each role that made a call anywhere, and all together.
    pub roles: Vec<RoleFindings>,
}

/// What a role does along a series.
#[derive(Debug, Serialize)]
pub struct RoleFindings {
    /// Its name.
    pub role: String,
    /// The median count at each level.
    pub middles: Vec<f64>,
    /// How it scales.
    pub verdict: Verdict,
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

/// Counts of one run, by role and by category, in `work` and in all.
struct Counted {
    roles: BTreeMap<String, f64>,
    categories: BTreeSet<String>,
}

impl Counted {
    fn of(rows: &[CountRow]) -> Self {
        let mut roles: BTreeMap<String, f64> = BTreeMap::new();
        for row in rows.iter().filter(|row| WORK.contains(&row.phase.as_str())) {
            *roles.entry(row.role.clone()).or_default() += row.calls as f64;
            *roles.entry(ALL.to_owned()).or_default() += row.calls as f64;
        }
        Self { roles, categories: rows.iter().filter(|row| row.calls > 0).map(|row| row.category.clone()).collect() }
    }

    fn role(&self, role: &str) -> f64 {
        self.roles.get(role).copied().unwrap_or_default()
    }
}

type Table = BTreeMap<(Cell, u32), Counted>;

/// Reads a dataset and judges it.
///
/// # Errors
/// A file of it cannot be read.
pub fn find(dataset: &Dataset) -> Result<Findings, DatasetError> {
    let mut left_out = Vec::new();
    let mut table = Table::new();
    let mut wanted = 0;
    // The first block has cold caches.
    for block in 2..=dataset.plan.blocks {
        for cell in dataset.plan.cells() {
            wanted += 1;
            let name = || format!("block {block}, {}", cell.arguments().join(" "));
            match usable(dataset, &cell, block) {
                Ok(counts) => drop(table.insert((cell, block), Counted::of(&counts))),
                Err(why) => left_out.push(format!("{}: {why}", name())),
            }
        }
    }
    let environment = dataset.environment()?;
    let mut series: Vec<_> =
        dataset.plan.series.iter().map(|plan| Drafted::new(plan, &table, dataset.plan.blocks)).collect();
    // Each question is asked of all its series and roles at once.
    for axis in [Axis::Bytes, Axis::Iterations] {
        let asked: Vec<&mut Draft> = series
            .iter_mut()
            .filter(|drafted| drafted.plan.axis() == axis)
            .flat_map(|drafted| &mut drafted.drafts)
            .collect();
        let probabilities: Vec<f64> = asked.iter().map(|draft| effect(&draft.series, axis)).collect();
        for (draft, there) in asked.into_iter().zip(holm(&probabilities)) {
            draft.there = there;
        }
    }
    Ok(Findings {
        plan: dataset.plan.name.clone(),
        environment,
        used: table.len() as u64,
        wanted,
        left_out: shortened(left_out),
        series: series.into_iter().map(Drafted::judge).collect(),
        only_with_a_runtime: appearances(&dataset.plan.series, &table, dataset.plan.blocks),
    })
}

/// The first of many lines, and how many more there are.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    const MOST: usize = 100;
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// The counts of a run, or why it is not used.
fn usable(dataset: &Dataset, cell: &Cell, block: u32) -> Result<Vec<CountRow>, String> {
    match dataset.run(cell, block).map_err(|error| error.to_string())? {
        None => Err("not run".to_owned()),
        Some(run) if !run.error.is_empty() => Err(run.error),
        Some(run) if run.lost > 0 => Err("the tracer lost something".to_owned()),
        Some(_) => {
            let counts = dataset.counts(cell, block).map_err(|error| error.to_string())?;
            counts.ok_or_else(|| "its file of counts is absent".to_owned())
        }
    }
}

/// A series with its counts, before it is judged.
struct Drafted<'a> {
    plan: &'a SeriesPlan,
    levels: Vec<f64>,
    blocks: usize,
    noise: Option<f64>,
    drafts: Vec<Draft>,
}

struct Draft {
    role: String,
    series: Series,
    there: bool,
}

impl<'a> Drafted<'a> {
    fn new(plan: &'a SeriesPlan, table: &Table, blocks: u32) -> Self {
        let cells = plan.cells();
        let levels: Vec<f64> = cells
            .iter()
            .map(|cell| match plan.axis() {
                Axis::Iterations => cell.iters as f64,
                Axis::Bytes => cell.bytes.unwrap_or_default() as f64,
            })
            .collect();
        // Blocks that have the whole series, its start-up included.
        let whole: Vec<u32> = (2..=blocks)
            .filter(|block| {
                cells.iter().all(|cell| {
                    table.contains_key(&(cell.clone(), *block)) && table.contains_key(&(cell.without_work(), *block))
                })
            })
            .collect();
        let roles: BTreeSet<&String> = whole
            .iter()
            .flat_map(|block| cells.iter().flat_map(move |cell| table[&(cell.clone(), *block)].roles.keys()))
            .collect();
        let value = |cell: &Cell, block: u32, role: &str| {
            table[&(cell.clone(), block)].role(role) - table[&(cell.without_work(), block)].role(role)
        };
        let all = ALL.to_owned();
        let roles = std::iter::once(&all).chain(roles.into_iter().filter(|role| **role != all));
        let drafts = roles.filter_map(|role| {
            let values = whole.iter().map(|block| cells.iter().map(|cell| value(cell, *block, role)).collect());
            let series = Series::new(levels.clone(), values.collect()).ok()?;
            Some(Draft { role: role.clone(), series, there: false })
        });
        let noise = cells.last().and_then(|cell| {
            let twin = Cell { twin: true, ..cell.clone() };
            let both = whole.iter().filter(|block| table.contains_key(&(twin.clone(), **block)));
            let (first, second): (Vec<f64>, Vec<f64>) = both
                .map(|block| (table[&(cell.clone(), *block)].role(ALL), table[&(twin.clone(), *block)].role(ALL)))
                .unzip();
            noise_floor(&first, &second)
        });
        let drafts = drafts.collect();
        Self { plan, blocks: whole.len(), noise, drafts, levels }
    }

    fn judge(self) -> SeriesFindings {
        let axis = self.plan.axis();
        let roles = self.drafts.into_iter().map(|draft| RoleFindings {
            middles: draft.series.middles(&(0..draft.series.blocks()).collect::<Vec<_>>()),
            verdict: judge(&draft.series, axis, draft.there),
            role: draft.role,
        });
        SeriesFindings {
            name: self.plan.name(),
            axis,
            blocks: self.blocks,
            noise: self.noise,
            roles: roles.collect(),
            levels: self.levels,
        }
    }
}

/// Categories in 95 % of a backend's runs, in all phases, and in none of the CPU's.
fn appearances(series: &[SeriesPlan], table: &Table, blocks: u32) -> Vec<Appearance> {
    let runs = |series: &SeriesPlan| -> Vec<&Counted> {
        let cells = series.cells();
        (2..=blocks).flat_map(|block| cells.iter().filter_map(move |cell| table.get(&(cell.clone(), block)))).collect()
    };
    let of_cpu: Vec<&Counted> = series.iter().filter(|series| series.model == "cpu").flat_map(runs).collect();
    if of_cpu.is_empty() {
        return Vec::new();
    }
    let mut of_runtime: BTreeMap<String, Vec<&Counted>> = BTreeMap::new();
    for with in series.iter().filter(|series| series.model != "cpu") {
        of_runtime.entry(format!("{} {}", with.backend, with.model)).or_default().extend(runs(with));
    }
    let mut found = Vec::new();
    for (cell, of) in of_runtime {
        let categories: BTreeSet<&String> = of.iter().flat_map(|run| &run.categories).collect();
        for category in categories {
            let has = |runs: &[&Counted]| runs.iter().filter(|run| run.categories.contains(category)).count() as u64;
            let (with, total, without) = (has(&of), of.len() as u64, of_cpu.len() as u64);
            if has(&of_cpu) == 0 && with as f64 >= 0.95 * total as f64 {
                let (cell, category) = (cell.clone(), category.clone());
                found.push(Appearance { cell, category, with, of: total, without, bound: 3.0 / without as f64 });
            }
        }
    }
    found
}
