//! CSV: the header as one line of JSON behind `#`, then the frame; a histogram is its counts joined by `;`.

use std::io::{Cursor, Write};

use polars_core::prelude::*;
use polars_io::{
    SerReader as _, SerWriter as _,
    csv::{
        read::{CsvParseOptions, CsvReadOptions},
        write::CsvWriter,
    },
};

use gpuos_host::without_panic;

use super::{Codec, CodecError, header_from};
use crate::{columns::column, frame, run::Run};

/// Begins the header line.
const HEADER: &str = "# gpuos-trace ";

pub(super) struct Csv;

impl Codec for Csv {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        writeln!(to, "{HEADER}{}", serde_json::to_string(&run.header)?)?;
        let mut calls = run.calls.clone();
        let lists = calls.column(column::LATENCY)?.list()?.clone();
        let joined = (0..lists.len()).map(|row| -> PolarsResult<String> {
            let Some(list) = lists.get_as_series(row) else { return Ok(String::new()) };
            Ok(list.u64()?.iter().flatten().map(|count| count.to_string()).collect::<Vec<_>>().join(";"))
        });
        let joined = joined.collect::<PolarsResult<Vec<_>>>()?;
        calls.with_column(Column::new(column::LATENCY.into(), joined))?;
        CsvWriter::new(to).finish(&mut calls)?;
        Ok(())
    }

    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError> {
        // polars panics on some damaged files.
        without_panic(|| Self::read_trusting(bytes)).unwrap_or_else(|| Err("its rows are damaged".into()))
    }
}

impl Csv {
    fn read_trusting(bytes: Vec<u8>) -> Result<Run, CodecError> {
        let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let header =
            std::str::from_utf8(first)?.strip_prefix(HEADER).ok_or("its first line is not `# gpuos-trace {…}`")?;
        let header = header_from(serde_json::from_str(header)?)?;
        let empty = frame::empty()?;
        let mut schema = (**empty.schema()).clone();
        schema.insert(column::LATENCY.into(), DataType::String);
        // By name: a later version may have added columns.
        let mut calls = CsvReadOptions::default()
            .with_infer_schema_length(Some(0))
            .with_schema_overwrite(Some(schema.into()))
            .with_parse_options(CsvParseOptions::default().with_comment_prefix(Some("#")).with_missing_is_null(false))
            .into_reader_with_file_handle(Cursor::new(bytes))
            .finish()?;
        let joined = calls.column(column::LATENCY)?.str()?.clone();
        let mut lists = ListPrimitiveChunkedBuilder::<UInt64Type>::new(
            column::LATENCY.into(),
            joined.len(),
            joined.len() * 8,
            DataType::UInt64,
        );
        for text in joined.iter() {
            let numbers: Vec<u64> = text
                .unwrap_or("")
                .split(';')
                .filter(|part| !part.is_empty())
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            lists.append_slice(&numbers);
        }
        calls.with_column(lists.finish().into_column())?;
        Ok(Run { header, calls })
    }
}
