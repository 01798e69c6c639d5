//! What other tools open: exported recordings are read by somebody else's code, and hold what was recorded.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{TRACER, example, known_calls};
use gpuos_test_macros::privileged;

/// Python packages that `cargo xtask setup` fetches.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python");

/// A recording of phases, threads, a child and what it waits for.
fn recording(folder: &Path) -> PathBuf {
    let file = folder.join("recording.parquet");
    let script = format!(
        "{} && {} threads 50 3 && {} forks 2 && sleep 0.02",
        example("phase_calls").display(),
        known_calls().display(),
        known_calls().display()
    );
    let output = Command::new(TRACER)
        .args(["record", "--sched", "-q", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

fn export(file: &Path, format: &str, to: &Path) {
    let output = Command::new(TRACER).args(["export", "--to", format, "-o"]).arg(to).arg(file).output().unwrap();
    assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a Python program with the packages and these arguments, and gives back what it prints.
pub(crate) fn python(program: &str, arguments: &[&Path]) -> String {
    let output = Command::new("/usr/bin/python3")
        .env("PYTHONPATH", PACKAGES)
        .args(["-c", program])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\nhint: `cargo xtask setup` fetches the packages",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Rows of each event, and of `getppid`, as DuckDB counts them.
fn expected(file: &Path) -> (u64, u64, u64) {
    let text = python(
        "import duckdb, sys\n\
         rows = duckdb.sql(f\"select count(*) filter (event in ('call', 'unfinished call')), \
         count(*) filter (syscall = 'getppid'), count(*) filter (event = 'phase begin') from '{sys.argv[1]}'\")\n\
         print(*rows.fetchall()[0])",
        &[file],
    );
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (numbers[0], numbers[1], numbers[2])
}

#[privileged]
fn perfetto_reads_tracks_slices_counters_and_clocks() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let trace = folder.path().join("recording.pftrace");
    export(&file, "perfetto", &trace);
    let (calls, getppid, phases) = expected(&file);
    let text = python(
        r"
import sys
from collections import defaultdict
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent
trace = Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
clocks = {}
tracks, processes, threads, counters, names = {}, {}, {}, {}, {}
events = []
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id == 1
    if packet.HasField('clock_snapshot'):
        clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
    elif packet.HasField('track_descriptor'):
        track = packet.track_descriptor
        tracks[track.uuid] = track
        if track.HasField('process'): processes[track.uuid] = track.process
        if track.HasField('thread'):
            assert track.parent_uuid in processes
            threads[track.uuid] = track.thread
        if track.HasField('counter'): counters[track.uuid] = track.name
        if track.name == 'phases': names[track.uuid] = track.parent_uuid
    else:
        assert packet.timestamp_clock_id == 3 and packet.track_event.track_uuid in tracks
        events.append((packet.timestamp, packet.track_event))
# Slices nest: whoever begins first on a track ends last. The sort is stable, as a viewer's is.
events.sort(key=lambda event: event[0])
open_slices, begun, last = defaultdict(list), defaultdict(int), {}
for at, event in events:
    assert at >= clocks[3]
    if event.type == TrackEvent.TYPE_SLICE_BEGIN:
        open_slices[event.track_uuid].append(event.name)
        kind = event.categories[0] if event.categories[0] in ('phase', 'sched') else 'call'
        # Phases of the process have a track of their own, those of a thread are on its track.
        assert kind != 'phase' or event.track_uuid in (names if event.name in ('init', 'work', 'again') else tracks)
        begun[kind] += 1
        if event.name == 'getppid':
            begun['getppid'] += 1
            values = {a.name: a for a in event.debug_annotations}
            assert values['syscall'].string_value == 'getppid' and values['returned'].int_value > 0
            assert values['role'].string_value == event.categories[0]
    elif event.type == TrackEvent.TYPE_SLICE_END:
        open_slices[event.track_uuid].pop()
    elif event.type == TrackEvent.TYPE_COUNTER:
        assert event.counter_value >= last.get(event.track_uuid, 0)
        last[event.track_uuid] = event.counter_value
assert not any(open_slices.values()), open_slices
assert clocks[1] > 1_600_000_000_000_000_000 and clocks[6] >= clocks[3]
assert len({thread.tid for thread in threads.values()}) == len(threads)
assert {'sh', 'known_calls', 'phase_calls', 'sleep'} <= {process.process_name for process in processes.values()}
print(begun['call'], begun['getppid'], begun['phase'], sum(last.values()), begun['sched'] > 0)
",
        &[&trace],
    );
    assert_eq!(text.trim(), format!("{calls} {getppid} {phases} {calls} True"));
}

#[privileged]
fn chrome_speedscope_folded_and_otlp_hold_the_same_calls() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let path = |name: &str| folder.path().join(name);
    for format in ["chrome", "speedscope", "folded", "otlp-json", "csv"] {
        export(&file, format, &path(format));
    }
    let (calls, getppid, phases) = expected(&file);
    let text = python(
        r"
import csv, json, sys
chrome, speedscope, folded, otlp, rows = sys.argv[1:]
events = json.load(open(chrome))['traceEvents']
calls = [event for event in events if event['ph'] == 'X' and event['cat'] != 'sched']
begun = [event['id'] for event in events if event['ph'] == 'b']
ended = [event['id'] for event in events if event['ph'] == 'e']
assert len(set(begun)) == len(begun) and set(ended) == set(begun)
total = sum(round(event['dur'] * 1000) for event in calls)
print(len(calls), sum(event['name'] == 'getppid' for event in calls), len(begun))
profiles = json.load(open(speedscope))
frames = profiles['shared']['frames']
for profile in profiles['profiles']:
    assert len(profile['samples']) == len(profile['weights'])
    assert sum(profile['weights']) == profile['endValue']
    assert all(0 <= frame < len(frames) for sample in profile['samples'] for frame in sample)
lines = [line.rsplit(' ', 1) for line in open(folded)]
assert all(stack.count(';') >= 2 for stack, _ in lines)
folded_total = sum(int(weight) for _, weight in lines)
assert folded_total == sum(profile['endValue'] for profile in profiles['profiles'])
assert any(stack.startswith('work;range;inner;') for stack, _ in lines), lines
spans = [span for line in open(otlp) for resource in json.loads(line)['resourceSpans']
         for scope in resource['scopeSpans'] for span in scope['spans']]
ids = {span['spanId'] for span in spans}
assert len(ids) == len(spans) and len({span['traceId'] for span in spans}) == 1
children = [span for span in spans if 'parentSpanId' in span]
assert all(span['parentSpanId'] in ids for span in children)
assert all(int(span['endTimeUnixNano']) >= int(span['startTimeUnixNano']) > 1_600_000_000 * 10**9 for span in spans)
print(len(children), sum(span['name'] == 'getppid' for span in children))
rows = list(csv.DictReader(open(rows)))
finished = [row for row in rows if row['event'] == 'call']
assert folded_total == sum(int(row['duration_ns'] or 0) for row in finished)
print(sum(row['event'] in ('call', 'unfinished call') for row in rows), sum(row['syscall'] == 'getppid' for row in rows))
",
        &[&path("chrome"), &path("speedscope"), &path("folded"), &path("otlp-json"), &path("csv")],
    );
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [format!("{calls} {getppid} {phases}"), format!("{calls} {getppid}"), format!("{calls} {getppid}")]
    );
}

#[test]
fn what_is_no_recording_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other");
    std::fs::write(&file, "something else").unwrap();
    let say = |arguments: &[&str]| {
        let output = Command::new(TRACER).arg("export").args(arguments).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(say(&["--to", "folded"]).contains("is no recording"), "{}", say(&["--to", "folded"]));
    std::fs::write(&file, b"GPUOSJNL\xff\xff\xff\xff").unwrap();
    assert!(say(&["--to", "folded"]).contains("is not a journal of gpuos-trace: its head is too long"));
    std::fs::write(&file, b"PAR1PAR1").unwrap();
    assert!(say(&["--to", "csv"]).contains("is no recording"));
    std::fs::remove_file(&file).unwrap();
    assert!(say(&["--to", "csv"]).contains("No such file"));
}

#[test]
fn a_recording_is_not_exported_onto_itself() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/phase1/h200/record/alloc.parquet");
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("r.parquet"), folder.path().join("link"));
    std::fs::copy(&results, &file).unwrap();
    std::os::unix::fs::symlink("r.parquet", &link).unwrap();
    for to in [&file, &link] {
        let output = Command::new(TRACER).args(["export", "--to", "csv", "-o"]).arg(to).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(125) && text.contains("is what is exported"), "{text}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&results).unwrap());
}

#[test]
fn a_recording_from_a_gpu_machine_is_read_anywhere() {
    // Made by study/phase1/h200/record.sh: `bench alloc` of 100 pairs of cuMemAlloc and cuMemFree.
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/phase1/h200/record");
    let recording = results.join("alloc.parquet");
    let shown = Command::new(TRACER).args(["show", "--top", "0"]).arg(&recording).output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    // The tables of the counts, made there, and those of the events, made here.
    let tables = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.starts_with("exit status"));
        lines.take_while(|line| !line.starts_with(" device ")).map(str::to_owned).collect()
    };
    // Device, what was asked of it, role and calls; names may go on in a next line.
    let calls_on_devices = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().skip_while(|line| !line.starts_with(" device ")).skip(1);
        let mut rows: Vec<Vec<String>> = Vec::new();
        for line in lines.take_while(|line| line.starts_with(' ')) {
            if let Some(more) = line.strip_prefix("  ") {
                rows.last_mut().unwrap()[1] += &format!(" {}", more.trim());
            } else {
                let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
                rows.push(cells.take(4).map(str::to_owned).collect());
            }
        }
        rows
    };
    let counted = std::fs::read_to_string(results.join("alloc.txt")).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(tables(&shown), tables(&counted));
    assert_eq!(calls_on_devices(&shown), calls_on_devices(&counted));
    assert!(calls_on_devices(&shown).len() > 100);
    let csv = Command::new(TRACER).args(["export", "--to", "csv"]).arg(&recording).output().unwrap();
    let text = String::from_utf8(csv.stdout).unwrap();
    let fields = text.lines().filter(|line| line.contains(",hClient=0x") && line.contains(" status=0x")).count();
    assert_eq!((text.lines().filter(|line| line.contains(",nvidia")).count(), fields), (1276, 413));
}

#[privileged]
fn other_readers_take_the_strings_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.parquet");
    let status = Command::new(TRACER)
        .args(["run", "-q", "-o"])
        .arg(&file)
        .arg("--")
        .arg(known_calls())
        .arg("threads")
        .args(["50", "3"])
        .status();
    assert!(status.unwrap().success());
    let text = python(
        r#"
import io, sys
import duckdb, pandas, polars
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv, pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
assert not any(pa.types.is_string_view(field.type) for field in table.schema), table.schema
chosen = table.filter(pc.equal(table['syscall'], 'getppid'))
calls = [pc.sum(chosen['calls']).as_py()]
names = table.select(['syscall', 'role']).sort_by('syscall')
pa.csv.write_csv(names, io.BytesIO())
assert names.join(chosen.select(['syscall', 'calls']), 'syscall', join_type='inner').num_rows == chosen.num_rows ** 2
for backend in ['numpy_nullable', 'pyarrow']:
    frame = pandas.read_parquet(sys.argv[1], dtype_backend=backend)
    calls.append(frame[frame.syscall == 'getppid'].calls.sum())
    frame[['syscall', 'role']].sort_values('syscall').to_csv(io.StringIO())
frame = polars.read_parquet(sys.argv[1])
calls.append(frame.filter(polars.col('syscall') == 'getppid')['calls'].sum())
calls += duckdb.sql(f"select sum(calls)::bigint from '{sys.argv[1]}' where syscall = 'getppid'").fetchall()[0]
print(*calls)
"#,
        &[&file],
    );
    assert_eq!(text, "150 150 150 150 150\n");
}

#[privileged]
fn processes_that_had_one_number_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let status = Command::new(TRACER)
        .args(["record", "-q", "-o"])
        .arg(&file)
        .arg("--")
        .arg(known_calls())
        .arg("one-number")
        .status();
    assert!(status.unwrap().success());
    let path = |name: &str| folder.path().join(name);
    for format in ["perfetto", "chrome", "speedscope"] {
        export(&file, format, &path(format));
    }
    let text = python(
        r"
import json, sys
from collections import defaultdict
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
trace = Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
started, uuids = defaultdict(set), defaultdict(set)
for packet in trace.packet:
    if packet.HasField('track_descriptor') and packet.track_descriptor.HasField('process'):
        process = packet.track_descriptor.process
        started[process.pid].add(process.start_timestamp_ns)
        uuids[process.pid].add(packet.track_descriptor.uuid)
boottime = next(clock.timestamp for packet in trace.packet for clock in packet.clock_snapshot.clocks if clock.clock_id == 6)
assert all(0 <= at - boottime < 10**10 for times in started.values() for at in times), (started, boottime)
print(sorted(len(times) for times in started.values()), sorted(len(tracks) for tracks in uuids.values()))
events = [event for event in json.load(open(sys.argv[2]))['traceEvents'] if event['ph'] == 'X']
pids = lambda name: {event['pid'] for event in events if event['name'] == name}
print(len(pids('getppid') & pids('getuid')), sum(event['name'] == 'getuid' for event in events) >= 20)
names = [profile['name'] for profile in json.load(open(sys.argv[3]))['profiles']]
print(len(names), len(set(names)), sum('begun at' in name for name in names))
",
        &[&path("perfetto"), &path("chrome"), &path("speedscope")],
    );
    assert_eq!(text, "[1, 2] [1, 2]\n0 True\n3 3 2\n");
}

#[privileged]
fn jobs_are_slices_with_flows_from_submission_to_the_thread_that_knew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.parquet");
    let output = Command::new(TRACER)
        .args(["record", "-q", "-o"])
        .arg(&file)
        .arg("--")
        .arg(example("job_calls"))
        .args(["jobs", "200"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = folder.path().join("jobs.pftrace");
    export(&file, "perfetto", &trace);
    let text = python(
        r"
import sys
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent
trace = Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
tracks = {packet.track_descriptor.uuid: packet.track_descriptor for packet in trace.packet}
submitted, slices, known, failed, ends = {}, {}, {}, 0, {}
for packet in trace.packet:
    event = packet.track_event
    if 'job' not in event.categories:
        if event.type == TrackEvent.TYPE_SLICE_END and event.track_uuid in ends and ends[event.track_uuid]:
            last = ends[event.track_uuid].pop()
            assert packet.timestamp >= last
        continue
    track = tracks[event.track_uuid]
    if event.type == TrackEvent.TYPE_SLICE_BEGIN:
        assert track.name == 'jobs: a' and event.name == 'a'
        # No two jobs are open on a track.
        assert not ends.get(event.track_uuid)
        ends[event.track_uuid] = [packet.timestamp]
        slices[event.flow_ids[0]] = packet.timestamp
        failed += {a.name: a.uint_value for a in event.debug_annotations}['failed']
    elif event.name == 'submit a':
        assert track.thread.tid > 0
        submitted[event.flow_ids[0]] = packet.timestamp
    elif event.name == 'known a':
        known[event.terminating_flow_ids[0]] = packet.timestamp
assert submitted == slices and submitted.keys() == known.keys()
assert all(known[flow] >= submitted[flow] for flow in known)
print(len(slices), failed)
",
        &[&trace],
    );
    assert_eq!(text.trim(), "200 1");
    let chrome = folder.path().join("jobs.json");
    export(&file, "chrome", &chrome);
    let text = python(
        "import json, sys\nevents = json.load(open(sys.argv[1]))['traceEvents']\n\
         jobs = [event for event in events if event.get('cat') == 'job']\n\
         print(sum(event['ph'] == 'b' for event in jobs), sum(event['ph'] == 'e' for event in jobs))",
        &[&chrome],
    );
    assert_eq!(text.trim(), "200 200");
    let shown = Command::new(TRACER).args(["show", "--job", "a"]).arg(&file).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("job class") && shown.contains("getppid"), "{shown}");
    let unknown = Command::new(TRACER).args(["show", "--job", "zzz"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("no job class `zzz`") && said.contains("`a`"), "{said}");
}
