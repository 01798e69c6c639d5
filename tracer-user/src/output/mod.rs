//! Where a run goes: files in every format, and the tables that people read.

mod api_table;
mod device_table;
pub(crate) mod diff_table;
mod job_table;
pub mod layout;
mod phase_table;
pub mod summary;

use std::{
    io,
    path::{Path, PathBuf},
};

use gpuos_host::files::{OutputTarget, hint_of, rescue as rescue_file};
use gpuos_runs::{
    files::{CodecError, FileFormat},
    run::Run,
};

/// A format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// One that can be read back.
    File(FileFormat),
    /// Tables as text.
    Table,
}

impl OutputFormat {
    /// What the ending of a name says; `None` when it says nothing.
    #[must_use]
    pub fn by_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "txt" => Some(Self::Table),
            _ => FileFormat::by_ending(path).map(Self::File),
        }
    }
}

/// Why an output cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The ending says nothing.
    #[error(
        "cannot tell the format of `{0}` from its ending\nhint: end it in .parquet, .json, .csv or .txt, or give `--format`"
    )]
    UnknownEnding(String),
    /// The output cannot be created.
    #[error("cannot write `{path}`: {source}\nhint: {hint}", hint = hint_of(.source))]
    NotWritable {
        /// The output as the user named it.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// Writing failed in the end.
    #[error("cannot write `{path}`: {reason}\nhint: {rescued}")]
    WriteFailed {
        /// The output as the user named it.
        path: String,
        /// What the format's library or the file system said.
        reason: String,
        /// Where the counts are instead, or why they are nowhere.
        rescued: String,
        /// Whether they are anywhere.
        is_kept: bool,
    },
}

/// An output that could be opened, and gets the run when that is complete.
#[derive(Debug)]
pub struct Destination {
    format: OutputFormat,
    shown: String,
    target: OutputTarget,
}

impl Destination {
    /// Opens an output, by its ending where no format is given. `-` is standard output.
    ///
    /// # Errors
    /// When the format is not clear or the file cannot be written.
    pub fn open(path: &Path, format: Option<OutputFormat>) -> Result<Self, OutputError> {
        let shown = path.display().to_string();
        let not_writable = |source| OutputError::NotWritable { path: shown.clone(), source };
        if path == Path::new("-") {
            return Ok(Self {
                format: format.unwrap_or(OutputFormat::File(FileFormat::Json)),
                shown: "standard output".into(),
                target: OutputTarget::Stdout,
            });
        }
        if path.is_dir() {
            return Err(not_writable(io::ErrorKind::IsADirectory.into()));
        }
        let format = format
            .or_else(|| OutputFormat::by_ending(path))
            .ok_or_else(|| OutputError::UnknownEnding(shown.clone()))?;
        let target = OutputTarget::open(path).map_err(not_writable)?;
        Ok(Self { format, shown, target })
    }

    /// Where this is, as the user named it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// Writes a run and gives the file its name.
    ///
    /// # Errors
    /// [`OutputError::WriteFailed`].
    pub fn write(mut self, run: &Run) -> Result<(), OutputError> {
        let mut bytes = Vec::new();
        let written: Result<(), CodecError> = match self.format {
            OutputFormat::File(format) => format.write(run, &mut bytes),
            OutputFormat::Table => summary::write(run, &mut bytes),
        };
        written.and_then(|()| Ok(self.target.write(&bytes)?)).map_err(|error| {
            let (is_kept, rescued) = match rescue(run) {
                Ok(path) => (true, format!("the counts are in `{}`; `gpuos-trace show` reads it", path.display())),
                Err(error) => (false, format!("the counts could not be kept elsewhere either: {error}")),
            };
            OutputError::WriteFailed { path: self.shown, reason: error.to_string(), rescued, is_kept }
        })
    }
}

/// Keeps the counts in a file that `show` reads, whatever the format was to be.
fn rescue(run: &Run) -> Result<PathBuf, CodecError> {
    let mut bytes = Vec::new();
    FileFormat::Json.write(run, &mut bytes)?;
    Ok(rescue_file(&bytes, ".json")?)
}
