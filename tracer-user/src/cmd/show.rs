//! `gpuos-trace show FILE`: the tables of an earlier run, of a recording, or of one that was not finished.

use std::path::Path;

use anyhow::{Result, anyhow};
use gpuos_tracer_abi::ABI_VERSION;

use crate::{
    cli::ShowArgs,
    model::{
        frame,
        roles::Roles,
        run::{End, Header, Losses, Mode, Run, SCHEMA_VERSION, User},
    },
    options,
    record::{counts::Counts, journal::Head, source::Source},
    sink::{self, units},
};

pub(super) fn show(args: &ShowArgs) -> Result<()> {
    let run = read(&args.file)?;
    let stdout = std::io::stdout();
    let look = super::look_of(&stdout, anstream::AutoStream::choice(&stdout));
    let text = sink::table::render(&run, options::view(&args.tables), look)
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    super::print(&text)
}

fn read(path: &Path) -> Result<Run> {
    let Some(mut source) = Source::open(path)? else { return Ok(sink::read(path)?) };
    let mut counts = match &source {
        Source::Finished(recording) => Counts::new(&recording.header),
        Source::Journal(_) => Counts::default(),
    };
    let damage = source.read(|rows| Ok(counts.add(rows)?))?;
    let (mut header, roles) = match source {
        // The names in the file are given again from its numbers, by the devices in its header.
        Source::Finished(recording) => {
            let roles = Roles::parse(&recording.header.mode.roles_text).unwrap_or_default();
            let header = Header { phases: Vec::new(), processes: Vec::new(), ..recording.header };
            (header, roles)
        }
        Source::Journal(reader) => {
            let roles =
                Roles::parse(&reader.head.roles).map_err(|reason| anyhow!("its roles are not valid: {reason}"))?;
            (header_of(reader.head, &mut counts, damage), roles)
        }
    };
    header.phases.append(&mut counts.phases);
    header.processes.append(&mut counts.processes);
    let devices = header.devices.clone().unwrap_or_default();
    Ok(Run { calls: frame::build(&counts.rows, &header.processes, &header.phases, &roles, &devices)?, header })
}

/// What is known of a recording that was not finished.
pub(super) fn header_of(head: Head, counts: &mut Counts, damage: Option<String>) -> Header {
    let (begin, end) = counts.span.unwrap_or_default();
    let since = units::duration(end.saturating_sub(head.clocks.monotonic_ns));
    let events = units::plural(counts.events, "event", "events");
    let mut notes =
        vec![format!("this recording was not finished: it ends {since} after its beginning, with {events}")];
    notes.extend(damage.map(|damage| format!("what follows in the file is damaged: {damage}")));
    Header {
        schema_version: SCHEMA_VERSION,
        tool_version: head.tool_version,
        abi_version: ABI_VERSION,
        command: head.command,
        mode: Mode {
            timed: true,
            sample: 1,
            per_thread: false,
            wait_all: false,
            filter: head.filter,
            roles: None,
            roles_text: head.roles,
        },
        started: head.started,
        wall_ns: end.saturating_sub(begin),
        clocks: head.clocks,
        host: head.host,
        nvidia_driver: head.devices.nvidia_version.as_ref().map(ToString::to_string),
        devices: Some(head.devices),
        user: User::default(),
        end: End::Detached,
        losses: Losses { events: counts.lost, ..Losses::default() },
        notes,
        driver_functions: Vec::new(),
        phases: std::mem::take(&mut counts.phases),
        processes: std::mem::take(&mut counts.processes),
    }
}
