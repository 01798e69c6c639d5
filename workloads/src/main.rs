//! `bench`: one unit of work, issued the same way on every execution stack.

mod api;
mod backend;
mod cli;
mod list;
mod measure;
mod model;
mod plan;
mod report;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    backend::{Backend, WithBackend},
    cli::Request,
    plan::Plan,
};

fn main() -> ExitCode {
    match run(&cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &cli::Cli) -> Result<(), Box<dyn std::error::Error>> {
    let Some(command) = &arguments.command else {
        return Ok(list::print(arguments.json)?);
    };
    gpuos_phase::switch("init");
    let Request { plan, backend, json, api } = command.request();
    let text = match backend {
        None => report::model(&model::cpu::run(&plan)?, json)?,
        Some(choice) if api => backend::with(choice, &plan, Calls { plan: &plan, json })??,
        Some(choice) => backend::with(choice, &plan, Work { plan: &plan, json })??,
    };
    Ok(report::print(&text)?)
}

type Printed = Result<String, Box<dyn std::error::Error>>;

/// A model on the backend that is chosen.
struct Work<'a> {
    plan: &'a Plan,
    json: bool,
}

impl WithBackend for Work<'_> {
    type Result = Printed;
    fn run<B: Backend>(self, backend: B) -> Printed {
        Ok(report::model(&model::run(backend, self.plan)?, self.json)?)
    }
}

/// Each call alone on the backend that is chosen.
struct Calls<'a> {
    plan: &'a Plan,
    json: bool,
}

impl WithBackend for Calls<'_> {
    type Result = Printed;
    fn run<B: Backend>(self, backend: B) -> Printed {
        Ok(report::api(&api::run(backend, self.plan)?, self.json)?)
    }
}
