//! Perfetto's trace format: protobuf packets, the messages of which only the parts used here are declared. Field
//! numbers are those of Perfetto's `protos/perfetto/trace`.
//!
//! Each process and thread has a track. Calls are slices on their thread's, phases on a track below their process, jobs on
//! tracks of their class there, with a flow from the thread that submitted one to the thread that knew its end, and each role
//! has a counter of calls. Times are those of the monotonic clock; a snapshot of the clocks lets other traces line up.

use std::{collections::HashMap, io::Write};

use gpuos_tracer_abi::tasks::started_ns;
use prost::{Message, Oneof};

use super::{ExportError, Exporter, Value, details};
use crate::{rows::EventRow, source::Source, table::word};

/// `BUILTIN_CLOCK_REALTIME`, `_MONOTONIC` and `_BOOTTIME`.
const REALTIME: u32 = 1;
const MONOTONIC: u32 = 3;
const BOOTTIME: u32 = 6;
/// All packets are of one writer.
const SEQUENCE: u32 = 1;
/// Counters move this often at most.
const COUNTER_NS: u64 = 1_000_000;

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(uint32, optional, tag = "58")]
    timestamp_clock_id: Option<u32>,
    #[prost(oneof = "Data", tags = "6, 11, 60")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "6")]
    ClockSnapshot(ClockSnapshot),
    #[prost(message, tag = "11")]
    TrackEvent(TrackEvent),
    #[prost(message, tag = "60")]
    TrackDescriptor(TrackDescriptor),
}

#[derive(Clone, PartialEq, Message)]
struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    clocks: Vec<Clock>,
    #[prost(uint32, optional, tag = "2")]
    primary_trace_clock: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Clock {
    #[prost(uint32, optional, tag = "1")]
    clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
    /// Tells processes of one number apart. In the primary clock of the trace.
    #[prost(int64, optional, tag = "7")]
    start_timestamp_ns: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ThreadDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    tid: Option<i32>,
    #[prost(string, optional, tag = "5")]
    thread_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CounterDescriptor {
    /// `UNIT_COUNT` is 2.
    #[prost(int32, optional, tag = "3")]
    unit: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    counter_value: Option<i64>,
    #[prost(fixed64, repeated, tag = "47")]
    flow_ids: Vec<u64>,
    #[prost(fixed64, repeated, tag = "48")]
    terminating_flow_ids: Vec<u64>,
}

const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
const INSTANT: i32 = 3;
const COUNTER: i32 = 4;

#[derive(Clone, PartialEq, Message)]
struct DebugAnnotation {
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
    #[prost(oneof = "AnnotationValue", tags = "3, 4, 6")]
    value: Option<AnnotationValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum AnnotationValue {
    #[prost(uint64, tag = "3")]
    Number(u64),
    #[prost(int64, tag = "4")]
    Signed(i64),
    #[prost(string, tag = "6")]
    Text(String),
}

/// A track, told by what it shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Track {
    Process(u64),
    Thread(u64, u32),
    Phases(u64),
    Role(String),
    /// One of a class's: of jobs that are in flight at once each has its own.
    Jobs(u64, String, usize),
}

#[derive(Debug)]
pub(super) struct Perfetto {
    tracks: HashMap<Track, u64>,
    /// Calls of each role, and when that was last written.
    roles: HashMap<String, (i64, u64)>,
    /// Open phases, by track.
    open: HashMap<u64, u64>,
    /// When the last job on each track of a class ended.
    jobs: HashMap<(u64, String), Vec<u64>>,
    /// Flows, by number.
    flows: u64,
    last_ns: u64,
    /// From the monotonic clock to that of the boot.
    boottime_offset_ns: i64,
}

impl Perfetto {
    pub(super) fn begin(source: &Source, to: &mut dyn Write) -> Result<Self, ExportError> {
        let clocks = source.clocks();
        let clock = |clock_id, timestamp| Clock { clock_id: Some(clock_id), timestamp: Some(timestamp) };
        let snapshot = ClockSnapshot {
            clocks: vec![
                clock(REALTIME, clocks.realtime_ns),
                clock(MONOTONIC, clocks.monotonic_ns),
                clock(BOOTTIME, clocks.boottime_ns),
            ],
            primary_trace_clock: Some(BOOTTIME),
        };
        write(to, None, Data::ClockSnapshot(snapshot))?;
        Ok(Self {
            tracks: HashMap::new(),
            roles: HashMap::new(),
            open: HashMap::new(),
            jobs: HashMap::new(),
            flows: 0,
            last_ns: 0,
            boottime_offset_ns: clocks.boottime_ns.wrapping_sub(clocks.monotonic_ns).cast_signed(),
        })
    }

    /// Number of a track, and whether it is new.
    fn track(&mut self, track: Track) -> (u64, bool) {
        let next = self.tracks.len() as u64 + 1;
        let number = *self.tracks.entry(track).or_insert(next);
        (number, number == next)
    }

    fn process(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<u64, ExportError> {
        let (uuid, is_new) = self.track(Track::Process(row.process));
        if is_new || row.event == word::EXEC {
            let process = ProcessDescriptor {
                pid: Some(row.pid as i32),
                process_name: Some(row.comm.to_owned()).filter(|name| !name.is_empty()),
                start_timestamp_ns: (row.process != 0)
                    .then(|| started_ns(row.process, row.time).cast_signed().saturating_add(self.boottime_offset_ns)),
            };
            let track = TrackDescriptor { uuid: Some(uuid), process: Some(process), ..Default::default() };
            write(to, None, Data::TrackDescriptor(track))?;
        }
        Ok(uuid)
    }

    fn thread(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<u64, ExportError> {
        let parent = self.process(row, to)?;
        let (uuid, is_new) = self.track(Track::Thread(row.process, row.thread));
        if is_new || matches!(row.event, word::EXEC | word::NAME) {
            let thread = ThreadDescriptor {
                pid: Some(row.pid as i32),
                tid: Some(row.thread as i32),
                thread_name: Some(row.comm.to_owned()).filter(|name| !name.is_empty()),
            };
            let track = TrackDescriptor {
                uuid: Some(uuid),
                parent_uuid: Some(parent),
                thread: Some(thread),
                ..Default::default()
            };
            write(to, None, Data::TrackDescriptor(track))?;
        }
        Ok(uuid)
    }

    /// The track of a process's phases, or for those of a thread's own the thread's.
    fn phases(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<u64, ExportError> {
        if row.is_threads_own() {
            return self.thread(row, to);
        }
        let parent_uuid = Some(self.process(row, to)?);
        let (uuid, is_new) = self.track(Track::Phases(row.process));
        if is_new {
            let name = Some("phases".to_owned());
            let track = TrackDescriptor { uuid: Some(uuid), parent_uuid, name, ..Default::default() };
            write(to, None, Data::TrackDescriptor(track))?;
        }
        Ok(uuid)
    }

    /// A track of a class on which no job is in flight when this one is submitted.
    fn jobs(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<u64, ExportError> {
        let parent_uuid = Some(self.process(row, to)?);
        let class = row.detail.to_owned();
        let ends = self.jobs.entry((row.process, class.clone())).or_default();
        let lane = ends.iter().position(|end| *end <= row.time).unwrap_or(ends.len());
        if lane == ends.len() {
            ends.push(0);
        }
        ends[lane] = row.end();
        let name = Some(format!("jobs: {class}"));
        let (uuid, is_new) = self.track(Track::Jobs(row.process, class, lane));
        if is_new {
            let track = TrackDescriptor { uuid: Some(uuid), parent_uuid, name, ..Default::default() };
            write(to, None, Data::TrackDescriptor(track))?;
        }
        Ok(uuid)
    }

    /// A job: a slice on a track of its class, and moments on the threads that submitted it and that knew its end.
    fn job(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<(), ExportError> {
        let (jobs, submitter) = (self.jobs(row, to)?, self.thread(row, to)?);
        // A name it gets when it is heard of.
        let knower = self.thread(&EventRow { thread: row.argument1 as u32, comm: "", ..*row }, to)?;
        self.flows += 1;
        let flow = vec![self.flows];
        let moment = |track, name: &str| TrackEvent {
            r#type: Some(INSTANT),
            track_uuid: Some(track),
            name: Some(format!("{name} {}", row.detail)),
            categories: vec!["job".to_owned()],
            ..Default::default()
        };
        let submitted = TrackEvent { flow_ids: flow.clone(), ..moment(submitter, "submit") };
        write(to, Some(row.time), Data::TrackEvent(submitted))?;
        let number = |name: &str, value| DebugAnnotation {
            name: Some(name.to_owned()),
            value: Some(AnnotationValue::Number(value)),
        };
        let begin = TrackEvent {
            r#type: Some(SLICE_BEGIN),
            track_uuid: Some(jobs),
            name: Some(row.detail.to_owned()),
            categories: vec!["job".to_owned()],
            debug_annotations: vec![
                number("job", row.argument0),
                number("not ended after ns", row.argument2),
                number("failed", u64::from(row.returned == Some(-1))),
            ],
            flow_ids: flow.clone(),
            ..Default::default()
        };
        write(to, Some(row.time), Data::TrackEvent(begin))?;
        end(to, jobs, row.end())?;
        let known = TrackEvent { terminating_flow_ids: flow, ..moment(knower, "known") };
        write(to, Some(row.end()), Data::TrackEvent(known))
    }

    fn counter(&mut self, role: &str, at_ns: u64, to: &mut dyn Write) -> Result<(), ExportError> {
        let (uuid, is_new) = self.track(Track::Role(role.to_owned()));
        if is_new {
            let name = Some(format!("calls: {role}"));
            let counter = Some(CounterDescriptor { unit: Some(2) });
            let track = TrackDescriptor { uuid: Some(uuid), name, counter, ..Default::default() };
            write(to, None, Data::TrackDescriptor(track))?;
        }
        let (calls, written_ns) = self.roles.entry(role.to_owned()).or_default();
        *calls += 1;
        if is_new || at_ns >= written_ns.saturating_add(COUNTER_NS) {
            *written_ns = at_ns;
            let value = *calls;
            write_counter(to, uuid, at_ns, value)?;
        }
        Ok(())
    }
}

fn write(to: &mut dyn Write, timestamp: Option<u64>, data: Data) -> Result<(), ExportError> {
    let packet = Packet {
        timestamp,
        timestamp_clock_id: timestamp.map(|_| MONOTONIC),
        trusted_packet_sequence_id: Some(SEQUENCE),
        data: Some(data),
    };
    // A trace is `repeated TracePacket packet = 1`: each packet behind its tag and its length.
    let mut bytes = vec![0x0a];
    bytes.extend(packet.encode_length_delimited_to_vec());
    Ok(to.write_all(&bytes)?)
}

fn write_counter(to: &mut dyn Write, uuid: u64, at_ns: u64, value: i64) -> Result<(), ExportError> {
    let event =
        TrackEvent { r#type: Some(COUNTER), track_uuid: Some(uuid), counter_value: Some(value), ..Default::default() };
    write(to, Some(at_ns), Data::TrackEvent(event))
}

fn annotations(row: &EventRow<'_>) -> Vec<DebugAnnotation> {
    let annotation = |(name, value): (&str, Value)| DebugAnnotation {
        name: Some(name.to_owned()),
        value: Some(match value {
            Value::Text(text) => AnnotationValue::Text(text),
            Value::Number(number) => AnnotationValue::Number(number),
            Value::Signed(number) => AnnotationValue::Signed(number),
        }),
    };
    details(row).into_iter().map(annotation).collect()
}

fn slice(
    to: &mut dyn Write,
    uuid: u64,
    (begin_ns, end_ns): (u64, u64),
    name: String,
    category: &str,
    debug_annotations: Vec<DebugAnnotation>,
) -> Result<(), ExportError> {
    let begin = TrackEvent {
        r#type: Some(SLICE_BEGIN),
        track_uuid: Some(uuid),
        name: Some(name),
        categories: vec![category.to_owned()],
        debug_annotations,
        ..Default::default()
    };
    write(to, Some(begin_ns), Data::TrackEvent(begin))?;
    end(to, uuid, end_ns)
}

fn end(to: &mut dyn Write, uuid: u64, at_ns: u64) -> Result<(), ExportError> {
    let event = TrackEvent { r#type: Some(SLICE_END), track_uuid: Some(uuid), ..Default::default() };
    write(to, Some(at_ns), Data::TrackEvent(event))
}

impl Exporter for Perfetto {
    fn take(&mut self, row: &EventRow<'_>, to: &mut dyn Write) -> Result<(), ExportError> {
        self.last_ns = self.last_ns.max(row.end());
        match row.event {
            word::CALL | word::UNFINISHED => {
                let thread = self.thread(row, to)?;
                slice(to, thread, (row.time, row.end()), row.call(), row.role, annotations(row))?;
                self.counter(row.role, row.end(), to)
            }
            word::OFF_CPU => {
                let thread = self.thread(row, to)?;
                slice(to, thread, (row.time, row.end()), format!("off cpu: {}", row.detail), "sched", Vec::new())
            }
            word::PHASE_BEGIN => {
                let phases = self.phases(row, to)?;
                *self.open.entry(phases).or_default() += 1;
                let event = TrackEvent {
                    r#type: Some(SLICE_BEGIN),
                    track_uuid: Some(phases),
                    name: Some(row.phase.to_owned()),
                    categories: vec!["phase".to_owned()],
                    ..Default::default()
                };
                write(to, Some(row.time), Data::TrackEvent(event))
            }
            word::PHASE_END => {
                let phases = self.phases(row, to)?;
                match self.open.get_mut(&phases) {
                    Some(open) if *open != 0 => *open -= 1,
                    // One that began before the recording, or in the parent process.
                    _ => return Ok(()),
                }
                end(to, phases, row.time)
            }
            word::JOB => self.job(row, to),
            word::FAULT | word::LOST | word::ITERATIONS => {
                let thread = self.thread(row, to)?;
                let event = TrackEvent {
                    r#type: Some(INSTANT),
                    track_uuid: Some(thread),
                    name: Some(row.event.to_owned()),
                    debug_annotations: vec![DebugAnnotation {
                        name: Some("value".to_owned()),
                        value: Some(AnnotationValue::Number(row.argument0)),
                    }],
                    ..Default::default()
                };
                write(to, Some(row.time), Data::TrackEvent(event))
            }
            word::PROCESS | word::THREAD | word::EXEC | word::NAME => self.thread(row, to).map(drop),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, to: &mut dyn Write) -> Result<(), ExportError> {
        let last_ns = self.last_ns;
        for (uuid, open) in std::mem::take(&mut self.open) {
            for _ in 0..open {
                end(to, uuid, last_ns)?;
            }
        }
        let roles: Vec<(String, i64)> = self.roles.iter().map(|(role, (calls, _))| (role.clone(), *calls)).collect();
        for (role, calls) in roles {
            let (uuid, _) = self.track(Track::Role(role));
            write_counter(to, uuid, last_ns, calls)?;
        }
        Ok(())
    }
}
