//! Every command of the README, the guide and the recipes runs. Those that build the project run in `.ci/run`, by the same words.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::TRACER;
use gpuos_test_macros::privileged;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Python packages that `cargo xtask setup` fetches.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python");

/// Lines that begin with `$ ` in the console blocks of a text.
fn commands(file: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
    let mut inside = false;
    let mut commands = vec![];
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console" || line == "```text";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        }
    }
    commands
}

#[test]
fn commands_that_build_are_in_the_ci_script() {
    let script = fs::read_to_string(Path::new(ROOT).join(".ci/run")).unwrap();
    let building: Vec<String> =
        commands("README.md").into_iter().filter(|command| command.starts_with("cargo ")).collect();
    assert!(building.len() >= 3, "{building:?}");
    for command in building {
        assert!(
            script.lines().any(|line| line.trim_end().ends_with(&command)),
            "`{command}` of the README is not in .ci/run"
        );
    }
}

#[privileged]
fn every_other_command_runs() {
    // `bench` is of another package, and a test program cannot ask cargo for it.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "gpuos-workloads"])
        .current_dir(ROOT)
        .status();
    assert!(status.unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    // We are root already.
    let sudo = folder.path().join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(Path::new(ROOT).join("study"), folder.path().join("study")).unwrap();
    let path = format!(
        "{}:{}:{}",
        folder.path().display(),
        Path::new(TRACER).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut ran = 0;
    // As PyTorch's profiler writes it: one event, a second after the beginning of all this.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let kineto = format!(
        r#"{{"baseTimeNanoseconds": {now}, "traceEvents": [{{"ph": "X", "name": "theirs", "ts": 1e6, "dur": 1, "pid": 1, "tid": 1}}]}}"#
    );
    fs::write(folder.path().join("pytorch.json"), kineto).unwrap();
    let mut guides: Vec<String> = fs::read_dir(Path::new(ROOT).join("docs/guide"))
        .unwrap()
        .map(|entry| format!("docs/guide/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    guides.sort();
    assert!(guides.len() >= 5, "{guides:?}");
    let files = ["README.md", "docs/recipes.md"].map(str::to_owned).into_iter().chain(guides);
    let all = files.flat_map(|file| commands(&file));
    for command in all.filter(|command| !command.starts_with("cargo ")) {
        let output = Command::new("sh")
            .args(["-c", &command])
            .env("PATH", &path)
            .env("PYTHONPATH", PACKAGES)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 16, "the README shows more commands than {ran}");
    let both: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("both.json")).unwrap()).unwrap();
    let events = both["traceEvents"].as_array().unwrap();
    let at = |event: &serde_json::Value| event["ts"].as_f64().unwrap();
    let theirs = at(events.iter().find(|event| event["name"] == "theirs").unwrap());
    let first = events.iter().filter(|event| event["ph"] == "X").map(at).fold(f64::INFINITY, f64::min);
    // Ours began within the minutes of this test, before or after it.
    assert!((theirs - first).abs() < 600e6 && theirs.is_finite(), "{theirs} {first}");
}

/// Every file of this ending below a folder; what is built is left out.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            texts(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

/// Places of headings, as links name them.
fn places(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut places = vec![];
    for line in text.lines() {
        inside ^= line.starts_with("```");
        if !inside && line.starts_with('#') {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            places.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    places
}

#[test]
fn links_between_texts_lead_somewhere() {
    let mut files = vec![];
    texts(Path::new(ROOT), &mut files);
    let (mut wrong, mut links) = (vec![], 0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("](") {
            let Some((link, _)) = text[at + 2..].split_once(')') else { continue };
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.contains(char::is_whitespace) || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let is_there = target.exists()
                && (place.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|text| places(&text).iter().any(|one| one == place)));
            if !is_there {
                wrong.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(links > 100, "{links}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
