//! Stacks side by side: the same workload on several backends, of one dataset or of several, with what they have in common,
//! where they differ, how far that goes, and what is missing to decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use gpuos_model::phase;
use serde::Serialize;

use crate::{
    axis::{Axis, short},
    claims::Tag,
    counted::{CallKind, Runs, call_name, rows_of},
    dataset::{Dataset, DatasetError, Thread},
    fit::APART,
    page::{html, plain},
    plan::Cell,
    plot::{self, Plot},
    report,
    resample::{Interval, median},
    series_findings::{self, SeriesFindings},
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, FLAT_SHARE, SAME_RATE, Scaling, Verdict},
};

/// Calls that less than this many times an iteration are made are not listed.
const RARE: f64 = 0.01;

/// One dataset of a comparison.
pub struct Source {
    /// How it is called.
    pub name: String,
    /// What it shows.
    pub series: Vec<SeriesFindings>,
    /// On what it was run, JSON.
    environment: serde_json::Value,
    /// Which backends its study takes for vendors' own stacks.
    vendors: Vec<String>,
    /// Calls in the timed work at the largest level of each series along iterations, and without iterations: each system
    /// call apart, and each command of a GPU device.
    calls: BTreeMap<(Cell, u32), Calls>,
    /// Runs that can be used.
    pub used: usize,
    /// Why the first is not that cannot.
    pub left_out: Option<String>,
}

type Calls = BTreeMap<String, f64>;

impl Source {
    /// Reads and judges a dataset.
    ///
    /// # Errors
    /// A file of it cannot be read.
    pub fn of(name: String, dataset: &Dataset) -> Result<Self, DatasetError> {
        let environment = dataset.environment()?;
        let plan = &dataset.plan;
        let runs = Runs::of(dataset);
        let series = series_findings::judge_all(&plan.series, &runs, plan.blocks);
        let mut calls = BTreeMap::new();
        for series in plan.series.iter().filter(|series| series.axis() == Axis::Iterations) {
            let Some(cell) = series.cells().pop() else { continue };
            for cell in [cell.without_work(), cell] {
                for block in 2..=plan.blocks {
                    // What cannot be used is left out, as it is of verdicts, and so are other threads.
                    if runs.get(&cell, block).is_none() {
                        continue;
                    }
                    let Ok((_, rows)) = rows_of(dataset, &cell, block) else { continue };
                    let mut found = Calls::new();
                    let read = rows.each(|row| {
                        if phase::is_measured(row.phase) && row.thread != Thread::Other {
                            *found.entry(call_name(row)).or_default() += row.calls as f64;
                        }
                    });
                    if read.is_ok() {
                        calls.insert((cell.clone(), block), found);
                    }
                }
            }
        }
        let vendors = plan.study.clone().unwrap_or_default().vendors;
        let (used, left_out) = (runs.used.len(), runs.left_out.into_iter().next());
        Ok(Self { name, series, environment, vendors, calls, used, left_out })
    }

    /// Runtime and devices of a backend, as they were found there.
    fn runtime(&self, backend: &str) -> String {
        let found = self.environment["backends"].as_array().into_iter().flatten();
        let found = found.filter(|found| found["name"] == backend).map(|found| &found["found"]["Ok"]).next();
        let word = |name: &str| found.and_then(|found| found[name].as_str()).unwrap_or_default();
        let devices = found.and_then(|found| found["devices"].as_array()).into_iter().flatten();
        let devices: Vec<&str> = devices.filter_map(serde_json::Value::as_str).collect();
        [word("runtime"), &devices.join(", ")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The machine, in words.
    fn machine(&self) -> String {
        let host = &self.environment["host"];
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("unknown").to_owned();
        format!("{}, Linux {}", word(&host["cpu"]), word(&host["kernel"]))
    }

    /// The calls of a cell and of its start-up, in each block that has both.
    fn with_start_up(&self, cell: &Cell) -> Vec<(&Calls, &Calls)> {
        let of_cell = self.calls.range((cell.clone(), 0)..=(cell.clone(), u32::MAX));
        of_cell.filter_map(|((_, block), run)| Some((run, self.calls.get(&(cell.without_work(), *block))?))).collect()
    }
}

/// The same workload along the same axis on several stacks.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Model and further arguments.
    pub workload: String,
    /// What is varied.
    pub axis: Axis,
    /// Which stacks, each with its series.
    pub members: Vec<Member>,
    /// What each kind does on each of them.
    pub kinds: Vec<KindRow>,
    /// Calls for each iteration at the largest level, in the order of the members; along iterations alone.
    pub calls: Vec<CallRow>,
    /// Which backends are taken for vendors' own stacks.
    #[serde(skip)]
    pub vendors: Vec<String>,
    /// The members side by side: medians with their intervals.
    #[serde(skip)]
    pub plot: Option<Plot>,
}

/// A stack.
#[derive(Debug, Serialize)]
pub struct Member {
    /// The dataset.
    pub dataset: String,
    /// The backend.
    pub backend: String,
    /// The series, in words.
    pub series: String,
    /// Runtime and devices, which tell two of one name apart.
    pub runtime: String,
    /// Processor and kernel.
    pub machine: String,
}

/// What a kind does on each stack.
#[derive(Debug, Serialize)]
pub struct KindRow {
    /// The role or category, or all calls together.
    pub kind: CallKind,
    /// The verdicts, in the order of the members.
    pub verdicts: Vec<String>,
    /// How far this goes.
    pub tag: Tag,
    /// Why not further, and what is missing to decide.
    pub missing: String,
}

/// How often a call is made on each stack.
#[derive(Debug, Serialize)]
pub struct CallRow {
    /// The system call, or the command of a device.
    pub call: String,
    /// For each iteration, in the order of the members; absent where no run can be used.
    pub each: Vec<Option<f64>>,
    /// `on all`, or where alone.
    pub note: String,
}

/// Sets the series of all datasets beside each other.
pub fn compare(sources: &[Source]) -> Vec<Group> {
    let mut by_workload: BTreeMap<(String, bool), Vec<(&Source, &SeriesFindings)>> = BTreeMap::new();
    for source in sources {
        for series in &source.series {
            // What runs on the CPU without a runtime is beside every model that does the same work.
            let model = if series.plan.model == "cpu" { "kernel" } else { &series.plan.model };
            let workload = [model, &series.plan.options.join(" ")].join(" ").trim_end().to_owned();
            by_workload.entry((workload, series.axis == Axis::Bytes)).or_default().push((source, series));
        }
    }
    let stacks = |members: &[(&Source, &SeriesFindings)]| {
        members
            .iter()
            .map(|(source, series)| (source.name.clone(), series.plan.backend.clone()))
            .collect::<BTreeSet<_>>()
    };
    let groups = by_workload.into_iter().filter(|(_, members)| stacks(members).len() > 1);
    groups.map(|((workload, along_bytes), members)| group(workload, along_bytes, &members)).collect()
}

fn group(workload: String, along_bytes: bool, members: &[(&Source, &SeriesFindings)]) -> Group {
    let kinds: BTreeSet<&CallKind> =
        members.iter().flat_map(|(_, series)| series.kinds.iter().map(|found| &found.kind)).collect();
    let kinds = kinds.into_iter().map(|kind| {
        let (tag, missing) = reach(kind, members);
        KindRow { kind: kind.clone(), verdicts: members.iter().map(|(_, s)| s.words(kind)).collect(), tag, missing }
    });
    let kinds = kinds.collect();
    Group {
        vendors: members.first().map_or_else(Vec::new, |(source, _)| source.vendors.clone()),
        plot: plot::scaling_named(
            members.iter().map(|(source, series)| (format!("{}: {}", source.name, series.name), *series)).collect(),
        ),
        workload,
        axis: if along_bytes { Axis::Bytes } else { Axis::Iterations },
        kinds,
        calls: if along_bytes { Vec::new() } else { calls(members) },
        members: members
            .iter()
            .map(|(source, series)| Member {
                dataset: source.name.clone(),
                backend: series.plan.backend.clone(),
                series: series.name.clone(),
                runtime: source.runtime(&series.plan.backend),
                machine: source.machine(),
            })
            .collect(),
    }
}

/// How far what a kind does goes, and what is missing: two vendors' own stacks, at the same size and repetition, each with
/// a verdict.
fn reach<'a>(kind: &CallKind, members: &[(&'a Source, &'a SeriesFindings)]) -> (Tag, String) {
    let of = |vendor: &str| {
        members.iter().map(|(_, series)| *series).filter(|s| s.plan.backend == vendor).collect::<Vec<_>>()
    };
    let vendors = members.first().map_or(&[][..], |(source, _)| source.vendors.as_slice());
    let [one, other, ..] = vendors else {
        return (Tag::Uncertain, "the study names fewer than two vendors".to_owned());
    };
    let (first, second) = (of(one), of(other));
    let absent: Vec<&str> = [(one, &first), (other, &second)]
        .into_iter()
        .filter(|(_, found)| found.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    if !absent.is_empty() {
        return (Tag::Uncertain, format!("no series on {}", absent.join(" and ")));
    }
    let place = |series: &SeriesFindings| (series.plan.bytes.clone(), series.plan.iters.clone());
    let mut places: Vec<_> =
        first.iter().map(|one| place(one)).filter(|one| second.iter().any(|two| place(two) == *one)).collect();
    places.dedup();
    if places.is_empty() {
        return (Tag::Uncertain, "no series of both at the same size and repetition".to_owned());
    }
    // Every size and repetition that both have, and every host of a stack, has a say: one resolved difference is one.
    let at = |found: &[&'a SeriesFindings], wanted: &_| -> Vec<&'a SeriesFindings> {
        found.iter().copied().filter(|series| place(series) == *wanted).collect()
    };
    let tags: Vec<(Tag, String)> =
        places.iter().map(|wanted| reach_at(kind, (one, &at(&first, wanted)), (other, &at(&second, wanted)))).collect();
    let found = |tag: Tag| tags.iter().find(|(found, _)| *found == tag).cloned();
    found(Tag::VendorSpecific).or_else(|| found(Tag::Uncertain)).unwrap_or((Tag::VendorAgnostic, String::new()))
}

/// The same at one size and repetition: the series of two vendors by their names, those of several hosts.
fn reach_at(
    kind: &CallKind,
    (one, first): (&str, &[&SeriesFindings]),
    (other, second): (&str, &[&SeriesFindings]),
) -> (Tag, String) {
    let unresolved: BTreeSet<&str> = first
        .iter()
        .chain(second)
        .filter(|series| !series.is_flat(kind) && !series.grows(kind) && rate(series, kind).is_none())
        .map(|series| series.plan.backend.as_str())
        .collect();
    if !unresolved.is_empty() {
        let names: Vec<&str> = unresolved.into_iter().collect();
        return (Tag::Uncertain, format!("inconclusive on {}", names.join(" and ")));
    }
    for (name, hosts) in [(one, first), (other, second)] {
        let agree = |host: &&SeriesFindings| difference(hosts[0], host, kind) == Difference::None;
        if !hosts.iter().all(agree) {
            return (Tag::Uncertain, format!("the hosts of {name} do not agree"));
        }
    }
    match difference(first[0], second[0], kind) {
        Difference::Shown => (Tag::VendorSpecific, String::new()),
        Difference::None => (Tag::VendorAgnostic, String::new()),
        Difference::Open(why) => (Tag::Uncertain, why.to_owned()),
    }
}

/// Whether two series differ in a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// In nothing, by equivalence.
    None,
    /// In the verdict, its places or direction, the exponent, or the calls.
    Shown,
    /// Neither is shown, and why.
    Open(&'static str),
}

/// The rate at which a kind may be made whatever the work does.
fn rate(series: &SeriesFindings, kind: &CallKind) -> Option<f64> {
    series.kind(kind)?.verdict.per_second
}

/// No call in any run is a count of 0, and not a verdict of its own.
fn difference(one: &SeriesFindings, other: &SeriesFindings, kind: &CallKind) -> Difference {
    match (rate(one, kind), rate(other, kind)) {
        (Some(a), Some(b)) if a.max(b) <= SAME_RATE * a.min(b) => return Difference::None,
        (Some(_), Some(_)) => return Difference::Shown,
        (None, None) => {}
        _ => return Difference::Open("not told from time on one of them"),
    }
    let [first, second] = [one, other].map(|series| series.kind(kind).map(|found| &found.verdict));
    let word = |verdict: Option<&Verdict>| verdict.map_or(Scaling::Flat, |verdict| verdict.scaling);
    if word(first) != word(second) {
        return Difference::Shown;
    }
    // Where the steps are, and whether it grows or falls, belong to the verdict.
    let steps = |verdict: Option<&Verdict>| verdict.map(|verdict| verdict.steps.clone()).unwrap_or_default();
    let falls = |verdict: Option<&Verdict>| verdict.is_some_and(|verdict| verdict.difference < 0.0);
    let is_step = word(first) == Scaling::Step;
    if is_step && steps(first) != steps(second) || word(first) != Scaling::Flat && falls(first) != falls(second) {
        return Difference::Shown;
    }
    let exponents = [first, second].map(|verdict| verdict.filter(|_| !is_step).and_then(|verdict| verdict.exponent_95));
    // Counts without any noise have exponents without an interval, as exact as they were looked for.
    if let [Some(a), Some(b)] = exponents
        && (a.high + APART < b.low || b.high + APART < a.low)
    {
        return Difference::Shown;
    }
    // As many calls at every level, within what is no growth and what the same cell differs from itself by.
    let noise = [first, second].into_iter().flatten().map(|verdict| verdict.noise).fold(0.0, f64::max);
    let level = one.levels.last().copied().unwrap_or_default();
    let at = |series: &SeriesFindings, place: usize| {
        let found = series.kind(kind).and_then(|found| found.intervals.get(place).copied());
        found.unwrap_or(Interval { low: 0.0, high: 0.0 })
    };
    let mut all_alike = true;
    for place in 0..one.levels.len() {
        let (a, b) = (at(one, place), at(other, place));
        let no_growth = match one.axis {
            Axis::Iterations => FLAT_CALLS_PER_ITERATION * level,
            Axis::Bytes => FLAT_CALLS.max(FLAT_SHARE * a.low.abs().max(b.low.abs())),
        };
        let tolerance = no_growth.max(noise);
        if a.high + tolerance < b.low || b.high + tolerance < a.low {
            return Difference::Shown;
        }
        all_alike &= (a.high - b.low).max(b.high - a.low) <= tolerance;
    }
    if all_alike { Difference::None } else { Difference::Open("the numbers of calls are not shown to be the same") }
}

/// Calls for each iteration at the largest level of each member, start-up subtracted.
fn calls(members: &[(&Source, &SeriesFindings)]) -> Vec<CallRow> {
    let of_member = |(source, series): &(&Source, &SeriesFindings)| -> Option<Calls> {
        let cell = series.plan.cells().pop()?;
        let runs = source.with_start_up(&cell);
        if runs.is_empty() {
            return None;
        }
        let names: BTreeSet<&String> = runs.iter().flat_map(|(run, _)| run.keys()).collect();
        let count = |calls: &Calls, name: &str| calls.get(name).copied().unwrap_or_default();
        let each = names.into_iter().map(|name| {
            let more = runs.iter().map(|(run, start)| count(run, name) - count(start, name));
            (name.clone(), median(&mut more.collect::<Vec<_>>()) / cell.iters.max(1) as f64)
        });
        Some(each.collect())
    };
    let counts: Vec<Option<Calls>> = members.iter().map(of_member).collect();
    let names: BTreeSet<&String> = counts.iter().flatten().flat_map(BTreeMap::keys).collect();
    // A stack may have several series.
    let stack = |place: usize| (&members[place].0.name, &members[place].1.plan.backend);
    let stacks: BTreeSet<_> = (0..members.len()).map(stack).collect();
    let mut rows: Vec<CallRow> = names
        .into_iter()
        .filter_map(|name| {
            let each: Vec<Option<f64>> =
                counts.iter().map(|calls| Some(calls.as_ref()?.get(name).copied().unwrap_or_default())).collect();
            let is_there = |place: &usize| each[*place].is_some_and(|calls| calls >= RARE);
            let there: BTreeSet<_> = (0..each.len()).filter(is_there).map(stack).collect();
            let note = match there.len() {
                0 => return None,
                all if all == stacks.len() => "on all".to_owned(),
                // Of a stack without runs nothing is known.
                some if each.contains(&None) => format!("on {some}; others have no usable run"),
                1 => format!("on {} alone", there.iter().map(|(_, backend)| backend.as_str()).collect::<String>()),
                some => format!("on {some} of {}", stacks.len()),
            };
            Some(CallRow { call: name.clone(), each, note })
        })
        .collect();
    rows.sort_by(|a, b| {
        let most = |row: &CallRow| row.each.iter().flatten().copied().fold(0.0, f64::max);
        most(b).total_cmp(&most(a)).then_with(|| a.call.cmp(&b.call))
    });
    rows
}

/// The comparison as Markdown.
pub fn markdown(groups: &[Group]) -> String {
    let mut text = String::from("# Stacks side by side\n\n");
    let vendors = groups.first().map_or_else(String::new, |group| format!(" ({})", group.vendors.join(", ")));
    let _ = writeln!(
        text,
        "A verdict is vendor-agnostic when it is the same, with exponents that overlap and as many calls (within {FLAT_CALLS_PER_ITERATION} an iteration; along size within {FLAT_CALLS} or {} %), on the own stacks of two vendors{vendors}, all hosts of each agreeing; vendor-specific when a difference between them is resolved; and else uncertain: what a CPU executes says nothing about a vendor.\n",
        100.0 * FLAT_SHARE
    );
    if groups.is_empty() {
        text.push_str("Nothing to compare: no workload was run on two backends, or in two datasets.\n");
    }
    let stacks: BTreeSet<[&str; 4]> = groups
        .iter()
        .flat_map(|group| &group.members)
        .map(|member| [member.dataset.as_str(), &member.backend, &member.runtime, &member.machine])
        .collect();
    if !stacks.is_empty() {
        let rows = stacks.into_iter().map(|stack| stack.map(str::to_owned).to_vec());
        report::table(&mut text, &["dataset", "backend", "runtime and devices", "machine"], rows);
    }
    for (place, group) in groups.iter().enumerate() {
        let axis = if group.axis == Axis::Bytes { "size" } else { "repetition" };
        let _ = writeln!(text, "## {} along {axis}\n", plain(&group.workload));
        if group.plot.is_some() {
            let _ = writeln!(text, "![{} along {axis}]({})\n", plain(&group.workload), plot_name(place, "svg"));
        }
        // Two of one name are told apart by their runtimes.
        let is_twice = |member: &Member| {
            let alike = |other: &&Member| (&other.dataset, &other.series) == (&member.dataset, &member.series);
            group.members.iter().filter(alike).count() > 1
        };
        let several = group.members.iter().map(|member| &member.dataset).collect::<BTreeSet<_>>().len() > 1;
        let heads: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                let name =
                    if several { format!("{}: {}", member.dataset, member.series) } else { member.series.clone() };
                if is_twice(member) { format!("{name} ({})", member.runtime) } else { name }
            })
            .map(|name| plain(&name))
            .collect();
        let mut head = vec!["of what"];
        head.extend(heads.iter().map(String::as_str));
        let calls_head: Vec<&str> =
            std::iter::once("calls an iteration").chain(head[1..].iter().copied()).chain([""]).collect();
        head.extend(["reach", "missing to decide"]);
        let rows = group.kinds.iter().map(|row| {
            let mut cells = vec![row.kind.to_string()];
            cells.extend(row.verdicts.iter().cloned());
            cells.extend([row.tag.to_string(), row.missing.clone()]);
            cells
        });
        report::table(&mut text, &head, rows);
        if !group.calls.is_empty() {
            let rows = group.calls.iter().map(|row| {
                let mut cells = vec![row.call.clone()];
                let calls = |calls: &Option<f64>| match calls {
                    None => "no usable run".to_owned(),
                    Some(calls) if *calls < RARE => "–".to_owned(),
                    Some(calls) => short(*calls),
                };
                cells.extend(row.each.iter().map(calls));
                cells.push(row.note.clone());
                cells
            });
            report::table(&mut text, &calls_head, rows);
        }
    }
    text
}

fn plot_name(place: usize, ending: &str) -> String {
    format!("comparison-{}.{ending}", place + 1)
}

/// Writes `comparison.md`, `comparison.html`, `comparison.json` and a plot of each workload as SVG and PNG.
///
/// # Errors
/// A file cannot be written.
pub fn write(groups: &[Group], folder: &Path) -> Result<(), DatasetError> {
    let text = markdown(groups);
    let mut drawings = BTreeMap::new();
    let mut files = Vec::new();
    for (place, plot) in groups.iter().enumerate().filter_map(|(place, group)| Some((place, group.plot.as_ref()?))) {
        drawings.insert(plot_name(place, "svg"), plot.svg.clone());
        files.push((plot_name(place, "svg"), plot.svg.clone().into_bytes()));
        files.push((plot_name(place, "png"), plot.png.clone()));
    }
    files.extend([
        ("comparison.html".to_owned(), html("Stacks side by side", &text, &drawings).into_bytes()),
        ("comparison.json".to_owned(), serde_json::to_vec_pretty(groups).unwrap_or_default()),
        ("comparison.md".to_owned(), text.into_bytes()),
    ]);
    report::put_all(folder, &files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counted::Counted, dataset::Count, plan::Plan};
    use gpuos_model::Role;

    /// A source in which each iteration polls so many times, along iterations on one backend.
    fn source(name: &str, backend: &str, polls: impl Fn(u64) -> u64) -> Source {
        source_along(name, backend, polls, "bytes = [\"1M\"]\niters = [1, 3, 10, 30, 100, 300, 1000]")
    }

    fn source_along(name: &str, backend: &str, polls: impl Fn(u64) -> u64, levels: &str) -> Source {
        let plan = format!(
            "name = \"t\"\nseed = 1\nblocks = 11\n[[series]]\nbackend = \"{backend}\"\nmodel = \"kernel\"\n{levels}\n"
        );
        let plan = Plan::parse(&plan).unwrap();
        let (mut runs, mut calls) = (Runs::default(), BTreeMap::new());
        for block in 2..=11 {
            for cell in plan.cells() {
                let row = |syscall, calls| Count {
                    phase: "work",
                    thread: Thread::Caller,
                    role: Role::Synchronization,
                    category: "",
                    syscall,
                    device: "",
                    ioctl: "",
                    calls,
                };
                let rows = [row("poll", polls(cell.iters)), row("read", 7)];
                let named = rows.iter().map(|row| (call_name(*row), row.calls as f64)).collect();
                calls.insert((cell.clone(), block), named);
                runs.used.insert((cell, block), Counted::of(rows));
            }
        }
        let series = series_findings::judge_all(&plan.series, &runs, plan.blocks);
        let vendors = crate::study::Study::default().vendors;
        Source {
            name: name.to_owned(),
            series,
            vendors,
            calls,
            environment: serde_json::Value::Null,
            used: 1,
            left_out: None,
        }
    }

    fn tag(sources: &[Source]) -> (Tag, String) {
        let groups = compare(sources);
        let row = groups[0].kinds.iter().find(|row| row.kind == CallKind::All).unwrap();
        (row.tag, row.missing.clone())
    }

    #[test]
    fn two_vendors_decide_and_one_does_not() {
        let cuda = || source("a", "cuda", |n| 2 * n);
        assert_eq!(tag(&[cuda(), source("b", "hip", |n| 2 * n)]), (Tag::VendorAgnostic, String::new()));
        // As many: seven calls an iteration are not three, and 700 at once are not none.
        assert_eq!(tag(&[cuda(), source("b", "hip", |n| 5 * n)]), (Tag::VendorSpecific, String::new()));
        let at_once = |name, backend, calls: u64| {
            let levels = "bytes = [\"4K\", \"64K\", \"1M\", \"8M\", \"32M\", \"64M\", \"256M\"]\niters = [100]";
            source_along(name, backend, move |iters| if iters > 0 { calls } else { 0 }, levels)
        };
        assert_eq!(tag(&[at_once("a", "cuda", 700), at_once("b", "hip", 700)]).0, Tag::VendorAgnostic);
        assert_eq!(tag(&[at_once("a", "cuda", 700), at_once("b", "hip", 0)]).0, Tag::VendorSpecific);
        // 5 to 7 calls and 6 to 8 are neither shown to be the same nor to differ.
        let between = |name, backend, low: u64| {
            source(name, backend, move |iters| if iters > 0 { (low + iters % 3) * iters } else { 0 })
        };
        assert_ne!(tag(&[between("a", "cuda", 5), between("b", "hip", 6)]).0, Tag::VendorAgnostic);
        // Two hosts of one stack must say the same.
        let (tag_of_two, missing) = tag(&[cuda(), source("c", "cuda", |n| 4 * n), source("b", "hip", |n| 2 * n)]);
        assert_eq!((tag_of_two, missing.as_str()), (Tag::Uncertain, "the hosts of cuda do not agree"));
        assert_eq!(tag(&[cuda(), source("b", "hip", |_| 3)]), (Tag::VendorSpecific, String::new()));
        assert_eq!(tag(&[cuda(), source("b", "hip-cpu", |n| 2 * n)]), (Tag::Uncertain, "no series on hip".to_owned()));
        assert_eq!(tag(&[cuda(), source("b", "hip", |n| if n == 30 { 900 } else { 2 * n })]).0, Tag::Uncertain);
        assert!(compare(&[cuda()]).is_empty());
        assert!(markdown(&[]).contains("Nothing to compare"));
    }

    #[test]
    fn without_runs_nothing_is_said_of_a_stack() {
        let mut empty = source("b", "hip", |_| 0);
        empty.calls.clear();
        let groups = compare(&[source("a", "cuda", |n| 2 * n), empty]);
        let row = &groups[0].calls[0];
        assert_eq!((row.each.clone(), row.note.as_str()), (vec![Some(2.0), None], "on 1; others have no usable run"));
    }

    #[test]
    fn calls_that_one_stack_makes_are_told_from_common_ones() {
        let groups = compare(&[source("a", "cuda", |n| 2 * n), source("b", "hip", |_| 0)]);
        let calls: Vec<_> =
            groups[0].calls.iter().map(|row| (row.call.as_str(), row.each.clone(), row.note.as_str())).collect();
        // `read` is subtracted with the start-up.
        assert_eq!(calls, [("poll", vec![Some(2.0), Some(0.0)], "on cuda alone")]);
        assert!(markdown(&groups).contains("| poll | 2 | – | on cuda alone |"), "{}", markdown(&groups));
    }
}
