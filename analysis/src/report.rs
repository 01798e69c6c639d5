//! What a dataset shows: a verdict for every role along every series, what appears only with a runtime, and what was left
//! out. `write` makes a folder of it that a browser opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde::Serialize;

use crate::{
    dataset::{CountRow, Dataset, DatasetError},
    plan::{Cell, SeriesPlan},
    plot,
    series::Series,
    verdict::{Axis, LEAST_BLOCKS, LEAST_LEVELS, Verdict, Word, effect, holm, judge, noise_floor},
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

/// What the verdict says, in a sentence.
fn sentence(role: &RoleFindings, axis: Axis) -> String {
    let Verdict { word, slope, slope_95, exponent, exponent_95, steps, blocks, deterministic, blocks_needed, .. } =
        &role.verdict;
    let sure = match (deterministic, axis) {
        (true, _) => format!("deterministic, {blocks}/{blocks}"),
        (false, Axis::Iterations) => {
            format!("{blocks} blocks, {:.4} to {:.4} an iteration", slope_95.low, slope_95.high)
        }
        (false, Axis::Bytes) => {
            let between = role.verdict.difference_95;
            format!("{blocks} blocks, {:.1} to {:.1} more at the largest size", between.low, between.high)
        }
    };
    let shape = match (word, exponent, exponent_95) {
        (Word::Step, ..) => {
            let places: Vec<_> = steps.iter().map(|(below, above)| format!("between {below} and {above}")).collect();
            format!("step {}", places.join(" and "))
        }
        (Word::Linear, ..) if axis == Axis::Iterations => format!("linear, {slope:.4} an iteration"),
        (Word::Linear | Word::Sublinear | Word::Superlinear, Some(exponent), Some(range)) => {
            format!("{word:?}, exponent {exponent:.2} ({:.2} to {:.2})", range.low, range.high).to_lowercase()
        }
        (Word::Inconclusive, ..) => match blocks_needed {
            Some(needed) => format!("inconclusive; {needed} blocks might settle it"),
            None => "inconclusive".to_owned(),
        },
        (word, ..) => format!("{word:?}").to_lowercase(),
    };
    let falls = if role.verdict.difference < 0.0 && *word != Word::Flat { "falls: " } else { "" };
    format!("{falls}{shape} ({sure})")
}

/// Every verdict, a line each.
pub fn summary(findings: &Findings) -> String {
    let mut text = format!("{}: {} of {} runs used\n", findings.plan, findings.used, findings.wanted);
    for series in &findings.series {
        let axis = if series.axis == Axis::Bytes { "bytes" } else { "iterations" };
        let _ = writeln!(text, "\n{} along {axis}, {} blocks", series.name, series.blocks);
        for role in &series.roles {
            let _ = writeln!(text, "  {:<18}{}", role.role, sentence(role, series.axis));
        }
        if series.roles.is_empty() && series.blocks > 0 {
            let _ = writeln!(text, "  no call in `work` in any of {} runs", series.blocks * series.levels.len());
        }
    }
    text
}

/// The report as Markdown.
fn markdown(findings: &Findings) -> String {
    let mut text = format!("# {}\n\n", findings.plan);
    let host = &findings.environment["host"];
    let word = |name: &str| host[name].as_str().unwrap_or("unknown").to_owned();
    let _ = writeln!(
        text,
        "On {}, Linux {}, {} CPUs. {} of {} runs used; a verdict needs {LEAST_BLOCKS} blocks beside the first, which is not used, and {LEAST_LEVELS} levels over three decades.\n",
        word("cpu"),
        word("kernel"),
        host["cpus"],
        findings.used,
        findings.wanted
    );
    for (axis, question) in [
        (Axis::Bytes, "Q1: how do calls change as the size increases, repetition and execution held constant?"),
        (Axis::Iterations, "Q2: which calls scale with repetition, and which remain constant?"),
    ] {
        let _ = writeln!(text, "## {question}\n");
        let asked: Vec<_> = findings.series.iter().enumerate().filter(|(_, series)| series.axis == axis).collect();
        if asked.is_empty() {
            text.push_str("The plan has no series along this axis.\n\n");
        }
        for (number, series) in asked {
            let _ = writeln!(text, "### {}\n", series.name);
            if series.roles.is_empty() {
                let _ = writeln!(text, "No call in the phase `work` in any of {} blocks.\n", series.blocks);
                continue;
            }
            text.push_str("| role | verdict |\n|---|---|\n");
            for role in &series.roles {
                let _ = writeln!(text, "| {} | {} |", role.role, sentence(role, axis));
            }
            if let Some(noise) = series.noise {
                let _ = writeln!(
                    text,
                    "\nThe same cell differs from itself by {noise} calls in nine of ten blocks at most."
                );
            }
            let _ = writeln!(text, "\n![{}](series-{number}.svg)\n", series.name);
        }
    }
    text.push_str("## Q3: which categories appear only when a runtime is involved?\n\n");
    if findings.only_with_a_runtime.is_empty() {
        text.push_str("None shown: the plan has no series of the model `cpu`, or nothing is in 95 % of a runtime's runs and in none of the CPU's.\n\n");
    } else {
        text.push_str("In all phases, start-up included, without a correction for asking of many. Which category dominates is not computed yet.\n\n");
        text.push_str("| runtime | category | runs with it | runs on the CPU with it | true rate there, 95 % |\n|---|---|---|---|---|\n");
        for found in &findings.only_with_a_runtime {
            let Appearance { cell, category, with, of, without, bound } = found;
            let _ = writeln!(text, "| {cell} | {category} | {with} of {of} | 0 of {without} | below {bound:.3} |");
        }
        text.push('\n');
    }
    if !findings.left_out.is_empty() {
        text.push_str("## Left out\n\n");
        for line in &findings.left_out {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

/// Text of which no character means anything to a browser.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The Markdown above as HTML: headings, tables, lists, plots in place.
fn html(markdown: &str, plots: &[String]) -> String {
    let mut body = String::new();
    let mut in_table = false;
    for line in markdown.lines() {
        let is_row = line.starts_with('|');
        if in_table && !is_row {
            body.push_str("</table>\n");
            in_table = false;
        }
        if is_row {
            if line.starts_with("|---") {
                continue;
            }
            let tag = if in_table { "td" } else { "th" };
            if !in_table {
                body.push_str("<table>\n");
                in_table = true;
            }
            let cells =
                line.trim_matches('|').split('|').map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell.trim())));
            let _ = writeln!(body, "<tr>{}</tr>", cells.collect::<String>());
        } else if let Some(rest) = line.strip_prefix("![") {
            let number = rest.rsplit_once("series-").and_then(|(_, end)| end.split('.').next()?.parse::<usize>().ok());
            if let Some(plot) = number.and_then(|number| plots.get(number)) {
                let _ = writeln!(body, "<figure>{plot}</figure>");
            }
        } else if let Some((hashes, title)) = line.split_once(' ').filter(|(hashes, _)| hashes.starts_with('#')) {
            let level = hashes.len();
            let _ = writeln!(body, "<h{level}>{}</h{level}>", escaped(title));
        } else if let Some(item) = line.strip_prefix("- ") {
            let _ = writeln!(body, "<p class=item>{}</p>", escaped(item));
        } else if !line.is_empty() {
            let _ = writeln!(body, "<p>{}</p>", escaped(line));
        }
    }
    if in_table {
        body.push_str("</table>\n");
    }
    format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>gpuos-trace report</title>\n\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;border-bottom:1px solid #8884;text-align:left}}\
         figure{{margin:1rem 0;background:#fff}}svg{{max-width:100%;height:auto}}.item{{margin:.2rem 0}}</style>\n<body>\n{body}</body></html>\n"
    )
}

/// Writes `report.md`, `report.html` (which needs nothing else), `verdicts.json` and a plot for each series.
///
/// # Errors
/// A file cannot be written.
pub fn write(findings: &Findings, folder: &Path) -> Result<(), DatasetError> {
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| DatasetError::File { path, error })
    };
    fs::create_dir_all(folder).map_err(|error| DatasetError::File { path: folder.to_owned(), error })?;
    let plots: Vec<String> = findings.series.iter().map(plot::scaling).collect();
    for (number, plot) in plots.iter().enumerate() {
        put(&format!("series-{number}.svg"), plot)?;
    }
    let text = markdown(findings);
    put("report.md", &text)?;
    put("report.html", &html(&text, &plots))?;
    let json = serde_json::to_string_pretty(findings).unwrap_or_default();
    put("verdicts.json", &json)
}
