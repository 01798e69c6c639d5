//! `gpuos-trace report DATASET -o REPORT` and `gpuos-trace compare DATASET… -o COMPARISON`.

use std::path::Path;

use anyhow::{Result, bail};
use gpuos_analysis::{compare, compare::Source, dataset::Dataset, findings, report};

use crate::{
    cli::{CompareArgs, ReportArgs},
    talk,
};

pub(super) fn report(args: &ReportArgs) -> Result<()> {
    let findings = findings::find(&open(&args.dataset)?)?;
    report::write(&findings, &args.output)?;
    super::print(&report::summary(&findings))?;
    talk::say(&format!("wrote {}", args.output.join("report.html").display()));
    Ok(())
}

pub(super) fn compare(args: &CompareArgs) -> Result<()> {
    let sources = args.datasets.iter().map(|folder| {
        let name =
            folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into());
        Ok(Source::of(name, &open(folder)?)?)
    });
    let groups = compare::compare(&sources.collect::<Result<Vec<_>>>()?);
    compare::write(&groups, &args.output)?;
    super::print(&compare::markdown(&groups))?;
    talk::say(&format!("wrote {}", args.output.join("comparison.html").display()));
    Ok(())
}

fn open(folder: &Path) -> Result<Dataset> {
    if !folder.is_dir() {
        bail!("no folder `{}`\nhint: `gpuos-trace sweep PLAN.toml -o DATASET` makes one", folder.display());
    }
    Ok(Dataset::open(folder)?)
}
