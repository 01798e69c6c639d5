//! `gpuos-trace fleet FILE… -o FOLDER`: rows of a table of many machines.

use anyhow::{Context as _, Result};
use gpuos_fleet::{
    partition,
    rows::{self, Owner},
};
use gpuos_host::screen;

use super::show;
use crate::cli::FleetArgs;

pub(super) fn fleet(args: &FleetArgs) -> Result<()> {
    let owner = Owner {
        namespace: args.namespace.clone(),
        pod: args.pod.clone(),
        container: args.container.clone(),
        job: args.job.clone(),
    };
    for file in &args.files {
        let run = show::read(file)?;
        let mut rows = rows::of_run(&run, &owner).with_context(|| format!("rows of `{}`", file.display()))?;
        if let Some(node) = &args.node {
            rows.node.clone_from(node);
        }
        let path = partition::write(&args.output, &args.cluster, &rows)?;
        screen::print(&format!("{} rows: {}\n", rows.frame.height(), path.display()))?;
    }
    Ok(())
}
