//! The rows of a run: one interval, from its start to its end.

use std::collections::HashMap;

use gpuos_runs::{
    columns::column,
    group::{self, Group},
    jobs::JobClass,
    phases::{Phase, marked_around},
    run::{End, Header, Process, Run},
};
use polars_core::prelude::*;

use crate::schema::{BOOTED, Kind, LATENCY, Number, SECONDS, START, Text};

/// Whose a run is, where somebody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Kubernetes pod.
    pub pod: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// Number of the batch system's job.
    pub job: Option<String>,
}

/// Rows of one interval.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The table of [`schema`](crate::schema).
    pub frame: DataFrame,
    /// Beginning of the interval, microseconds since 1970, UTC.
    pub start_us: i64,
    /// The machine.
    pub node: String,
    /// Tells the run apart from all others of the machine; the same whoever writes it, and with which version.
    pub run: u32,
}

/// FNV-1a over what a run is known by, folded to half.
fn identity(header: &Header) -> u32 {
    let first = header.processes.first().map_or(0, |process| process.id);
    let numbers = [header.clocks.realtime_ns, header.clocks.boottime_ns, header.wall_ns, first];
    let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
    let words = header.command.iter().flat_map(|word| word.bytes().chain([0]));
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = numbers.chain(words).fold(0xcbf2_9ce4_8422_2325, mix);
    (hash ^ hash >> 32) as u32
}

/// What a row has of its own; all else is the run's.
#[derive(Clone, Debug, Default)]
struct Row {
    texts: [Option<String>; Text::ALL.len()],
    numbers: [Option<i64>; Number::ALL.len()],
    latency: Option<Vec<i64>>,
}

/// What does not fit is as much as fits: no counter comes near.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Row {
    fn of(kind: Kind) -> Self {
        let mut row = Self::default();
        row.text(Text::Row, kind.name());
        row
    }

    /// Nothing, where the word is empty.
    fn text(&mut self, column: Text, word: &str) {
        self.texts[column as usize] = (!word.is_empty()).then(|| word.to_owned());
    }

    fn number(&mut self, column: Number, number: u64) {
        self.numbers[column as usize] = Some(signed(number));
    }

    /// `phases`: by the path of each inner one, the marked phase around it; `classes`: the class of jobs of each that is one.
    fn calls(of: &Group, phases: &HashMap<&str, &str>, classes: &HashMap<&str, &str>) -> Self {
        let mut row = Self::of(Kind::Calls);
        let [path, role, category, syscall, device, call, detail] =
            std::array::from_fn(|place| of.key.get(place).map_or("", String::as_str));
        for (column, word) in [
            (Text::Phase, phases.get(path).copied().unwrap_or(path)),
            (Text::JobClass, classes.get(path).copied().unwrap_or_default()),
            (Text::Role, role),
            (Text::Category, category),
            (Text::Syscall, syscall),
            (Text::Device, device),
            (Text::Call, call),
            (Text::Detail, detail),
        ] {
            row.text(column, word);
        }
        for (column, number) in [
            (Number::Calls, of.calls),
            (Number::Errors, of.errors),
            (Number::Refused, of.refused),
            (Number::Restarted, of.restarted),
            (Number::Unfinished, of.unfinished),
            (Number::DriverCalls, of.driver_calls),
            (Number::DriverNs, of.driver_ns),
            (Number::TotalNs, of.total_ns),
            (Number::MaxNs, of.max_ns),
        ] {
            row.number(column, number);
        }
        let buckets = of.latency.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        row.latency = Some(of.latency.0[..buckets].iter().map(|count| signed(*count)).collect());
        row
    }

    fn phase(phase: &Phase) -> Self {
        let mut row = Self::of(Kind::Phase);
        row.text(Text::Phase, &phase.path);
        row.number(Number::Units, phase.iterations);
        row.number(Number::Entered, phase.entered);
        row.number(Number::PhaseNs, phase.own_ns);
        row
    }

    fn jobs(class: &JobClass) -> Self {
        let mut row = Self::of(Kind::Jobs);
        row.text(Text::JobClass, &class.label);
        for (column, number) in [
            (Number::Begun, class.begun),
            (Number::Done, class.done),
            (Number::Failed, class.failed),
            (Number::Bytes, class.bytes),
            (Number::CpuNs, class.used.cpu_ns),
            (Number::VoluntarySwitches, class.used.voluntary_switches),
            (Number::InvoluntarySwitches, class.used.involuntary_switches),
            (Number::MinorFaults, class.used.minor_faults),
            (Number::MajorFaults, class.used.major_faults),
        ] {
            row.number(column, number);
        }
        for (spread, half, most) in [
            (class.duration, Number::DurationP50, Number::DurationP99),
            (class.lateness, Number::LatenessP50, Number::LatenessP99),
        ] {
            if let Some(spread) = spread {
                row.number(half, spread.p50_ns);
                row.number(most, spread.p99_ns);
            }
        }
        row
    }

    fn used(header: &Header) -> Self {
        let mut row = Self::of(Kind::Use);
        let sum = |of: fn(&Process) -> u64| header.processes.iter().map(of).fold(0, u64::saturating_add);
        for (column, number) in [
            (Number::CpuNs, sum(|process| process.usage.user_ns.saturating_add(process.usage.system_ns))),
            (Number::VoluntarySwitches, sum(|process| process.usage.voluntary_switches)),
            (Number::InvoluntarySwitches, sum(|process| process.usage.involuntary_switches)),
            (Number::MinorFaults, sum(|process| process.usage.minor_faults)),
            (Number::MajorFaults, sum(|process| process.usage.major_faults)),
            (Number::Processes, sum(|process| process.stands_for)),
            (Number::Lost, header.losses.all().iter().map(|loss| loss.number).fold(0, u64::saturating_add)),
        ] {
            row.number(column, number);
        }
        row
    }
}

/// Rows of a run.
///
/// # Errors
/// The run's table lacks a column.
pub fn of_run(run: &Run, owner: &Owner) -> PolarsResult<Rows> {
    let header = &run.header;
    let by = [
        column::PHASE,
        column::ROLE,
        column::CATEGORY,
        column::SYSCALL,
        column::DEVICE,
        column::COMMAND_NAME,
        column::DETAIL,
    ];
    let mut rows: Vec<Row> = vec![Row::used(header)];
    rows.extend(header.phases.iter().filter(|phase| phase.scope.is_marked()).map(Row::phase));
    rows.extend(header.jobs.iter().map(Row::jobs));
    let around = marked_around(&header.phases);
    let classes = header.phases.iter().filter_map(|phase| Some((phase.path.as_str(), phase.job.as_deref()?))).collect();
    rows.extend(group::group(&run.calls, &by)?.iter().map(|group| Row::calls(group, &around, &classes)));
    let program = workload(header);
    for row in &mut rows {
        for (column, word) in [
            (Text::Tool, header.tool_version.as_str()),
            (Text::Kernel, &header.host.kernel),
            (Text::Driver, header.nvidia_driver.as_deref().unwrap_or_default()),
            (Text::User, header.user.invoked_by.as_deref().unwrap_or(&header.user.name)),
            (Text::Workload, program),
            (Text::Namespace, owner.namespace.as_deref().unwrap_or_default()),
            (Text::Pod, owner.pod.as_deref().unwrap_or_default()),
            (Text::Container, owner.container.as_deref().unwrap_or_default()),
            (Text::Job, owner.job.as_deref().unwrap_or_default()),
        ] {
            row.text(column, word);
        }
    }
    let start_us = signed(header.clocks.realtime_ns / 1000);
    let booted_us = signed(header.clocks.realtime_ns.saturating_sub(header.clocks.boottime_ns) / 1000);
    let seconds = header.wall_ns as f64 / 1e9;
    Ok(Rows {
        frame: frame(&rows, start_us, booted_us, seconds)?,
        start_us,
        node: header.host.name.clone(),
        run: identity(header),
    })
}

/// The program. What was attached to has no command line, but its processes have names: theirs, where all have the same.
fn workload(header: &Header) -> &str {
    let mut names =
        header.processes.iter().filter(|process| process.parent == 0).map(|process| process.command.as_str());
    match (header.end, names.next()) {
        (End::Detached, Some(name)) if names.all(|other| other == name) => name,
        _ => header.command.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word)),
    }
}

fn frame(rows: &[Row], start_us: i64, booted_us: i64, seconds: f64) -> PolarsResult<DataFrame> {
    let time = |name: &str, value: i64| {
        let values = Int64Chunked::full(name.into(), value, rows.len());
        values.into_datetime(TimeUnit::Microseconds, None).into_column()
    };
    let mut columns = vec![time(START, start_us), time(BOOTED, booted_us)];
    columns.push(Column::new(SECONDS.into(), vec![seconds; rows.len()]));
    let words = |column: &Text| rows.iter().map(|row| row.texts[*column as usize].as_deref()).collect::<Vec<_>>();
    columns.extend(Text::ALL.iter().map(|column| Column::new(column.name().into(), words(column))));
    let numbers = |column: &Number| rows.iter().map(|row| row.numbers[*column as usize]).collect::<Vec<_>>();
    columns.extend(Number::ALL.iter().map(|column| Column::new(column.name().into(), numbers(column))));
    let mut lists = ListPrimitiveChunkedBuilder::<Int64Type>::new(LATENCY.into(), rows.len(), 0, DataType::Int64);
    for row in rows {
        match &row.latency {
            Some(list) => lists.append_slice(list),
            None => lists.append_null(),
        }
    }
    columns.push(lists.finish().into_column());
    DataFrame::new(rows.len(), columns)
}
