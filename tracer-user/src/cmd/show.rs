//! `gpuos-trace show FILE`: the tables of an earlier run.

use anyhow::{Result, anyhow};

use crate::{cli::ShowArgs, options, sink};

pub(super) fn show(args: &ShowArgs) -> Result<()> {
    let run = sink::read(&args.file)?;
    let stdout = std::io::stdout();
    let look = super::look_of(&stdout, anstream::AutoStream::choice(&stdout));
    let text = sink::table::render(&run, options::view(&args.tables), look)
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    super::print(&text)
}
