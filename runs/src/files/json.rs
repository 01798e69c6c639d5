//! JSON: one document with the header and a list of rows.

use std::io::Write;

use polars_core::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Codec, CodecError, header_from};
use crate::{
    frame,
    run::{Header, Run},
};

pub(super) struct Json;

#[derive(Serialize)]
struct Document<'a> {
    header: &'a Header,
    calls: Vec<Map<String, Value>>,
}

/// As it is read: the header decides first whether the rest can be understood.
#[derive(Deserialize)]
struct ReadDocument {
    header: Value,
    calls: Value,
}

impl Codec for Json {
    fn write(&self, run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
        let calls = (0..run.calls.height()).map(|row| row_to_json(&run.calls, row)).collect::<Result<_, _>>()?;
        serde_json::to_writer_pretty(&mut *to, &Document { header: &run.header, calls })?;
        to.write_all(b"\n")?;
        Ok(())
    }

    fn read(&self, bytes: Vec<u8>) -> Result<Run, CodecError> {
        let document: ReadDocument = serde_json::from_slice(&bytes)?;
        let header = header_from(document.header)?;
        let calls: Vec<Map<String, Value>> = serde_json::from_value(document.calls)?;
        let empty = frame::empty()?;
        // A column that no row has is one that an older version did not write.
        let has =
            |column: &Column| calls.is_empty() || calls.iter().any(|row| row.contains_key(column.name().as_str()));
        let columns = empty
            .columns()
            .iter()
            .filter(|column| has(column))
            .map(|column| column_from_json(column, &calls))
            .collect::<Result<_, _>>()?;
        Ok(Run { header, calls: DataFrame::new_infer_height(columns)? })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "columns have few of the types of polars")]
fn row_to_json(calls: &DataFrame, row: usize) -> PolarsResult<Map<String, Value>> {
    let value = |column: &Column| -> PolarsResult<Value> {
        Ok(match column.get(row)? {
            AnyValue::UInt32(number) => number.into(),
            AnyValue::UInt64(number) => number.into(),
            // Owned where polars keeps a column of one value once.
            ref text @ (AnyValue::String(_) | AnyValue::StringOwned(_)) => text.get_str().unwrap_or_default().into(),
            AnyValue::List(list) => list.u64()?.iter().flatten().collect(),
            other => polars_bail!(SchemaMismatch: "column `{}` has a value of type {}", column.name(), other.dtype()),
        })
    };
    calls.columns().iter().map(|column| Ok((column.name().to_string(), value(column)?))).collect()
}

/// A column like `expected` from the rows of a document.
#[expect(clippy::wildcard_enum_match_arm, reason = "columns have few of the types of polars")]
fn column_from_json(expected: &Column, rows: &[Map<String, Value>]) -> Result<Column, CodecError> {
    let name = expected.name();
    let wrong = |row: usize| format!("row {row} has no `{name}` of type {}", expected.dtype());
    let values = || rows.iter().enumerate().map(|(row, map)| (row, map.get(name.as_str())));
    Ok(match expected.dtype() {
        DataType::UInt32 => values()
            .map(|(row, value)| {
                value.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| wrong(row))
            })
            .collect::<Result<Vec<u32>, _>>()
            .map(|numbers| Column::new(name.clone(), numbers))?,
        DataType::UInt64 => values()
            .map(|(row, value)| value.and_then(Value::as_u64).ok_or_else(|| wrong(row)))
            .collect::<Result<Vec<u64>, _>>()
            .map(|numbers| Column::new(name.clone(), numbers))?,
        DataType::String => values()
            .map(|(row, value)| value.and_then(Value::as_str).ok_or_else(|| wrong(row)))
            .collect::<Result<Vec<&str>, _>>()
            .map(|words| Column::new(name.clone(), words))?,
        _ => {
            let mut lists = ListPrimitiveChunkedBuilder::<UInt64Type>::new(
                name.clone(),
                rows.len(),
                rows.len() * 8,
                DataType::UInt64,
            );
            for (row, value) in values() {
                let list = value.and_then(Value::as_array).ok_or_else(|| wrong(row))?;
                let numbers: Vec<u64> =
                    list.iter().map(|n| n.as_u64().ok_or_else(|| wrong(row))).collect::<Result<_, _>>()?;
                lists.append_slice(&numbers);
            }
            lists.finish().into_column()
        }
    })
}
