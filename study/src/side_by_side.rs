//! Calls of several stacks side by side: a row for each call, a column for each stack, rare calls as one row.

use std::collections::BTreeMap;

use minijinja::Value;

/// A call with its device before it, where it is on one.
pub(crate) fn call_of(device: &str, call: &str) -> String {
    if device.is_empty() || call.starts_with(device) { call.to_owned() } else { format!("{device} {call}") }
}

/// Calls by role and name, a column for each stack.
pub(crate) struct SideBySide {
    columns: usize,
    /// Calls that are fewer in every column have no row of their own.
    least: f64,
    rows: BTreeMap<(String, String), Vec<f64>>,
}

impl SideBySide {
    pub(crate) fn new(columns: usize, least: f64) -> Self {
        Self { columns, least, rows: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, place: usize, role: String, call: String, calls: f64) {
        self.rows.entry((role, call)).or_insert_with(|| vec![0.0; self.columns])[place] += calls;
    }

    /// What a text shows: rows, what each column has beside them, and how many kinds of call that is.
    pub(crate) fn rows(self) -> Value {
        let is_shown = |cells: &[f64]| cells.iter().any(|calls| *calls >= self.least);
        let (mut rows, mut rest, mut left_out) = (Vec::new(), vec![0.0; self.columns], 0);
        for ((role, call), cells) in self.rows {
            if is_shown(&cells) {
                let having = cells.iter().filter(|calls| **calls > 0.0).count();
                rows.push(serde_json::json!({ "role": role, "call": call, "cells": cells, "having": having }));
            } else {
                left_out += 1;
                rest.iter_mut().zip(cells).for_each(|(sum, calls)| *sum += calls);
            }
        }
        Value::from_serialize(serde_json::json!({ "rows": rows, "rest": rest, "left_out": left_out }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_calls_are_one_row_and_common_ones_are_told() {
        let mut table = SideBySide::new(2, 1.0);
        let mut add = |place, call: &str, calls| table.add(place, "io".to_owned(), call.to_owned(), calls);
        add(0, "read", 2.0);
        add(1, "read", 0.5);
        add(1, "poll", 3.0);
        add(0, "brk", 0.25);
        add(1, "mmap", 0.5);
        let found = serde_json::to_value(table.rows()).unwrap();
        let rows: Vec<_> = found["rows"].as_array().unwrap().iter().map(|row| (&row["call"], &row["having"])).collect();
        assert_eq!(format!("{rows:?}"), r#"[(String("poll"), Number(1)), (String("read"), Number(2))]"#);
        assert_eq!((found["rest"].to_string(), found["left_out"].as_u64()), ("[0.25,0.5]".to_owned(), Some(2)));
        assert_eq!(
            [call_of("kfd", "ioctl"), call_of("", "read"), call_of("kfd", "kfd poll")],
            ["kfd ioctl", "read", "kfd poll"]
        );
    }
}
