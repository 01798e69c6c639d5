//! `gpuos-trace sweep PLAN.toml -o DATASET`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use gpuos_analysis::{dataset::Dataset, plan::Plan};
use gpuos_host::files;

use super::{
    SweepArgs,
    sweep::{self, Sweep},
};

pub(super) fn sweep(args: &SweepArgs) -> Result<()> {
    let plan = files::read_to_string(&args.plan).with_context(|| format!("cannot read `{}`", args.plan.display()))?;
    let bench = match &args.bench {
        Some(bench) => bench.clone(),
        None => beside()?,
    };
    if !bench.is_file() {
        bail!(
            "no program `{}`\nhint: `cargo build --release --package gpuos-workloads` builds bench; `--bench PATH` names it",
            bench.display()
        );
    }
    let now = jiff::Timestamp::now().to_string();
    // What is no plan is told by `create`, with the file's name.
    let programs = Plan::parse(&plan).map_or_else(|_| Vec::new(), |plan| plan.programs());
    let dataset = Dataset::create(&args.output, &plan, &sweep::environment_of(&bench, &programs), &now, args.resume)
        .with_context(|| format!("`{}`", args.plan.display()))?;
    let bar = sweep::progress(u64::from(dataset.plan.blocks) * dataset.plan.cells().len() as u64);
    let limit = Duration::from_secs(args.limit);
    let done = Sweep { dataset, bench, limit }.run(|done| {
        bar.set_position(done.run + done.kept);
        if done.failed + done.lost > 0 {
            bar.set_message(format!("· {} failed, {} with losses", done.failed, done.lost));
        }
    })?;
    bar.finish_and_clear();
    sweep::report(&done, &args.output);
    if done.run > 0 && done.failed == done.run && done.kept == 0 {
        bail!("every cell failed\nhint: `gpuos-trace report {}` lists why", args.output.display());
    }
    Ok(())
}

/// `bench` where this program lies, else where commands are.
fn beside() -> Result<PathBuf> {
    let here = std::env::current_exe()?.with_file_name("bench");
    if here.is_file() {
        return Ok(here);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("bench")).find(|bench| bench.is_file());
    found.context("no program `bench` beside gpuos-trace or in PATH\nhint: `cargo build --release --package gpuos-workloads` builds it; `--bench PATH` names it")
}
