//! Parquet: the frame as it is, the header as JSON in the file's metadata.

use std::io::{Cursor, Write};

use polars_io::{
    SerReader as _,
    parquet::{
        read::ParquetReader,
        write::{KeyValueMetadata, ParquetCompression, ParquetWriter},
    },
};

use gpuos_host::without_panic;

use super::{Codec, CodecError, header_from};
use crate::run::Run;

/// Key of the header in the file's metadata.
const HEADER: &str = "gpuos-trace";

pub(super) struct Parquet;

impl Codec for Parquet {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        let header = serde_json::to_string(&run.header)?;
        ParquetWriter::new(to)
            .with_compression(ParquetCompression::Zstd(None))
            .with_key_value_metadata(Some(KeyValueMetadata::from_static(vec![(HEADER.to_owned(), header)])))
            .finish(&mut run.calls.clone())?;
        Ok(())
    }

    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError> {
        // polars panics on some damaged files.
        without_panic(|| Self::read_trusting(bytes)).unwrap_or_else(|| Err("its Parquet pages are damaged".into()))
    }
}

impl Parquet {
    fn read_trusting(bytes: Vec<u8>) -> Result<Run, CodecError> {
        let mut reader = ParquetReader::new(Cursor::new(bytes));
        let header = reader
            .get_metadata()?
            .key_value_metadata()
            .iter()
            .flatten()
            .find(|pair| pair.key == HEADER)
            .and_then(|pair| pair.value.clone())
            .ok_or("a Parquet file without the metadata key `gpuos-trace`")?;
        Ok(Run { header: header_from(serde_json::from_str(&header)?)?, calls: reader.finish()? })
    }
}
