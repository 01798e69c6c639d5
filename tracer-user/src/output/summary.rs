//! The tables that people read: by role, the top system calls, processes, and what was lost.

use std::{collections::HashMap, io::Write};

use comfy_table::Cell;
use gpuos_model::units::{count, duration, plural, printable};
use gpuos_runs::{
    columns::column,
    files::CodecError,
    group::{self, Group},
    jobs::{self, ClassError},
    run::{End, Header, Process, Run},
};

use super::{
    api_table::api_table,
    device_table::{device_phase_table, device_table},
    job_table::job_table,
    layout::{OF_CALLS, Order, TerminalStyle, View, finish, fit, group_table, head, left_out_line, plain_table, right},
    phase_table::phase_table,
};

/// Writes all tables, without colours and with every line: the text format, which cannot be read back.
pub(super) fn write(run: &Run, to: &mut dyn Write) -> Result<(), CodecError> {
    to.write_all(render(run, View { top: usize::MAX, order: Order::Calls }, TerminalStyle::FILE)?.as_bytes())?;
    Ok(())
}

/// A run as it is to be shown: of what was called for these classes of jobs alone, where there are any.
///
/// # Errors
/// There is no such class.
pub fn shown(run: Run, job_classes: &[String]) -> Result<Run, ClassError> {
    if job_classes.is_empty() { Ok(run) } else { jobs::only_of(&run, job_classes) }
}

/// All tables of a run.
///
/// # Errors
/// When the frame lacks a column, as a foreign file may.
pub fn render(run: &Run, view: View, style: TerminalStyle) -> Result<String, CodecError> {
    let header = &run.header;
    let total = group::summarize(&run.calls, &[])?;
    let mut sections = vec![headline(header, &total)];
    if total.calls == 0 {
        sections.push("no system call was counted".to_owned());
    } else {
        sections.push(role_table(run, view, style, &total)?);
        sections.extend(phase_table(run, view, style, &total)?);
        sections.extend(job_table(run, view, style)?);
        sections.extend(api_table(run, view, style)?);
        sections.push(syscall_table(run, view, style, &total)?);
        sections.extend(device_table(run, view, style)?);
        sections.extend(device_phase_table(run, view, style)?);
        if !header.processes.is_empty() {
            sections.push(process_table(run, view, style)?);
        }
    }
    let remarks = remarks(header, &total, &running(run)?);
    if !remarks.is_empty() {
        sections.push(remarks.join("\n"));
    }
    Ok(sections.join("\n\n") + "\n")
}

fn headline(header: &Header, total: &Group) -> String {
    let end = match header.end {
        End::Exited(status) => format!("exit status {status}"),
        End::Killed(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        End::Detached => "detached".to_owned(),
        End::NotRecorded => "its end is not recorded".to_owned(),
    };
    let threads = header.processes.iter().map(|process| u64::from(process.threads)).sum();
    let mut parts = vec![
        end,
        duration(header.wall_ns),
        plural(
            header.processes.iter().map(|process| process.stands_for).fold(0, u64::saturating_add),
            "process",
            "processes",
        ),
        plural(threads, "thread", "threads"),
        plural(total.calls, "system call", "system calls"),
    ];
    if total.errors != 0 {
        parts.push(plural(total.errors, "error", "errors"));
    }
    if total.refused != 0 {
        parts.push(format!("{} refused by a driver's status", plural(total.refused, "call", "calls")));
    }
    format!("{}\n{}", command_line(&header.command), parts.join(" · "))
}

/// The command in as many characters as a headline has room for; files have all of it.
fn command_line(command: &[String]) -> String {
    const ROOM: usize = 400;
    let mut line = String::new();
    for (place, word) in command.iter().enumerate() {
        let word = printable(word);
        if line.chars().count() + word.chars().count() > ROOM {
            let cut: String = word.chars().take(ROOM.saturating_sub(line.chars().count())).collect();
            let left = plural((command.len() - place) as u64, "word", "words");
            return format!("{line} {cut}… ({left} cut or left out)").trim_start().to_owned();
        }
        if place > 0 {
            line.push(' ');
        }
        line += &word;
    }
    line
}

fn role_table(run: &Run, view: View, style: TerminalStyle, total: &Group) -> Result<String, CodecError> {
    let mut groups = group::group(&run.calls, &[column::ROLE])?;
    groups.sort_by_key(|group| std::cmp::Reverse(view.order.key(group)));
    let last = Group { key: vec!["total".to_owned()], ..total.clone() };
    let mut table = group_table(&run.header, &groups, &["role"], total, Some(&last), &OF_CALLS, style);
    Ok(finish(&mut table, style))
}

fn syscall_table(run: &Run, view: View, style: TerminalStyle, total: &Group) -> Result<String, CodecError> {
    let mut groups = group::group(&run.calls, &[column::SYSCALL, column::ROLE])?;
    groups.sort_by_key(|group| (std::cmp::Reverse(view.order.key(group)), group.key.clone()));
    let left_out = groups.split_off(view.top.min(groups.len()));
    let mut table = group_table(&run.header, &groups, &["syscall", "role"], total, None, &OF_CALLS, style);
    Ok(finish(&mut table, style) + &left_out_line(&left_out, "more system call", "more system calls"))
}

fn process_table(run: &Run, view: View, style: TerminalStyle) -> Result<String, CodecError> {
    let calls: HashMap<u64, u64> = run
        .calls
        .partition_by_stable([column::PROCESS], true)?
        .iter()
        .map(|part| {
            Ok::<_, CodecError>((
                part.column(column::PROCESS)?.u64()?.get(0).unwrap_or(0),
                group::summarize(part, &[])?.calls,
            ))
        })
        .collect::<Result<_, _>>()?;
    let calls_of = |process: &Process| calls.get(&process.id).copied().unwrap_or(0);
    let mut processes: Vec<&Process> = run.header.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(calls_of(process)));
    let left_out = processes.split_off(view.top.min(processes.len()));
    let mut table = plain_table();
    let heads = [
        "process",
        "pid",
        "threads",
        "calls",
        "wall",
        "user",
        "system",
        "switches",
        "forced",
        "minor faults",
        "major faults",
    ];
    table.set_header(heads.iter().enumerate().map(|(at, text)| head(text, at != 0, style)));
    for process in processes {
        let about = match (process.stands_for, process.threads_alive) {
            (1, 0) => String::new(),
            (1, _) => " (running)".to_owned(),
            (many, _) => format!(" ({} processes)", count(many)),
        };
        let known = |text: String| if process.usage.is_known() { text } else { "-".to_owned() };
        let mut row = vec![Cell::new(printable(&process.command) + &about)];
        row.extend(
            [
                if process.stands_for == 1 { process.pid.to_string() } else { String::new() },
                count(process.threads.into()),
                count(calls_of(process)),
                duration(process.wall_ns),
                known(duration(process.usage.user_ns)),
                known(duration(process.usage.system_ns)),
                known(count(process.usage.voluntary_switches)),
                known(count(process.usage.involuntary_switches)),
                known(count(process.usage.minor_faults)),
                known(count(process.usage.major_faults)),
            ]
            .map(right),
        );
        table.add_row(row);
    }
    fit(&mut table, &mut [(1, 10), (2, 8), (3, 9), (4, 2), (5, 1)], style.width);
    let mut text = finish(&mut table, style);
    if !left_out.is_empty() {
        text +=
            &format!("\n … {}; `--top 0` lists them", plural(left_out.len() as u64, "more process", "more processes"));
    }
    Ok(text)
}

/// Losses first: they decide whether the rest can be trusted.
/// What was lost.
fn losses(header: &Header) -> Vec<String> {
    header.losses.found().map(|loss| format!("LOST: {} {}", count(loss.number), loss.sentence)).collect()
}

/// Notes on a run.
fn notes(header: &Header) -> impl Iterator<Item = String> + '_ {
    header.notes.iter().map(|note| format!("note: {}", printable(note)))
}

/// What was lost and what is worth knowing, where there are no tables.
#[must_use]
pub fn news(header: &Header) -> String {
    losses(header).into_iter().chain(notes(header)).collect::<Vec<_>>().join("\n")
}

/// Calls that did not return, by their names, the most first; those that never do are no news.
fn running(run: &Run) -> Result<Vec<(String, u64)>, CodecError> {
    const NEVER: [&str; 2] = ["exit", "exit_group"];
    let groups = group::group(&run.calls, &[column::SYSCALL])?;
    let named = groups.into_iter().map(|group| (group.key.concat(), group.unfinished));
    let mut running: Vec<(String, u64)> =
        named.filter(|(name, count)| *count > 0 && !NEVER.contains(&name.as_str())).collect();
    running.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(running)
}

fn remarks(header: &Header, total: &Group, running: &[(String, u64)]) -> Vec<String> {
    let mut lines = losses(header);
    if !running.is_empty() {
        const MOST: usize = 5;
        let calls = running.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
        let names: Vec<String> =
            running.iter().take(MOST).map(|(name, number)| format!("{} {}", count(*number), printable(name))).collect();
        let more = if running.len() > MOST { ", …" } else { "" };
        lines.push(format!(
            "note: {} still running when tracing ended: {}{more}",
            plural(calls, "call was", "calls were"),
            names.join(", ")
        ));
    }
    if total.restarted != 0 {
        lines.push(format!(
            "note: {} interrupted by a signal, to be restarted or not; not counted as errors",
            plural(total.restarted, "call was", "calls were")
        ));
    }
    if header.mode.sample > 1 {
        lines.push(format!(
            "note: one call in {} of each thread was timed; totals are estimates, maxima are of those",
            header.mode.sample
        ));
    }
    lines.extend(notes(header));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_cut_and_says_so() {
        let words = |count: usize, word: &str| vec![word.to_owned(); count];
        assert_eq!(command_line(&words(3, "ls")), "ls ls ls");
        assert_eq!(command_line(&[]), "");
        let many = command_line(&words(20_000, "word"));
        assert!(many.chars().count() < 460 && many.ends_with("words cut or left out)"), "{many}");
        let long = command_line(&["x".repeat(9000)]);
        assert!(long.ends_with("x… (1 word cut or left out)") && long.chars().count() < 460, "{long}");
    }
}
