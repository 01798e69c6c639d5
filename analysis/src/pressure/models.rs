//! What a unit of work of a real model asks for: from runs of sessions, each of which does several models one after the other, a
//! phase each, with the tracer and without (`study/phase2/sessions.sh`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use gpuos_model::Usage;
use gpuos_runs::{columns::column, files, group};
use serde::{Deserialize, Serialize};

use super::PressureError;
use crate::resample::median;

/// What a session prints of a model when it runs without the tracer.
#[derive(Clone, Debug, Deserialize)]
struct Timed {
    cell: String,
    wait: String,
    iters: u64,
    wall_ns: u64,
    p50_ns: u64,
    usage: Usage,
    waits: Waits,
}

/// Of waits for the device: how many, how long, and how much CPU time the waiting thread used meanwhile.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Waits {
    count: u64,
    wall_ns: u64,
    cpu_ns: u64,
}

/// Calls, and the time in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calls {
    /// How many, a unit.
    pub calls: f64,
    /// Microseconds between call and return, a unit.
    pub us: f64,
}

/// What a unit of work of a model asks for when waits are as the runtime makes them: medians of the sessions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unit {
    /// The name of its phase.
    pub model: String,
    /// Sessions without the tracer.
    pub sessions: usize,
    /// Sessions with it that lost nothing.
    pub traced: usize,
    /// Units of a session.
    pub units: u64,
    /// Units a second.
    pub per_second: f64,
    /// CPU time of all threads, microseconds.
    pub cpu_us: f64,
    /// Context switches.
    pub switches: f64,
    /// Waits for the device.
    pub waits: f64,
    /// Microseconds in them.
    pub wait_us: f64,
    /// CPU time of the waiting thread in them, microseconds.
    pub wait_cpu_us: f64,
    /// By which a unit is later when waits sleep, microseconds; `None` where sessions of one kind differ as much.
    pub lateness_us: Option<f64>,
    /// CPU time of all threads when waits sleep, microseconds.
    pub asleep_cpu_us: Option<f64>,
    /// CPU time of the waiting thread in waits that sleep, microseconds: what a wait costs that does not look all the time.
    pub asleep_wait_cpu_us: Option<f64>,
    /// All calls, of every thread and process; of ranks those of one.
    pub all: Calls,
    /// Those of the thread that asks for the work; of ranks, which are processes of their own, none.
    pub of_caller: Calls,
    /// Of all calls those on GPU devices, by role.
    pub on_devices: BTreeMap<String, Calls>,
    /// All others, by role.
    pub elsewhere: BTreeMap<String, Calls>,
}

/// As the runtime waits.
const DEFAULT: &str = "default";
/// Asleep.
const ASLEEP: &str = "block";

/// The models of a folder, in the order of the sessions.
///
/// # Errors
/// A file cannot be read, or is none of a session.
pub fn read(folder: &Path) -> Result<Vec<Unit>, PressureError> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>())
        .map_err(|error| PressureError::new(folder, &error))?;
    names.sort();
    let mut order: Vec<String> = Vec::new();
    let mut timed: BTreeMap<(String, String), Vec<Timed>> = BTreeMap::new();
    let mut counted: BTreeMap<String, Vec<Counted>> = BTreeMap::new();
    for path in &names {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(session) = name.strip_suffix(".bare.jsonl") {
            for line in lines(path)? {
                if !order.contains(&line.cell) {
                    order.push(line.cell.clone());
                }
                let same = timed.entry((line.cell.clone(), line.wait.clone())).or_default();
                if let Some(other) = same.iter().find(|other| other.iters != line.iters) {
                    let why =
                        format!("`{}` has {} units, and {} in another session", line.cell, line.iters, other.iters);
                    return Err(PressureError::new(path, &why));
                }
                same.push(line);
            }
            let traced = path.with_file_name(format!("{session}.traced.jsonl"));
            if traced.exists() {
                of_run(&lines(&traced)?, &path.with_file_name(format!("{session}.parquet")), &mut counted)?;
            }
        }
    }
    let none = Vec::new();
    let of = |model: &String, wait: &str| timed.get(&(model.clone(), wait.to_owned())).unwrap_or(&none).as_slice();
    let units = order.iter().filter(|model| !of(model, DEFAULT).is_empty());
    Ok(units.map(|model| unit(model, of(model, DEFAULT), of(model, ASLEEP), counted.get(model))).collect())
}

/// What a traced run has in the phase of a model, a unit, by role.
#[derive(Default)]
struct Counted {
    on_devices: BTreeMap<String, Calls>,
    elsewhere: BTreeMap<String, Calls>,
    of_caller: Calls,
}

fn lines(path: &Path) -> Result<Vec<Timed>, PressureError> {
    let text = gpuos_host::files::read_to_string(path).map_err(|error| PressureError::new(path, &error))?;
    let mut lines: Vec<Timed> = Vec::new();
    for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let fail = |why: &dyn std::fmt::Display| PressureError::new(path, &format!("line {}: {why}", number + 1));
        let line: Timed = serde_json::from_str(text).map_err(|error| fail(&error))?;
        if line.iters == 0 || line.wall_ns == 0 {
            return Err(fail(&format!("`{}` did no unit of work", line.cell)));
        }
        if lines.iter().any(|other| other.cell == line.cell) {
            return Err(fail(&format!("`{}` is there twice", line.cell)));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// The calls of a traced session, those of waits asleep and of runs that lost something left out.
fn of_run(lines: &[Timed], path: &Path, into: &mut BTreeMap<String, Vec<Counted>>) -> Result<(), PressureError> {
    let lines: Vec<&Timed> = lines.iter().filter(|line| line.wait == DEFAULT).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let run = files::read(path).map_err(|error| PressureError::new(path, &error))?;
    if run.header.losses.any() {
        return Ok(());
    }
    let by = [column::PHASE, column::ROLE, column::DECODED, group::CALLER];
    let groups = group::with_callers(&run)
        .and_then(|calls| group::group(&calls, &by))
        .map_err(|error| PressureError::new(path, &error))?;
    for line in lines {
        // Of ranks each marks its own phase and says its own iterations.
        let marked = run.header.phases.iter().find(|phase| phase.path == line.cell);
        let marked = marked.map_or(0, |phase| phase.iterations);
        if marked == 0 || !marked.is_multiple_of(line.iters) {
            let why =
                format!("{marked} iterations in a phase `{}`, of which the session did {}", line.cell, line.iters);
            return Err(PressureError::new(path, &why));
        }
        let units = marked as f64;
        let mut counted = Counted::default();
        for group in groups.iter().filter(|group| group.key[0] == line.cell) {
            if group.key[3] == group::IS_CALLER {
                counted.of_caller.calls += group.calls as f64 / units;
                counted.of_caller.us += group.total_ns as f64 / 1e3 / units;
            }
            // Calls on GPU devices alone are decoded.
            let is_on_device = !group.key[2].is_empty();
            let roles = if is_on_device { &mut counted.on_devices } else { &mut counted.elsewhere };
            let calls = roles.entry(group.key[1].clone()).or_default();
            calls.calls += group.calls as f64 / units;
            calls.us += group.total_ns as f64 / 1e3 / units;
        }
        into.entry(line.cell.clone()).or_default().push(counted);
    }
    Ok(())
}

/// The median of what `of` says of each; 0 of none.
fn middle<T>(each: &[T], of: impl Fn(&T) -> f64) -> f64 {
    if each.is_empty() { 0.0 } else { median(&mut each.iter().map(of).collect::<Vec<_>>()) }
}

fn unit(model: &str, awake: &[Timed], asleep: &[Timed], counted: Option<&Vec<Counted>>) -> Unit {
    let counted = counted.map(Vec::as_slice).unwrap_or_default();
    let each = |lines: &[Timed], of: &dyn Fn(&Timed) -> u64| middle(lines, |line| of(line) as f64 / line.iters as f64);
    let cpu = |lines: &[Timed]| each(lines, &|line| line.usage.user_ns.saturating_add(line.usage.system_ns)) / 1e3;
    let wait_cpu = |lines: &[Timed]| each(lines, &|line| line.waits.cpu_ns) / 1e3;
    let p50s = |lines: &[Timed]| lines.iter().map(|line| line.p50_ns as f64 / 1e3).collect::<Vec<_>>();
    let middle_of = |of: &dyn Fn(&Counted) -> Calls| Calls {
        calls: middle(counted, |one| of(one).calls),
        us: middle(counted, |one| of(one).us),
    };
    let by_role = |of: fn(&Counted) -> &BTreeMap<String, Calls>| {
        let roles: BTreeSet<&String> = counted.iter().flat_map(|one| of(one).keys()).collect();
        let calls = |role: &str| middle_of(&|one| of(one).get(role).copied().unwrap_or_default());
        roles.into_iter().map(|role| (role.clone(), calls(role))).collect()
    };
    let sum = |one: &Counted| {
        let add = |sum: Calls, one: &Calls| Calls { calls: sum.calls + one.calls, us: sum.us + one.us };
        one.on_devices.values().chain(one.elsewhere.values()).fold(Calls::default(), add)
    };
    Unit {
        model: model.to_owned(),
        sessions: awake.len(),
        traced: counted.len(),
        units: awake.iter().map(|line| line.iters).max().unwrap_or_default(),
        per_second: middle(awake, |line| line.iters as f64 * 1e9 / line.wall_ns as f64),
        cpu_us: cpu(awake),
        switches: each(awake, &|line| line.usage.voluntary_switches.saturating_add(line.usage.involuntary_switches)),
        waits: each(awake, &|line| line.waits.count),
        wait_us: each(awake, &|line| line.waits.wall_ns) / 1e3,
        wait_cpu_us: wait_cpu(awake),
        lateness_us: difference(&p50s(asleep), &p50s(awake)),
        asleep_cpu_us: (!asleep.is_empty()).then(|| cpu(asleep)),
        asleep_wait_cpu_us: (!asleep.is_empty()).then(|| wait_cpu(asleep)),
        all: middle_of(&sum),
        of_caller: middle_of(&|one| one.of_caller),
        on_devices: by_role(|one| &one.on_devices),
        elsewhere: by_role(|one| &one.elsewhere),
    }
}

/// Fewer sessions than this do not say how sessions differ.
const LEAST_SESSIONS: usize = 3;

/// The difference of the medians, where it is more than sessions of one kind differ by among themselves.
fn difference(some: &[f64], others: &[f64]) -> Option<f64> {
    let range = |values: &[f64]| {
        let [low, high] = [f64::min, f64::max].map(|of| values.iter().copied().reduce(of));
        high.zip(low).map(|(high, low)| high - low)
    };
    let noise = range(some)?.max(range(others)?);
    let difference = median(&mut some.to_vec()) - median(&mut others.to_vec());
    let are_enough = some.len().min(others.len()) >= LEAST_SESSIONS;
    (are_enough && difference.abs() > noise).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_more_than_sessions_differ_by_among_themselves() {
        let others = [1000.0, 1010.0, 1005.0];
        assert_eq!(difference(&[1230.0, 1250.0, 1240.0], &others), Some(235.0));
        assert_eq!(difference(&[1230.0, 1500.0, 1490.0], &others), Some(485.0));
        assert_eq!(difference(&[900.0, 1500.0, 1200.0], &others), None);
        // Two sessions say little of how sessions differ.
        assert_eq!(difference(&[1500.0, 1510.0], &others), None);
        assert_eq!(difference(&[], &[1000.0]), None);
    }
}
