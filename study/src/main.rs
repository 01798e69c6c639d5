//! The texts of the study: every `*.md.j2` under `study/` becomes the `*.md` beside it, with numbers read from committed data;
//! every committed dataset becomes its report; figures and diagrams are drawn. `--check` compares and writes nothing.
#![expect(clippy::print_stdout, reason = "what a chore did, for people and scripts")]
#![expect(clippy::disallowed_methods, reason = "a chore runs as who develops, in a tree of theirs")]

mod data;
mod diagram;
mod falsifiers;
mod figures;
mod pressures;
mod reports;
mod side_by_side;
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

/// Write the texts, plots and reports of the study from committed data
#[derive(Debug, Parser)]
struct Options {
    /// Compare with what is committed and write nothing; fail where something is stale
    #[arg(long)]
    check: bool,
    /// Write the interim report as a page that needs nothing else, and nothing more
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The folder of the study
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_MANIFEST_DIR"))]
    study: PathBuf,
    /// Only files whose path has these letters
    #[arg(value_name = "WORDS", default_value = "")]
    only: String,
}

/// Files by their path under `study/`.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn main() -> Result<()> {
    let options = Options::parse();
    let study = options.study;
    let is_asked = |path: &Path| path.to_string_lossy().contains(&options.only);
    if let Some(page) = options.page {
        let text = fs::read_to_string(study.join("interim-report.md"))?;
        let page_text =
            gpuos_analysis::page::html("Interim report of phase 1", &without_links(&text)?, &pictures(&study, &text)?);
        return fs::write(&page, page_text).with_context(|| page.display().to_string());
    }
    let mut files = Files::new();
    // Texts read the verdicts of reports, so these come first.
    for report in reports::all() {
        if is_asked(Path::new(report.folder)) {
            eprintln!("study: report of {}", report.folder);
            files.extend(report.make(&study)?);
        }
    }
    if is_asked(Path::new("phase2/pressures")) {
        files.extend(pressures::make(&study)?);
    }
    if is_asked(Path::new("phase4/falsifiers")) {
        files.extend(falsifiers::make(&study)?);
    }
    let stale = settle(&study, &files, options.check)? + orphans(&study, &files)?;
    let mut others = Files::new();
    others.extend(diagram::all(&study)?);
    others.extend(figures::all(&study, &is_asked)?);
    others.extend(text::all(&study, &is_asked)?);
    others.retain(|path, _| is_asked(path));
    let stale = stale
        + settle(&study, &others, options.check)?
        + usize::from(is_asked(Path::new(PAPER)) && is_old_paper(&study)?);
    println!(
        "study: {} files, {stale} of them {}",
        files.len() + others.len(),
        if options.check { "stale" } else { "new" }
    );
    if options.check && stale > 0 {
        bail!(
            "the study does not say what its data say\nhint: `cargo xtask study`, look at what changed, and commit it"
        );
    }
    Ok(())
}

/// The interim report on paper, and the checksum of the text that it was printed from.
const PAPER: &str = "interim-report.pdf";
const PRINTED_FROM: &str = "interim-report.pdf.sha256";

/// Whether the report on paper is of another text.
fn is_old_paper(study: &Path) -> Result<bool> {
    let printed = fs::read_to_string(study.join(PRINTED_FROM)).unwrap_or_default();
    let text = fs::read(study.join("interim-report.md"))?;
    let is_old = printed.trim() != gpuos_analysis::dataset::checksum(&text);
    if is_old {
        println!("stale: {PAPER}: `cargo xtask study --pdf` prints it");
    }
    Ok(is_old)
}

/// Names files in the folders of reports that look like a report's and that no report has; how many they are.
fn orphans(study: &Path, made: &Files) -> Result<usize> {
    let of_a_report = regex::Regex::new(
        r"^(map-.+|size|repetition|phases|doses|comparison.*|report|verdicts)\.(svg|png|html|md|json)$",
    )?;
    let folders: std::collections::BTreeSet<&Path> = made.keys().filter_map(|path| path.parent()).collect();
    let mut count = 0;
    for folder in folders {
        for entry in fs::read_dir(study.join(folder))? {
            let name = entry?.file_name();
            let path = folder.join(&name);
            if of_a_report.is_match(&name.to_string_lossy()) && !made.contains_key(&path) {
                println!("stale: {}: no report makes it any more; remove it", path.display());
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The pictures of a text, by the names that it has for them.
fn pictures(study: &Path, text: &str) -> Result<BTreeMap<String, String>> {
    let image = regex::Regex::new(r"!\[[^\]]*\]\(([^)]*\.svg)\)")?;
    let names = image.captures_iter(text).map(|found| found[1].to_owned());
    names.map(|name| Ok((name.clone(), fs::read_to_string(study.join(&name))?))).collect()
}

/// A text that is read alone: where a link leads is said in words, since paper has no repository around it.
fn without_links(text: &str) -> Result<String> {
    let link = regex::Regex::new(r"(!?)\[([^\]]*)\]\(([^)]*)\)")?;
    let in_words = |found: &regex::Captures<'_>| {
        if found[1].is_empty() { found[2].to_owned() } else { found[0].to_owned() }
    };
    Ok(link.replace_all(text, in_words).into_owned())
}

/// Writes what is new, or names it; how many files that are.
fn settle(study: &Path, files: &Files, is_check: bool) -> Result<usize> {
    let mut stale = 0;
    for (path, bytes) in files {
        let whole = study.join(path);
        let old = fs::read(&whole).unwrap_or_default();
        if old == *bytes || is_check && is_same_but_for_rounding(path, &old, bytes, files) {
            continue;
        }
        stale += 1;
        println!("{} {}", if is_check { "stale:" } else { "wrote" }, path.display());
        if is_check {
            for line in difference(&old, bytes) {
                println!("    {line}");
            }
        } else {
            fs::create_dir_all(whole.parent().context("a file has a folder")?)?;
            fs::write(&whole, bytes).with_context(|| whole.display().to_string())?;
        }
    }
    Ok(stale)
}

/// Whether texts differ in the last digits of numbers alone: processors round powers and logarithms differently. A picture in
/// pixels is that of the drawing beside it.
fn is_same_but_for_rounding(path: &Path, old: &[u8], new: &[u8], files: &Files) -> bool {
    const RELATIVE: f64 = 1e-9;
    if path.extension().is_some_and(|ending| ending == "png") {
        return !old.is_empty() && files.contains_key(&path.with_extension("svg"));
    }
    let (Ok(old), Ok(new)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else { return false };
    let is_of_number = |letter: char| letter.is_ascii_digit() || ".-+eE".contains(letter);
    // Runs of letters of numbers, and of all others, one after the other.
    let parts = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut was = None;
        for letter in text.chars() {
            let is = is_of_number(letter);
            if was == Some(is) {
                if let Some(last) = parts.last_mut() {
                    last.push(letter);
                }
            } else {
                parts.push(letter.into());
            }
            was = Some(is);
        }
        parts
    };
    let (old, new) = (parts(old), parts(new));
    let is_near = |one: &String, other: &String| match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => (one - other).abs() <= RELATIVE * one.abs().max(other.abs()),
        _ => one == other,
    };
    old.len() == new.len() && old.iter().zip(&new).all(|(one, other)| is_near(one, other))
}

/// The first lines that differ, where both are text.
fn difference(old: &[u8], new: &[u8]) -> Vec<String> {
    const MOST: usize = 8;
    const WIDTH: usize = 160;
    let (Ok(old), Ok(new)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else { return Vec::new() };
    let changes = similar::TextDiff::from_lines(old, new);
    let lines = changes.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal);
    let line = |change: similar::Change<&str>| {
        format!("{}{}", change.tag(), change.value().trim_end().chars().take(WIDTH).collect::<String>())
    };
    lines.take(MOST).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_digit_of_a_power_makes_nothing_stale() {
        let same = |old: &str, new: &str| {
            is_same_but_for_rounding(Path::new("a.json"), old.as_bytes(), new.as_bytes(), &Files::new())
        };
        assert!(same("{\"p\": 3.814879878908299}", "{\"p\": 3.8148798789083}"));
        assert!(!same("{\"p\": 3.8148}", "{\"p\": 3.8149}") && !same("seven 7", "eight 7") && !same("7 8", "7"));
    }

    #[test]
    fn paper_has_no_links() {
        let text = "see [the page](a/b.md), [c](d) ![e](f.svg)";
        assert_eq!(super::without_links(text).unwrap(), "see the page, c ![e](f.svg)");
    }
}
