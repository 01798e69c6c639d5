//! `--stacks FILE`: from what the kernel side kept to the file.

use std::io::{self, BufWriter};

use anyhow::{Result, anyhow};

use crate::{
    model::run::Run,
    options::{Folded, TraceOptions},
    sink,
    stacks::{self, Stacks},
    talk,
};

/// The user stacks of a trace: what the kernel side kept, and what was mapped where.
pub(super) struct Sites {
    pub(super) found: Stacks,
    pub(super) reader: stacks::Reader,
}

/// Writes the file of `--stacks` and says what is in it.
pub(super) fn write(options: &mut TraceOptions, sites: Option<Sites>, run: &Run) -> Result<()> {
    let (Some(Sites { found, reader }), Some(Folded { path, file })) = (sites, options.stacks.take()) else {
        return Ok(());
    };
    let shown = path.display();
    let mut to = BufWriter::new(file);
    let written = stacks::write_folded(&found, reader, &run.header.processes, &mut to)
        .and_then(|written| Ok((written, to.into_inner().map_err(io::IntoInnerError::into_error)?)))
        .and_then(|(written, file)| sink::persist(file, &path).map(|()| written))
        .map_err(|error| anyhow!("cannot write `{shown}`: {error}"))?;
    if options.view.is_some() {
        talk::print(&format!("\nwrote {written}\nto {shown}\n"));
    }
    Ok(())
}
