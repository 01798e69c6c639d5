//! `gpuos-trace completions SHELL`.

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::Cli;

pub(super) fn print(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gpuos-trace", &mut script);
    super::print(&String::from_utf8(script)?)
}
