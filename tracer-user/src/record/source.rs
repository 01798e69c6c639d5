//! Where events are read from: a finished recording, or the journal of one that was not finished.

use std::{fs::File, io::Read as _, path::Path};

use polars_core::frame::DataFrame;

use super::{
    event::Event,
    file::{Recording, RecordingError},
    journal::{self, Head, Reader},
    table::Table,
    writer::ROWS,
};
use crate::model::{roles::Roles, run::Clocks};

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
