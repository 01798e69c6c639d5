//! Files of the table: `FOLDER/date=2026-11-30/cluster=NAME/node=NAME/START-NUMBER.parquet`, each written whole or not at all.

use std::{
    io,
    path::{Path, PathBuf},
};

use gpuos_host::files;
use gpuos_tables::TableWriter;
use jiff::{Timestamp, tz::TimeZone};
use polars_core::prelude::PolarsError;

use crate::{
    rows::Rows,
    schema::{METADATA, SCHEMA_VERSION},
};

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// A name that would be no folder, or be read as another one.
    #[error(
        "`{0}` cannot be the name of a {1}: it becomes a folder `{1}={0}`\nhint: `--{1} NAME` of letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    Name(String, &'static str),
    /// The start of an interval is no time.
    #[error("a run that started {0} µs after 1970")]
    Start(i64),
    /// The file or its folder cannot be written.
    #[error("cannot write `{path}`: {error}", path = .0.display(), error = .1)]
    File(PathBuf, io::Error),
    /// The table cannot be encoded.
    #[error(transparent)]
    Table(#[from] PolarsError),
}

fn checked<'a>(name: &'a str, what: &'static str) -> Result<&'a str, PartitionError> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    // Names with two underscores before them mean something to engines.
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(is_plain) {
        Ok(name)
    } else {
        Err(PartitionError::Name(name.to_owned(), what))
    }
}

/// Writes the rows of an interval, and says where. The name of the file is made of the run alone, so that a run is one file
/// however often and by which version it is written.
///
/// # Errors
/// [`PartitionError`].
pub fn write(folder: &Path, cluster: &str, rows: &Rows) -> Result<PathBuf, PartitionError> {
    let start = Timestamp::from_microsecond(rows.start_us).map_err(|_| PartitionError::Start(rows.start_us))?;
    let start = start.to_zoned(TimeZone::UTC);
    let (cluster, node) = (checked(cluster, "cluster")?, checked(&rows.node, "node")?);
    let date = start.date();
    let folder = folder.join(format!("date={date}")).join(format!("cluster={cluster}")).join(format!("node={node}"));
    let mut bytes = Vec::new();
    let mut writer = TableWriter::begin(&mut bytes, rows.frame.schema())?;
    writer.add(&rows.frame)?;
    writer.finish(&[(METADATA, format!("{{\"schema_version\":{SCHEMA_VERSION}}}"))])?;
    let path = folder.join(format!("{}-{:08x}.parquet", start.strftime("%H%M%S"), rows.run));
    let failed = |error| PartitionError::File(path.clone(), error);
    files::write(&path, &bytes).map_err(failed)?;
    Ok(path)
}
