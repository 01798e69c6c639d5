//! `bench`: one unit of work, issued the same way on every execution stack.

mod api;
mod backend;
mod cli;
#[cfg(feature = "infer")]
mod infer;
mod list;
mod measure;
mod model;
mod plan;
mod report;

use std::process::ExitCode;

use clap::Parser as _;
use gpuos_model::phase;

use crate::{
    backend::{Backend, WithBackend},
    cli::Task,
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
    let request = command.request();
    let json = request.json;
    if request.task.begins_with_init() {
        gpuos_phase::switch(phase::INIT);
    }
    let text = match &request.task {
        Task::Cpu(plan) => report::model(&model::cpu::run(plan)?, json)?,
        Task::Model(plan, choice) => backend::with(*choice, plan, Work { plan, json })??,
        Task::Api(plan, choice) => backend::with(*choice, plan, Calls { plan, json })??,
        #[cfg(feature = "infer")]
        Task::Infer(plan) => report::inference(&infer::run(plan)?, json)?,
        #[cfg(not(feature = "infer"))]
        Task::NotBuiltIn => return Err(backend::BackendError::NotBuiltIn { backend: "infer".to_owned() }.into()),
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
