//! Where a run goes: one trait, one file per format, and outputs that are opened before the run.

mod csv;
mod json;
pub mod palette;
mod parquet;
pub mod table;
pub mod units;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use crate::model::{
    frame,
    run::{Run, SCHEMA_VERSION},
};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON document.
    Json,
    /// Comma-separated values behind comment lines.
    Csv,
    /// Tables as text.
    Table,
}

/// Writes a run in one format and reads it back.
trait Codec {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError>;
    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError>;
}

/// What a format's library or its reader says.
type CodecError = Box<dyn std::error::Error + Send + Sync>;

impl Format {
    fn by_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "txt" => Some(Self::Table),
            _ => None,
        }
    }

    fn codec(self) -> &'static dyn Codec {
        match self {
            Self::Parquet => &parquet::Parquet,
            Self::Json => &json::Json,
            Self::Csv => &csv::Csv,
            Self::Table => &table::Text,
        }
    }
}

/// Why an output cannot be written or an input not be read.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The ending says nothing.
    #[error(
        "cannot tell the format of `{0}` from its ending\nhint: end it in .parquet, .json, .csv or .txt, or give `--format`"
    )]
    UnknownEnding(String),
    /// The output cannot be created.
    #[error("cannot write `{path}`: {source}\nhint: {hint}", hint = write_hint(.source))]
    NotWritable {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Writing failed in the end.
    #[error("cannot write `{path}`: {reason}\nhint: {hint}")]
    WriteFailed {
        /// Where.
        path: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The input cannot be opened.
    #[error("cannot read `{path}`: {source}")]
    NotReadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The input is not a run.
    #[error(
        "`{path}` is not a file that gpuos-trace wrote, or it is damaged: {reason}\nhint: `gpuos-trace run -o FILE` writes .parquet, .json and .csv files that `show` reads"
    )]
    NotARun {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The input is from a newer gpuos-trace.
    #[error(
        "`{path}` has schema version {found}, this gpuos-trace reads up to {SCHEMA_VERSION}\nhint: read it with the version that wrote it, {writer}, or a newer one"
    )]
    NewerSchema {
        /// Which.
        path: String,
        /// Its version.
        found: u32,
        /// Who wrote it.
        writer: String,
    },
}

fn write_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "the directory does not exist; `mkdir -p` makes it",
        io::ErrorKind::PermissionDenied => "choose a directory that you may write to",
        io::ErrorKind::StorageFull => "the disk is full; choose another directory",
        io::ErrorKind::IsADirectory => "that is a directory; name a file in it",
        _ => "choose another file",
    }
}

/// An output that could be opened. A regular file is written beside its name and takes it only
/// when it is complete, so that a failed run leaves an older file as it was.
#[derive(Debug)]
pub struct Destination {
    format: Format,
    shown: String,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    /// A pipe, a terminal, /dev/null.
    Special(File),
    Replace {
        unfinished: tempfile::NamedTempFile,
        path: PathBuf,
    },
}

impl Destination {
    /// Opens an output, by its ending where no format is given. `-` is standard output.
    ///
    /// # Errors
    /// When the format is not clear or the file cannot be created.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, SinkError> {
        let shown = path.display().to_string();
        let not_writable = |source| SinkError::NotWritable { path: shown.clone(), source };
        if path == Path::new("-") {
            return Ok(Self {
                format: format.unwrap_or(Format::Json),
                shown: "standard output".into(),
                target: Target::Stdout,
            });
        }
        let metadata = fs::metadata(path);
        if metadata.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return Err(not_writable(io::ErrorKind::IsADirectory.into()));
        }
        let format =
            format.or_else(|| Format::by_ending(path)).ok_or_else(|| SinkError::UnknownEnding(shown.clone()))?;
        let is_special = metadata.as_ref().is_ok_and(|data| {
            let kind = data.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_socket()
        });
        let target = if is_special {
            Target::Special(OpenOptions::new().write(true).open(path).map_err(not_writable)?)
        } else {
            // Through a link, the file it points to is replaced, not the link.
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
            if metadata.is_ok() {
                OpenOptions::new().append(true).open(&path).map_err(not_writable)?;
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let unfinished = tempfile::Builder::new().prefix(".gpuos-trace-").tempfile_in(folder).map_err(|error| {
                // tempfile puts its own path into the message.
                not_writable(error.raw_os_error().map_or(error, io::Error::from_raw_os_error))
            })?;
            Target::Replace { unfinished, path }
        };
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
    /// [`SinkError::WriteFailed`].
    pub fn write(self, run: &Run) -> Result<(), SinkError> {
        let codec = self.format.codec();
        let shown = self.shown;
        let failed = |error: CodecError| SinkError::WriteFailed {
            path: shown.clone(),
            reason: error.to_string(),
            hint: "the counts of this run are lost; free some space or choose another directory and run it again"
                .into(),
        };
        let mut buffer = Vec::new();
        codec.write(run, &mut buffer).map_err(&failed)?;
        match self.target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&buffer).and_then(|()| stdout.flush())
            }
            Target::Special(mut file) => file.write_all(&buffer),
            Target::Replace { mut unfinished, path } => unfinished
                .write_all(&buffer)
                .and_then(|()| give_to_caller(unfinished.as_file(), &path))
                .and_then(|()| unfinished.persist(&path).map(drop).map_err(|error| error.error)),
        }
        .map_err(|error| failed(error.into()))
    }
}

/// Under sudo the file belongs to who called sudo, else to us; only its owner may read it. A file
/// that is replaced keeps its owner and mode.
fn give_to_caller(file: &File, path: &Path) -> io::Result<()> {
    if let Ok(old) = fs::metadata(path) {
        // Only root may give files away; then the new one is simply ours.
        let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        return file.set_permissions(old.permissions());
    }
    let id = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    if nix::unistd::Uid::effective().is_root()
        && let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID"))
    {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// Reads a run back from a file in any format but text.
///
/// # Errors
/// When the file is unreadable, foreign, damaged or too new.
pub fn read(path: &Path) -> Result<Run, SinkError> {
    let shown = path.display().to_string();
    let not_readable = |source| SinkError::NotReadable { path: shown.clone(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(not_readable)?;
    let not_a_run = |reason: String| SinkError::NotARun { path: shown.clone(), reason };
    let format = match bytes.get(..4) {
        Some(b"PAR1") => Format::Parquet,
        Some(start) if start.starts_with(b"{") => Format::Json,
        Some(start) if start.starts_with(b"#") => Format::Csv,
        _ => return Err(not_a_run("its first bytes are those of none of the formats".into())),
    };
    let run = format.codec().read(bytes).map_err(|error| not_a_run(error.to_string()))?;
    if run.header.schema_version > SCHEMA_VERSION {
        return Err(SinkError::NewerSchema {
            path: shown,
            found: run.header.schema_version,
            writer: run.header.tool_version,
        });
    }
    frame::check(&run.calls).map_err(|error| not_a_run(error.to_string()))?;
    Ok(run)
}

/// Refuses a header from a newer schema before the rest is read by rules that may have changed.
fn header_from(text: &str) -> Result<crate::model::run::Header, CodecError> {
    serde_json::from_str(text).map_err(|error| format!("its header is not valid: {error}").into())
}
