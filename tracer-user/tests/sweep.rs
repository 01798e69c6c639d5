//! A sweep as a user runs it: a small plan on the backend whose calls are known, cut off and resumed, and what is reported.

mod support;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use support::{TRACER, privileged};

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

fn run(words: &[&str], folder: &Path) -> Output {
    Command::new(TRACER).args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Finished files below a folder; one that is being written has another ending.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => usize::from(path.extension().is_some_and(|ending| ending == "parquet")),
    };
    paths.map(count).sum()
}

#[test]
fn a_sweep_is_cut_off_resumed_and_reported() {
    if !privileged("a_sweep_is_cut_off_resumed_and_reported") {
        return;
    }
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
    assert!(said.contains("memory            linear, 2.0000 an iteration (deterministic, 10/10)"), "{said}");
    assert!(said.contains("all calls         flat (deterministic, 10/10)"), "{said}");
    for file in ["report.html", "report.md", "verdicts.json", "series-0.svg", "series-1.svg"] {
        assert!(folder.path().join("report").join(file).exists(), "{file}");
    }
    let html = std::fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    // It needs nothing from elsewhere: the only address is the name of SVG.
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(html.contains("<svg") && !addresses.contains("http") && !addresses.contains("src="), "{html}");
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

#[test]
fn what_cannot_be_swept_or_reported_is_said() {
    if !privileged("what_cannot_be_swept_or_reported_is_said") {
        return;
    }
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
    std::fs::write(&unmarked, "#!/bin/sh\necho '{\"wall_ns\":1,\"latency\":null,\"usage\":{\"user_ns\":1,\"system_ns\":1,\"voluntary_switches\":0,\"minor_faults\":0}}'\n").unwrap();
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
