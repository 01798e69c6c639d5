//! Findings for people: a sentence for each verdict, Markdown, and a page that a browser opens without anything else.

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    dataset::DatasetError,
    findings::{Appearance, Findings, RoleFindings},
    plot,
    verdict::{Axis, LEAST_BLOCKS, LEAST_LEVELS, Verdict, Word},
};

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
