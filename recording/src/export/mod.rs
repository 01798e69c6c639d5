//! Recordings in the formats of other tools: one file for each.

mod chrome;
mod folded;
mod otlp;
mod perfetto;
mod speedscope;

use std::io::{self, Write};

use polars_core::prelude::PolarsError;
use polars_io::{SerWriter as _, csv::write::CsvWriter};

use crate::{
    RecordingError,
    rows::{self, EventRow},
    source::Source,
};

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// Perfetto's own (ui.perfetto.dev): processes, threads, phases, calls with arguments, counters by role
    Perfetto,
    /// Chrome's trace events as JSON
    Chrome,
    /// speedscope.app: the calls of each thread in their order
    Speedscope,
    /// Folded stacks for flame graphs: phase;role;call and nanoseconds
    Folded,
    /// The rows as comma-separated values
    Csv,
    /// OpenTelemetry spans as JSON, a batch a line
    OtlpJson,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Never in practice.
    #[error("cannot write the output: {0}")]
    Json(#[from] serde_json::Error),
    /// A column.
    #[error("the recording lacks what is needed: {0}")]
    Columns(#[from] PolarsError),
}

impl ExportError {
    /// Whether nobody reads the output any more.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Json(error) => error.io_error_kind() == Some(io::ErrorKind::BrokenPipe),
            Self::Recording(_) | Self::Columns(_) => false,
        }
    }
}

/// Writes one format, row by row.
trait Exporter {
    /// The next row.
    fn take(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<(), ExportError>;

    /// What comes after the last.
    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError>;
}

/// Writes a recording in another format. What was damaged in a journal is returned.
///
/// # Errors
/// [`ExportError`].
pub fn export(mut source: Source, format: ExportFormat, to: &mut dyn Write) -> Result<Option<String>, ExportError> {
    let mut exporter: Box<dyn Exporter> = match format {
        ExportFormat::Csv => return csv(source, to),
        ExportFormat::Perfetto => Box::new(perfetto::Perfetto::begin(&source, to)?),
        ExportFormat::Chrome => Box::new(chrome::Chrome::begin(&source, to)?),
        ExportFormat::Speedscope => Box::new(speedscope::Speedscope::new(&source)),
        ExportFormat::OtlpJson => Box::new(otlp::Otlp::new(&source)),
        ExportFormat::Folded => Box::new(folded::Folded::default()),
    };
    let damage = source.read(|frame| rows::each(frame, |row| exporter.take(&row, to)))?;
    exporter.finish(to)?;
    to.flush()?;
    Ok(damage)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the errors of polars one is about the output")]
fn csv(mut source: Source, to: &mut dyn Write) -> Result<Option<String>, ExportError> {
    let mut has_header = true;
    let damage = source.read(|frame| {
        CsvWriter::new(&mut *to).include_header(std::mem::take(&mut has_header)).finish(&mut frame.clone()).map_err(
            |error| match error {
                PolarsError::IO { error, .. } => ExportError::Output(io::Error::new(error.kind(), error.to_string())),
                other => other.into(),
            },
        )
    })?;
    to.flush()?;
    Ok(damage)
}

/// What a viewer shows of a call when it is clicked on: name and value.
fn details(row: &EventRow<'_>) -> Vec<(&'static str, Value)> {
    let mut details: Vec<(&'static str, Value)> = Vec::new();
    let mut text = |name: &'static str, value: &str| {
        if !value.is_empty() {
            details.push((name, Value::Text(value.to_owned())));
        }
    };
    text("syscall", row.syscall);
    text("role", row.role);
    text("phase", row.phase);
    text("device", row.device);
    text("fields", row.fields);
    text("error", row.error);
    text("status", row.status);
    if !row.syscall.is_empty() {
        for (name, value) in ["argument0", "argument1", "argument2", "argument3"].into_iter().zip(row.arguments()) {
            details.push((name, Value::Number(value)));
        }
    }
    if let Some(returned) = row.returned {
        details.push(("returned", Value::Signed(returned)));
    }
    details
}

/// A value of a detail.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(u64),
    Signed(i64),
}
