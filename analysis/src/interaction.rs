//! Who calls what: from the threads of a program through the phases to devices, commands and roles, and apart from it what
//! the timed work of each workload calls, which start-up would hide. Medians of the blocks; the width of a band is its number
//! of calls. What the hardware does is not observed: it stands below, from the knowledge base.

use std::{collections::BTreeMap, fmt::Write as _};

use gpuos_model::{Role, phase};
use serde::Serialize;

use crate::{
    axis::Axis,
    contact,
    counted::{call_name, rows_of},
    dataset::{Dataset, Thread},
    page::escaped,
    plan::Cell,
    resample::median,
};

/// Of the models of a backend, the first of these is drawn.
const MODELS: [&str; 7] = ["kernel", "alloc", "launch", "copy", "sync", "infer", "cpu"];
/// Commands that are named in a panel; the others are one node.
const MOST_CALLS: usize = 16;
const COLUMNS: usize = 5;

/// The map of one backend.
#[derive(Debug, Serialize)]
pub struct Interaction {
    /// The backend, as in the plan.
    pub backend: String,
    /// The workload's arguments.
    pub cell: String,
    /// The runtime's name and version, as `bench --list` found them.
    pub runtime: String,
    /// The file of its library, without its folder; empty where there is none.
    pub library: String,
    /// The first of its devices.
    pub device: String,
    /// Runs that the medians are of.
    pub runs: usize,
    /// Who calls what.
    pub flows: Vec<Flow>,
    /// The same of the timed work alone, for each series along iterations at its largest level, less what the run without
    /// iterations calls.
    pub work: Vec<Work>,
}

/// What the timed work of a series calls.
#[derive(Debug, Serialize)]
pub struct Work {
    /// The series.
    pub series: String,
    /// Iterations.
    pub iterations: u64,
    /// Who calls what.
    pub flows: Vec<Flow>,
}

/// Calls of one kind in one phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// As the workload marks it; empty outside of all.
    pub phase: String,
    /// Who made them.
    pub thread: Thread,
    /// The GPU device; empty where the call is on none.
    pub device: String,
    /// System call or command.
    pub call: String,
    /// What it is for.
    pub role: Role,
    /// Median of the runs.
    pub calls: f64,
}

/// One map for each backend of a dataset.
pub(crate) fn draw_from(dataset: &Dataset, environment: &serde_json::Value) -> Vec<Interaction> {
    let mut cells: BTreeMap<&str, (usize, Cell)> = BTreeMap::new();
    for series in dataset.plan.series.iter().filter(|series| series.axis() == Axis::Iterations) {
        let rank = MODELS.iter().position(|model| *model == series.model).unwrap_or(MODELS.len());
        let Some(cell) = series.cells().pop() else { continue };
        let best = cells.entry(&series.backend).or_insert((rank, cell.clone()));
        if rank < best.0 {
            *best = (rank, cell);
        }
    }
    cells.into_iter().filter_map(|(backend, (_, cell))| map_of(dataset, backend, &cell, environment)).collect()
}

fn map_of(dataset: &Dataset, backend: &str, cell: &Cell, environment: &serde_json::Value) -> Option<Interaction> {
    let (flows, runs) = flows_of(dataset, cell);
    let found = environment["backends"].as_array().into_iter().flatten().find(|found| found["name"] == backend);
    let ok = found.map(|found| &found["found"]["Ok"]);
    let word = |name: &str| ok.and_then(|ok| ok[name].as_str()).unwrap_or_default();
    let file = word("library").rsplit('/').next().unwrap_or_default();
    let device = ok.and_then(|ok| ok["devices"][0].as_str()).unwrap_or_default();
    (runs > 0).then(|| Interaction {
        backend: backend.to_owned(),
        cell: cell.arguments().join(" "),
        runtime: word("runtime").to_owned(),
        library: file.to_owned(),
        device: device.to_owned(),
        runs,
        flows,
        work: work_of(dataset, backend),
    })
}

type Key = (String, Thread, String, String, Role);

/// Who calls what in a cell: medians of its runs but the first, and how many there are.
pub fn flows_of(dataset: &Dataset, cell: &Cell) -> (Vec<Flow>, usize) {
    let mut counts: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    let mut runs = 0;
    for block in 2..=dataset.plan.blocks {
        let Ok((_, rows)) = rows_of(dataset, cell, block) else { continue };
        let mut of_run: BTreeMap<Key, f64> = BTreeMap::new();
        let read = rows.each(|row| {
            let key = (row.phase.to_owned(), row.thread, row.device.to_owned(), call_name(row), row.role);
            *of_run.entry(key).or_default() += row.calls as f64;
        });
        if read.is_ok() {
            runs += 1;
            of_run.into_iter().for_each(|(key, calls)| counts.entry(key).or_default().push(calls));
        }
    }
    let flows = counts.into_iter().filter_map(|((phase, thread, device, call, role), mut calls)| {
        calls.resize(runs, 0.0);
        let calls = median(&mut calls);
        (calls > 0.0).then_some(Flow { phase, thread, device, call, role, calls })
    });
    (flows.collect(), runs)
}

/// What the timed work calls, series by series.
fn work_of(dataset: &Dataset, backend: &str) -> Vec<Work> {
    let along = dataset.plan.series.iter();
    along
        .filter(|series| series.backend == backend && series.axis() == Axis::Iterations)
        .filter_map(|series| {
            let cell = series.cells().pop()?;
            let ((flows, runs), (without, others)) =
                (flows_of(dataset, &cell), flows_of(dataset, &cell.without_work()));
            let alike = |a: &Flow, b: &Flow| Flow { calls: 0.0, ..a.clone() } == Flow { calls: 0.0, ..b.clone() };
            let work = flows.into_iter().filter(|flow| phase::is_measured(&flow.phase)).filter_map(|flow| {
                let before = without.iter().find(|other| alike(other, &flow)).map_or(0.0, |other| other.calls);
                (flow.calls > before).then_some(Flow { calls: flow.calls - before, ..flow })
            });
            let flows = work.collect();
            (runs > 0 && others > 0).then(|| Work { series: series.name(), iterations: cell.iters, flows })
        })
        .collect()
}

/// A flow as it is drawn: which node it passes in each column.
#[derive(Clone)]
struct Band {
    labels: [String; COLUMNS],
    role: Role,
    calls: f64,
}

/// A node of the drawing.
struct Node {
    column: usize,
    label: String,
    calls: f64,
    /// Of all bands through it, in pixels.
    high: f64,
    top: f64,
    /// What bands have taken of it.
    taken: f64,
}

/// Left ends of the columns, in pixels.
const LEFT: [f64; COLUMNS] = [16.0, 320.0, 450.0, 600.0, 880.0];
/// Width of a node.
const BAR: f64 = 10.0;
/// Width of the drawing.
const WIDTH: f64 = 1060.0;
/// Height of a line of text.
const LINE: f64 = 16.0;
/// Height of all bands of a panel together.
const BANDS: f64 = 360.0;

/// The nodes of a panel, and which of them each band passes.
struct Panel {
    bands: Vec<Band>,
    nodes: Vec<Node>,
    paths: Vec<[usize; COLUMNS]>,
    /// Height of a band of one call.
    scale: f64,
    /// Where the lowest node ends.
    bottom: f64,
}

impl Panel {
    fn new(bands: &[Band], top: f64) -> Self {
        let bands = few_calls(bands);
        let total: f64 = bands.iter().map(|band| band.calls).sum();
        let mut panel =
            Self { bands: Vec::new(), nodes: Vec::new(), paths: Vec::new(), scale: BANDS / total, bottom: top };
        for band in &bands {
            let path = std::array::from_fn(|column| panel.pass(column, band));
            panel.paths.push(path);
        }
        for column in 0..COLUMNS {
            panel.place(column, top);
        }
        panel.bands = bands;
        panel
    }

    fn height(&self, band: &Band) -> f64 {
        (band.calls * self.scale).max(1.0)
    }

    /// Adds a band to the node of its label, a new one where there is none.
    fn pass(&mut self, column: usize, band: &Band) -> usize {
        let (height, label) = (self.height(band), &band.labels[column]);
        let place = self.nodes.iter().position(|node| node.column == column && node.label == *label);
        let place = place.unwrap_or_else(|| {
            let label = label.clone();
            self.nodes.push(Node { column, label, calls: 0.0, high: 0.0, top: 0.0, taken: 0.0 });
            self.nodes.len() - 1
        });
        self.nodes[place].calls += band.calls;
        self.nodes[place].high += height;
        place
    }

    /// Puts the nodes of a column below each other.
    fn place(&mut self, column: usize, mut top: f64) {
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|place| self.nodes[*place].column == column).collect();
        order.sort_by(|a, b| rank(column, &self.nodes[*a]).total_cmp(&rank(column, &self.nodes[*b])));
        for place in order {
            self.nodes[place].top = top;
            top += self.nodes[place].high.max(13.0) + 5.0;
        }
        self.bottom = self.bottom.max(top);
    }

    /// The bands, from above in each node, and the nodes with their labels.
    fn draw(&mut self) -> String {
        let mut bands: Vec<(&Band, [usize; COLUMNS])> = self.bands.iter().zip(self.paths.iter().copied()).collect();
        bands.sort_by(|(_, a), (_, b)| {
            let tops = |path: &[usize; COLUMNS]| path.map(|place| self.nodes[place].top);
            tops(a).partial_cmp(&tops(b)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let mut drawn = String::new();
        for (band, path) in bands {
            let thick = (band.calls * self.scale).max(1.0);
            let centers = path.map(|place| {
                let node = &mut self.nodes[place];
                let center = node.top + node.taken + thick / 2.0;
                node.taken += thick;
                center
            });
            let (red, green, blue) = band.role.color();
            let mut line = String::new();
            for column in 0..COLUMNS - 1 {
                let (from, to) = (LEFT[column] + BAR, LEFT[column + 1]);
                let half = f64::midpoint(from, to);
                let (y, next) = (centers[column], centers[column + 1]);
                let _ = write!(line, "M{from} {y:.1}C{half} {y:.1} {half} {next:.1} {to} {next:.1}");
            }
            let _ = write!(
                drawn,
                "<path d=\"{line}\" fill=\"none\" stroke=\"rgb({red},{green},{blue})\" stroke-opacity=\"0.55\" stroke-width=\"{thick:.1}\"><title>{}</title></path>",
                escaped(&format!("{}: {} calls", band.labels.join(" · "), band.calls))
            );
        }
        for node in &self.nodes {
            let (left, top) = (LEFT[node.column], node.top);
            let center = top + node.high.max(13.0).min(node.high + 8.0) / 2.0 + 4.0;
            let _ = write!(
                drawn,
                "<rect x=\"{left}\" y=\"{top:.1}\" width=\"{BAR}\" height=\"{:.1}\" fill=\"#333\"/><text x=\"{}\" y=\"{center:.1}\">{} <tspan fill=\"#666\">{}</tspan></text>",
                node.high.max(1.0),
                left + BAR + 4.0,
                escaped(&node.label),
                node.calls
            );
        }
        drawn
    }
}

/// A drawing from above to below.
struct Drawing {
    text: String,
    top: f64,
}

impl Drawing {
    fn line(&mut self, style: &str, words: &str) {
        self.top += LINE;
        let _ = write!(self.text, "<text x=\"16\" y=\"{}\" {style}>{}</text>", self.top, escaped(words));
    }

    fn panel(&mut self, heading: &str, heads: [&str; COLUMNS], bands: &[Band]) {
        self.line("font-size=\"12\" font-weight=\"bold\"", heading);
        if bands.iter().all(|band| band.calls <= 0.0) {
            return;
        }
        self.top += LINE;
        for (head, left) in heads.iter().zip(LEFT) {
            let _ = write!(self.text, "<text x=\"{left}\" y=\"{}\" fill=\"#666\">{}</text>", self.top, escaped(head));
        }
        let mut panel = Panel::new(bands, self.top + 8.0);
        self.text += &panel.draw();
        self.top = panel.bottom + LINE / 2.0;
    }
}

/// The map as SVG; empty where nothing was called.
pub fn svg(map: &Interaction) -> String {
    if map.flows.iter().all(|flow| flow.calls <= 0.0) {
        return String::new();
    }
    let title = format!("{} · {} · {}", map.backend, map.cell, map.runtime);
    let mut drawing = Drawing { text: String::new(), top: 4.0 };
    drawing.line("font-size=\"12\"", &title);
    let program = match map.library.as_str() {
        "" => format!("bench, {}", map.backend),
        library => format!("bench and {library}"),
    };
    let bands: Vec<Band> =
        map.flows.iter().map(|flow| band(flow, [thread(&program, flow), phase_name(flow)])).collect();
    let heads = ["program and runtime", "phase", "device", "system call or command", "role"];
    drawing.panel("From start to end", heads, &bands);
    let (busy, quiet): (Vec<&Work>, Vec<&Work>) = map.work.iter().partition(|work| !work.flows.is_empty());
    let bands: Vec<Band> = busy
        .iter()
        .flat_map(|work| {
            let series = work.series.strip_prefix(&format!("{} ", map.backend)).unwrap_or(&work.series);
            let name = format!("{series} ×{}", work.iterations);
            work.flows.iter().map(move |flow| band(flow, [name.clone(), thread("any thread", flow)]))
        })
        .collect();
    let heads = ["workload", "thread", "device", "system call or command", "role"];
    drawing.panel("The timed work alone, less what a run without iterations calls", heads, &bands);
    if !quiet.is_empty() {
        let names: Vec<String> = quiet.iter().map(|work| format!("{} ×{}", work.series, work.iterations)).collect();
        for (place, line) in wrapped(&format!("No call in the timed work: {}.", names.join("; "))).iter().enumerate() {
            drawing.line(if place == 0 { "" } else { "dx=\"12\"" }, line);
        }
    }
    let known = contact::of(&map.backend, &map.device);
    if !known.is_empty() {
        drawing.top += LINE / 2.0;
        drawing.line(
            "font-size=\"12\" font-weight=\"bold\"",
            "What the hardware does then: from sources and documentation, not observed",
        );
        let from = drawing.top + 4.0;
        for row in known {
            for (place, line) in wrapped(&format!("{}: {}", row.operation, row.hardware)).iter().enumerate() {
                drawing.line(if place == 0 { "dx=\"8\"" } else { "dx=\"20\"" }, line);
            }
        }
        let _ = write!(
            drawing.text,
            "<rect x=\"14\" y=\"{from}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#666\" stroke-dasharray=\"4 3\"/>",
            WIDTH - 28.0,
            drawing.top - from + 6.0
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#111\" role=\"img\"><title>{}</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{}</svg>",
        drawing.top + 14.0,
        escaped(&title),
        drawing.text
    )
}

/// Lines that fit into the drawing.
fn wrapped(text: &str) -> Vec<String> {
    const LETTERS: usize = 165;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + word.chars().count() >= LETTERS {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

/// Which nodes a flow passes; the first two are those of the panel.
fn band(flow: &Flow, [first, second]: [String; 2]) -> Band {
    let device = if flow.device.is_empty() { "no GPU device" } else { &flow.device };
    let call = flow.call.strip_prefix(&format!("{device} ")).unwrap_or(&flow.call);
    let labels = [first, second, device.to_owned(), call.to_owned(), flow.role.name().to_owned()];
    Band { labels, role: flow.role, calls: flow.calls }
}

/// Whose calls they are: of the whole program where the dataset does not say more.
fn thread(program: &str, flow: &Flow) -> String {
    match flow.thread {
        Thread::Caller => "issuing thread".to_owned(),
        Thread::Other => "other threads".to_owned(),
        Thread::Unknown => program.to_owned(),
    }
}

fn phase_name(flow: &Flow) -> String {
    if flow.phase.is_empty() { "outside".to_owned() } else { flow.phase.clone() }
}

/// Phases in time, roles in their order, all else the largest first; other calls last.
fn rank(column: usize, node: &Node) -> f64 {
    let place = |all: &[&str], name: &str| all.iter().position(|other| *other == name).unwrap_or(all.len()) as f64;
    match column {
        1 => place(&phase::ORDER, if node.label == "outside" { "" } else { &node.label }),
        4 => place(&Role::ALL.map(Role::name), &node.label),
        _ if node.label.ends_with(OTHERS) && node.label.starts_with(|c: char| c.is_ascii_digit()) => f64::MAX,
        _ => -node.calls,
    }
}

const OTHERS: &str = "others";

/// The bands with all but the most frequent calls as one.
fn few_calls(bands: &[Band]) -> Vec<Band> {
    const CALL: usize = 3;
    let mut by_call: BTreeMap<&str, f64> = BTreeMap::new();
    for band in bands {
        *by_call.entry(&band.labels[CALL]).or_default() += band.calls;
    }
    let mut order: Vec<(&str, f64)> = by_call.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<&str> = order.iter().take(MOST_CALLS).map(|(call, _)| *call).collect();
    let others = format!("{} {OTHERS}", order.len().saturating_sub(MOST_CALLS));
    let mut merged: Vec<Band> = Vec::new();
    for band in bands {
        let mut band = band.clone();
        if !named.contains(&band.labels[CALL].as_str()) {
            band.labels[CALL].clone_from(&others);
        }
        match merged.iter_mut().find(|other| other.labels == band.labels) {
            Some(other) => other.calls += band.calls,
            None => merged.push(band),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(phase: &str, device: &str, call: &str, role: Role, calls: f64) -> Flow {
        let word = str::to_owned;
        Flow { phase: word(phase), thread: Thread::Unknown, device: word(device), call: word(call), role, calls }
    }

    fn map(flows: Vec<Flow>, work: Vec<Work>) -> Interaction {
        let word = str::to_owned;
        Interaction {
            backend: word("cuda"),
            cell: word("kernel"),
            runtime: word("CUDA <13>"),
            library: word("libcuda.so.1"),
            device: word("NVIDIA H200"),
            runs: 10,
            flows,
            work,
        }
    }

    #[test]
    fn every_call_is_in_every_column_of_the_map() {
        let flows = vec![
            flow("init", "nvidiactl", "nvidiactl RM_ALLOC", Role::Memory, 5.0),
            flow("work", "", "poll", Role::Synchronization, 95.0),
        ];
        let text = svg(&map(flows, Vec::new()));
        for word in ["nvidiactl", ">RM_ALLOC ", "no GPU device", "poll", "bench and libcuda.so.1", "CUDA &lt;13&gt;"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.matches("<path").count(), 2);
        // All hundred calls pass the program.
        assert!(text.contains("bench and libcuda.so.1 <tspan fill=\"#666\">100<"), "{text}");
        assert_eq!(svg(&map(Vec::new(), Vec::new())), "");
    }

    #[test]
    fn work_has_a_panel_of_its_own_and_threads_are_apart() {
        let of_thread = |thread, calls| Flow { thread, ..flow("work", "", "poll", Role::Synchronization, calls) };
        let flows = vec![of_thread(Thread::Caller, 7000.0), of_thread(Thread::Other, 3.0)];
        let series = |name: &str, flows| Work { series: format!("cuda {name}"), iterations: 1000, flows };
        let start = vec![flow("init", "", "openat", Role::Bookkeeping, 1e6)];
        let text = svg(&map(start, vec![series("alloc", flows), series("launch", Vec::new())]));
        for word in ["alloc ×1000 <", "issuing thread <", "other threads <", "No call in the timed work: cuda launch"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        // At a scale of its own: a million calls of start-up leave it its whole height.
        let thick = |calls: &str| {
            let path = text.split("<path").find(|path| path.contains(&format!(": {calls} calls"))).unwrap();
            path.split("stroke-width=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(thick("7000") > 0.99 * BANDS && thick("3") >= 1.0, "{text}");
        assert!(text.contains("not observed") && text.contains("doorbell"), "{text}");
    }

    #[test]
    fn rare_calls_are_drawn_as_one() {
        let bands: Vec<Band> = (0..30)
            .map(|n| band(&flow("work", "", &format!("call{n}"), Role::Io, f64::from(n + 1)), Default::default()))
            .collect();
        let few = few_calls(&bands);
        assert_eq!(few.len(), MOST_CALLS + 1);
        assert_eq!(few.iter().map(|band| band.calls).sum::<f64>(), 465.0);
        assert!(few.iter().any(|band| band.labels[3] == "14 others" && band.calls == 105.0));
    }
}
