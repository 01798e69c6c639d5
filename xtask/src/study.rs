//! `cargo xtask study`: the texts, reports, diagrams and figures of `study/` from committed data, and its report as PDF.

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    checksum::sha256,
    process::{self, cargo, find_program},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Compare with what is committed and write nothing; fail where something is stale
    #[arg(long)]
    check: bool,
    /// Print the interim report to `study/interim-report.pdf` as well, by Chromium
    #[arg(long, conflicts_with = "check")]
    pdf: bool,
    /// Only files whose path has these letters
    #[arg(value_name = "WORDS")]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let study = || {
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "gpuos-study", "--"]);
        command
    };
    let mut command = study();
    if options.check {
        command.arg("--check");
    }
    process::run(command.args(&options.only))?;
    if !options.pdf {
        return Ok(());
    }
    let browser =
        find_program("chromium").context("no program `chromium`\n  hint: `cargo xtask setup --tests` installs it")?;
    let page = process::target_folder().join("interim-report.html");
    process::run(study().arg("--page").arg(&page))?;
    let mut print = std::process::Command::new(browser);
    print.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]);
    print.arg(format!("--print-to-pdf={}", study_file("interim-report.pdf").display()));
    let output = print.arg(format!("file://{}", page.display())).output().context("cannot start chromium")?;
    if !output.status.success() {
        bail!("chromium: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    // `--check` compares: what is printed is of this text.
    let text = std::fs::read(study_file("interim-report.md"))?;
    Ok(std::fs::write(study_file("interim-report.pdf.sha256"), sha256(&text) + "\n")?)
}

fn study_file(name: &str) -> std::path::PathBuf {
    process::root().join("study").join(name)
}
