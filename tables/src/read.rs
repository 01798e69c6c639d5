//! Reading, within limits. What a file says of itself may be wrong, by damage or by intent: the headers of its pages are
//! read before any page is decoded, and polars, which panics on some damaged files, is called where a panic ends nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use gpuos_host::without_panic;
use polars_core::prelude::{DataFrame, PolarsError};
use polars_io::{SerReader as _, mmap::MmapBytesReader, parquet::read::ParquetReader};
use polars_parquet::read::{ColumnChunkMetadata, FileMetadata, read_metadata};
use polars_parquet_format::{PageHeader, thrift::protocol::TCompactInputProtocol};

/// As much memory, in bytes, the pages that are decoded at a time may take. Forty columns of a million rows are a third
/// of it.
const MOST_BYTES: u64 = 1 << 30;

/// What a value takes once it is decoded: a string is known by sixteen bytes beside its text, a number takes eight.
const BYTES_OF_A_VALUE: u64 = 12;

/// Why a file cannot be read as a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is damaged in a way that polars does not expect.
    #[error("its Parquet pages are damaged")]
    Damaged,
    /// What polars says.
    #[error(transparent)]
    Polars(#[from] PolarsError),
    /// It cannot be read at all.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// What it has would take too much memory.
    #[error("what it has takes more than {} MiB of memory, the limit", MOST_BYTES >> 20)]
    TooLarge,
}

impl From<TableError> for PolarsError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Polars(error) => error,
            TableError::Damaged | TableError::Unreadable(_) | TableError::TooLarge => {
                Self::ComputeError(error.to_string().into())
            }
        }
    }
}

/// A Parquet file that was opened: its metadata are read, its pages are not.
#[derive(Debug)]
pub struct TableFile<R> {
    reader: R,
    metadata: FileMetadata,
}

impl<R: MmapBytesReader> TableFile<R> {
    /// Reads the metadata.
    ///
    /// # Errors
    /// It is no Parquet file.
    pub fn open(mut reader: R) -> Result<Self, TableError> {
        let metadata = without_panic(|| read_metadata(&mut reader)).ok_or(TableError::Damaged)?;
        let metadata = metadata?;
        Ok(Self { reader, metadata })
    }

    /// A word about the file.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let mut pairs = self.metadata.key_value_metadata().iter().flatten();
        pairs.find(|pair| pair.key == key)?.value.as_deref()
    }

    /// How many rows it says that it has.
    pub fn rows(&self) -> usize {
        self.metadata.num_rows
    }

    /// All rows.
    ///
    /// # Errors
    /// It is damaged, or too large to be read at once.
    pub fn read(mut self) -> Result<DataFrame, TableError> {
        self.check(0, usize::MAX)?;
        let reader = self.reader;
        without_panic(|| ParquetReader::new(reader).finish()).ok_or(TableError::Damaged)?.map_err(TableError::from)
    }

    /// Refuses what would take too much memory: the rows from `first` on, with all of the groups in which they are.
    fn check(&mut self, first: usize, rows: usize) -> Result<(), TableError> {
        let Self { reader, metadata } = self;
        let bytes = without_panic(|| bytes_of(reader, metadata, first..first.saturating_add(rows)));
        if bytes.ok_or(TableError::Damaged)?? > MOST_BYTES { Err(TableError::TooLarge) } else { Ok(()) }
    }
}

impl TableFile<File> {
    /// As many rows from one on, or fewer where it ends.
    ///
    /// # Errors
    /// It is damaged, or a part of it is too large to be read at once.
    pub fn read_part(&mut self, first: usize, rows: usize) -> Result<DataFrame, TableError> {
        self.check(first, rows)?;
        let file = self.reader.try_clone()?;
        let read = || ParquetReader::new(file).with_slice(Some((first, rows))).finish();
        without_panic(read).ok_or(TableError::Damaged)?.map_err(TableError::from)
    }
}

/// What the groups with some of these rows take in memory once they are decoded. It ends early when that is too much.
fn bytes_of<R: Read + Seek>(reader: &mut R, metadata: &FileMetadata, rows: Range<usize>) -> Result<u64, TableError> {
    let (mut bytes, mut begin) = (0, 0_usize);
    for group in &metadata.row_groups {
        let end = begin.saturating_add(group.num_rows());
        if begin < rows.end && rows.start < end {
            for column in group.parquet_columns() {
                bytes += bytes_of_column(reader, column, MOST_BYTES.saturating_sub(bytes))?;
                if bytes > MOST_BYTES {
                    return Ok(bytes);
                }
            }
        }
        begin = end;
    }
    Ok(bytes)
}

/// The same of one column of a group, from the headers of its pages.
fn bytes_of_column<R: Read + Seek>(reader: &mut R, column: &ColumnChunkMetadata, most: u64) -> Result<u64, TableError> {
    let place = column.byte_range();
    reader.seek(SeekFrom::Start(place.start))?;
    let mut chunk = Vec::new();
    reader.take(place.end.saturating_sub(place.start)).read_to_end(&mut chunk)?;
    // Before the pages: a reader may make room for as many values as the chunk says that it has.
    let mut bytes = column.num_values().unsigned_abs().saturating_mul(BYTES_OF_A_VALUE);
    let (mut rest, mut values) = (chunk.as_slice(), 0_u64);
    while !rest.is_empty() && bytes <= most {
        let page = page_header(&mut rest)?;
        let of_page = page.data_page_header.map(|header| header.num_values);
        let of_page = of_page.or(page.data_page_header_v2.map(|header| header.num_values));
        let of_page = of_page.or(page.dictionary_page_header.map(|header| header.num_values)).unwrap_or_default();
        values = values.saturating_add(u64::from(of_page.unsigned_abs()));
        let text = u64::from(page.uncompressed_page_size.unsigned_abs());
        bytes = bytes.saturating_add(text).max(values.saturating_mul(BYTES_OF_A_VALUE));
        let compressed = usize::try_from(page.compressed_page_size).unwrap_or(usize::MAX);
        rest = rest.get(compressed..).ok_or(TableError::Damaged)?;
    }
    Ok(bytes)
}

fn page_header(bytes: &mut &[u8]) -> Result<PageHeader, TableError> {
    let most = bytes.len();
    let mut protocol = TCompactInputProtocol::new(bytes, most);
    PageHeader::read_from_in_protocol(&mut protocol).map_err(|_| TableError::Damaged)
}
