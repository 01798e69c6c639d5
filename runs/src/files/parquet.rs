//! Parquet: the frame as it is, the header as JSON in the file's metadata.

use std::io::{Cursor, Write};

use gpuos_tables::{TableFile, TableWriter};

use super::{Codec, CodecError, header_from};
use crate::run::Run;

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
        let table = TableFile::open(Cursor::new(bytes))?;
        let header = table.metadata(HEADER).ok_or("a Parquet file without the metadata key `gpuos-trace`")?;
        Ok(Run { header: header_from(serde_json::from_str(header)?)?, calls: table.read()? })
    }
}
