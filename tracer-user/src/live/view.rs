//! Draws the state. Reads nothing and changes nothing.

use gpuos_model::{
    Role,
    units::{count, duration, plural, printable},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line as Text, Span},
    widgets::{Block, Borders, Clear, Paragraph, Table, TableState},
};

use super::{
    columns::{self, Names, Numbers, Picture},
    state::{HISTORY, Line, PhaseLine, ProcessLine, State},
};

/// What the user has chosen to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Nothing is read.
    pub is_paused: bool,
    /// The view is to end.
    pub wants_end: bool,
    /// The help is open.
    pub has_help: bool,
    /// A filter is being typed.
    pub typing: Option<String>,
    /// Place of the cursor in the list of processes.
    pub cursor: usize,
    /// The command's last lines of output, where they have a pane.
    pub output: Option<Vec<String>>,
    /// What the tool has to say, and says again when the view is over.
    pub trouble: Option<String>,
}

const HELP: [&str; 10] = [
    "p, space   pause and go on",
    "s          order: a second, calls, total, max",
    "/          filter calls by name or role; Enter keeps it, Esc drops it",
    "↑ ↓        choose a process",
    "Enter      look at that process only; again: at all",
    "o          the command's output",
    "?, h       this help",
    "Ctrl-C     interrupts the command",
    "q          ends the view; the command runs on and is traced",
    "",
];

fn color(role: Option<Role>) -> Style {
    role.map_or_else(Style::default, |role| {
        let (red, green, blue) = role.color();
        Style::default().fg(Color::Rgb(red, green, blue))
    })
}

fn bold() -> Style {
    Style::default().add_modifier(Modifier::BOLD)
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, state: &State, shown: &Shown) {
    let spins = u16::from(!state.spins.is_empty());
    let output = shown.output.as_ref().map_or(0, |lines| (lines.len() as u16 + 1).min(frame.area().height / 3));
    let roles = state.roles.len() as u16 + 2;
    let [header, warning, role_area, rest, output_area, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(spins),
        Constraint::Length(roles),
        Constraint::Min(4),
        Constraint::Length(output),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_header(frame, header, state, shown);
    draw_spins(frame, warning, state);
    draw_roles(frame, role_area, state);
    let right = if has_side(rest) { 44 } else { 0 };
    let [calls, side] = Layout::horizontal([Constraint::Min(40), Constraint::Length(right)]).areas(rest);
    draw_calls(frame, calls, state);
    if right > 0 {
        let height = |lines: usize| if lines == 0 { 0 } else { (lines as u16 + 2).min(side.height / 3) };
        let (phases, jobs) = (height(state.phases.len()), height(state.jobs.len()));
        let lengths = [Constraint::Length(phases), Constraint::Length(jobs), Constraint::Min(0)];
        let [phase_area, job_area, process_area] = Layout::vertical(lengths).areas(side);
        draw_phases(frame, phase_area, state);
        draw_jobs(frame, job_area, state);
        draw_processes(frame, process_area, state, shown);
    }
    if let Some(lines) = &shown.output {
        draw_output(frame, output_area, lines);
    }
    draw_footer(frame, footer, state, shown);
    if shown.has_help {
        draw_help(frame);
    }
}

/// Whether phases and processes have a place beside the calls.
fn has_side(area: Rect) -> bool {
    area.width >= 100
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, state: &State, shown: &Shown) {
    let lost: Vec<String> = state.losses.found().map(|loss| format!("{} {}", count(loss.number), loss.what)).collect();
    let mut first = vec![Span::styled(printable(&state.title), bold())];
    if let Some(process) = state.processes.iter().find(|process| state.process == Some(process.id)) {
        first.push(Span::raw(format!(" · only process {}", process.pid)));
    }
    if !has_side(area) {
        let current = state.phases.iter().filter(|phase| phase.is_current);
        first.extend(current.map(|phase| Span::raw(format!(" · in {}", printable(&phase.path)))));
    }
    if let Some(trouble) = &shown.trouble {
        first.push(Span::styled(format!(" · {trouble}"), Style::default().fg(Color::Red)));
    }
    if shown.is_paused {
        first.push(Span::styled(" · paused", Style::default().fg(Color::Yellow)));
    }
    let counts = format!(
        "{} · {} · {} a second · {}",
        duration(state.elapsed_ns()),
        plural(state.total.calls, "call", "calls"),
        count(state.total.rate.round() as u64),
        plural(state.threads_alive, "thread", "threads"),
    );
    let second = if lost.is_empty() {
        vec![Span::raw(format!("{counts} · nothing lost"))]
    } else {
        // First, so that no narrow screen cuts it off.
        let red = Style::default().fg(Color::Red).add_modifier(Modifier::BOLD);
        vec![Span::styled(format!("LOST {}", lost.join(", ")), red), Span::raw(format!(" · {counts}"))]
    };
    frame.render_widget(Paragraph::new(vec![Text::from(first), Text::from(second)]), area);
}

fn draw_spins(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let words: Vec<String> = state
        .spins
        .iter()
        .map(|spin| format!("thread {} of {} for {} s", spin.thread, printable(&spin.command), spin.seconds))
        .collect();
    let text = format!("SPINS: {}: user code, no system call, while a GPU is used", words.join(", "));
    frame.render_widget(Paragraph::new(text).style(Style::default().fg(Color::Yellow)), area);
}

const HEADS: [&str; 7] = ["calls", "errors", "a second", "total", "p50", "p99", "max"];

fn cells(line: &Line) -> [String; 7] {
    let quantile = |q| line.latency.quantile(q, line.max_ns).map_or_else(|| "-".to_owned(), duration);
    [
        count(line.calls),
        if line.errors == 0 { String::new() } else { count(line.errors) },
        count(line.rate.round() as u64),
        duration(line.total_ns),
        quantile(0.5),
        quantile(0.99),
        duration(line.max_ns),
    ]
}

/// Bars of one character each, the newest at the right; the highest is as high as the line's largest.
fn sparkline(points: impl ExactSizeIterator<Item = u64> + Clone, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = points.clone().max().unwrap_or(0).max(1);
    let skip = points.len().saturating_sub(width);
    let bar = |value: u64| BARS[(value as f64 / largest as f64 * 8.0).ceil() as usize];
    points.skip(skip).map(bar).collect()
}

/// How soon each column of [`HEADS`] goes where space is short.
const DISPENSABLE: [u8; 7] = [0, 3, 1, 2, 6, 4, 5];

fn numbers<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<Numbers> {
    let rows: Vec<[String; 7]> = lines.map(cells).collect();
    let column = |(at, (head, dispensable)): (usize, (&'static str, u8))| Numbers {
        head,
        cells: rows.iter().map(|row| row[at].clone()).collect(),
        dispensable,
    };
    HEADS.into_iter().zip(DISPENSABLE).enumerate().map(column).collect()
}

fn draw_roles(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let span = state.total.latency.span();
    let buckets = span.map_or(0, |(first, last)| last - first + 1);
    // Where there is room, it says what its ends are.
    let head = span.map_or_else(String::new, |(first, last)| {
        let ends = format!("latency {} … {}", duration(1 << first), duration((1 << (last + 1)) - 1));
        if area.width >= 120 { ends } else { "latency".to_owned() }
    });
    let ends = head.chars().count();
    let names = Names {
        head: "role".to_owned(),
        cells: state.roles.iter().map(|line| (line.name.clone(), color(line.role))).collect(),
    };
    let latency = |at: usize, _: usize| {
        let line = &state.roles[at];
        let picture = span.map_or_else(String::new, |(first, last)| line.latency.picture(first, last));
        Text::styled(picture, color(line.role))
    };
    let history = |at: usize, wide: usize| {
        let line = &state.roles[at];
        let points = line.role.and_then(|role| state.history.get(&role));
        let bars = points.map_or_else(String::new, |points| sparkline(points.iter().copied(), wide.min(HISTORY)));
        Text::styled(bars, color(line.role))
    };
    let pictures: [Picture<'_>; 2] =
        [(head, buckets.max(ends), &latency), ("calls a second, by the second".to_owned(), 8, &history)];
    let table = columns::fitted(&names, numbers(state.roles.iter()), &pictures, area.width.into());
    frame.render_widget(table, area);
}

fn draw_calls(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let lines = || state.calls.iter().take(area.height as usize);
    let names = Names {
        head: format!("calls, by {}", state.order.name()),
        cells: lines().map(|line| (line.name.clone(), color(line.role))).collect(),
    };
    frame.render_widget(columns::fitted(&names, numbers(lines()), &[], area.width.into()), area);
}

/// A table at the side: names, and numbers with their heads, the most important first.
fn side_table(
    head: &str,
    names: Vec<(String, Style)>,
    columns: Vec<(&'static str, Vec<String>)>,
    area: Rect,
) -> Table<'static> {
    let names = Names { head: head.to_owned(), cells: names };
    let numbers = (0..).zip(columns).map(|(dispensable, (head, cells))| Numbers { head, cells, dispensable });
    // The border has a place, too.
    columns::fitted(&names, numbers.collect(), &[], usize::from(area.width).saturating_sub(1)).block(side())
}

fn draw_phases(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let name = |phase: &PhaseLine| {
        let sign = if phase.is_current { "▶" } else { " " };
        (format!("{sign} {}", phase.path), if phase.is_current { bold() } else { Style::default() })
    };
    let of = |number: fn(&PhaseLine) -> u64| state.phases.iter().map(|phase| count(number(phase))).collect();
    let columns = vec![("calls", of(|phase| phase.calls)), ("entered", of(|phase| phase.entered))];
    let table = side_table("  phase", state.phases.iter().map(name).collect(), columns, area);
    frame.render_widget(table, area);
}

fn draw_jobs(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let names = state.jobs.iter().map(|class| (format!("  {}", class.label), Style::default())).collect();
    let half = |ns: u64| if ns == 0 { "-".to_owned() } else { duration(ns) };
    let columns = vec![
        ("a second", state.jobs.iter().map(|class| count(class.rate.round() as u64)).collect()),
        ("cpu", state.jobs.iter().map(|class| format!("{:.0}%", class.cpu * 100.0)).collect()),
        ("p50", state.jobs.iter().map(|class| half(class.p50_ns)).collect()),
    ];
    frame.render_widget(side_table("  job class", names, columns, area), area);
}

fn side() -> Block<'static> {
    Block::new().borders(Borders::LEFT)
}

fn draw_processes(frame: &mut Frame<'_>, area: Rect, state: &State, shown: &Shown) {
    let name = |process: &ProcessLine| {
        let sign = if state.process == Some(process.id) { "●" } else { " " };
        (format!("{sign} {} {}", process.pid, process.command), Style::default())
    };
    let lines = || state.processes.iter();
    let columns = vec![
        ("calls", lines().map(|process| count(process.calls)).collect()),
        ("cpu", lines().map(|process| format!("{:.0}%", (process.user + process.system) * 100.0)).collect()),
        ("switches", lines().map(|process| count(process.switches.round() as u64)).collect()),
    ];
    let table = side_table("  process", lines().map(name).collect(), columns, area)
        .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    let mut selected = TableState::default().with_selected((!state.processes.is_empty()).then_some(shown.cursor));
    frame.render_stateful_widget(table, area, &mut selected);
}

fn draw_output(frame: &mut Frame<'_>, area: Rect, lines: &[String]) {
    let room = area.height.saturating_sub(1) as usize;
    let last = &lines[lines.len().saturating_sub(room)..];
    let text: Vec<Text<'_>> = last.iter().map(|line| Text::from(printable(line))).collect();
    let block = Block::new().borders(Borders::TOP).title("output of the command");
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, state: &State, shown: &Shown) {
    let text = if let Some(typed) = &shown.typing {
        format!("filter: {}▏", printable(typed))
    } else {
        let filter = if state.filter.is_empty() { String::new() } else { format!(" `{}`", printable(&state.filter)) };
        let order = state.order.name();
        format!("p pause  s order ({order})  / filter{filter}  ↑↓ Enter process  o output  ? help  q end")
    };
    frame.render_widget(Paragraph::new(text).style(Style::default().add_modifier(Modifier::REVERSED)), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let whole = frame.area();
    let (width, height) = (72.min(whole.width), (HELP.len() as u16 + 2).min(whole.height));
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Text<'_>> = HELP.iter().map(|line| Text::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gpuos_tracer_abi::syscalls::{ABI_NATIVE, RowCounts, RowKey};
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::aggregate::{LiveProcess, Reading};
    use gpuos_decode::{devices::Devices, roles::Roles};
    use gpuos_host::processes::ThreadUsage;
    use gpuos_runs::{
        jobs::{JobClass, JobUsage, Spread},
        losses::Losses,
        phases::Phase,
    };

    fn row(process: u64, phase: u32, number: i64, calls: u64) -> (RowKey, RowCounts) {
        let mut counts =
            RowCounts { calls, errors: calls / 10, total_ns: calls * 900, max_ns: 9000, ..RowCounts::ZERO };
        counts.buckets[9] = calls - calls / 4;
        counts.buckets[12] = calls / 4;
        (RowKey { process, phase, number: number as u32, abi: ABI_NATIVE, ..Default::default() }, counts)
    }

    /// Some seconds of two processes, one of which spins and one of which has a name to be careful with.
    fn state() -> State {
        let mut state = State::new("python3 infer.py".into(), Roles::default(), Devices::default());
        for tenth in 0..=32_u64 {
            let usage = |thread, share: u64| ThreadUsage {
                thread,
                user_ns: tenth * share * 1_000_000,
                system_ns: tenth * 1_000_000,
                switches: tenth * 3,
            };
            let process = |id, pid, command: &str, threads| LiveProcess {
                id,
                pid,
                command: command.to_owned(),
                phase: if id == 1 { 2 } else { 0 },
                uses_gpu: true,
                threads,
            };
            let phase = |path: &str| Phase { path: path.to_owned(), entered: 1, ..Phase::default() };
            let class = |label: &str, done, p50_ns| JobClass {
                label: label.to_owned(),
                done,
                duration: (done != 0).then_some(Spread { p50_ns, p99_ns: p50_ns }),
                used: JobUsage { cpu_ns: done * 100_000, ..JobUsage::default() },
                ..JobClass::default()
            };
            let reading = Reading {
                at_ns: 1_000_000_000 + tenth * 100_000_000,
                rows: vec![
                    row(1, 2, libc::SYS_mmap, 400 + tenth * 100),
                    row(1, 1, libc::SYS_futex, 200),
                    row(2, 0, libc::SYS_openat, 40 + tenth),
                ],
                threads: HashMap::from([(11, 5), (21, tenth)]),
                processes: vec![
                    process(1, 11, "python3", vec![usage(11, 100)]),
                    process(2, 21, "wor\u{1b}[31mker", vec![usage(21, 10)]),
                ],
                has_usage: tenth % 10 == 0,
                phases: vec![phase("init"), phase("work")],
                jobs: vec![class("requests", tenth * 90, 1_200_000), class("odd \u{1b}[1m", 0, 0)],
                losses: Losses::default(),
                threads_alive: 2,
            };
            state.read(reading, &Devices::default());
        }
        state
    }

    fn drawn(state: &State, shown: &Shown, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, shown)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_of_two_processes() {
        insta::assert_snapshot!(drawn(&state(), &Shown::default(), 140, 24));
    }

    #[test]
    fn a_narrow_screen_leaves_the_side_out() {
        insta::assert_snapshot!(drawn(&state(), &Shown::default(), 90, 16));
    }

    #[test]
    fn losses_pause_filter_help_and_output() {
        let mut state = state();
        state.losses = Losses { calls: 3, recursion_misses: 1200, ..Losses::default() };
        state.set_filter("mm".into());
        let shown = Shown {
            is_paused: true,
            typing: Some("mm".into()),
            output: Some(vec!["loading".into(), "step 1 \u{7}of 3".into()]),
            ..Shown::default()
        };
        insta::assert_snapshot!(drawn(&state, &shown, 140, 24));
        let shown = Shown { has_help: true, ..Shown::default() };
        insta::assert_snapshot!(drawn(&state, &shown, 100, 20));
    }

    #[test]
    fn every_loss_is_shown() {
        let mut state = state();
        for loss in Losses::default().all() {
            let text = format!("{{\"{}\":7}}", loss.name);
            state.losses = serde_json::from_str(&text).unwrap();
            let screen = drawn(&state, &Shown::default(), 40, 24);
            assert!(screen.contains(&format!("LOST 7 {}", loss.what)), "{}: {screen}", loss.name);
        }
    }

    #[test]
    fn no_size_is_too_small() {
        let shown = Shown { has_help: true, output: Some(vec!["line".into()]), ..Shown::default() };
        for (width, height) in [(1, 1), (3, 2), (20, 3), (39, 7), (200, 2)] {
            drawn(&state(), &shown, width, height);
        }
    }
}
