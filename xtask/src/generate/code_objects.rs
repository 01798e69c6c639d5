//! `workloads/kernels/increment.hip.c` compiled for AMD's GPUs: one committed file for each kind of processor, and a list
//! of what they were built from, which guards drift where no compiler for them is installed.

use std::{fs, path::PathBuf, process::Command};

use crate::{checksum::sha256, process, setup};
use anyhow::{Context as _, Result, bail};

/// From Vega 20 to RDNA 4; `workloads/src/backend/hip.rs` names the same.
const PROCESSORS: [&str; 11] = [
    "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1200", "gfx1201",
];
/// No device libraries; the version of the format that ROCm 5 reads, too.
const FLAGS: [&str; 10] = [
    "-x",
    "c",
    "-std=c11",
    "-O2",
    "-Wall",
    "-Werror",
    "-nogpulib",
    "-mcode-object-version=4",
    "-fuse-ld=lld",
    "--target=amdgcn-amd-amdhsa",
];
const SOURCE: &str = "workloads/kernels/increment.hip.c";
const FOLDER: &str = "workloads/kernels/amdgpu";

fn listing() -> PathBuf {
    process::root().join(FOLDER).join("built-from")
}

/// What the files are made from, and what they are: a line each.
fn expected() -> Result<String> {
    let source = fs::read(process::root().join(SOURCE)).context(SOURCE)?;
    let mut lines = vec![format!("{}  {SOURCE}", sha256(&source)), FLAGS.join(" ")];
    for processor in PROCESSORS {
        let file = format!("{FOLDER}/{processor}.co");
        let bytes = fs::read(process::root().join(&file)).unwrap_or_default();
        lines.push(format!("{}  {file}", sha256(&bytes)));
    }
    Ok(lines.join("\n") + "\n")
}

/// Compiles where the source, the options or a file has changed; with `check` fails instead.
pub(super) fn build(check: bool) -> Result<()> {
    if fs::read_to_string(listing()).is_ok_and(|listed| expected().is_ok_and(|expected| expected == listed)) {
        eprintln!("{FOLDER} belongs to {SOURCE}");
        return Ok(());
    }
    if check {
        bail!("{FOLDER} is not what {SOURCE} gives\nhint: run `cargo xtask gen` and commit the result");
    }
    setup::amdgpu()?;
    for processor in PROCESSORS {
        let file = process::root().join(FOLDER).join(processor).with_extension("co");
        let mut command = Command::new("clang-22");
        command.args(FLAGS).arg(format!("-mcpu={processor}")).arg(process::root().join(SOURCE)).arg("-o").arg(&file);
        process::run(&mut command)?;
    }
    fs::write(listing(), expected()?)?;
    eprintln!("wrote {FOLDER}");
    Ok(())
}
