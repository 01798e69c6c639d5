//! `bench`: one unit of work, issued the same way on every execution stack.

mod backend;
mod cli;
mod measure;
mod model;
mod report;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &cli::Cli) -> Result<(), Box<dyn std::error::Error>> {
    gpuos_phase::switch("init");
    let (options, choice) = match &arguments.model {
        cli::Model::Cpu(options) => (options, None),
        cli::Model::Alloc(options) | cli::Model::Kernel(options) => (&options.work, Some(options.backend)),
    };
    let outcome = match (&arguments.model, choice) {
        (cli::Model::Alloc(_), Some(choice)) => model::alloc(backend::open(choice)?.as_mut(), options)?,
        (cli::Model::Kernel(_), Some(choice)) => model::kernel(backend::open(choice)?.as_mut(), options)?,
        _ => model::cpu(options)?,
    };
    report::print(&outcome, options.json)?;
    Ok(())
}
