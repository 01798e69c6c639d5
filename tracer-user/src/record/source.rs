//! Where events are read from: a finished recording, or the journal of one that was not finished.

use std::{fs::File, io::Read as _, path::Path};

use gpuos_tracer_abi::ABI_VERSION;
use polars_core::frame::DataFrame;

use super::{
    counts::Counts,
    event::Event,
    file::{Recording, RecordingError},
    journal::{self, Head, Reader},
    table::Table,
    writer::ROWS,
};
use crate::{
    model::{
        roles::Roles,
        run::{Clocks, End, Header, Losses, Mode, SCHEMA_VERSION, User},
    },
    sink::units,
};

/// One of them.
#[derive(Debug)]
pub enum Source {
    /// A recording.
    Finished(Box<Recording>),
    /// A journal.
    Journal(Box<Reader>),
}

impl Source {
    /// Opens a file; `None` when it is neither.
    ///
    /// # Errors
    /// [`RecordingError`] when it is one and cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, RecordingError> {
        let mut start = [0; 8];
        if File::open(path).and_then(|mut file| file.read(&mut start)).is_ok() && journal::is_journal(&start) {
            return Ok(Some(Self::Journal(Box::new(Reader::open(path)?))));
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
    pub fn read(
        &mut self,
        mut take: impl FnMut(&DataFrame) -> Result<(), RecordingError>,
    ) -> Result<Option<String>, RecordingError> {
        let input = match self {
            Self::Finished(recording) => return recording.read(take).map(|()| None),
            Self::Journal(input) => input,
        };
        let mut table = table_of(&input.head);
        loop {
            let read = input.next(|bytes| {
                if let Some(event) = Event::parse(bytes) {
                    table.take(&event);
                }
            });
            let (ends, damage) = match read {
                Ok(read) => (read == 0, None),
                Err(error) => (true, Some(error.to_string())),
            };
            if ends || table.len() >= ROWS {
                take(&table.frame()?)?;
            }
            if ends {
                return Ok(damage);
            }
        }
    }
}

/// What names the events of a journal.
fn table_of(head: &Head) -> Table {
    Table::new(Roles::parse(&head.roles).unwrap_or_default(), head.devices.clone())
}

/// Why a journal has no header: said to who reads it.
#[must_use]
pub fn unfinished(head: &Head, counts: &Counts) -> String {
    let (_, end) = counts.span.unwrap_or_default();
    let since = units::duration(end.saturating_sub(head.clocks.monotonic_ns));
    let events = units::plural(counts.events, "event", "events");
    format!("this recording was not finished: it ends {since} after its beginning, with {events}")
}

/// A header for what was read from a journal, from what its own head and its events tell. `why` there is no better one.
#[must_use]
pub fn header_of(head: Head, counts: &mut Counts, why: &str, damage: Option<String>) -> Header {
    let (begin, end) = counts.span.unwrap_or_default();
    let mut notes = vec![why.to_owned()];
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
