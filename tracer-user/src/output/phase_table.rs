//! Phases by role: the table of a run whose program marked phases or whose phases were inferred.

use std::collections::HashMap;

use comfy_table::{Cell, CellAlignment};
use gpuos_model::{
    Role,
    units::{count, duration, plural, printable},
};
use gpuos_runs::{
    columns::column,
    files::CodecError,
    group::{self, Group},
    phases::{Phase, Scope, THREADS_OWN, outside_functions},
    run::Run,
};

use super::layout::{TerminalStyle, View, finish, fit, head, plain_table, rate, right, role_cell};

/// Calls by phase and role; `None` where no phase was marked.
pub(super) fn phase_table(
    run: &Run,
    view: View,
    style: TerminalStyle,
    total: &Group,
) -> Result<Option<String>, CodecError> {
    let phases = &run.header.phases;
    if phases.is_empty() {
        return Ok(None);
    }
    // What was called in functions of libraries belongs to the phases around them.
    let outside = outside_functions(phases);
    let mut calls: HashMap<(String, String), u64> = HashMap::new();
    for group in group::group(&run.calls, &[column::PHASE, column::ROLE])? {
        let path = outside.get(group.key[0].as_str()).copied().unwrap_or(&group.key[0]);
        let sum = calls.entry((path.to_owned(), group.key[1].clone())).or_default();
        *sum = sum.saturating_add(group.calls);
    }
    let phases: Vec<&Phase> = phases.iter().filter(|phase| phase.scope != Scope::Function).collect();
    if phases.is_empty() {
        return Ok(None);
    }
    let calls_of = |phase: &str, role: Role| calls.get(&(phase.to_owned(), role.name().to_owned())).copied();
    let roles: Vec<Role> =
        Role::ALL.into_iter().filter(|role| calls.keys().any(|(_, name)| name == role.name())).collect();
    let iterates = phases.iter().any(|phase| phase.iterations != 0);
    let mut table = plain_table();
    let mut heads = vec![head("phase", false, style)];
    heads.extend(["entered", "wall", "calls"].map(|text| head(text, true, style)));
    heads.push(head("a second", true, style));
    if iterates {
        heads.push(head("an iteration", true, style));
    }
    let measures = heads.len();
    heads.extend(roles.iter().map(|role| role_cell(role.name(), style).set_alignment(CellAlignment::Right)));
    table.set_header(heads);
    let outside = Phase { path: String::new(), ..Phase::default() };
    let listed = (!calls.keys().all(|(phase, _)| !phase.is_empty())).then_some(&outside);
    let sum_of = |phase: &Phase| {
        let counts = roles.iter().filter_map(|role| calls_of(&phase.path, *role));
        counts.fold(0_u64, u64::saturating_add)
    };
    // In the order in which they began, where all can be listed; else those with the most calls.
    // Inferred ones may not have begun.
    let mut shown: Vec<&Phase> =
        phases.iter().copied().filter(|phase| phase.entered != 0 || sum_of(phase) != 0).collect();
    if shown.len() > view.top {
        shown.sort_by_key(|phase| std::cmp::Reverse(sum_of(phase)));
    }
    let left_out = shown.split_off(view.top.min(shown.len()));
    for phase in listed.into_iter().chain(shown) {
        let counts: Vec<Option<u64>> = roles.iter().map(|role| calls_of(&phase.path, *role)).collect();
        let sum = sum_of(phase);
        let per = |divisor: f64| if divisor > 0.0 { rate(sum as f64 / divisor) } else { String::new() };
        let is_outside = phase.path.is_empty() && phase.entered == 0;
        let whose = if phase.scope == Scope::Thread && !phase.path.ends_with(THREADS_OWN) { THREADS_OWN } else { "" };
        let name = if is_outside { "(none)".to_owned() } else { short_path(&printable(&phase.path)) + whose };
        let mut row = vec![Cell::new(name)];
        row.push(right(if is_outside { String::new() } else { count(phase.entered) }));
        row.push(right(if is_outside { String::new() } else { duration(phase.wall_ns) }));
        row.push(right(count(sum)));
        row.push(right(per(phase.own_ns as f64 / 1e9)));
        if iterates {
            row.push(right(per(phase.iterations as f64)));
        }
        row.extend(counts.into_iter().map(|calls| right(calls.map_or_else(String::new, count))));
        table.add_row(row);
    }
    let mut last = vec![Cell::new("total"), Cell::new(""), Cell::new(""), right(count(total.calls)), Cell::new("")];
    last.resize_with(measures, || Cell::new(""));
    for role in &roles {
        let sum = calls.iter().filter(|((_, name), _)| name == role.name()).map(|(_, calls)| calls);
        last.push(right(count(sum.fold(0, |sum, calls| sum.saturating_add(*calls)))));
    }
    table.add_row(last);
    // The roles from the right, then the rates.
    let mut dispensable: Vec<(u8, usize)> = vec![(1, 1), (9, 4)];
    dispensable.extend((2_u8..).zip(measures..measures + roles.len()));
    fit(&mut table, &mut dispensable, style.width);
    let mut text = finish(&mut table, style);
    if !left_out.is_empty() {
        let calls = plural(left_out.iter().map(|phase| sum_of(phase)).fold(0, u64::saturating_add), "call", "calls");
        let phases = plural(left_out.len() as u64, "more phase", "more phases");
        text += &format!("\n … {phases} with {calls}; `--top 0` lists them");
    }
    Ok(Some(text))
}

/// The end of a path that is longer than a table has room for; files have all of it.
pub(super) fn short_path(path: &str) -> String {
    const MOST: usize = 48;
    let length = path.chars().count();
    if length <= MOST {
        path.to_owned()
    } else {
        path.chars().skip(length - MOST).fold("…".to_owned(), |text, letter| text + &letter.to_string())
    }
}
