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
use polars_parquet::{
    parquet::schema::types::PhysicalType,
    read::{ColumnChunkMetadata, FileMetadata, read_metadata},
};
use polars_parquet_format::{PageHeader, thrift::protocol::TCompactInputProtocol};

/// As much memory, in bytes, the pages that are decoded at a time may take. Forty columns of a million rows are a third
/// of it.
const MOST_BYTES: u64 = 1 << 30;

/// What a value takes once it is decoded: a string is known by sixteen bytes beside its text, a number takes eight.
const BYTES_OF_A_VALUE: u64 = 12;

/// The largest description of a file, in bytes, its own header within it.
const MOST_METADATA: u64 = 64 << 20;

/// The largest header of a page, in bytes; it may hold the least and the greatest value.
const PAGE_HEADER: u64 = 64 << 10;

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
        check_metadata(&mut reader)?;
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

    /// All rows, of the columns with these names alone.
    ///
    /// # Errors
    /// It is damaged, or too large to be read at once.
    pub fn read(mut self, columns: &[&str]) -> Result<DataFrame, TableError> {
        self.check(0, usize::MAX, columns)?;
        let columns = self.there(columns);
        let reader = self.reader;
        let read = || ParquetReader::new(reader).with_columns(Some(columns)).finish();
        without_panic(read).ok_or(TableError::Damaged)?.map_err(TableError::from)
    }

    /// Which of these columns it has. An absent one is seen where it is asked for.
    fn there(&self, columns: &[&str]) -> Vec<String> {
        let has = |name: &&&str| self.metadata.schema().fields().iter().any(|field| field.name() == **name);
        columns.iter().filter(has).map(|name| (*name).to_owned()).collect()
    }

    /// Refuses what would take too much memory: the rows from `first` on, with all of the groups in which they are.
    fn check(&mut self, first: usize, rows: usize, columns: &[&str]) -> Result<(), TableError> {
        let Self { reader, metadata } = self;
        let bytes = without_panic(|| bytes_of(reader, metadata, first..first.saturating_add(rows), columns));
        if bytes.ok_or(TableError::Damaged)?? > MOST_BYTES { Err(TableError::TooLarge) } else { Ok(()) }
    }
}

impl TableFile<File> {
    /// As many rows from one on, or fewer where it ends, of the columns with these names alone.
    ///
    /// # Errors
    /// It is damaged, or a part of it is too large to be read at once.
    pub fn read_part(&mut self, first: usize, rows: usize, columns: &[&str]) -> Result<DataFrame, TableError> {
        self.check(first, rows, columns)?;
        let (file, columns) = (self.reader.try_clone()?, self.there(columns));
        let read = || ParquetReader::new(file).with_columns(Some(columns)).with_slice(Some((first, rows))).finish();
        without_panic(read).ok_or(TableError::Damaged)?.map_err(TableError::from)
    }
}

/// Refuses a description that is longer than any of ours: it is read as a whole.
fn check_metadata<R: Read + Seek>(reader: &mut R) -> Result<(), TableError> {
    const END: usize = 8;
    let size = reader.seek(SeekFrom::End(0))?;
    if size < 2 * END as u64 {
        return Err(TableError::Damaged);
    }
    let mut end = [0; END];
    reader.seek(SeekFrom::End(-(END as i64)))?;
    reader.read_exact(&mut end)?;
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    reader.rewind()?;
    match length {
        length if length > size => Err(TableError::Damaged),
        length if length > MOST_METADATA => Err(TableError::TooLarge),
        _ => Ok(()),
    }
}

/// What the groups with some of these rows take in memory once these columns are decoded. It ends early when that is too much.
fn bytes_of<R: Read + Seek>(
    reader: &mut R,
    metadata: &FileMetadata,
    rows: Range<usize>,
    columns: &[&str],
) -> Result<u64, TableError> {
    let (mut bytes, mut begin) = (0, 0_usize);
    for group in &metadata.row_groups {
        let end = begin.saturating_add(group.num_rows());
        if begin < rows.end && rows.start < end {
            let is_read = |column: &&ColumnChunkMetadata| {
                column.descriptor().path_in_schema.first().is_some_and(|name| columns.contains(&name.as_str()))
            };
            for column in group.parquet_columns().iter().filter(is_read) {
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
    let of_a_value = if let PhysicalType::FixedLenByteArray(length) = column.physical_type() {
        BYTES_OF_A_VALUE.max(length as u64)
    } else {
        BYTES_OF_A_VALUE
    };
    let place = column.byte_range();
    // Before the pages: a reader may make room for as many values as the chunk says that it has, and reads all of it.
    let mut bytes = column.num_values().unsigned_abs().saturating_mul(of_a_value).max(place.end - place.start);
    let (mut at, mut values) = (place.start, 0_u64);
    while at < place.end && bytes <= most {
        let (page, length) = page_header(reader, at)?;
        let of_page = page.data_page_header.map(|header| header.num_values);
        let of_page = of_page.or(page.data_page_header_v2.map(|header| header.num_values));
        let of_page = of_page.or(page.dictionary_page_header.map(|header| header.num_values)).unwrap_or_default();
        values = values.saturating_add(u64::from(of_page.unsigned_abs()));
        let text = u64::from(page.uncompressed_page_size.unsigned_abs());
        bytes = bytes.saturating_add(text).max(values.saturating_mul(of_a_value));
        let compressed = u64::try_from(page.compressed_page_size).map_err(|_| TableError::Damaged)?;
        at = at.saturating_add(length).saturating_add(compressed);
    }
    Ok(bytes)
}

/// The header of the page at a place, and how long it is.
fn page_header<R: Read + Seek>(reader: &mut R, at: u64) -> Result<(PageHeader, u64), TableError> {
    reader.seek(SeekFrom::Start(at))?;
    let mut start = Vec::new();
    reader.take(PAGE_HEADER).read_to_end(&mut start)?;
    let mut rest = start.as_slice();
    let mut protocol = TCompactInputProtocol::new(&mut rest, PAGE_HEADER as usize);
    let page = PageHeader::read_from_in_protocol(&mut protocol).map_err(|_| TableError::Damaged)?;
    Ok((page, (start.len() - rest.len()) as u64))
}
