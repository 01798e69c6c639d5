//! `cargo xtask demo`: from a fresh clone to the tables of a traced workload.

use anyhow::Result;

use crate::{
    process::{self, as_root, cargo},
    setup,
};

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trace programs that have jobs, on threads of the CPU and on OpenCL: the table by job class
    #[arg(long)]
    jobs: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::runtime()?;
    eprintln!("building (the first time takes some minutes, most of them polars)");
    process::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let folder = process::target_folder().join("debug");
    if options.jobs {
        process::run(cargo().args(["build", "--package", "gpuos-job", "--example", "classes"]))?;
        for device in ["host", "opencl"] {
            eprintln!("\n$ sudo gpuos-trace run --top 4 -- classes {device} 2");
            let mut trace = as_root(folder.join("gpuos-trace"));
            process::run(
                trace.args(["run", "--top", "4", "--"]).arg(folder.join("examples/classes")).args([device, "2"]),
            )?;
        }
        return Ok(());
    }
    eprintln!("\n$ sudo gpuos-trace run -- bench kernel");
    process::run(as_root(folder.join("gpuos-trace")).arg("run").arg("--").arg(folder.join("bench")).arg("kernel"))
}
