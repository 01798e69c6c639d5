//! The command line of gpuos-trace.

use std::process::ExitCode;

use clap::Parser as _;
use gpuos_trace::{cli::Cli, cmd};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cmd::dispatch(cli),
        Err(error) => {
            // clap's own status for bad options is 2, which a traced command may return as well.
            let status = if error.use_stderr() { 125 } else { 0 };
            let _ = error.print();
            ExitCode::from(status)
        }
    }
}
