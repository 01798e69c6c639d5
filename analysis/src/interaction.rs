//! Who calls what: from a program with its runtime, through the phases, to devices, commands and roles. What is drawn is
//! one cell of the sweep, the medians of its blocks; the width of a band is its number of calls.

use std::{collections::BTreeMap, fmt::Write as _};

use gpuos_model::{Role, phase};
use serde::Serialize;

use crate::{
    axis::Axis,
    counted::{call_name, rows_of},
    dataset::Dataset,
    page::escaped,
    plan::Cell,
    resample::median,
};

/// Of the models of a backend, the first of these is drawn.
const MODELS: [&str; 7] = ["kernel", "alloc", "launch", "copy", "sync", "infer", "cpu"];
/// Commands that are named; the others are one node.
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
    /// Runs that the medians are of.
    pub runs: usize,
    /// Who calls what.
    pub flows: Vec<Flow>,
}

/// Calls of one kind in one phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// As the workload marks it; empty outside of all.
    pub phase: String,
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
    let mut counts: BTreeMap<([String; 3], Role), Vec<f64>> = BTreeMap::new();
    let mut runs = 0;
    for block in 2..=dataset.plan.blocks {
        let Ok((_, rows)) = rows_of(dataset, cell, block) else { continue };
        let read = rows.each(|row| {
            let key = ([row.phase.to_owned(), row.device.to_owned(), call_name(row)], row.role);
            counts.entry(key).or_default().push(row.calls as f64);
        });
        runs += usize::from(read.is_ok());
    }
    let flows = counts.into_iter().filter_map(|(([phase, device, call], role), mut calls)| {
        calls.resize(runs, 0.0);
        let calls = median(&mut calls);
        (calls > 0.0).then_some(Flow { phase, device, call, role, calls })
    });
    let flows: Vec<Flow> = flows.collect();
    let found = environment["backends"].as_array().into_iter().flatten().find(|found| found["name"] == backend);
    let ok = found.map(|found| &found["found"]["Ok"]);
    let word = |name: &str| ok.and_then(|ok| ok[name].as_str()).unwrap_or_default();
    let file = word("library").rsplit('/').next().unwrap_or_default();
    (runs > 0).then(|| Interaction {
        backend: backend.to_owned(),
        cell: cell.arguments().join(" "),
        runtime: word("runtime").to_owned(),
        library: file.to_owned(),
        runs,
        flows,
    })
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
const LEFT: [f64; COLUMNS] = [16.0, 250.0, 370.0, 530.0, 820.0];
/// Width of a node.
const BAR: f64 = 10.0;
/// Width of the drawing.
const WIDTH: f64 = 1000.0;
/// Height of what stands above the nodes.
const ABOVE: f64 = 44.0;
/// Height of all bands together.
const BANDS: f64 = 420.0;

/// The nodes, and which of them each flow passes.
struct Layout {
    nodes: Vec<Node>,
    paths: Vec<[usize; COLUMNS]>,
    /// Height of a band of one call.
    scale: f64,
    /// Where the lowest node ends.
    bottom: f64,
}

impl Layout {
    fn of(map: &Interaction, flows: &[Flow]) -> Self {
        let total: f64 = flows.iter().map(|flow| flow.calls).sum();
        let mut layout = Self { nodes: Vec::new(), paths: Vec::new(), scale: BANDS / total, bottom: 0.0 };
        for flow in flows {
            let labels = labels(map, flow);
            let path = std::array::from_fn(|column| layout.pass(column, &labels[column], flow));
            layout.paths.push(path);
        }
        for column in 0..COLUMNS {
            layout.place(column);
        }
        layout
    }

    fn height(&self, flow: &Flow) -> f64 {
        (flow.calls * self.scale).max(1.0)
    }

    /// Adds a flow to the node of a label, a new one where there is none.
    fn pass(&mut self, column: usize, label: &str, flow: &Flow) -> usize {
        let height = self.height(flow);
        let place = self.nodes.iter().position(|node| node.column == column && node.label == label);
        let place = place.unwrap_or_else(|| {
            let label = label.to_owned();
            self.nodes.push(Node { column, label, calls: 0.0, high: 0.0, top: 0.0, taken: 0.0 });
            self.nodes.len() - 1
        });
        self.nodes[place].calls += flow.calls;
        self.nodes[place].high += height;
        place
    }

    /// Puts the nodes of a column below each other.
    fn place(&mut self, column: usize) {
        let mut top = ABOVE;
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|place| self.nodes[*place].column == column).collect();
        order.sort_by(|a, b| rank(column, &self.nodes[*a]).total_cmp(&rank(column, &self.nodes[*b])));
        for place in order {
            self.nodes[place].top = top;
            top += self.nodes[place].high.max(13.0) + 5.0;
        }
        self.bottom = self.bottom.max(top);
    }

    /// The bands, from above in each node.
    fn bands(&mut self, flows: &[Flow]) -> String {
        let mut bands: Vec<(&Flow, [usize; COLUMNS])> = flows.iter().zip(self.paths.iter().copied()).collect();
        bands.sort_by(|(_, a), (_, b)| {
            let tops = |path: &[usize; COLUMNS]| path.map(|place| self.nodes[place].top);
            tops(a).partial_cmp(&tops(b)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let mut drawn = String::new();
        for (flow, path) in bands {
            let thick = self.height(flow);
            let centers = path.map(|place| {
                let node = &mut self.nodes[place];
                let center = node.top + node.taken + thick / 2.0;
                node.taken += thick;
                center
            });
            let (red, green, blue) = flow.role.color();
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
                escaped(&format!("{} · {} · {}: {} calls", phase_name(&flow.phase), flow.call, flow.role, flow.calls))
            );
        }
        drawn
    }

    /// The nodes with their labels.
    fn bars(&self) -> String {
        let mut drawn = String::new();
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

/// The map as SVG; empty where nothing was called.
pub fn svg(map: &Interaction) -> String {
    let flows = few_calls(&map.flows);
    if flows.iter().all(|flow| flow.calls <= 0.0) {
        return String::new();
    }
    let mut layout = Layout::of(map, &flows);
    let mut drawn = layout.bands(&flows) + &layout.bars();
    let heads = ["program and runtime", "phase", "device", "system call or command", "role"];
    for (head, left) in heads.iter().zip(LEFT) {
        let _ = write!(drawn, "<text x=\"{left}\" y=\"32\" font-weight=\"bold\">{head}</text>");
    }
    let title = format!("{} · {} · {}", map.backend, map.cell, map.runtime);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#111\" role=\"img\"><title>{}</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"16\" y=\"14\" font-size=\"12\">{}</text>{drawn}</svg>",
        layout.bottom + 8.0,
        escaped(&title),
        escaped(&title)
    )
}

/// Which node a flow passes in each column. Program and library are one: which of them made a call is not known here.
fn labels(map: &Interaction, flow: &Flow) -> [String; COLUMNS] {
    let program = match map.library.as_str() {
        "" => format!("bench, {}", map.backend),
        library => format!("bench and {library}"),
    };
    let device = if flow.device.is_empty() { "no GPU device" } else { &flow.device };
    let on_device = format!("{device} ");
    let call = flow.call.strip_prefix(&on_device).unwrap_or(&flow.call);
    [program, phase_name(&flow.phase).to_owned(), device.to_owned(), call.to_owned(), flow.role.name().to_owned()]
}

fn phase_name(phase: &str) -> &str {
    if phase.is_empty() { "outside" } else { phase }
}

/// Phases in time, roles in their order, all else the largest first; other calls last.
fn rank(column: usize, node: &Node) -> f64 {
    let place = |all: &[&str], name: &str| all.iter().position(|other| *other == name).unwrap_or(all.len()) as f64;
    match column {
        1 => place(&phase::ORDER, if node.label == "outside" { "" } else { &node.label }),
        4 => place(&Role::ALL.map(Role::name), &node.label),
        _ if node.label.ends_with(OTHERS) => f64::MAX,
        _ => -node.calls,
    }
}

const OTHERS: &str = "others";

/// The flows with all but the most frequent calls as one.
fn few_calls(flows: &[Flow]) -> Vec<Flow> {
    let mut by_call: BTreeMap<&str, f64> = BTreeMap::new();
    for flow in flows {
        *by_call.entry(&flow.call).or_default() += flow.calls;
    }
    let mut order: Vec<(&str, f64)> = by_call.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<&str> = order.iter().take(MOST_CALLS).map(|(call, _)| *call).collect();
    let others = format!("{} {OTHERS}", order.len().saturating_sub(MOST_CALLS));
    let mut merged: Vec<Flow> = Vec::new();
    for flow in flows {
        let call = if named.contains(&flow.call.as_str()) { flow.call.clone() } else { others.clone() };
        let flow = Flow { call, ..flow.clone() };
        let same = |other: &&mut Flow| {
            (&other.phase, &other.device, &other.call, &other.role)
                == (&flow.phase, &flow.device, &flow.call, &flow.role)
        };
        match merged.iter_mut().find(same) {
            Some(other) => other.calls += flow.calls,
            None => merged.push(flow),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(phase: &str, device: &str, call: &str, role: Role, calls: f64) -> Flow {
        let word = str::to_owned;
        Flow { phase: word(phase), device: word(device), call: word(call), role, calls }
    }

    fn map(flows: Vec<Flow>) -> Interaction {
        let word = str::to_owned;
        Interaction {
            backend: word("cuda"),
            cell: word("kernel"),
            runtime: word("CUDA <13>"),
            library: word("libcuda.so.1"),
            runs: 10,
            flows,
        }
    }

    #[test]
    fn every_call_is_in_every_column_of_the_map() {
        let text = svg(&map(vec![
            flow("init", "nvidiactl", "nvidiactl RM_ALLOC", Role::Memory, 5.0),
            flow("work", "", "poll", Role::Synchronization, 95.0),
        ]));
        for word in ["nvidiactl", ">RM_ALLOC ", "no GPU device", "poll", "bench and libcuda.so.1", "CUDA &lt;13&gt;"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.matches("<path").count(), 2);
        // All hundred calls pass the program.
        assert!(text.contains("bench and libcuda.so.1 <tspan fill=\"#666\">100<"), "{text}");
        assert_eq!(svg(&map(Vec::new())), "");
    }

    #[test]
    fn rare_calls_are_drawn_as_one() {
        let flows: Vec<Flow> =
            (0..30).map(|n| flow("work", "", &format!("call{n}"), Role::Io, f64::from(n + 1))).collect();
        let few = few_calls(&flows);
        assert_eq!(few.len(), MOST_CALLS + 1);
        assert_eq!(few.iter().map(|flow| flow.calls).sum::<f64>(), 465.0);
        assert!(few.iter().any(|flow| flow.call == "14 others" && flow.calls == 105.0));
    }
}
