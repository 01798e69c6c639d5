//! `cargo xtask demo`: from a fresh clone to the tables of a traced workload.

use anyhow::Result;

use crate::{
    process::{self, as_root, cargo},
    setup,
};

pub(crate) fn run() -> Result<()> {
    setup::runtime()?;
    eprintln!("building (the first time takes some minutes, most of them polars)");
    process::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let folder = process::target_folder().join("debug");
    eprintln!("\n$ sudo gpuos-trace run -- bench kernel");
    process::run(as_root(folder.join("gpuos-trace")).arg("run").arg("--").arg(folder.join("bench")).arg("kernel"))
}
