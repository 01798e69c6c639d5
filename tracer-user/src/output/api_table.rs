//! What system calls one call of a GPU library's function is, with `--api`.

use std::collections::{HashMap, HashSet};

use comfy_table::Cell;
use gpuos_model::units::{count, duration, plural, printable};
use gpuos_runs::{
    columns::column,
    files::CodecError,
    group,
    phases::{Phase, Scope, marked_around, split_path},
    run::Run,
};

use super::layout::{TerminalStyle, View, finish, head, plain_table, rate, right};

/// Kinds of system calls that are named for a function; the rest is a number.
const NAMED: usize = 4;

/// A function, over all phases in which it was called.
#[derive(Default)]
struct Function {
    entered: u64,
    wall_ns: u64,
    /// What was called in it, and how often.
    calls: HashMap<String, u64>,
}

/// The function that a path is of: its last part, or where a thread worked for a job in it, the one around.
fn name_of<'a>(path: &'a str, jobs: &HashSet<&str>) -> &'a str {
    let mut path = path;
    while jobs.contains(path) {
        (path, _) = split_path(path);
    }
    split_path(path).1
}

/// Functions by the system calls that they make; `None` where none was watched.
pub(super) fn api_table(run: &Run, view: View, style: TerminalStyle) -> Result<Option<String>, CodecError> {
    let is_function = |phase: &&Phase| phase.scope == Scope::Function;
    let jobs = run.header.phases.iter().filter(|phase| phase.scope == Scope::Job);
    let jobs: HashSet<&str> = jobs.map(|phase| phase.path.as_str()).collect();
    let mut functions: HashMap<&str, Function> = HashMap::new();
    for phase in run.header.phases.iter().filter(is_function) {
        let function = functions.entry(name_of(&phase.path, &jobs)).or_default();
        function.entered += phase.entered;
        function.wall_ns = function.wall_ns.saturating_add(phase.wall_ns);
    }
    if functions.is_empty() {
        return Ok(None);
    }
    let outside = marked_around(&run.header.phases);
    let mut elsewhere = 0_u64;
    for group in group::group(&run.calls, &[column::PHASE, column::SYSCALL, column::COMMAND_NAME, column::DETAIL])? {
        let [path, syscall, command, detail] = group.key.as_slice() else { continue };
        let function = functions.get_mut(name_of(path, &jobs)).filter(|_| outside.contains_key(path.as_str()));
        let Some(function) = function else {
            elsewhere = elsewhere.saturating_add(group.calls);
            continue;
        };
        let name = match (command.as_str(), detail.as_str()) {
            ("", _) => syscall.clone(),
            (_, "") => command.clone(),
            (_, detail) => detail.to_owned(),
        };
        *function.calls.entry(name).or_default() += group.calls;
    }
    let mut shown: Vec<(&str, Function)> = functions.into_iter().collect();
    let sum = |function: &Function| function.calls.values().fold(0_u64, |sum, calls| sum.saturating_add(*calls));
    shown.sort_by_key(|(name, function)| (std::cmp::Reverse(sum(function)), *name));
    let left_out = shown.split_off(view.top.min(shown.len()));
    let mut table = plain_table();
    let mut heads = vec![head("library function", false, style)];
    heads.extend(["entered", "mean", "calls in one"].map(|text| head(text, true, style)));
    heads.push(head("which", false, style));
    table.set_header(heads);
    for (name, function) in &shown {
        let per = |calls: u64| calls as f64 / function.entered.max(1) as f64;
        let mut calls: Vec<_> = function.calls.iter().collect();
        calls.sort_by_key(|(name, calls)| (std::cmp::Reverse(**calls), (*name).clone()));
        let mut which: Vec<String> = calls
            .iter()
            .take(NAMED)
            .map(|(name, calls)| format!("{} {}", rate(per(**calls)), printable(name)))
            .collect();
        if calls.len() > NAMED {
            which.push(plural((calls.len() - NAMED) as u64, "more kind", "more kinds"));
        }
        table.add_row(vec![
            Cell::new(printable(name)),
            right(count(function.entered)),
            right(duration(function.wall_ns / function.entered.max(1))),
            right(rate(per(sum(function)))),
            Cell::new(which.join(" · ")),
        ]);
    }
    table.add_row(vec![
        Cell::new("(outside)"),
        right(String::new()),
        right(String::new()),
        right(String::new()),
        Cell::new(plural(elsewhere, "call", "calls")),
    ]);
    let mut text = finish(&mut table, style);
    if !left_out.is_empty() {
        let functions = plural(left_out.len() as u64, "more function", "more functions");
        text += &format!("\n … {functions}; `--top 0` lists them");
    }
    Ok(Some(text))
}
