//! `gpuos-trace report DATASET -o REPORT`.

use anyhow::{Result, bail};
use gpuos_analysis::{dataset::Dataset, findings, report};

use crate::{cli::ReportArgs, talk};

pub(super) fn report(args: &ReportArgs) -> Result<()> {
    if !args.dataset.is_dir() {
        bail!("no folder `{}`\nhint: `gpuos-trace sweep PLAN.toml -o DATASET` makes one", args.dataset.display());
    }
    let dataset = Dataset::open(&args.dataset)?;
    let findings = findings::find(&dataset)?;
    report::write(&findings, &args.output)?;
    super::print(&report::summary(&findings))?;
    talk::say(&format!("wrote {}", args.output.join("report.html").display()));
    Ok(())
}
