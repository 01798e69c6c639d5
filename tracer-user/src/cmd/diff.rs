//! `gpuos-trace diff FIRST SECOND`: two runs side by side, and rules that the second must keep.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use gpuos_host::{diagnostics, screen};
use gpuos_runs::{
    diff::{self, BY, Measure, Pair},
    run::Run,
};

use super::show;
use crate::{
    cli::{DiffArgs, DiffOrder},
    output::{diff_table, layout::style_of},
};

/// Exit status where a rule does not hold, as of `diff`.
const DIFFERENT: u8 = 1;

pub(super) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let places = args.by.iter().map(|name| place(name)).collect::<Result<Vec<usize>>>()?;
    let (first, second) = (show::read(&args.first)?, show::read(&args.second)?);
    can_be_compared(&first, &args.first, &second, &args.second)?;
    let pairs = diff::compare(&first, &second, args.per_unit).context("comparing the runs")?;
    if args.per_unit && pairs.is_empty() {
        bail!(
            "neither run has a phase with iterations\nhint: leave out `--per-unit`, or report them with `gpuos_phase::iterations`"
        );
    }
    let stdout = std::io::stdout();
    let style = style_of(&stdout, anstream::AutoStream::choice(&stdout));
    let view = diff_table::View { order: measure(args.sort), top: args.top, by_unit: args.per_unit };
    let mut text = diff_table::heads(&first, &second);
    let is_timed = first.header.mode.timed && second.header.mode.timed;
    let tables: &[&[usize]] = if places.is_empty() { &[&[0, 1], &[0, 1, 3, 4, 5, 6]] } else { &[&places] };
    for table in tables {
        text.push('\n');
        text += &diff_table::table(&pairs, table, view, is_timed, style);
    }
    screen::print(&text)?;
    for rule in &args.fail_on {
        let unknown = rule.unknown(&pairs);
        if !unknown.is_empty() {
            diagnostics::report(&format!("`{}`: no call of either run has {}", rule.text(), unknown.join(", ")));
        }
    }
    let broken: Vec<&diff::Rule> = args.fail_on.iter().filter(|rule| rule.is_broken(&pairs)).collect();
    for rule in &broken {
        let sum: Pair = rule.sum(&pairs);
        diagnostics::report(&format!("`{}` does not hold: {}", rule.text(), diff_table::numbers(&sum, rule.measure())));
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

const fn measure(order: DiffOrder) -> Measure {
    match order {
        DiffOrder::Calls => Measure::Calls,
        DiffOrder::Errors => Measure::Errors,
        DiffOrder::Time => Measure::Time,
    }
}

fn place(name: &str) -> Result<usize> {
    let known = BY.map(|(word, _)| word);
    let place = known.iter().position(|word| *word == name);
    place.with_context(|| format!("there is no column `{name}`\nhint: {}", known.join(", ")))
}

/// What was counted must be the same, or differences are those of the tracer.
fn can_be_compared(first: &Run, first_file: &Path, second: &Run, second_file: &Path) -> Result<()> {
    let (one, other) = (&first.header.mode, &second.header.mode);
    if one.filter != other.filter {
        bail!(
            "`{}` and `{}` were counted with different `-e`\nhint: run both alike",
            first_file.display(),
            second_file.display()
        );
    }
    for (run, file) in [(first, first_file), (second, second_file)] {
        if run.header.losses.any() {
            diagnostics::report(&format!(
                "LOST in `{}`: its numbers are not whole; `gpuos-trace show` says what",
                file.display()
            ));
        }
    }
    Ok(())
}
