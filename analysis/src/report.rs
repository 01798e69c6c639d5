//! Findings for people: what was asked, answered and not shown, as Markdown and as a page, with plots.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    answers,
    axis::{Axis, short, upper_bound},
    claims::{Claim, NotShown},
    counted::CallKind,
    dataset::{DatasetError, Registration},
    execution::{Appearance, Share},
    findings::Findings,
    interaction::{self, Interaction},
    intervention,
    page::{FOLD_ENDS, fold, html, plain},
    plot::{self, Phases, Plot},
    predictions::Prediction,
    series_findings::{KindFindings, SeriesFindings},
    variants::Contrast,
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, FLAT_SHARE, LEAST_BLOCKS, LEAST_LEVELS, RULES},
};
use gpuos_model::{Role, phase};

/// On what a verdict rests, in a few words.
fn ground(found: &KindFindings, axis: Axis) -> String {
    let verdict = &found.verdict;
    match (verdict.deterministic, axis) {
        (true, _) if verdict.blocks >= LEAST_BLOCKS => format!("deterministic, {}/{}", verdict.blocks, verdict.blocks),
        (true, _) => format!("the same in {} of {}", verdict.blocks, verdict.blocks),
        (false, Axis::Iterations) => {
            format!("{} to {} an iteration", short(verdict.slope_95.low), short(verdict.slope_95.high))
        }
        (false, Axis::Bytes) => {
            let between = verdict.difference_95;
            format!("{:.1} to {:.1} more at the largest", between.low, between.high)
        }
    }
}

/// Every verdict by role, a line each, and what was predicted.
pub fn summary(findings: &Findings) -> String {
    let mut text = answers_of(findings).join("\n") + "\n\n";
    let (spoken, more) = answers::spoken(&findings.claims.shown);
    for claim in spoken {
        let _ = writeln!(text, "  {claim}");
    }
    if more > 0 {
        let _ = writeln!(text, "  and {more} claims more in the report");
    }
    let _ = writeln!(text, "\n{}: {} of {} runs used", findings.plan, findings.used, findings.wanted);
    for series in &findings.series {
        let axis = series.axis.name();
        let _ = writeln!(text, "\n{} along {axis}, {} blocks", series.name, series.blocks);
        if series.blocks == 0 {
            text.push_str("  nothing: no block has every cell and the one without iterations\n");
        }
        for found in series.kinds.iter().filter(|found| !matches!(found.kind, CallKind::Category(_))) {
            let name = match &found.kind {
                CallKind::Role(role) => role.to_string(),
                kind @ (CallKind::All | CallKind::Category(_)) => kind.to_string(),
            };
            let _ = writeln!(text, "  {name:<18}{} ({})", series.words(&found.kind), ground(found, series.axis));
        }
    }
    let _ = writeln!(text, "\n{} claims, {} not shown", findings.claims.shown.len(), findings.claims.not_shown.len());
    for found in findings.predictions.iter().filter(|found| !found.is_unasked()) {
        let _ = writeln!(text, "  {} on {}: {}", found.name, found.backend, found.outcome.name());
    }
    text
}

/// A table; every cell is plain text.
pub(crate) fn table(text: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| plain(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
}

/// A table that is folded until a reader asks for it.
pub(crate) fn folded(text: &mut String, summary: &str, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    text.push_str(&fold(summary));
    table(text, head, rows);
    text.push_str(FOLD_ENDS);
}

/// Claims as sentences, with how far each goes; those that differ only in what is counted, or in what repetition was varied
/// at, are one.
fn sentences(claims: &[Claim]) -> Vec<Vec<String>> {
    type Of<'a> = [&'a str; 5];
    let mut rows: Vec<(Of<'_>, &Claim, Vec<&str>)> = Vec::new();
    for claim in claims {
        let of: Of<'_> = [&claim.backend, &claim.model, &claim.options, &claim.insensitive_to, &claim.rules_out];
        match rows.iter_mut().find(|(other, one, _)| *other == of && one.kind == claim.kind && one.tag == claim.tag) {
            Some((_, _, on)) => on.push(&claim.depends_on),
            None => rows.push((of, claim, vec![&claim.depends_on])),
        }
    }
    let mut merged: Vec<(Of<'_>, &Claim, Vec<&str>, Vec<String>)> = Vec::new();
    for (of, claim, on) in rows {
        let same = |(other, one, their, _): &&mut (Of<'_>, &Claim, Vec<&str>, Vec<String>)| {
            *other == of && *their == on && one.tag == claim.tag
        };
        match merged.iter_mut().find(same) {
            Some((.., kinds)) => kinds.push(claim.kind.to_string()),
            None => merged.push((of, claim, on, vec![claim.kind.to_string()])),
        }
    }
    let sentence = |([backend, model, options, insensitive_to, rules_out], claim, on, kinds): (
        Of<'_>,
        &Claim,
        Vec<&str>,
        Vec<String>,
    )| {
        let name = [backend, model, options].join(" ");
        let depend = if kinds.len() == 1 && kinds[0] != "all calls" { "depends" } else { "depend" };
        let are = if depend == "depends" { "is" } else { "are" };
        let text = format!(
            "On {}, {} {depend} on {} but {are} insensitive to {insensitive_to}, ruling out {rules_out}.",
            name.trim_end(),
            kinds.join(", "),
            on.join(" and "),
        );
        vec![text, claim.tag.to_string()]
    };
    merged.into_iter().map(sentence).collect()
}

fn environment(text: &mut String, findings: &Findings) {
    let environment = &findings.environment;
    let host = &environment["host"];
    let word = |name: &str| plain(host[name].as_str().unwrap_or("unknown"));
    let gpus = environment["nvidia_gpus"].as_array().into_iter().flatten();
    let gpus: Vec<String> = gpus.filter_map(|gpu| Some(format!(", {}", plain(gpu["model"].as_str()?)))).collect();
    let driver = environment["nvidia_driver"].as_str().map(|version| format!(", NVIDIA's driver {}", plain(version)));
    let _ = writeln!(
        text,
        "On {}, Linux {}, {} CPUs{}{}. {} of {} runs used. A verdict needs {LEAST_BLOCKS} blocks beside the first, which is not used, and {LEAST_LEVELS} levels over three decades. Counts are of the phase work (of inference: infer), less those of the same block's run without iterations. No growth is fewer than {FLAT_CALLS_PER_ITERATION} calls an iteration; along size, {FLAT_CALLS} call or {} %, whichever is more.\n",
        word("cpu"),
        word("kernel"),
        host["cpus"].as_u64().unwrap_or_default(),
        gpus.concat(),
        driver.unwrap_or_default(),
        findings.used,
        findings.wanted,
        100.0 * FLAT_SHARE
    );
    let of_series = findings.series.iter().map(|series| &series.plan.backend);
    let of_interventions = findings.interventions.iter().map(|one| &one.plan.base.backend);
    let used: BTreeSet<&str> = of_series.chain(of_interventions).map(String::as_str).collect();
    let backends = environment["backends"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = backends
        .filter_map(|found| {
            let name = found["name"].as_str().filter(|name| used.contains(name))?;
            let ok = &found["found"]["Ok"];
            let word = |name: &str| ok[name].as_str().unwrap_or_default().to_owned();
            let devices: Vec<_> = ok["devices"].as_array()?.iter().filter_map(serde_json::Value::as_str).collect();
            Some(vec![name.to_owned(), word("runtime"), word("library"), devices.join(", ")])
        })
        .collect();
    if !rows.is_empty() {
        table(text, &["backend", "runtime", "library", "devices"], rows);
    }
}

fn claims(text: &mut String, findings: &Findings) {
    text.push_str("## Claims\n\n");
    let claims = &findings.claims;
    if claims.shown.is_empty() {
        text.push_str(
            "None: a claim needs a resolved effect on one thing and a passed test of equivalence on another.\n\n",
        );
    } else {
        text.push_str("Each is a resolved effect on one thing and a passed test of equivalence on another. All of one machine: what they say beyond the stack that they name is uncertain; gpuos-trace compare sets vendors beside each other.\n\n");
        folded(text, "Every claim, with the verdicts that it rests on", &["claim", "reach"], sentences(&claims.shown));
    }
}

/// When and by which rules it was settled what would be asked.
fn registered(text: &mut String, findings: &Findings) {
    if findings.unregistered > 0 {
        text.push_str("Their texts are of 2026-11-20, before anything was run; a dataset of before version 3 does not say by which rules it was begun, and several thresholds and the rule on time were changed after data was seen (docs/verdicts.md).\n\n");
    }
    for registration in &findings.registrations {
        let Registration { registered, rules, plan_sha256, .. } = registration;
        let _ = writeln!(
            text,
            "Registered {} by rules {}, plan {}, before the first run{}.\n",
            plain(registered),
            plain(rules),
            plan_sha256.get(..12).unwrap_or_default(),
            if rules == RULES { String::new() } else { format!("; judged by rules {RULES}, which are later") }
        );
    }
}

fn predictions(text: &mut String, findings: &Findings) {
    text.push_str("## Predictions\n\nEach can be refuted. ");
    registered(text, findings);
    if findings.series.is_empty() {
        // Those of the questions are about series.
        return;
    }
    let is_absent = |found: &&Prediction| found.is_unasked();
    let rows = findings.predictions.iter().filter(|found| !is_absent(found)).map(|found| {
        let words = [found.name.as_str(), &found.text, &found.backend, found.outcome.name(), &found.evidence];
        words.map(str::to_owned).to_vec()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        table(text, &["", "prediction", "on", "came", "evidence"], rows);
    }
    let absent: Vec<String> = findings
        .predictions
        .iter()
        .filter(is_absent)
        .map(|found| format!("{} on {}", found.name, found.backend))
        .collect();
    if !absent.is_empty() {
        let _ = writeln!(text, "The plan has no series for: {}.\n", plain(&absent.join(", ")));
    }
}

/// The answers to what a dataset was asked: to the three questions, and what came of interventions.
fn answers_of(findings: &Findings) -> Vec<String> {
    let is_asked = !findings.series.is_empty();
    let mut answers: Vec<String> = if is_asked { answers::answers(findings).to_vec() } else { Vec::new() };
    answers.extend(intervention::summary(&findings.interventions));
    answers
}

/// What a reader wants to know first.
fn first_screen(text: &mut String, findings: &Findings) {
    for answer in answers_of(findings) {
        let _ = writeln!(text, "- {}", plain(&answer));
    }
    text.push('\n');
    let (spoken, more) = answers::spoken(&findings.claims.shown);
    for claim in spoken {
        let _ = writeln!(text, "1. {}", plain(&claim));
    }
    if more > 0 {
        let _ = writeln!(text, "\n{more} claims more are below.");
    }
    text.push('\n');
    if let Some(others) = answers::others(findings) {
        let _ = writeln!(
            text,
            "Counts are those of the thread that issues the work. Other threads, at the largest level: {}.\n",
            plain(&others)
        );
    } else if !findings.knows_threads {
        text.push_str("These counts are those of all threads: the dataset does not say who made a call, so that a runtime's own thread that wakes up now and then is among them.\n\n");
    }
}

/// What came of an axis, in a paragraph.
fn paragraph(series: &[&SeriesFindings]) -> String {
    let all = |test: &dyn Fn(&SeriesFindings) -> bool| -> Vec<String> {
        series.iter().filter(|series| test(series)).map(|series| series.name.clone()).collect()
    };
    let changing = series.iter().filter(|series| series.grows(&CallKind::All));
    let changing: Vec<String> =
        changing.map(|series| format!("{} ({})", series.name, series.words(&CallKind::All))).collect();
    let flat = all(&|series| series.is_flat(&CallKind::All));
    let open = all(&|series| !series.is_flat(&CallKind::All) && !series.grows(&CallKind::All));
    let part = |what: &str, names: &[String]| {
        if names.is_empty() { String::new() } else { format!(" {what}: {}.", names.join("; ")) }
    };
    plain(&format!(
        "{} series.{}{}{}",
        series.len(),
        part("All calls together change in", &changing),
        part("They are shown to stay the same in", &flat),
        part("Nothing is shown for", &open)
    ))
}

fn along(text: &mut String, findings: &Findings, axis: Axis, question: &str, plot: &str) {
    let _ = writeln!(text, "## {question}\n");
    let series: Vec<&SeriesFindings> = findings.series.iter().filter(|series| series.axis == axis).collect();
    if series.is_empty() {
        text.push_str("The plan has no series along this axis.\n\n");
        return;
    }
    let _ = writeln!(text, "{}\n\n![{}]({plot})\n", paragraph(&series), plain(question));
    let rows = series.iter().flat_map(|series| {
        series.kinds.iter().enumerate().map(|(place, found)| {
            let ends =
                [found.medians.first(), found.medians.last()].map(|end| end.map_or_else(String::new, |n| short(*n)));
            let [first, last] = ends;
            let name = if place == 0 { series.name.clone() } else { String::new() };
            vec![name, found.kind.to_string(), first, last, series.words(&found.kind), ground(found, axis)]
        })
    });
    let head = ["series", "of what", "calls at the smallest", "at the largest", "verdict", "95 %"];
    folded(text, "Every verdict, by role and category", &head, rows);
}

fn execution(text: &mut String, findings: &Findings) {
    let _ = writeln!(text, "## {}\n", findings.questions.execution);
    let found = &findings.execution;
    // By category, each workload once with the largest of its shares.
    let mut dominant: BTreeMap<&str, BTreeMap<String, f64>> = BTreeMap::new();
    for share in found.shares.iter().filter(|share| share.dominates) {
        let of_workload = dominant.entry(&share.category).or_default().entry(workload(&share.cell)).or_default();
        *of_workload = of_workload.max(share.with);
    }
    let dominant: Vec<String> = dominant
        .into_iter()
        .map(|(category, workloads)| {
            let shares = workloads.iter().map(|(workload, share)| format!("{workload} {:.0} %", 100.0 * share));
            format!("{category} of {}", shares.collect::<Vec<_>>().join(", "))
        })
        .collect();
    if found.has_cpu {
        let _ = writeln!(
            text,
            "{} categories are in 95 % of a runtime's runs and in none of the CPU's. {}\n",
            found.appears.iter().map(|found| &found.category).collect::<BTreeSet<_>>().len(),
            if dominant.is_empty() {
                "None is shown to dominate the timed work.".to_owned()
            } else {
                format!("Their share of the timed work is larger than on the CPU: {}.", plain(&dominant.join("; ")))
            }
        );
    } else {
        text.push_str("Not asked: the plan has no series of the model `cpu` to compare with.\n\n");
    }
    if !findings.interactions.is_empty() {
        text.push_str("![Calls by phase and role](phases.svg)\n\n");
    }
    appearances(text, &found.appears);
    shares(text, &found.shares);
}

/// The backend and the model of a cell, as in `alloc --backend cuda --bytes 4096`.
fn workload(cell: &str) -> String {
    let mut words = cell.split(' ');
    let model = words.next().unwrap_or_default();
    match words.skip_while(|word| *word != "--backend").nth(1) {
        Some(backend) => format!("{backend} {model}"),
        // The model of the CPU, or another program.
        None => cell.split(" --iters").next().unwrap_or(cell).to_owned(),
    }
}

/// Categories that are there only with a runtime; the models of a backend side by side, where they are alike.
fn appearances(text: &mut String, appears: &[Appearance]) {
    if appears.is_empty() {
        return;
    }
    text.push_str("In all phases, start-up included:\n\n");
    let mut rows: Vec<(&Appearance, Vec<&str>, u64, u64)> = Vec::new();
    for found in appears {
        let (backend, model) = found.cell.split_once(' ').unwrap_or((&found.cell, ""));
        let same =
            |other: &Appearance| other.category == found.category && other.cell.starts_with(&format!("{backend} "));
        match rows.iter_mut().find(|(other, ..)| same(other)) {
            Some((_, models, with, of)) => {
                models.push(model);
                (*with, *of) = (*with + found.with, *of + found.of);
            }
            None => rows.push((found, vec![model], found.with, found.of)),
        }
    }
    let rows = rows.into_iter().map(|(found, models, with, of)| {
        let backend = found.cell.split(' ').next().unwrap_or_default();
        let (with, without) = (format!("{with} of {of}"), format!("0 of {}", found.without));
        let runtime = format!("{backend} {}", models.join(", "));
        vec![runtime, found.category.clone(), with, without, format!("below {}", upper_bound(found.bound))]
    });
    folded(
        text,
        "Categories that are there with a runtime alone",
        &["runtime", "category", "runs with it", "on the CPU", "true rate there, 95 %"],
        rows,
    );
}

/// Shares of the timed work, beside the CPU's.
fn shares(text: &mut String, shares: &[Share]) {
    if shares.is_empty() {
        return;
    }
    text.push_str("Shares of the calls in the timed work, beside the CPU's at the same size and repetition (0 where no call is made); intervals at 95 % for all of them together:\n\n");
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = shares.iter().map(|share| {
        let interval = format!("{} to {}", percent(share.interval.low), percent(share.interval.high));
        let dominates = if share.dominates { "dominates" } else { "not shown" };
        let cell = share.cell.clone();
        vec![cell, share.category.clone(), percent(share.with), percent(share.without), interval, dominates.to_owned()]
    });
    let head = ["workload", "category", "share", "on the CPU", "difference", ""];
    folded(text, "Shares of the work, category by category", &head, rows);
}

fn options(text: &mut String, findings: &Findings) {
    if findings.variants.is_empty() {
        return;
    }
    text.push_str("## Which options change what is counted?\n\nSeries that differ in one option, at their largest level; intervals at 95 % for all of them together. This holds the data constant and varies how long a kernel takes or how it is waited for.\n\n");
    let rows = findings.variants.iter().flat_map(|pair| {
        let value = |value: &str| if value.is_empty() { "default".to_owned() } else { value.to_owned() };
        pair.kinds.iter().filter(|found| !matches!(found.kind, CallKind::Category(_))).map(move |found| {
            let outcome = match found.outcome {
                Contrast::Differs => "differs",
                Contrast::Same => "the same",
                Contrast::Undecided => "inconclusive",
            };
            vec![
                pair.cell.clone(),
                format!("{}: {} to {}", pair.option, value(&pair.first), value(&pair.second)),
                found.kind.to_string(),
                format!("{:.1} ({:.1} to {:.1})", found.difference, found.interval.low, found.interval.high),
                outcome.to_owned(),
            ]
        })
    });
    folded(text, "Every pair, by role", &["workload", "option", "of what", "calls more", ""], rows);
}

fn inference(text: &mut String, findings: &Findings) {
    text.push_str("## Does what is known of repetition hold for a real model?\n\n");
    if findings.claims.in_inference.is_empty() {
        text.push_str("Not asked: the plan has no inference on a backend that it also varies in repetition.\n\n");
        return;
    }
    let rows = findings
        .claims
        .in_inference
        .iter()
        .map(|found| vec![found.claim.clone(), found.model.clone(), found.outcome.to_owned(), found.why.clone()]);
    folded(text, "Every verdict beside the model's", &["verdict", "model", "", "verdict there"], rows);
}

/// Counts alone mislead: a wait that spins makes no call and takes a core.
fn cost(text: &mut String, findings: &Findings) {
    text.push_str("## What the work costs, and the tracer\n\nCounts alone mislead: a wait that spins makes no call and takes a core. The largest level of each series without the tracer: latencies are medians of the blocks, the rest is of one run, whose work took the middle of all times; the tracer's overhead is the ratio of median latencies in the same block, with its 95 % interval.\n\n");
    let micros = |ns: f64| format!("{:.1} µs", ns / 1e3);
    let millis = |ns: f64| format!("{:.1} ms", ns / 1e6);
    let rows = findings.series.iter().filter_map(|series| {
        let cost = series.cost.as_ref()?;
        let overhead = format!("{:.3} ({:.3} to {:.3})", cost.overhead, cost.overhead_95.low, cost.overhead_95.high);
        Some(vec![
            cost.cell.clone(),
            micros(cost.p50_ns),
            micros(cost.p99_ns),
            if cost.overhead.is_nan() { String::new() } else { overhead },
            millis(cost.wall_ns),
            millis(cost.user_ns),
            millis(cost.system_ns),
            format!("{} + {}", short(cost.voluntary_switches), short(cost.involuntary_switches)),
            format!("{} + {}", short(cost.minor_faults), short(cost.major_faults)),
        ])
    });
    let head = [
        "workload",
        "p50",
        "p99",
        "with the tracer",
        "wall",
        "user CPU",
        "system CPU",
        "switches: own + forced",
        "faults: minor + major",
    ];
    folded(text, "Cost of every series", &head, rows);
}

fn controls(text: &mut String, findings: &Findings) {
    if findings.series.is_empty() {
        left_out(text, findings);
        return;
    }
    text.push_str("## Controls\n\nThe same cell twice in a block: calls by which it differs from itself in nine of ten blocks at most.\n\n");
    let rows = findings
        .series
        .iter()
        .filter_map(|series| Some(vec![series.name.clone(), series.blocks.to_string(), short(series.noise?)]));
    folded(text, "Noise of every series", &["series", "blocks", "noise, calls"], rows);
    left_out(text, findings);
    text.push_str("## Not shown\n\n");
    let rows = findings.claims.not_shown.iter().map(|NotShown { what, why }| vec![what.clone(), why.clone()]);
    folded(text, "Everything that was asked and is no claim", &["of what", "why no claim"], rows);
}

/// Runs that are not used.
fn left_out(text: &mut String, findings: &Findings) {
    if !findings.left_out.is_empty() {
        text.push_str("## Left out\n\n");
        for line in &findings.left_out {
            let _ = writeln!(text, "- {}", plain(line));
        }
        text.push('\n');
    }
}

fn map_name(map: &Interaction) -> String {
    format!("map-{}.svg", map.backend)
}

/// The report as Markdown.
fn markdown(findings: &Findings) -> String {
    let mut text = format!("# {}\n\n", plain(&findings.plan));
    first_screen(&mut text, findings);
    predictions(&mut text, findings);
    environment(&mut text, findings);
    intervention::section(&mut text, &findings.interventions);
    if !findings.series.is_empty() {
        of_series(&mut text, findings);
    }
    if !findings.interactions.is_empty() {
        who_calls_what(&mut text, &findings.interactions);
    }
    controls(&mut text, findings);
    text
}

/// The three questions, what follows from them and what the work costs.
fn of_series(text: &mut String, findings: &Findings) {
    claims(text, findings);
    let questions = &findings.questions;
    along(text, findings, Axis::Bytes, &questions.bytes, "size.svg");
    along(text, findings, Axis::Iterations, &questions.iterations, "repetition.svg");
    execution(text, findings);
    options(text, findings);
    inference(text, findings);
    cost(text, findings);
}

fn who_calls_what(text: &mut String, maps: &[Interaction]) {
    text.push_str("## Who calls what\n\nMedians of the blocks; the width of a band is its number of calls: above all phases of one workload of each backend, below the timed work of each series alone, at its own scale, and what the hardware does then, which is not observed. Which library made a call is not traced here: the program stands for itself and the runtime that it loads.\n\n");
    for map in maps {
        let _ = writeln!(text, "![{} {}]({})\n", plain(&map.backend), plain(&map.cell), map_name(map));
    }
}

/// The phases of each map, for the stacked bars.
fn phases(map: &Interaction) -> Phases {
    let order = |phase: &str| {
        let place = |phase: &str| phase::ORDER.iter().position(|other| *other == phase);
        // Of the two phases in which work is measured a run has one.
        place(if phase::is_measured(phase) { phase::WORK } else { phase }).unwrap_or(phase::ORDER.len())
    };
    let mut phases: BTreeMap<(usize, String), BTreeMap<Role, f64>> = BTreeMap::new();
    for flow in &map.flows {
        let name = if flow.phase.is_empty() { "outside" } else { &flow.phase };
        let roles = phases.entry((order(&flow.phase), name.to_owned())).or_default();
        *roles.entry(flow.role).or_default() += flow.calls;
    }
    Phases { name: map.cell.clone(), phases: phases.into_iter().map(|((_, name), roles)| (name, roles)).collect() }
}

/// Writes `report.md`, `report.html` (which needs nothing else), `verdicts.json` and the plots as SVG and PNG.
///
/// # Errors
/// A file cannot be written.
pub fn write(findings: &Findings, folder: &Path) -> Result<(), DatasetError> {
    let of_axis =
        |axis| plot::scaling(&findings.series.iter().filter(|series| series.axis == axis).collect::<Vec<_>>());
    let bars: Vec<Phases> = findings.interactions.iter().map(phases).collect();
    let plots = [
        ("size", of_axis(Axis::Bytes)),
        ("repetition", of_axis(Axis::Iterations)),
        ("phases", plot::phases(&bars)),
        ("doses", intervention::plot::doses(&findings.interventions)),
    ];
    let text = markdown(findings);
    let mut drawings: BTreeMap<String, String> =
        findings.interactions.iter().map(|map| (map_name(map), interaction::svg(map))).collect();
    let mut files = Vec::new();
    for (name, plot) in plots {
        let Some(Plot { svg, png }) = plot else { continue };
        drawings.insert(format!("{name}.svg"), svg);
        files.push((format!("{name}.png"), png));
    }
    files.push(("report.html".to_owned(), html(&findings.plan, &text, &drawings).into_bytes()));
    files.push(("report.md".to_owned(), text.into_bytes()));
    files.push(("verdicts.json".to_owned(), serde_json::to_vec_pretty(findings).unwrap_or_default()));
    files.extend(drawings.into_iter().map(|(name, drawing)| (name, drawing.into_bytes())));
    put_all(folder, &files)
}

/// Writes files into a folder.
pub(crate) fn put_all(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<(), DatasetError> {
    let fail = |path: PathBuf| move |error| DatasetError::File { path, error };
    for (name, bytes) in files {
        let path = folder.join(name);
        gpuos_host::files::write(&path, bytes).map_err(fail(path))?;
    }
    Ok(())
}
