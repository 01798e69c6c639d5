//! `bench`: one unit of work, issued the same way on every execution stack.

mod api;
mod backend;
mod cli;
#[cfg(feature = "infer")]
mod infer;
mod list;
mod measure;
mod model;
mod processes;
mod report;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;
use gpuos_model::phase;

use crate::{
    backend::{Backend, WithBackend},
    cli::Task,
    workload::Workload,
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
    let others = processes::Others::start(request.processes() - 1)?;
    if request.task.begins_with_init() {
        gpuos_phase::switch(phase::INIT);
    }
    let text = match &request.task {
        Task::Cpu(workload) => report::model(&model::cpu::run(workload)?, json)?,
        Task::Model(workload, choice) => backend::with(*choice, workload, Work { workload, json })??,
        Task::Api(workload, choice) => backend::with(*choice, workload, Calls { workload, json })??,
        #[cfg(feature = "infer")]
        Task::Infer(workload) => report::inference(&infer::run(workload)?, json)?,
        #[cfg(not(feature = "infer"))]
        Task::NotBuiltIn => return Err(backend::BackendError::NotBuiltIn { backend: "infer".to_owned() }.into()),
    };
    others.wait()?;
    Ok(report::print(&text)?)
}

type Printed = Result<String, Box<dyn std::error::Error>>;

/// A model on the backend that is chosen.
struct Work<'a> {
    workload: &'a Workload,
    json: bool,
}

impl WithBackend for Work<'_> {
    type Result = Printed;
    fn run<B: Backend>(self, backend: B) -> Printed {
        Ok(report::model(&model::run(backend, self.workload)?, self.json)?)
    }
}

/// Each call alone on the backend that is chosen.
struct Calls<'a> {
    workload: &'a Workload,
    json: bool,
}

impl WithBackend for Calls<'_> {
    type Result = Printed;
    fn run<B: Backend>(self, backend: B) -> Printed {
        Ok(report::api(&api::run(backend, self.workload)?, self.json)?)
    }
}
