//! `gpuos-trace completions SHELL`.

use anyhow::Result;
use clap::CommandFactory;
use gpuos_host::screen;

pub(crate) fn print<Cli: CommandFactory>(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gpuos-trace", &mut script);
    Ok(screen::print(&String::from_utf8(script)?)?)
}
