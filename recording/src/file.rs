//! The file of a recording: Parquet, one row for each event, the header of the run in its metadata.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use gpuos_decode::{devices::Devices, roles::Roles};
use gpuos_host::files;
use gpuos_model::units;
use gpuos_runs::run::{Header, SCHEMA_VERSION};
use gpuos_tables::{TableFile, TableWriter};
use polars_core::{frame::DataFrame, prelude::PolarsError};

use crate::{Recorded, journal::JournalError, rows::COLUMNS, table::Table};

/// Key of the header in the file's metadata; that of a file of counts is `gpuos-trace`.
const HEADER: &str = "gpuos-trace-recording";

/// Rows that are written at once: some twenty megabytes of memory.
pub(crate) const ROWS: usize = 1 << 17;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file cannot be made.
    #[error("cannot write `{path}`: {source}\nhint: name a file in a folder that you may write to")]
    NotWritable {
        /// The file, as the user named it.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// The reader had to stop.
    #[error(
        "the recording ended early: {source}\nhint: what was recorded until then is in `{journal}`; `gpuos-trace show {journal}` shows it, `gpuos-trace export --to parquet {journal} -o FILE` makes a recording of it"
    )]
    Stopped {
        /// Where what was recorded is.
        journal: String,
        /// What the file system said.
        source: io::Error,
    },
    /// What was to be recorded could not be followed to its end.
    #[error(
        "the recording ended early with the trace\nhint: what was recorded until then is in `{journal}`; `gpuos-trace show {journal}` shows it, `gpuos-trace export --to parquet {journal} -o FILE` makes a recording of it"
    )]
    TraceFailed {
        /// Where it is.
        journal: String,
    },
    /// The journal is complete, the file is not.
    #[error(
        "{reason}\nhint: all of the recording is in `{journal}`; `gpuos-trace export --to parquet {journal} -o FILE` writes it to another place"
    )]
    NotWritten {
        /// Where it is.
        journal: String,
        /// What is wrong, in the words of whoever found it.
        reason: String,
    },
    /// Lines have no place to go.
    #[error("cannot print the events: {0}")]
    Lines(io::Error),
    /// What was read is no record.
    #[error("the journal is damaged: {0}")]
    Damaged(io::Error),
    /// Writing failed.
    #[error("cannot write the recording: {0}")]
    Columns(#[from] PolarsError),
    /// The ring.
    #[error("cannot read the ring: {0}")]
    Ring(#[from] io::Error),
    /// The kernel gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The input cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    NotReadable {
        /// The file, as the user named it.
        path: String,
        /// What is wrong, in the words of whoever found it.
        reason: String,
    },
}

/// A recording's file while it is written, under a name of its own.
pub struct Unfinished {
    writer: TableWriter<File>,
    file: files::Unfinished,
    rows: u64,
    unknown: u64,
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Unfinished").field("file", &self.file).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Unfinished {
    /// Begins one in the folder of `path`.
    ///
    /// # Errors
    /// [`RecordingError::NotWritable`].
    pub fn create(path: &Path) -> Result<Self, RecordingError> {
        let not_writable = |source| RecordingError::NotWritable { path: path.display().to_string(), source };
        let file = files::begin(path).map_err(not_writable)?;
        let writer = TableWriter::begin(file.reopen().map_err(not_writable)?, empty()?.schema())?;
        Ok(Self { writer, file, rows: 0, unknown: 0 })
    }

    /// Counts a record that nobody knows.
    pub fn count(&mut self, known: Option<()>) {
        self.unknown += u64::from(known.is_none());
    }

    /// Writes rows.
    ///
    /// # Errors
    /// [`RecordingError::Columns`].
    pub fn write(&mut self, frame: &DataFrame) -> Result<(), RecordingError> {
        self.rows += frame.height() as u64;
        Ok(self.writer.add(frame)?)
    }

    /// Writes the header and gives the file its name.
    ///
    /// # Errors
    /// [`RecordingError::Columns`], [`RecordingError::NotWritable`].
    pub fn finish(self, path: &Path, header: &Header) -> Result<Recorded, RecordingError> {
        let mut header = header.clone();
        if self.unknown != 0 {
            header
                .notes
                .push(format!("{} of an unknown kind left out", units::plural(self.unknown, "event", "events")));
        }
        let text = serde_json::to_string(&header).unwrap_or_default();
        let bytes = self.writer.finish(&[(HEADER, text)])?;
        // The journal goes after this.
        self.file.as_file().sync_all()?;
        self.file
            .persist()
            .map_err(|source| RecordingError::NotWritable { path: path.display().to_string(), source })?;
        Ok(Recorded { path: path.to_path_buf(), rows: self.rows, bytes })
    }
}

/// A frame of events without rows.
///
/// # Errors
/// Never in practice.
pub fn empty() -> Result<DataFrame, PolarsError> {
    Table::new(Roles::default(), Devices::default()).frame()
}

/// A recording on disk.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// Its rows.
    pub rows: usize,
}

impl Recording {
    /// Opens a file; `None` when it is no recording.
    ///
    /// # Errors
    /// [`RecordingError::NotReadable`].
    pub fn open(path: &Path) -> Result<Option<Self>, RecordingError> {
        let not_readable = |reason: String| RecordingError::NotReadable {
            path: path.display().to_string(),
            reason: units::printable(&reason),
        };
        let file = files::open_regular(path).map_err(|error| not_readable(error.to_string()))?;
        let Ok(table) = TableFile::open(file) else { return Ok(None) };
        let Some(header) = table.metadata(HEADER) else { return Ok(None) };
        let header: Header = serde_json::from_str(header).map_err(|error| not_readable(error.to_string()))?;
        if header.schema_version > SCHEMA_VERSION {
            return Err(not_readable(format!(
                "it has schema version {}, this gpuos-trace reads up to {SCHEMA_VERSION}",
                header.schema_version
            )));
        }
        Ok(Some(Self { path: path.to_path_buf(), header, rows: table.rows() }))
    }

    /// Gives its rows to `take`, some at a time.
    ///
    /// # Errors
    /// [`RecordingError::NotReadable`], and what `take` says.
    pub fn read<E: From<RecordingError>>(&self, mut take: impl FnMut(&DataFrame) -> Result<(), E>) -> Result<(), E> {
        for first in (0..self.rows).step_by(ROWS) {
            take(&self.rows_from(first)?)?;
        }
        Ok(())
    }

    /// Some rows, from one on.
    fn rows_from(&self, first: usize) -> Result<DataFrame, RecordingError> {
        let not_readable = |reason: String| RecordingError::NotReadable {
            path: self.path.display().to_string(),
            reason: units::printable(&reason),
        };
        let file = files::open_regular(&self.path).map_err(|error| not_readable(error.to_string()))?;
        let frame = TableFile::open(file)
            .and_then(|mut table| table.read_part(first, ROWS, COLUMNS))
            .map_err(|error| not_readable(error.to_string()))?;
        if frame.schema() != empty()?.schema() {
            return Err(not_readable("its columns are not those of a recording".to_owned()));
        }
        // The number of rows is only what the file says.
        if frame.height() == 0 {
            return Err(not_readable("it has fewer rows than it says".to_owned()));
        }
        Ok(frame)
    }
}
