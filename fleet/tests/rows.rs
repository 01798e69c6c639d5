//! A run becomes rows: each number once, words that are absent are null, a class of jobs is none of its phase's name.

use gpuos_fleet::{
    partition,
    rows::{self, Owner},
    schema::{Number, Text},
};
use gpuos_runs::{
    jobs::JobClass,
    phases::{Phase, Scope},
    run::{End, Header, Process, Run},
};
use gpuos_tables::TableFile;
use polars_core::prelude::*;

/// Calls of a phase and of a class of jobs in it, as a file of `run -o` has them.
fn run() -> Run {
    let mut header = Header {
        command: vec!["/opt/server".to_owned(), "--secret=1".to_owned()],
        wall_ns: 2_000_000_000,
        nvidia_driver: Some("580.1".to_owned()),
        phases: vec![
            Phase { path: "work".to_owned(), entered: 1, own_ns: 5, iterations: 10, ..Phase::default() },
            Phase {
                path: "work/batch".to_owned(),
                scope: Scope::Job,
                job: Some("batch".to_owned()),
                ..Phase::default()
            },
        ],
        jobs: vec![JobClass { label: "batch".to_owned(), begun: 3, done: 2, failed: 1, ..JobClass::default() }],
        ..Header::default()
    };
    header.clocks.realtime_ns = 1_796_053_804_387_213_583;
    header.clocks.boottime_ns = 3_600_000_000_000;
    header.host.name = "node-1".to_owned();
    header.end = End::Exited(0);
    let mut process = Process { stands_for: 1, ..Process::default() };
    process.usage.user_ns = 7;
    header.processes = vec![process];
    header.losses.events = 2;
    let text = |name: &str, words: [&str; 3]| Column::new(name.into(), words);
    let number = |name: &str, numbers: [u64; 3]| Column::new(name.into(), numbers);
    let lists = [Series::new("".into(), [0_u64, 2]), Series::new("".into(), [1_u64]), Series::new("".into(), [4_u64])];
    let columns = vec![
        text("phase", ["work", "work", "work/batch"]),
        text("role", ["memory", "memory", "memory"]),
        text("category", ["memory", "ioctl on nvidiactl", "memory"]),
        text("syscall", ["mmap", "ioctl", "mmap"]),
        text("device", ["", "nvidiactl", ""]),
        text("ioctl", ["", "NV_ESC_RM_ALLOC", ""]),
        text("detail", ["", "", ""]),
        text("status", ["", "", ""]),
        number("calls", [2, 1, 4]),
        number("errors", [0, 1, 0]),
        number("refused", [0, 0, 0]),
        number("restarted", [0, 0, 0]),
        number("unfinished", [0, 0, 0]),
        number("driver_calls", [0, 0, 0]),
        number("driver_ns", [0, 0, 0]),
        number("total_ns", [10, 20, 40]),
        number("max_ns", [6, 20, 11]),
        Column::new("latency_log2".into(), lists),
    ];
    Run { header, calls: DataFrame::new(3, columns).unwrap() }
}

fn frame() -> DataFrame {
    rows::of_run(&run(), &Owner { pod: Some("server-0".to_owned()), ..Owner::default() }).unwrap().frame
}

/// The rows of a kind: values of a column of numbers.
fn numbers(frame: &DataFrame, kind: &str, column: &str) -> Vec<Option<i64>> {
    let kinds = frame.column("row").unwrap().str().unwrap();
    let values = frame.column(column).unwrap().i64().unwrap();
    kinds.iter().zip(values.iter()).filter(|(row, _)| *row == Some(kind)).map(|(_, value)| value).collect()
}

#[test]
fn every_number_is_in_rows_of_one_kind() {
    let frame = frame();
    assert_eq!(frame.height(), 1 + 1 + 1 + 3);
    assert_eq!(numbers(&frame, "calls", "calls"), [Some(2), Some(1), Some(4)]);
    assert_eq!(numbers(&frame, "phase", "units"), [Some(10)]);
    assert_eq!(numbers(&frame, "jobs", "done"), [Some(2)]);
    assert_eq!([numbers(&frame, "use", "cpu_ns"), numbers(&frame, "use", "lost")], [[Some(7)], [Some(2)]]);
    assert_eq!(frame.column("units").unwrap().i64().unwrap().sum(), Some(10));
    assert_eq!(numbers(&frame, "calls", "units"), [None, None, None]);
}

#[test]
fn what_is_too_much_is_as_much_as_there_is_room_for() {
    let mut run = run();
    (run.header.losses.events, run.header.losses.calls) = (u64::MAX, 2);
    run.header.processes[0].usage.system_ns = u64::MAX;
    let frame = rows::of_run(&run, &Owner::default()).unwrap().frame;
    assert_eq!(
        [numbers(&frame, "use", "lost"), numbers(&frame, "use", "cpu_ns")],
        [[Some(i64::MAX)], [Some(i64::MAX)]]
    );
}

#[test]
fn what_was_attached_to_has_the_name_of_its_process() {
    let mut run = run();
    run.header.end = End::Detached;
    run.header.command = ["attach", "-p", "17"].map(str::to_owned).to_vec();
    run.header.processes[0].command = "server".to_owned();
    let frame = rows::of_run(&run, &Owner::default()).unwrap().frame;
    assert_eq!(frame.column("workload").unwrap().str().unwrap().get(0), Some("server"));
    // Of several programs none is all of it.
    run.header.processes.push(Process { id: 9, command: "other".to_owned(), ..Process::default() });
    let frame = rows::of_run(&run, &Owner::default()).unwrap().frame;
    assert_eq!(frame.column("workload").unwrap().str().unwrap().get(0), Some("attach"));
}

#[test]
fn words_that_are_absent_are_null_and_arguments_are_left_out() {
    let frame = frame();
    let words = |column: &str| {
        let words = frame.column(column).unwrap().str().unwrap().clone();
        words.iter().map(|word| word.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert!(words("workload").iter().all(|word| word.as_deref() == Some("server")));
    assert!(words("pod").iter().all(|word| word.as_deref() == Some("server-0")));
    assert!(words("namespace").iter().all(Option::is_none));
    let calls = &words("call")[3..];
    assert_eq!(calls, [None, Some("NV_ESC_RM_ALLOC".to_owned()), None]);
    // What is called for a class of jobs stands in the phase around it.
    assert_eq!(words("phase")[3..], [Some("work".to_owned()), Some("work".to_owned()), Some("work".to_owned())]);
    assert_eq!(words("job_class")[3..], [None, None, Some("batch".to_owned())]);
}

#[test]
fn files_are_in_folders_of_date_cluster_and_node_and_the_same_run_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows::of_run(&run(), &Owner::default()).unwrap();
    let path = partition::write(folder.path(), "west", &rows).unwrap();
    let relative = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
    assert!(relative.starts_with("date=2026-11-30/cluster=west/node=node-1/155004-"), "{relative}");
    // Also with another owner than before.
    let owner = Owner { pod: Some("other".to_owned()), ..Owner::default() };
    assert_eq!(partition::write(folder.path(), "west", &rows::of_run(&run(), &owner).unwrap()).unwrap(), path);
    let mut other = run();
    other.header.processes[0].id += 1;
    let other = rows::of_run(&other, &Owner::default()).unwrap();
    assert_ne!(partition::write(folder.path(), "east", &other).unwrap().file_name(), path.file_name());
    let table = TableFile::open(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!((table.rows(), table.metadata("gpuos-fleet")), (6, Some("{\"schema_version\":1}")));
    for name in ["../west", "", ".hidden", "a/b", "a=b", "wést", "__HIVE_DEFAULT_PARTITION__"] {
        let error = partition::write(folder.path(), name, &rows).unwrap_err().to_string();
        assert!(error.contains("cannot be the name of a cluster"), "{error}");
    }
}

#[test]
fn the_table_is_as_it_is_described() {
    let text = include_str!("../../docs/reference/fleet-schema.md");
    let described: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split_once(" |").unwrap_or_default().0))
        .collect();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the table has no other")]
    let types = |kind: &DataType| match kind {
        DataType::Datetime(..) => "timestamp",
        DataType::Float64 => "double",
        DataType::String => "string",
        DataType::Int64 => "int64",
        DataType::List(_) => "list of int64",
        other => panic!("{other}"),
    };
    let frame = frame();
    let columns: Vec<(&str, &str)> =
        frame.columns().iter().map(|column| (column.name().as_str(), types(column.dtype()))).collect();
    assert_eq!(described, columns);
    // What the list of columns says of each stands in the document.
    for says in Text::ALL.iter().map(|one| one.says()).chain(Number::ALL.iter().map(|one| one.says())) {
        assert!(text.contains(&format!("| {says} |")), "{says}");
    }
}
