//! Where events are read from: a finished recording, or the journal of one that was not finished.

use std::{io::Read as _, path::Path};

use gpuos_decode::roles::Roles;
use gpuos_host::files;
use gpuos_model::{machine::Clocks, units};
use gpuos_runs::{
    losses::Losses,
    run::{End, Header, Mode},
};
use polars_core::frame::DataFrame;

use crate::{
    Recorded,
    counts::Counts,
    event::Event,
    file::{ROWS, Recording, RecordingError, Unfinished},
    journal::{self, JournalHeader, JournalReader},
    table::Table,
};

/// One of them.
#[derive(Debug)]
pub enum Source {
    /// A recording.
    Finished(Box<Recording>),
    /// A journal.
    Journal(Box<JournalReader>),
}

impl Source {
    /// Opens a file; `None` when it is neither.
    ///
    /// # Errors
    /// [`RecordingError`] when it is one and cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, RecordingError> {
        let mut start = [0; 8];
        if files::open_regular(path).and_then(|mut file| file.read(&mut start)).is_ok() && journal::is_journal(&start) {
            return Ok(Some(Self::Journal(Box::new(JournalReader::open(path)?))));
        }
        Ok(Recording::open(path)?.map(|recording| Self::Finished(Box::new(recording))))
    }

    /// The traced command line.
    #[must_use]
    pub fn command(&self) -> &[String] {
        match self {
            Self::Finished(recording) => &recording.header.command,
            Self::Journal(reader) => &reader.head.command,
        }
    }

    /// Whether no call was left out on purpose (`-e`).
    #[must_use]
    pub fn has_every_call(&self) -> bool {
        match self {
            Self::Finished(recording) => recording.header.mode.filter.is_empty(),
            Self::Journal(reader) => reader.head.filter.is_empty(),
        }
    }

    /// Clocks at the start.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        match self {
            Self::Finished(recording) => recording.header.clocks,
            Self::Journal(reader) => reader.head.clocks,
        }
    }

    /// Gives the rows to `take`, some at a time. What is damaged ends a journal; the reason is returned.
    ///
    /// # Errors
    /// [`RecordingError::NotReadable`], and what `take` says.
    pub fn read<E: From<RecordingError>>(
        &mut self,
        take: impl FnMut(&DataFrame) -> Result<(), E>,
    ) -> Result<Option<String>, E> {
        match self {
            Self::Finished(recording) => recording.read(take).map(|()| None),
            Self::Journal(reader) => rows_of(reader, take),
        }
    }
}

/// Gives the events of a journal as rows to `take`. Returns why it ended, where it is damaged.
fn rows_of<E: From<RecordingError>>(
    reader: &mut JournalReader,
    mut take: impl FnMut(&DataFrame) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let head = &reader.head;
    let mut table = Table::new(Roles::parse(&head.roles).unwrap_or_default(), head.devices.clone());
    loop {
        let read = reader.next(|bytes| {
            if let Some(event) = Event::parse(bytes) {
                table.take(&event);
            }
        });
        let (ends, damage) = match read {
            Ok(read) => (read == 0, None),
            Err(error) => (true, Some(error.to_string())),
        };
        if ends || table.len() >= ROWS {
            take(&table.frame().map_err(RecordingError::from)?)?;
        }
        if ends {
            return Ok(damage);
        }
    }
}

/// Makes a recording of a journal, with what `why` says among its notes. Returns also what was damaged.
///
/// # Errors
/// [`RecordingError`].
pub fn finish(
    mut journal: JournalReader,
    path: &Path,
    why: impl FnOnce(&JournalHeader, &Counts) -> String,
) -> Result<(Recorded, Option<String>), RecordingError> {
    let mut unfinished = Unfinished::create(path)?;
    let mut counts = Counts::default();
    let damage = rows_of(&mut journal, |rows| {
        counts.add(rows)?;
        unfinished.write(rows)
    })?;
    let why = why(&journal.head, &counts);
    let header = header_of(journal.head.clone(), &mut counts, &why, damage.clone());
    Ok((unfinished.finish(path, &header)?, damage))
}

/// Why a journal has no header: said to who reads it.
#[must_use]
pub fn unfinished(head: &JournalHeader, counts: &Counts) -> String {
    let (_, end) = counts.span.unwrap_or_default();
    let since = units::duration(end.saturating_sub(head.clocks.monotonic_ns));
    let events = units::plural(counts.events, "event", "events");
    format!("this recording was not finished: it ends {since} after its beginning, with {events}")
}

/// A header for what was read from a journal, from what its own head and its events tell. `why` there is no better one.
#[must_use]
pub fn header_of(head: JournalHeader, counts: &mut Counts, why: &str, damage: Option<String>) -> Header {
    let (begin, end) = counts.span.unwrap_or_default();
    counts.end_at(end);
    let mut notes = vec![why.to_owned()];
    notes.extend(damage.map(|damage| format!("what follows in the file is damaged: {damage}")));
    Header {
        tool_version: head.tool_version,
        command: head.command,
        mode: Mode { filter: head.filter, roles_text: head.roles, ..Mode::default() },
        started: head.started,
        wall_ns: end.saturating_sub(begin),
        end: End::NotRecorded,
        clocks: head.clocks,
        host: head.host,
        nvidia_driver: head.devices.nvidia_version.as_ref().map(ToString::to_string),
        devices: Some(head.devices),
        losses: Losses { events: counts.lost, ..Losses::default() },
        notes,
        phases: std::mem::take(&mut counts.phases),
        processes: std::mem::take(&mut counts.processes),
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::{self, ExportFormat},
        print::{Choice, FirstDescriptors, Printer},
        rows,
    };
    use gpuos_decode::{devices::Devices, version::Version};
    use proptest::prelude::*;

    /// An event of each kind.
    const RECORDS: &[u8] = include_bytes!("../../fuzz/seeds/journal/one_of_each");

    fn journal_of(records: &[u8], path: &Path) {
        let mut devices = Devices::from_text("195 nvidia\n236 kfd\n", "");
        devices.nvidia_version = Version::parse("580.159.04");
        let mut file = journal::create(path, &JournalHeader { devices, ..JournalHeader::default() }).unwrap();
        std::io::Write::write_all(&mut file, records).unwrap();
    }

    proptest! {
        /// Whatever a journal holds is read, exported and made a recording, with as many events.
        #[test]
        fn damaged_journals_are_read(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), times in 1_usize..4) {
            let mut records = RECORDS.repeat(times);
            for (at, value) in changes {
                let at = at.index(records.len());
                records[at] = value;
            }
            let folder = tempfile::tempdir().unwrap();
            let (journal, file) = (folder.path().join("journal"), folder.path().join("finished.parquet"));
            journal_of(&records, &journal);
            let mut counts = Counts::default();
            let mut source = Source::open(&journal).unwrap().unwrap();
            source.read(|rows| counts.add(rows).map_err(RecordingError::from)).unwrap();
            for target in [ExportFormat::Perfetto, ExportFormat::Chrome, ExportFormat::Speedscope, ExportFormat::Folded, ExportFormat::Csv, ExportFormat::OtlpJson] {
                export::export(Source::open(&journal).unwrap().unwrap(), target, &mut std::io::sink()).unwrap();
            }
            for is_json in [false, true] {
                let mut printer = Printer::new(0, is_json, FirstDescriptors::NotKnown);
                let mut lines = 0;
                let mut source = Source::open(&journal).unwrap().unwrap();
                source.read(|frame| rows::each::<RecordingError>(frame, |row| {
                    let line = printer.line(&row, &Choice::default());
                    lines += 1;
                    assert!(line.is_some_and(|line| !line.contains(['\n', '\u{1b}']) && (!is_json || serde_json::from_str::<serde_json::Value>(&line).is_ok())));
                    Ok(())
                })).unwrap();
                prop_assert_eq!(lines, counts.events);
            }
            let Some(Source::Journal(reader)) = Source::open(&journal).unwrap() else { panic!("a journal") };
            finish(*reader, &file, unfinished).unwrap();
            let mut finished = Counts::default();
            let mut source = Source::open(&file).unwrap().unwrap();
            source.read(|rows| finished.add(rows).map_err(RecordingError::from)).unwrap();
            prop_assert_eq!((finished.events, finished.rows.len(), finished.lost), (counts.events, counts.rows.len(), counts.lost));
        }
    }
}
