//! `gpuos-trace fleet FILE… -o FOLDER`: rows of a table of many machines.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gpuos_fleet::{
    partition,
    rows::{self, Owner},
};
use gpuos_host::{diagnostics, screen};

use super::show;
use crate::cli::FleetArgs;

pub(super) fn fleet(args: &FleetArgs) -> Result<()> {
    let owner = Owner {
        namespace: args.namespace.clone(),
        pod: args.pod.clone(),
        container: args.container.clone(),
        job: args.job.clone(),
    };
    // What can be added is, whatever is wrong with another file.
    let mut failed = 0;
    for file in &args.files {
        if let Err(error) = add(args, file, &owner) {
            diagnostics::report(&format!("`{}` is not added: {error:#}", file.display()));
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} files were not added", args.files.len());
    }
    Ok(())
}

fn add(args: &FleetArgs, file: &Path, owner: &Owner) -> Result<()> {
    let run = show::read(file)?;
    let mut rows = rows::of_run(&run, owner).context("its rows")?;
    if let Some(node) = &args.node {
        rows.node.clone_from(node);
    }
    let path = partition::write(&args.output, &args.cluster, &rows)?;
    Ok(screen::print(&format!("{} rows: {}\n", rows.frame.height(), path.display()))?)
}
