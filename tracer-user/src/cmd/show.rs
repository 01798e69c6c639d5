//! `gpuos-trace show FILE`: the tables of an earlier run, of a recording, or of one that was not finished.

use std::{cmp::Reverse, collections::BinaryHeap, io::Write as _, path::Path};

use anyhow::{Result, anyhow, bail};
use gpuos_decode::{roles::Roles, syscalls};
use gpuos_host::{diagnostics, screen};
use gpuos_model::units;
use gpuos_recording::{
    RecordingError,
    counts::Counts,
    export::ExportError,
    print::{Choice, FirstDescriptors, Printer},
    rows,
    source::{self, Source, header_of},
    table::word,
};
use gpuos_runs::{
    files, frame,
    run::{Header, Run},
};

use super::options;
use crate::{
    cli::{Pids, ShowArgs},
    output::{layout::style_of, summary},
};

pub(super) fn show(args: &ShowArgs) -> Result<()> {
    if args.events {
        return events(args);
    }
    let choice = &args.choice;
    let chooses = !args.words.is_empty() || !args.pids.is_empty() || choice.json || choice.failed;
    if args.slowest.is_none()
        && (chooses || choice.device.is_some() || choice.phase.is_some() || choice.slower.is_some())
    {
        bail!("lines are chosen with `--events` or `--slowest N`\nhint: `gpuos-trace show --events …`");
    }
    let run = summary::shown(read(&args.file)?, &args.tables.job_classes)?;
    let stdout = std::io::stdout();
    let style = style_of(&stdout, anstream::AutoStream::choice(&stdout));
    let text = summary::render(&run, options::view(&args.tables), style)
        .map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    screen::print(&text)?;
    if let Some(count) = args.slowest {
        screen::print(&slowest(args, count)?)?;
    }
    Ok(())
}

/// A recording, its printer, and which of its events are wanted.
fn lines_of(args: &ShowArgs) -> Result<(Source, Printer, Choice)> {
    let Some(source) = Source::open(&args.file)? else {
        bail!(
            "`{}` holds counts, and no events\nhint: `gpuos-trace record -o FILE.parquet -- CMD` writes a recording",
            args.file.display()
        );
    };
    let numbers = if args.words.is_empty() { Vec::new() } else { Roles::default().select(&args.words)? };
    let names = numbers.into_iter().filter_map(syscalls::by_number).map(|call| call.name.to_owned()).collect();
    let first = if source.has_every_call() { FirstDescriptors::NotKnown } else { FirstDescriptors::NotFollowed };
    let printer = Printer::new(source.clocks().monotonic_ns, args.choice.json, first);
    Ok((source, printer, options::choice(&args.choice, names, Pids::all(&args.pids))))
}

/// Each event as a line.
fn events(args: &ShowArgs) -> Result<()> {
    let (mut source, mut printer, choice) = lines_of(args)?;
    let mut out = screen::standard_output();
    let damage = source.read(|frame| {
        rows::each(frame, |row| match printer.line(&row, &choice) {
            Some(line) => writeln!(out, "{line}").map_err(ExportError::from),
            None => Ok(()),
        })
    });
    match damage.and_then(|damage| Ok(out.flush().map(|()| damage)?)) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        Err(error) => Err(anyhow!("{}: {error}", args.file.display())),
        Ok(damage) => {
            damage
                .iter()
                .for_each(|damage| diagnostics::report(&format!("what follows in the file is damaged: {damage}")));
            Ok(())
        }
    }
}

/// The calls that took longest, the longest first.
fn slowest(args: &ShowArgs, count: usize) -> Result<String> {
    let (mut source, mut printer, choice) = lines_of(args)?;
    // The shortest of those that are kept is the first to go.
    let mut kept: BinaryHeap<Reverse<(u64, String)>> = BinaryHeap::new();
    source.read(|frame| {
        rows::each::<RecordingError>(frame, |row| {
            let line = printer.line(&row, &choice);
            if let (word::CALL, Some(lasted), Some(line)) = (row.event, row.duration, line) {
                kept.push(Reverse((lasted, line)));
                if kept.len() > count {
                    kept.pop();
                }
            }
            Ok(())
        })
    })?;
    let calls = units::plural(kept.len() as u64, "slowest call", "slowest calls");
    let lines = kept.into_sorted_vec().into_iter().map(|Reverse((_, line))| line + "\n");
    Ok(format!("\nthe {calls}\n{}", lines.collect::<String>()))
}

pub(super) fn read(path: &Path) -> Result<Run> {
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
