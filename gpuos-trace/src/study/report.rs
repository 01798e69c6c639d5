//! `gpuos-trace report DATASET -o REPORT` and `gpuos-trace compare DATASET… -o COMPARISON`.

use std::path::Path;

use anyhow::{Result, bail};
use gpuos_analysis::{compare, compare::Source, dataset::Dataset, findings, report};
use gpuos_host::{diagnostics, screen};

use super::{CompareArgs, ReportArgs};

pub(super) fn report(args: &ReportArgs) -> Result<()> {
    let datasets = args.datasets.iter().map(|folder| open(folder)).collect::<Result<Vec<_>>>()?;
    let findings = findings::find(&datasets)?;
    report::write(&findings, &args.output)?;
    screen::print(&report::summary(&findings))?;
    let page = args.output.join("report.html");
    diagnostics::report(&format!("wrote {}", page.display()));
    if findings.used == 0 {
        let why = findings.left_out.first().map_or("the plan has no cell", String::as_str);
        bail!("no run can be used: {why}\nhint: `{}` lists why each is left out", page.display());
    }
    Ok(())
}

pub(super) fn compare(args: &CompareArgs) -> Result<()> {
    let mut names = Vec::new();
    for folder in &args.datasets {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if names.iter().any(|(other, _)| *other == real) {
            bail!(
                "`{}` is named twice\nhint: name each dataset once; the backends of one are compared, too",
                folder.display()
            );
        }
        let last = real.file_name().map_or_else(|| real.display().to_string(), |name| name.to_string_lossy().into());
        names.push((real, last));
    }
    // Folders of the same name are told apart by their place.
    let name = |place: usize| -> String {
        let (_, last) = &names[place];
        let is_own = names.iter().filter(|(_, other)| other == last).count() == 1;
        if is_own { last.clone() } else { args.datasets[place].display().to_string() }
    };
    let sources = args.datasets.iter().enumerate().map(|(place, folder)| Ok(Source::of(name(place), &open(folder)?)?));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let groups = compare::compare(&sources);
    compare::write(&groups, &args.output)?;
    screen::print(&compare::markdown(&groups))?;
    diagnostics::report(&format!("wrote {}", args.output.join("comparison.html").display()));
    if let Some(source) = sources.iter().find(|source| source.used == 0) {
        bail!(
            "no run of {} can be used: {}\nhint: `gpuos-trace report` lists why each is left out",
            source.name,
            source.left_out.as_deref().unwrap_or("its plan has no cell")
        );
    }
    Ok(())
}

pub(super) fn open(folder: &Path) -> Result<Dataset> {
    if !folder.is_dir() {
        bail!("no folder `{}`\nhint: `gpuos-trace sweep PLAN.toml -o DATASET` makes one", folder.display());
    }
    Ok(Dataset::open(folder)?)
}
