//! `gpuos-trace show FILE`: the tables of an earlier run, of a recording, or of one that was not finished.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use gpuos_decode::roles::Roles;
use gpuos_host::screen;
use gpuos_model::units;
use gpuos_recording::{
    RecordingError,
    counts::Counts,
    source::{self, Source, header_of},
};
use gpuos_runs::{
    files, frame,
    run::{Header, Run},
};

use super::options;
use crate::{
    cli::ShowArgs,
    output::{layout::style_of, summary},
};

pub(super) fn show(args: &ShowArgs) -> Result<()> {
    let run = summary::shown(read(&args.file)?, &args.tables.job_classes)?;
    let stdout = std::io::stdout();
    let style = style_of(&stdout, anstream::AutoStream::choice(&stdout));
    let text = summary::render(&run, options::view(&args.tables), style)
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    Ok(screen::print(&text)?)
}

fn read(path: &Path) -> Result<Run> {
    let Some(mut source) = Source::open(path)? else { return Ok(files::read(path)?) };
    let mut counts = match &source {
        Source::Finished(recording) => Counts::new(&recording.header),
        Source::Journal(_) => Counts::default(),
    };
    let damage = source.read(|rows| counts.add(rows).map_err(RecordingError::from))?;
    let (mut header, roles) = match source {
        // The names in the file are given again from its numbers, by the devices in its header.
        Source::Finished(recording) => {
            let roles = Roles::parse(&recording.header.mode.roles_text).unwrap_or_default();
            if recording.header.host.architecture != std::env::consts::ARCH {
                bail!(
                    "`{}` was recorded on {}, and the tables here are those of {}\nhint: `gpuos-trace export --to csv` has the names of that machine",
                    path.display(),
                    units::printable(&recording.header.host.architecture),
                    std::env::consts::ARCH
                );
            }
            let header = Header { phases: Vec::new(), processes: Vec::new(), ..recording.header };
            (header, roles)
        }
        Source::Journal(reader) => {
            let unfinished = source::unfinished(&reader.head, &counts);
            let roles = Roles::parse(&reader.head.roles)
                .map_err(|reason| anyhow!("its roles are not valid: {}", units::printable(&reason)))?;
            (header_of(reader.head, &mut counts, &unfinished, damage), roles)
        }
    };
    header.phases.append(&mut counts.phases);
    header.processes.append(&mut counts.processes);
    let devices = header.devices.clone().unwrap_or_default();
    Ok(Run { calls: frame::build(&counts.rows, &header.processes, &header.phases, &roles, &devices)?, header })
}
