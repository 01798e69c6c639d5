//! Parquet: the frame as it is, the header as JSON in the file's metadata.

use std::io::{Cursor, Write};

use gpuos_tables::{TableFile, TableWriter};

use polars_io::mmap::MmapBytesReader;

use super::{Codec, CodecError, header_from};
use crate::{columns::COLUMNS, run::Run};

/// Key of the header in the file's metadata.
const HEADER: &str = "gpuos-trace";

pub(super) struct Parquet;

impl Codec for Parquet {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        let mut bytes = Vec::new();
        let mut table = TableWriter::begin(&mut bytes, run.calls.schema())?;
        table.add(&run.calls)?;
        table.finish(&[(HEADER, serde_json::to_string(&run.header)?)])?;
        Ok(to.write_all(&bytes)?)
    }

    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError> {
        read(Cursor::new(bytes))
    }
}

/// Reads a run from a file or from memory, and nothing of it that would not fit.
pub(super) fn read(from: impl MmapBytesReader) -> Result<Run, CodecError> {
    let table = TableFile::open(from)?;
    let header = table.metadata(HEADER).ok_or("a Parquet file without the metadata key `gpuos-trace`")?;
    let header = header_from(serde_json::from_str(header)?)?;
    let columns: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    Ok(Run { header, calls: table.read(&columns)? })
}
