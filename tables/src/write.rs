//! Writing. Strings are plain strings: what polars adds for itself (`ARROW:schema`) calls them views, a type that pyarrow
//! reads and then can neither filter, sort, join nor write to CSV.

use std::io::Write;

use polars_core::prelude::{DataFrame, PolarsResult, Schema};
use polars_io::parquet::write::{
    BatchedWriter, KeyValueMetadata, ParquetCompression, ParquetMetadataContext, ParquetWriter,
};

/// A Parquet file while it is written, part by part.
pub struct TableWriter<W: Write> {
    writer: BatchedWriter<W>,
}

impl<W: Write> std::fmt::Debug for TableWriter<W> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("TableWriter").finish_non_exhaustive()
    }
}

impl<W: Write + Send + Sync> TableWriter<W> {
    /// Begins a file of these columns.
    ///
    /// # Errors
    /// What polars says of the columns.
    pub fn begin(to: W, schema: &Schema) -> PolarsResult<Self> {
        let writer = ParquetWriter::new(to)
            .with_compression(ParquetCompression::Zstd(None))
            // Rayon's threads are not at idle priority.
            .set_parallel(false)
            .batched(schema)?;
        Ok(Self { writer })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// What polars or the output says.
    pub fn add(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        self.writer.write_batch(frame)
    }

    /// Writes the end, with words about the file in its metadata. Gives the size in bytes.
    ///
    /// # Errors
    /// What polars or the output says.
    pub fn finish(self, metadata: &[(&str, String)]) -> PolarsResult<u64> {
        let metadata = metadata.iter().map(|(key, text)| ((*key).to_owned(), text.clone())).collect();
        let metadata = KeyValueMetadata::from_static(metadata).collect(ParquetMetadataContext { arrow_schema: "" })?;
        let writer = self.writer.get_writer();
        writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).end(Some(metadata))
    }
}
