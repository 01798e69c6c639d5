//! `gpuos-trace show FILE`: the tables of an earlier run, of a recording, or of one that was not finished.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, Result, anyhow};
use gpuos_tracer_abi::ABI_VERSION;

use crate::{
    cli::ShowArgs,
    model::{
        frame,
        roles::Roles,
        run::{End, Header, Losses, Mode, Run, SCHEMA_VERSION, User},
    },
    names::devices::Devices,
    options,
    record::{counts::Counts, event::Event, file::Recording, journal, table::Table},
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
    let mut start = [0; 8];
    let begins = File::open(path).and_then(|mut file| file.read(&mut start));
    if begins.is_ok() && journal::is_journal(&start) {
        return of_journal(path);
    }
    match Recording::open(path) {
        Ok(Some(recording)) => of_recording(&recording),
        _ => Ok(sink::read(path)?),
    }
}

/// The counts of a recording are those of its events.
fn of_recording(recording: &Recording) -> Result<Run> {
    let mut counts = Counts::new(&recording.header);
    recording.read(|rows| Ok(counts.add(rows)?))?;
    let mut header = recording.header.clone();
    header.phases.clone_from(&counts.phases);
    header.notes.push(span(&counts));
    // Names stand in the file; the numbers are named again as those of that machine.
    let (roles, devices) = (Roles::default(), recording_devices(&header));
    Ok(Run { calls: frame::build(&counts.rows, &header.processes, &header.phases, &roles, &devices)?, header })
}

fn recording_devices(header: &Header) -> Devices {
    header.devices.clone().unwrap_or_default()
}

/// What a recording holds, as a note.
fn span(counts: &Counts) -> String {
    let (begin, end) = counts.span.unwrap_or_default();
    format!("{} in {}", units::plural(counts.events, "event", "events"), units::duration(end.saturating_sub(begin)))
}

/// What there is of a recording that was not finished.
fn of_journal(path: &Path) -> Result<Run> {
    const ROWS: usize = 1 << 17;
    let mut input = journal::Reader::open(path)?;
    let head = input.head.clone();
    let roles = Roles::parse(&head.roles).map_err(|reason| anyhow!("its roles are not valid: {reason}"))?;
    let mut table = Table::new(roles.clone(), head.devices.clone());
    let mut counts = Counts::default();
    let mut damage = None;
    loop {
        let read = input.next(|bytes| {
            if let Some(event) = Event::parse(bytes) {
                table.take(&event);
            }
        });
        let ends = match read {
            Ok(read) => read == 0,
            Err(error) => {
                damage = Some(error);
                true
            }
        };
        if ends || table.len() >= ROWS {
            counts.add(&table.frame()?)?;
        }
        if ends {
            break;
        }
    }
    let (begin, end) = counts.span.unwrap_or_default();
    let since = units::duration(end.saturating_sub(head.clocks.monotonic_ns));
    let mut notes =
        vec![format!("this recording was not finished: it ends {since} after its beginning"), span(&counts)];
    if let Some(damage) = damage {
        notes.push(format!("what follows is damaged: {damage}"));
    }
    let processes = std::mem::take(&mut counts.processes);
    let calls = frame::build(&counts.rows, &processes, &counts.phases, &roles, &head.devices)
        .with_context(|| path.display().to_string())?;
    let header = Header {
        schema_version: SCHEMA_VERSION,
        tool_version: head.tool_version,
        abi_version: ABI_VERSION,
        command: head.command,
        mode: Mode { timed: true, sample: 1, per_thread: false, wait_all: false, filter: head.filter, roles: None },
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
        phases: counts.phases,
        processes,
    };
    Ok(Run { header, calls })
}
