//! Classes of jobs: how long their jobs take, how late that is known, and what each asks of the system.

use std::collections::HashMap;

use comfy_table::Cell;
use gpuos_model::units::{bytes, count, duration, plural, printable};
use gpuos_runs::{
    columns::column,
    files::CodecError,
    group,
    jobs::{JobClass, JobUsage, Spread},
    run::Run,
};

use super::{
    layout::{TerminalStyle, View, finish, fit, head, plain_table, rate, right},
    phase_table::short_path,
};

/// Calls by the label of a class.
fn calls_of_classes(run: &Run) -> Result<HashMap<String, u64>, CodecError> {
    let labels: HashMap<&str, &str> =
        run.header.phases.iter().filter_map(|phase| Some((phase.path.as_str(), phase.job.as_deref()?))).collect();
    let mut calls: HashMap<String, u64> = HashMap::new();
    for group in group::group(&run.calls, &[column::PHASE])? {
        if let Some(label) = labels.get(group.key[0].as_str()) {
            let sum = calls.entry((*label).to_owned()).or_default();
            *sum = sum.saturating_add(group.calls);
        }
    }
    Ok(calls)
}

/// Jobs by class; `None` where there were none.
pub(super) fn job_table(run: &Run, view: View, style: TerminalStyle) -> Result<Option<String>, CodecError> {
    if run.header.jobs.is_empty() {
        return Ok(None);
    }
    let calls = calls_of_classes(run)?;
    let of = |class: &JobClass| calls.get(&class.label).copied().unwrap_or_default();
    // Some are opened and never used.
    let is_used = |class: &&JobClass| class.begun != 0 || of(class) != 0 || class.used != JobUsage::default();
    let mut classes: Vec<&JobClass> = run.header.jobs.iter().filter(is_used).collect();
    classes.sort_by_key(|class| (std::cmp::Reverse(class.begun), class.label.as_str()));
    let left_out = classes.split_off(view.top.min(classes.len()));
    let have_failed = classes.iter().any(|class| class.failed != 0);
    let have_memory = classes.iter().any(|class| class.bytes != 0);
    let mut table = plain_table();
    let mut heads = vec![head("job class", false, style)];
    let measures = ["p50", "p99", "late", "late p99", "calls", "CPU", "calls a job", "CPU a job", "switches", "faults"];
    let wanted = ["jobs"].into_iter().chain(have_failed.then_some("failed")).chain(measures);
    heads.extend(wanted.chain(have_memory.then_some("memory")).map(|text| head(text, true, style)));
    table.set_header(heads);
    for class in &classes {
        table.add_row(row(class, of(class), have_failed, have_memory));
    }
    // From the last on: the faults, sums, how late the latest are, the switches.
    let first = 2 + usize::from(have_failed);
    let dispensable = [8, 3, 5, 4, 9].map(|place| first + place);
    fit(&mut table, &mut (1..).zip(dispensable).collect::<Vec<_>>(), style.width);
    let mut text = finish(&mut table, style);
    if !left_out.is_empty() {
        let more = plural(left_out.len() as u64, "more class", "more classes");
        text += &format!("\n … {more} of jobs; `--top 0` lists them");
    }
    Ok(Some(text))
}

/// The line of a class. Jobs that have not ended count in what each job took of the system.
fn row(class: &JobClass, calls: u64, have_failed: bool, have_memory: bool) -> Vec<Cell> {
    let JobClass { label, begun, done, failed, duration: lasted, lateness, used, .. } = class;
    let per = |sum: u64| sum as f64 / (*begun).max(1) as f64;
    let each = |sum: u64| right(if *begun == 0 { String::new() } else { rate(per(sum)) });
    let time = |spread: &Option<Spread>, of: fn(&Spread) -> u64| {
        right(spread.as_ref().map_or_else(String::new, |spread| duration(of(spread))))
    };
    let mut row = vec![Cell::new(short_path(&printable(label))), right(count(*done))];
    row.extend(have_failed.then(|| right(count(*failed))));
    row.extend([
        time(lasted, |spread| spread.p50_ns),
        time(lasted, |spread| spread.p99_ns),
        time(lateness, |spread| spread.p50_ns),
        time(lateness, |spread| spread.p99_ns),
        right(count(calls)),
        right(duration(used.cpu_ns)),
        each(calls),
        right(if *begun == 0 { String::new() } else { duration(per(used.cpu_ns) as u64) }),
        each(used.voluntary_switches.saturating_add(used.involuntary_switches)),
        each(used.minor_faults.saturating_add(used.major_faults)),
    ]);
    row.extend(have_memory.then(|| right(bytes(class.bytes))));
    row
}
