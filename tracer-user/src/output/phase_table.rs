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
    phases::{Phase, Scope, THREADS_OWN, marked_around},
    run::Run,
};

use super::layout::{TerminalStyle, View, finish, fit, head, plain_table, rate, right, role_cell};

/// Calls by phase and role.
struct Counts {
    calls: HashMap<(String, String), u64>,
    /// Those that made a call anywhere.
    roles: Vec<Role>,
}

impl Counts {
    /// What was called in functions of libraries belongs to the phases around them.
    fn of(run: &Run) -> Result<Self, CodecError> {
        let outside = marked_around(&run.header.phases);
        let mut calls: HashMap<(String, String), u64> = HashMap::new();
        for group in group::group(&run.calls, &[column::PHASE, column::ROLE])? {
            let path = outside.get(group.key[0].as_str()).copied().unwrap_or(&group.key[0]);
            let sum = calls.entry((path.to_owned(), group.key[1].clone())).or_default();
            *sum = sum.saturating_add(group.calls);
        }
        let roles = Role::ALL.into_iter().filter(|role| calls.keys().any(|(_, name)| name == role.name())).collect();
        Ok(Self { calls, roles })
    }

    fn of_role(&self, phase: &Phase, role: Role) -> Option<u64> {
        self.calls.get(&(phase.path.clone(), role.name().to_owned())).copied()
    }

    fn sum(&self, phase: &Phase) -> u64 {
        let counts = self.roles.iter().filter_map(|role| self.of_role(phase, *role));
        counts.fold(0, u64::saturating_add)
    }

    /// Of a role in all phases.
    fn total(&self, role: Role) -> u64 {
        let calls = self.calls.iter().filter(|((_, name), _)| name == role.name()).map(|(_, calls)| *calls);
        calls.fold(0, u64::saturating_add)
    }

    /// Whether calls were made outside of all phases.
    fn has_outside(&self) -> bool {
        self.calls.keys().any(|(phase, _)| phase.is_empty())
    }
}

/// Calls by phase and role; `None` where no phase was marked.
pub(super) fn phase_table(
    run: &Run,
    view: View,
    style: TerminalStyle,
    total: &Group,
) -> Result<Option<String>, CodecError> {
    let phases: Vec<&Phase> = run.header.phases.iter().filter(|phase| phase.scope.is_marked()).collect();
    if phases.is_empty() {
        return Ok(None);
    }
    let counts = Counts::of(run)?;
    let has_iterations = phases.iter().any(|phase| phase.iterations != 0);
    let mut heads = vec![head("phase", false, style)];
    heads.extend(["entered", "wall", "calls", "a second"].map(|text| head(text, true, style)));
    heads.extend(has_iterations.then(|| head("an iteration", true, style)));
    let measures = heads.len();
    heads.extend(counts.roles.iter().map(|role| role_cell(role.name(), style).set_alignment(CellAlignment::Right)));
    let mut table = plain_table();
    table.set_header(heads);
    // In the order in which they began, where all can be listed; else those with the most calls.
    // Inferred ones may not have begun.
    let mut shown: Vec<&Phase> =
        phases.into_iter().filter(|phase| phase.entered != 0 || counts.sum(phase) != 0).collect();
    if shown.len() > view.top {
        shown.sort_by_key(|phase| std::cmp::Reverse(counts.sum(phase)));
    }
    let left_out = shown.split_off(view.top.min(shown.len()));
    let outside = Phase::default();
    for phase in counts.has_outside().then_some(&outside).into_iter().chain(shown) {
        table.add_row(row(phase, &counts, has_iterations));
    }
    let mut last = vec![Cell::new("total"), Cell::new(""), Cell::new(""), right(count(total.calls))];
    last.resize_with(measures, || Cell::new(""));
    last.extend(counts.roles.iter().map(|role| right(count(counts.total(*role)))));
    table.add_row(last);
    // The roles from the right, then the rates.
    let mut dispensable: Vec<(u8, usize)> = vec![(1, 1), (9, 4)];
    dispensable.extend((2_u8..).zip(measures..measures + counts.roles.len()));
    fit(&mut table, &mut dispensable, style.width);
    let mut text = finish(&mut table, style);
    if !left_out.is_empty() {
        let calls = left_out.iter().map(|phase| counts.sum(phase)).fold(0, u64::saturating_add);
        let (calls, phases) =
            (plural(calls, "call", "calls"), plural(left_out.len() as u64, "more phase", "more phases"));
        text += &format!("\n … {phases} with {calls}; `--top 0` lists them");
    }
    Ok(Some(text))
}

/// The line of a phase, or of what was called outside of all of them.
fn row(phase: &Phase, counts: &Counts, has_iterations: bool) -> Vec<Cell> {
    let sum = counts.sum(phase);
    let per = |divisor: f64| right(if divisor > 0.0 { rate(sum as f64 / divisor) } else { String::new() });
    let is_outside = phase.path.is_empty() && phase.entered == 0;
    let whose = if phase.scope == Scope::Thread && !phase.path.ends_with(THREADS_OWN) { THREADS_OWN } else { "" };
    let name = if is_outside { "(none)".to_owned() } else { short_path(&printable(&phase.path)) + whose };
    let known = |text: String| right(if is_outside { String::new() } else { text });
    let mut row = vec![
        Cell::new(name),
        known(count(phase.entered)),
        known(duration(phase.wall_ns)),
        right(count(sum)),
        per(phase.own_ns as f64 / 1e9),
    ];
    row.extend(has_iterations.then(|| per(phase.iterations as f64)));
    let of_role = |role: &Role| right(counts.of_role(phase, *role).map_or_else(String::new, count));
    row.extend(counts.roles.iter().map(of_role));
    row
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
