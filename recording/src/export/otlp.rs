//! OpenTelemetry's JSON encoding of spans, as its file exporter writes it: a batch a line. Each call is a span inside the span
//! of its process; times are those of the realtime clock.

use std::{collections::BTreeMap, io::Write};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{ExportError, Exporter, Value, details};
use crate::{rows::EventRow, source::Source, table::word};

/// Spans of one line.
const BATCH: usize = 4096;
/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// One line of the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Json,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Json,
    spans: &'a [Span],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    kind: u32,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Debug, Serialize)]
struct Attribute {
    key: &'static str,
    value: AnyValue,
}

/// 64-bit numbers are strings in this encoding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue {
    StringValue(String),
    IntValue(String),
}

/// Unset where nothing failed.
#[derive(Debug, Default, Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Debug)]
pub(super) struct Otlp {
    command: Vec<String>,
    /// From the monotonic to the realtime clock.
    offset: i128,
    trace: String,
    spans: Vec<Span>,
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
        let resource = json!({"attributes": [
            {"key": "service.name", "value": {"stringValue": "gpuos-trace"}},
            {"key": "process.command_line", "value": {"stringValue": self.command.join(" ")}},
        ]});
        let scope = json!({"name": "gpuos-trace", "version": env!("CARGO_PKG_VERSION")});
        let scope_spans = [ScopeSpans { scope, spans: &self.spans }];
        let line = Line { resource_spans: [ResourceSpans { resource, scope_spans }] };
        serde_json::to_writer(&mut *to, &line)?;
        self.spans.clear();
        Ok(writeln!(to)?)
    }
}

impl Exporter for Otlp {
    fn take(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<(), ExportError> {
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
            Attribute { key: "process.pid", value: AnyValue::IntValue(row.pid.to_string()) },
            Attribute { key: "thread.id", value: AnyValue::IntValue(row.thread.to_string()) },
            Attribute { key: "thread.name", value: AnyValue::StringValue(row.comm.to_owned()) },
        ];
        attributes.extend(details(row).into_iter().map(|(key, value)| Attribute {
            key,
            value: match value {
                Value::Text(text) => AnyValue::StringValue(text),
                Value::Number(number) => AnyValue::StringValue(format!("{number:#x}")),
                Value::Signed(number) => AnyValue::IntValue(number.to_string()),
            },
        }));
        let failed = !row.error.is_empty() || !row.status.is_empty();
        let message = || format!("{}{}", row.error, row.status);
        let id = self.number();
        let span = Span {
            trace_id: self.trace.clone(),
            span_id: format!("{id:016x}"),
            parent_span_id: Some(format!("{parent:016x}")),
            name: row.call(),
            kind: INTERNAL,
            start_time_unix_nano: self.at(row.time),
            end_time_unix_nano: self.at(row.end()),
            attributes,
            status: Status { code: failed.then_some(ERROR), message: failed.then(message) },
        };
        self.spans.push(span);
        if self.spans.len() >= BATCH { self.write(to) } else { Ok(()) }
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        for process in std::mem::take(&mut self.processes).into_values() {
            let span = Span {
                trace_id: self.trace.clone(),
                span_id: format!("{:016x}", process.span),
                parent_span_id: None,
                start_time_unix_nano: self.at(process.begin),
                end_time_unix_nano: self.at(process.end),
                name: process.name,
                kind: INTERNAL,
                attributes: vec![Attribute { key: "process.pid", value: AnyValue::IntValue(process.pid.to_string()) }],
                status: Status::default(),
            };
            self.spans.push(span);
        }
        self.write(to)
    }
}
