//! OpenTelemetry's JSON encoding of spans, as its file exporter writes it: a batch a line. Each call is a span inside the span
//! of its process; times are those of the realtime clock.

use std::{collections::BTreeMap, io::Write};

use serde_json::{Value as Json, json};

use super::{ExportError, Exporter, Value, details};
use crate::record::{rows::Row, source::Source, table::word};

/// Spans of one line.
const BATCH: usize = 4096;
/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

#[derive(Debug)]
pub(super) struct Otlp {
    command: Vec<String>,
    /// From the monotonic to the realtime clock.
    offset: i128,
    trace: String,
    spans: Vec<Json>,
    made: u64,
    processes: BTreeMap<u64, Process>,
}

#[derive(Debug)]
struct Process {
    span: u64,
    pid: u32,
    name: String,
    begin: u64,
    end: u64,
}

impl Otlp {
    pub(super) fn new(source: &Source) -> Self {
        let clocks = source.clocks();
        Self {
            command: source.command().to_vec(),
            offset: i128::from(clocks.realtime_ns) - i128::from(clocks.monotonic_ns),
            // Not zero, and the same for the same recording.
            trace: format!("{:016x}{:016x}", clocks.realtime_ns | 1, clocks.monotonic_ns),
            spans: Vec::new(),
            made: 0,
            processes: BTreeMap::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// 64-bit numbers are strings in this encoding.
    fn at(&self, monotonic_ns: u64) -> String {
        (i128::from(monotonic_ns) + self.offset).max(0).to_string()
    }

    fn write(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let line = json!({"resourceSpans": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "gpuos-trace"}},
                {"key": "process.command_line", "value": {"stringValue": self.command.join(" ")}},
            ]},
            "scopeSpans": [{
                "scope": {"name": "gpuos-trace", "version": env!("CARGO_PKG_VERSION")},
                "spans": std::mem::take(&mut self.spans),
            }],
        }]});
        serde_json::to_writer(&mut *to, &line)?;
        Ok(writeln!(to)?)
    }
}

impl Exporter for Otlp {
    fn take(&mut self, row: &Row<'_>, to: &mut dyn Write) -> Result<(), ExportError> {
        if !self.processes.contains_key(&row.process) {
            let span = self.number();
            let name = row.comm.to_owned();
            let process = Process { span, pid: row.pid, name, begin: row.time, end: row.end() };
            self.processes.insert(row.process, process);
        }
        let parent = self.processes.get_mut(&row.process).map_or(0, |process| {
            process.begin = process.begin.min(row.time);
            process.end = process.end.max(row.end());
            if row.event == word::EXEC {
                row.comm.clone_into(&mut process.name);
            }
            process.span
        });
        if !matches!(row.event, word::CALL | word::UNFINISHED) {
            return Ok(());
        }
        let mut attributes = vec![
            json!({"key": "process.pid", "value": {"intValue": row.pid.to_string()}}),
            json!({"key": "thread.id", "value": {"intValue": row.thread.to_string()}}),
            json!({"key": "thread.name", "value": {"stringValue": row.comm}}),
        ];
        for (name, value) in details(row) {
            let value = match value {
                Value::Text(text) => json!({"stringValue": text}),
                Value::Number(number) => json!({"stringValue": format!("{number:#x}")}),
                Value::Signed(number) => json!({"intValue": number.to_string()}),
            };
            attributes.push(json!({"key": name, "value": value}));
        }
        let failed = !row.error.is_empty() || !row.status.is_empty();
        let id = self.number();
        self.spans.push(json!({
            "traceId": self.trace,
            "spanId": format!("{id:016x}"),
            "parentSpanId": format!("{parent:016x}"),
            "name": row.call(),
            "kind": INTERNAL,
            "startTimeUnixNano": self.at(row.time),
            "endTimeUnixNano": self.at(row.end()),
            "attributes": attributes,
            "status": if failed { json!({"code": ERROR, "message": format!("{}{}", row.error, row.status)}) } else { json!({}) },
        }));
        if self.spans.len() >= BATCH { self.write(to) } else { Ok(()) }
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        for process in std::mem::take(&mut self.processes).into_values() {
            self.spans.push(json!({
                "traceId": self.trace,
                "spanId": format!("{:016x}", process.span),
                "name": process.name,
                "kind": INTERNAL,
                "startTimeUnixNano": self.at(process.begin),
                "endTimeUnixNano": self.at(process.end),
                "attributes": [{"key": "process.pid", "value": {"intValue": process.pid.to_string()}}],
            }));
        }
        self.write(to)
    }
}
