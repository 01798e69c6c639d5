//! Files of runs: one codec per format, and reading with whatever format a file has.

mod csv;
mod json;
mod parquet;

use std::{
    io::{self, Read as _, Seek as _, Write},
    path::Path,
};

use gpuos_host::files::open_regular;
use gpuos_model::units;

use crate::{
    frame,
    run::{Header, Run, SCHEMA_VERSION},
};

/// A file format that can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON document.
    Json,
    /// Comma-separated values behind comment lines.
    Csv,
}

/// Writes a run in one format and reads it back.
trait Codec {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError>;
    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError>;
}

/// What a format's library or its reader says.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

impl FileFormat {
    /// What the ending of a name says; `None` when it says nothing.
    #[must_use]
    pub fn by_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// Writes a run.
    ///
    /// # Errors
    /// What the format's library says.
    pub fn write(self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        self.codec().write(run, to)
    }

    fn codec(self) -> &'static dyn Codec {
        match self {
            Self::Parquet => &parquet::Parquet,
            Self::Json => &json::Json,
            Self::Csv => &csv::Csv,
        }
    }
}

/// Why a file cannot be read as a run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input cannot be opened.
    #[error("cannot read `{path}`: {source}\nhint: name a file that `gpuos-trace run -o` or `record -o` wrote")]
    NotReadable {
        /// The file, as the user named it.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// The input is not a run.
    #[error(
        "`{path}` is not a file that gpuos-trace wrote, or it is damaged: {reason}\nhint: `gpuos-trace run -o FILE` writes .parquet, .json and .csv files that `show` reads"
    )]
    NotARun {
        /// The file, as the user named it.
        path: String,
        /// What is wrong, in the words of whoever found it.
        reason: String,
    },
    /// The input is from a newer gpuos-trace.
    #[error(
        "`{path}` has schema version {found}, this gpuos-trace reads up to {SCHEMA_VERSION}\nhint: read it with the version that wrote it, {writer}, or a newer one"
    )]
    NewerSchema {
        /// The file, as the user named it.
        path: String,
        /// Its version.
        found: u32,
        /// Who wrote it.
        writer: String,
    },
}

/// Reads a run back from a file in any format.
///
/// # Errors
/// When the file is unreadable, foreign, damaged or too new.
pub fn read(path: &Path) -> Result<Run, ReadError> {
    let shown = path.display().to_string();
    let not_readable = |source| ReadError::NotReadable { path: shown.clone(), source };
    let mut file = open_regular(path).map_err(not_readable)?;
    let mut start = [0; 4];
    let is_parquet = file.read_exact(&mut start).is_ok() && start == *PARQUET;
    file.rewind().map_err(not_readable)?;
    if is_parquet {
        return checked(parquet::read(file), &shown);
    }
    let mut bytes = Vec::new();
    file.take(MOST_TEXT + 1).read_to_end(&mut bytes).map_err(not_readable)?;
    if bytes.len() as u64 > MOST_TEXT {
        let reason = format!("text of more than {} MiB", MOST_TEXT >> 20);
        return Err(ReadError::NotARun { path: shown, reason });
    }
    from_bytes(bytes, &shown)
}

/// How a Parquet file begins.
const PARQUET: &[u8; 4] = b"PAR1";
/// The longest text that is read, in bytes: half a million rows.
const MOST_TEXT: u64 = 512 << 20;

/// Reads a run back from the bytes of a file that the user knows as `shown`.
///
/// # Errors
/// When they are foreign, damaged or too new.
pub fn from_bytes(bytes: Vec<u8>, shown: &str) -> Result<Run, ReadError> {
    let format = match bytes.get(..4) {
        Some(start) if start == PARQUET => FileFormat::Parquet,
        Some(start) if start.starts_with(b"{") => FileFormat::Json,
        Some(start) if start.starts_with(b"#") => FileFormat::Csv,
        _ if bytes.starts_with(b"{") => FileFormat::Json,
        _ => return checked(Err("its first bytes are those of none of the formats".into()), shown),
    };
    checked(format.codec().read(bytes), shown)
}

/// A run that was read, with every column.
fn checked(read: Result<Run, CodecError>, shown: &str) -> Result<Run, ReadError> {
    // The reason may quote the file, which anybody may have written.
    let not_a_run = |reason: String| ReadError::NotARun { path: shown.to_owned(), reason: units::printable(&reason) };
    let mut run = match read {
        Ok(run) => run,
        Err(error) => match error.downcast::<Newer>() {
            Ok(newer) => {
                return Err(ReadError::NewerSchema {
                    path: shown.to_owned(),
                    found: newer.version,
                    writer: units::printable(&newer.writer),
                });
            }
            Err(error) => return Err(not_a_run(error.to_string())),
        },
    };
    frame::complete(&mut run.calls, run.header.schema_version).map_err(|error| not_a_run(error.to_string()))?;
    frame::check(&run.calls).map_err(|error| not_a_run(error.to_string()))?;
    Ok(run)
}

/// A file of a newer gpuos-trace.
#[derive(Debug, thiserror::Error)]
#[error("schema version {version}")]
struct Newer {
    version: u32,
    writer: String,
}

/// Reads a header. A newer one is refused before the rest of it is read by rules that may have changed.
fn header_from(value: serde_json::Value) -> Result<Header, CodecError> {
    let version =
        value.get("schema_version").and_then(serde_json::Value::as_u64).ok_or("its header has no schema version")?;
    if version > u64::from(SCHEMA_VERSION) {
        let writer = value.get("tool_version").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
        return Err(Newer { version: u32::try_from(version).unwrap_or(u32::MAX), writer }.into());
    }
    serde_json::from_value(value).map_err(|error| format!("its header is not valid: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Process;
    use gpuos_decode::{devices::Devices, roles::Roles};
    use gpuos_tracer_abi::syscalls::{RowCounts, RowKey};
    use proptest::prelude::*;

    fn run_of(rows: Vec<(RowKey, RowCounts)>, command: &str) -> Run {
        let process = Process { id: 1, pid: 2, command: command.to_owned(), ..Default::default() };
        let calls = frame::build(
            &rows.into_iter().collect(),
            std::slice::from_ref(&process),
            &[],
            &Roles::default(),
            &Devices::default(),
        )
        .unwrap();
        let header = Header { command: vec![command.to_owned()], processes: vec![process], ..Header::default() };
        Run { header, calls }
    }

    #[test]
    fn a_damaged_file_that_polars_panics_on_is_refused() {
        // Found by fuzzing: a quote that nothing follows, where a number should be.
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/run_file/damaged.csv")).unwrap();
        assert!(FileFormat::Csv.codec().read(bytes).is_err());
    }

    proptest! {
        #[test]
        fn every_format_gives_back_what_was_written(
            rows in prop::collection::hash_map((0_u64..3, 0_u32..3, 0_u32..600), (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 40)), 0..20),
            command in "\\PC{0,12}|[\\x00-\\x7f]{0,12}",
        ) {
            let rows = rows.into_iter().map(|((process, thread, number), (calls, total_ns, buckets))| {
                let mut counts = RowCounts { calls, total_ns, ..RowCounts::ZERO };
                counts.buckets.copy_from_slice(&buckets);
                (RowKey { process, thread, number, ..Default::default() }, counts)
            });
            let run = run_of(rows.collect(), &command);
            for format in [FileFormat::Parquet, FileFormat::Json, FileFormat::Csv] {
                let mut bytes = Vec::new();
                format.codec().write(&run, &mut bytes).unwrap();
                let again = format.codec().read(bytes).unwrap();
                prop_assert_eq!(&again.header, &run.header, "{:?}", format);
                prop_assert!(again.calls.equals(&run.calls), "{:?}\n{:?}\n{:?}", format, again.calls.shape(), run.calls.shape());
            }
        }

        #[test]
        fn readers_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), damaged: bool, at in any::<prop::sample::Index>(), value: u8, kind in 0_usize..3) {
            let codec = [FileFormat::Parquet, FileFormat::Json, FileFormat::Csv][kind].codec();
            // polars asks for as much memory as a damaged Parquet file says, which ends the program (docs/limitations.md).
            if damaged && kind != 0 {
                bytes.clear();
                codec.write(&run_of(vec![(RowKey::default(), RowCounts::ZERO)], "true"), &mut bytes).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            // A panic fails the test.
            let _ = codec.read(bytes);
        }
    }
}
