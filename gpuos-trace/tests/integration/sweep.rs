//! A sweep as a user runs it: a small plan on the backend whose calls are known, cut off and resumed, and what is reported.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::TRACER;
use gpuos_test_macros::privileged;

const PLAN: &str = "
name = \"small\"
seed = 1
blocks = 11

[[series]]
backend = \"host\"
model = \"alloc\"
bytes = [4096]
iters = [1, 3, 10, 30, 100, 300, 1000]

[[series]]
backend = \"cpu\"
model = \"cpu\"
bytes = [4096]
iters = [1, 3, 10, 30, 100, 300, 1000]
";

/// The tracer, in a folder.
pub(crate) fn run(words: &[&str], folder: &Path) -> Output {
    Command::new(TRACER).args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// What it said.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Finished files below a folder; one that is being written has another ending.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    let count = |path: std::path::PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            usize::from(path.extension().is_some_and(|ending| ending == "parquet"))
        }
    };
    paths.map(count).sum()
}

#[privileged]
fn a_sweep_is_cut_off_resumed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plan.toml"), PLAN).unwrap();
    let runs = folder.path().join("data/runs");
    // Cut off in the middle: what was run is there, and is not run again.
    let mut sweep = Command::new(TRACER)
        .args(["sweep", "plan.toml", "-o", "data"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while files(&runs) < 5 {
        assert!(sweep.try_wait().unwrap().is_none(), "the sweep ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    let before = files(&runs);
    let again = run(&["sweep", "plan.toml", "-o", "data"], folder.path());
    assert_eq!(again.status.code(), Some(125));
    assert!(text(&again).contains("has runs already") && text(&again).contains("--resume"), "{}", text(&again));
    let resumed = run(&["sweep", "plan.toml", "-o", "data", "--resume"], folder.path());
    assert!(resumed.status.success(), "{}", text(&resumed));
    // A part may be left of the file that was being written.
    let cells = 11 * (7 + 1 + 1) * 2;
    assert!(text(&resumed).contains(&format!("{} cells run", cells - before)), "{before}: {}", text(&resumed));
    assert!(text(&resumed).contains("0 failed, 0 with losses"), "{}", text(&resumed));
    // Another plan does not belong here.
    std::fs::write(folder.path().join("other.toml"), PLAN.replace("small", "other")).unwrap();
    let other = run(&["sweep", "other.toml", "-o", "data", "--resume"], folder.path());
    assert!(text(&other).contains("another plan"), "{}", text(&other));
    // Two calls for each allocation, none for the CPU.
    let report = run(&["report", "data", "-o", "report"], folder.path());
    assert!(report.status.success(), "{}", text(&report));
    let said = text(&report);
    assert!(said.contains("memory            linear, 2 an iteration (deterministic, 10/10)"), "{said}");
    assert!(said.contains("all calls         flat from 1 to 1000 (deterministic, 10/10)"), "{said}");
    for file in ["report.html", "report.md", "verdicts.json", "repetition.svg", "phases.svg", "map-host.svg"] {
        assert!(folder.path().join("report").join(file).exists(), "{file}");
    }
    let html = std::fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    // It needs nothing from elsewhere: the only address is the name of SVG.
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(html.contains("<svg") && !addresses.contains("http") && !addresses.contains("src="), "{html}");
    others_read_it(folder.path());
    // Both backends do the same: allocations and increments are no common workload, so nothing is beside anything.
    let comparison = text(&run(&["compare", "data", "-o", "comparison"], folder.path()));
    assert!(comparison.contains("Nothing to compare"), "{comparison}");
    assert!(folder.path().join("comparison/comparison.html").exists());
    // A file that belongs to another cell is not used.
    let cell =
        |iters: u64| folder.path().join(format!("data/counts/backend=host/model=alloc/block=5/4096-{iters}.parquet"));
    std::fs::copy(cell(10), folder.path().join("kept.parquet")).unwrap();
    std::fs::copy(cell(30), cell(10)).unwrap();
    run(&["report", "data", "-o", "foreign"], folder.path());
    let foreign = std::fs::read_to_string(folder.path().join("foreign/report.md")).unwrap();
    assert!(foreign.contains("of another cell") && foreign.contains("179 of 180 runs"), "{foreign}");
    std::fs::copy(folder.path().join("kept.parquet"), cell(10)).unwrap();
    // Counts that are not there are no zeros.
    std::fs::rename(folder.path().join("data/counts"), folder.path().join("counts")).unwrap();
    let empty = text(&run(&["report", "data", "-o", "report3"], folder.path()));
    assert!(empty.contains("0 of 180 runs used") && !empty.contains("flat"), "{empty}");
    std::fs::rename(folder.path().join("counts"), folder.path().join("data/counts")).unwrap();
    // The same data give the same report.
    run(&["report", "data", "-o", "report2"], folder.path());
    let json = |name: &str| std::fs::read_to_string(folder.path().join(name).join("verdicts.json")).unwrap();
    assert_eq!(json("report"), json("report2"));
}

/// A program that asks for its parent's number so often in `work`, once for every k iterations.
const OTHER_PROGRAM: &str = "
import argparse, json, os, sys
sys.path.insert(0, sys.argv.pop(1))
import gpuos_phase
parser = argparse.ArgumentParser()
for name in ('--iters', '--every'):
    parser.add_argument(name, type=int, default=1)
parser.add_argument('--json', action='store_true')
options = parser.parse_args()
gpuos_phase.switch('work')
for number in range(options.iters):
    if number % options.every == 0:
        os.getppid()
child = os.fork()
if child == 0:
    # Another process: its calls are none of the caller's.
    for number in range(options.iters):
        os.getppid()
    os._exit(0)
os.waitpid(child, 0)
gpuos_phase.iterations(options.iters)
gpuos_phase.switch('teardown')
usage = dict.fromkeys(['user_ns', 'system_ns', 'voluntary_switches', 'involuntary_switches', 'minor_faults', 'major_faults'], 0)
print(json.dumps({'wall_ns': 1000, 'usage': usage, 'latency': None}))
";

#[privileged]
fn another_program_is_a_cell_and_an_intervention_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("other.py");
    std::fs::write(&program, OTHER_PROGRAM).unwrap();
    let markers = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/phase/python");
    let plan = format!(
        "name = \"other\"\nseed = 1\nblocks = 3\n
[[series]]\nbackend = \"python\"\nmodel = \"parent\"\niters = [10, 20, 40]\noptions = [\"--every\", \"2\"]
program = [\"/usr/bin/python3\", \"{}\", \"{markers}\"]
[[intervention]]\nname = \"I1\"\nconstraint = \"C1\"\nmechanism = \"a mapping each\"\nreason = \"kept for k\"
base = {{ backend = \"host\", model = \"alloc\", bytes = \"4K\", iters = 32 }}\noption = \"--free-every\"\ndoses = [1, 2, 4]
placebos = [\"role synchronization\"]
[[intervention.prediction]]\nkind = \"role memory\"\nshape = \"inverse\"\ninterval = [0.9, 1.1]\n",
        program.display()
    );
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let swept = run(&["sweep", "plan.toml", "-o", "data"], folder.path());
    assert!(swept.status.success() && text(&swept).contains("0 failed, 0 with losses"), "{}", text(&swept));
    let report = run(&["report", "data", "-o", "report"], folder.path());
    assert!(text(&report).contains("I1: a mapping each: open (unresolved, a pilot of 2 blocks)"), "{}", text(&report));
    let verdicts = std::fs::read_to_string(folder.path().join("report/verdicts.json")).unwrap();
    let verdicts: serde_json::Value = serde_json::from_str(&verdicts).unwrap();
    assert_eq!(verdicts["series"][0]["kinds"][0]["middles"], serde_json::json!([5.0, 10.0, 20.0]));
    let others = verdicts["series"][0]["kinds"][0]["others"]["per_iteration"].as_f64().unwrap();
    assert!((1.0..10.0).contains(&others), "the child's calls are those of others: {others}");
    let doses = &verdicts["interventions"][0]["kinds"][0]["doses"];
    assert_eq!([&doses[0]["calls"], &doses[1]["calls"]], [1.0, 0.5]);
    assert!(folder.path().join("report/doses.svg").exists());
    // Another plan is refused when the sweep goes on: what was predicted stays.
    let text_of = std::fs::read_to_string(folder.path().join("plan.toml")).unwrap();
    std::fs::write(folder.path().join("plan.toml"), text_of.replace("[0.9, 1.1]", "[0.5, 1.5]")).unwrap();
    let changed = run(&["sweep", "plan.toml", "-o", "data", "--resume"], folder.path());
    assert!(!changed.status.success() && text(&changed).contains("another plan"), "{}", text(&changed));
}

/// DuckDB and polars sum the calls of the dataset as it is: two for each of 1,444 allocations in each of eleven blocks, and
/// those of the level that is run twice.
fn others_read_it(folder: &Path) {
    const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python");
    const PROGRAM: &str = "
import duckdb, polars
sql = \"select sum(calls)::bigint from read_parquet('data/counts/**/*.parquet', hive_partitioning = true)\"
print(duckdb.sql(sql + \" where phase = 'work' and backend = 'host' and model = 'alloc'\").fetchall()[0][0])
counts = polars.scan_parquet('data/counts/**/*.parquet', hive_partitioning = True)
work = counts.filter(polars.col('phase') == 'work', polars.col('backend') == 'host', polars.col('block') > 1)
print(work.select(polars.col('calls').sum()).collect().item())
runs = duckdb.sql(\"select count(*), sum(lost)::bigint, min(command) from read_parquet('data/runs/**/*.parquet', hive_partitioning = true)\")
print(*runs.fetchall()[0])
";
    let output = Command::new("/usr/bin/python3")
        .env("PYTHONPATH", PACKAGES)
        .args(["-c", PROGRAM])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}\nhint: `cargo xtask setup` fetches the packages");
    let calls = 2 * (1444 + 1000);
    let expected = format!("{}\n{}\n198 0 alloc --backend host --bytes 4096 --iters 0\n", 11 * calls, 10 * calls);
    assert_eq!(said, expected);
}

/// What a page asks of the network and says on its console, in a browser without a screen.
fn in_a_browser(page: &Path) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("net.json");
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("--screenshot={}", folder.path().join("page.png").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("no chromium; `cargo xtask setup` installs it");
    let said = text(&output);
    let image = std::fs::metadata(folder.path().join("page.png"));
    assert!(image.is_ok_and(|image| image.len() > 1000), "{said}");
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let log: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    let start = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    assert!(start.is_u64(), "the log has no requests");
    // The browser's own requests have no page that asks for them.
    let asked = |event: &&serde_json::Value| {
        let request = &event["params"];
        event["type"] == *start && request["url"].is_string() && request["initiator"] != "not an origin"
    };
    let requests = log["events"].as_array().unwrap().iter().filter(asked);
    (requests.map(|request| request["params"]["url"].to_string()).collect(), console)
}

#[privileged]
fn a_browser_finds_nothing_wrong_with_a_report() {
    let folder = tempfile::tempdir().unwrap();
    // That the reference counter sees anything.
    let bad = folder.path().join("bad.html");
    std::fs::write(&bad, "<script>console.error('wrong')</script><img src='http://example.invalid/x.png'>").unwrap();
    let (requests, console) = in_a_browser(&bad);
    assert!(requests.len() == 1 && requests[0].contains("example.invalid"), "{requests:?}");
    assert!(console.len() == 1 && console[0].contains("wrong"), "{console:?}");
    std::fs::write(folder.path().join("plan.toml"), PLAN.replace("blocks = 11", "blocks = 2")).unwrap();
    let swept = run(&["sweep", "plan.toml", "-o", "data"], folder.path());
    assert!(swept.status.success(), "{}", text(&swept));
    run(&["report", "data", "-o", "report"], folder.path());
    assert_eq!(in_a_browser(&folder.path().join("report/report.html")), (Vec::new(), Vec::new()));
}

#[privileged]
fn a_run_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let endless = folder.path().join("endless");
    std::fs::write(&endless, "#!/bin/sh\n[ \"$1\" = --list ] || exec sleep 1000\n").unwrap();
    std::fs::set_permissions(&endless, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let plan = PLAN.replace("blocks = 11", "blocks = 2").replace("[1, 3, 10, 30, 100, 300, 1000]", "[1, 3, 10]");
    let plan = plan.split("[[series]]\nbackend = \"cpu\"").next().unwrap().to_owned();
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let words = ["sweep", "plan.toml", "-o", "data", "--bench", "./endless", "--limit", "1"];
    let swept = run(&words, folder.path());
    assert!(text(&swept).contains("every cell failed"), "{}", text(&swept));
    run(&["report", "data", "-o", "report"], folder.path());
    let report = std::fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(report.contains("ended after 1 s"), "{report}");
    // What a program leaves behind ends with it, and is not waited for: the test would not end either.
    let leaving = "#!/bin/sh\n[ \"$1\" = --list ] && exit\nsleep 1001 &\nexit 1\n";
    std::fs::write(&endless, leaving).unwrap();
    run(&["sweep", "plan.toml", "-o", "left", "--bench", "./endless"], folder.path());
    let left = Command::new("pgrep").args(["-f", "^sleep 1001$"]).output().unwrap();
    assert!(left.stdout.is_empty(), "{left:?}");
}

#[privileged]
fn what_cannot_be_swept_or_reported_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |words: &[&str]| {
        let output = run(words, folder.path());
        assert_eq!(output.status.code(), Some(125), "{words:?}: {}", text(&output));
        text(&output)
    };
    assert!(complaint(&["sweep", "absent.toml", "-o", "data"]).contains("cannot read `absent.toml`"));
    assert!(complaint(&["report", "absent", "-o", "report"]).contains("gpuos-trace sweep"));
    std::fs::write(folder.path().join("bad.toml"), "name = 1").unwrap();
    assert!(complaint(&["sweep", "bad.toml", "-o", "data"]).contains("bad.toml"));
    std::fs::write(folder.path().join("plan.toml"), PLAN).unwrap();
    let no_bench = complaint(&["sweep", "plan.toml", "-o", "data", "--bench", "nowhere"]);
    assert!(no_bench.contains("no program `nowhere`"), "{no_bench}");
    // Cells that fail are recorded with their reason, and do not stop the sweep.
    let failing = PLAN.replace("\"host\"", "\"cuda\"").replace("blocks = 11", "blocks = 2");
    std::fs::write(folder.path().join("failing.toml"), failing).unwrap();
    let swept = run(&["sweep", "failing.toml", "-o", "failed"], folder.path());
    assert!(swept.status.success(), "{}", text(&swept));
    // A program that marks no phase did not do what is asked of it.
    let unmarked = folder.path().join("unmarked");
    std::fs::write(&unmarked, "#!/bin/sh\necho '{\"wall_ns\":1,\"latency\":null,\"usage\":{\"user_ns\":1,\"system_ns\":1,\"voluntary_switches\":0,\"involuntary_switches\":0,\"minor_faults\":0,\"major_faults\":0}}'\n").unwrap();
    std::fs::set_permissions(&unmarked, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.path().join("short.toml"), PLAN.replace("blocks = 11", "blocks = 2")).unwrap();
    let no_phase = complaint(&["sweep", "short.toml", "-o", "unmarked-data", "--bench", "./unmarked"]);
    assert!(no_phase.contains("every cell failed"), "{no_phase}");
    run(&["report", "unmarked-data", "-o", "unmarked-report"], folder.path());
    let report = std::fs::read_to_string(folder.path().join("unmarked-report/report.md")).unwrap();
    assert!(report.contains("never began a phase") && !report.contains("flat"), "{report}");
    if text(&swept).contains(" 0 failed") {
        return; // A machine with CUDA.
    }
    run(&["report", "failed", "-o", "report"], folder.path());
    let report = std::fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(report.contains("## Left out") && report.contains("libcuda"), "{report}");
}

/// Unpacks a committed dataset into a folder of its own.
fn unpacked(folder: &Path, dataset: &str) -> String {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/phase1").join(dataset).join("dataset.tar.gz");
    let unpacked = folder.join(dataset.replace('/', "-"));
    std::fs::create_dir(&unpacked).unwrap();
    let status = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&unpacked).status();
    assert!(status.unwrap().success());
    unpacked.display().to_string()
}

#[test]
fn a_committed_report_is_made_again_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/phase1/h200/inference");
    let dataset = unpacked(folder.path(), "h200/inference");
    let output = run(&["report", &dataset, "-o", "report"], folder.path());
    assert!(output.status.success(), "{}", text(&output));
    let mut compared = 0;
    for entry in std::fs::read_dir(folder.path().join("report")).unwrap().flatten() {
        let (made, there) = (std::fs::read(entry.path()).unwrap(), std::fs::read(committed.join(entry.file_name())));
        assert!(
            there.is_ok_and(|there| there == made),
            "{:?} is another one\nhint: study/phase1/h200/README.md says how reports are made again",
            entry.file_name()
        );
        compared += 1;
    }
    assert!(compared >= 6, "{compared}");
}

#[test]
fn real_models_hold_to_what_was_found_of_launches_and_allocations() {
    let folder = tempfile::tempdir().unwrap();
    let (sweep, inference) = (unpacked(folder.path(), "h200/sweep"), unpacked(folder.path(), "h200/inference"));
    let output = run(&["report", &sweep, &inference, "-o", "report"], folder.path());
    assert!(output.status.success(), "{}", text(&output));
    let findings: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("report/verdicts.json")).unwrap()).unwrap();
    let rows = findings["claims"]["in_inference"].as_array().unwrap();
    for (series, expected) in [
        ("cuda launch: all calls", "holds"),
        ("cuda kernel 1 MiB: all calls", "holds"),
        ("cuda alloc 4 MiB: all calls", "not exercised"),
    ] {
        let outcomes: Vec<&str> = rows
            .iter()
            .filter(|row| row["claim"].as_str().unwrap().starts_with(series))
            .map(|row| row["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, [expected; 2], "{series}");
    }
    // The same series twice is no larger dataset.
    let twice = run(&["report", &inference, &inference, "-o", "twice"], folder.path());
    assert!(
        !twice.status.success() && text(&twice).contains("more than one of the datasets has the series"),
        "{}",
        text(&twice)
    );
}

#[test]
fn what_was_registered_and_run_is_not_changed_or_copied() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = unpacked(folder.path(), "h200/inference");
    let report = |words: &[&str]| {
        let output = run(&[&["report"], words, &["-o", "report"]].concat(), folder.path());
        (output.status.success(), text(&output))
    };
    // A block over eight others: their places in the plan's order are not those of the copy.
    let first = format!("{dataset}/runs/backend=cuda/model=infer/block=2");
    for block in 3..=10 {
        let other = format!("{dataset}/runs/backend=cuda/model=infer/block={block}");
        assert!(
            Command::new("sh")
                .args(["-c", &format!("rm {other}/* && cp {first}/* {other}/")])
                .status()
                .unwrap()
                .success()
        );
    }
    let (_, said) = report(&[&dataset]);
    let page = std::fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(page.contains("a copy of another block") && !said.contains("180 of 180"), "{said}");
    // An environment that says little is refused by the name of what is missing.
    let environment = format!("{dataset}/environment.json");
    std::fs::write(&environment, r#"{"schema": 3, "host": {"kernel": "6.1"}}"#).unwrap();
    let (is_good, said) = report(&[&dataset]);
    assert!(!is_good && said.contains("`tool_version` is not in environment.json"), "{said}");
}

#[privileged]
fn calls_of_a_class_of_jobs_are_those_of_the_phase_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "name = \"arms\"\nseed = 1\nblocks = 2\n[[series]]\nbackend = \"host\"\nmodel = \"alloc\"\nbytes = [4096]\n\
                iters = [1, 10, 100]\nvia = [\"native\", \"identity\", \"arena\"]\n";
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let swept = run(&["sweep", "plan.toml", "-o", "data"], folder.path());
    assert!(swept.status.success() && text(&swept).contains("0 failed, 0 with losses"), "{}", text(&swept));
    let answer = crate::export::python(
        r"
import duckdb, sys
calls = duckdb.sql(f'''select options, sum(calls)::int from read_parquet('{sys.argv[1]}/counts/**/*.parquet', hive_partitioning = true)
  where phase = 'work' and role = 'memory' and iters = 100 and not twin and block = 2 group by options order by options''')
print(calls.fetchall())
",
        &[&folder.path().join("data")],
    );
    assert_eq!(answer, "[('--via identity', 200), ('--via native', 200)]\n");
}
