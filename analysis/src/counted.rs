//! What a dataset counted, run by run: which runs can be used, what they counted by role, category and call, and why the
//! others are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gpuos_model::{Role, phase};
use serde::{Deserialize, Serialize};

use crate::{
    dataset::{Count, Counts, Dataset, RunRow, Thread},
    plan::Cell,
};

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "by", content = "name", rename_all = "lowercase")]
pub enum CallKind {
    /// Every call.
    All,
    /// Calls of one role: what they do for the GPU's work.
    Role(Role),
    /// Calls of one category: what service of the kernel they ask for, and on GPU devices of which device.
    Category(String),
}

impl std::fmt::Display for CallKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all calls"),
            Self::Role(name) => write!(f, "role {name}"),
            Self::Category(name) => write!(f, "category {name}"),
        }
    }
}

impl std::str::FromStr for CallKind {
    type Err = String;

    /// As it is shown: `all calls`, `role memory`, `category ioctl on nvidia-uvm`.
    fn from_str(text: &str) -> Result<Self, String> {
        let none =
            || format!("`{text}` is no kind of call: `all calls`, `role memory` or `category ioctl on nvidiactl`");
        match text.split_once(' ') {
            Some(("all", "calls")) => Ok(Self::All),
            Some(("role", name)) => name.parse().map(Self::Role).map_err(|()| none()),
            Some(("category", name)) => Ok(Self::Category(name.to_owned())),
            _ => Err(none()),
        }
    }
}

impl<'de> Deserialize<'de> for CallKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Calls in the timed work, of the thread that issues it; in datasets that do not say, of all threads.
    pub work: BTreeMap<CallKind, f64>,
    /// Calls of other threads meanwhile, as those of a runtime; empty in datasets that do not say.
    pub others: BTreeMap<CallKind, f64>,
    /// Whether the dataset says who made a call.
    pub knows_threads: bool,
    /// Calls of all threads before the warm-up: while the program and its runtime start.
    pub start_up: BTreeMap<CallKind, f64>,
    /// Calls on GPU devices in each phase.
    pub driver: BTreeMap<String, f64>,
    /// Categories with a call, in all phases.
    pub categories: BTreeSet<String>,
    /// What else is known of the run: latency, use, time.
    pub run: RunRow,
}

impl Counted {
    /// Sums the rows of a run.
    pub fn of<'a>(rows: impl IntoIterator<Item = Count<'a>>) -> Self {
        let mut sums = Sums::default();
        rows.into_iter().for_each(|row| sums.add(row));
        sums.counted()
    }

    /// Calls of a kind in the timed work.
    pub fn work(&self, kind: &CallKind) -> f64 {
        self.work.get(kind).copied().unwrap_or_default()
    }

    /// Calls of other threads meanwhile, for each second of the timed work; `None` where neither is known.
    pub fn rate_of_others(&self, kind: &CallKind) -> Option<f64> {
        let seconds = self.run.traced_wall_ns as f64 / 1e9;
        (self.knows_threads && seconds > 0.0).then(|| self.others.get(kind).copied().unwrap_or_default() / seconds)
    }

    /// Calls on GPU devices before the work: while the runtime starts, warm-up apart.
    pub fn start_up_on_devices(&self) -> f64 {
        self.driver.iter().filter(|(phase, _)| is_start_up(phase)).fold(0.0, |sum, (_, calls)| sum + calls)
    }

    /// Calls on GPU devices in all phases.
    pub fn on_devices(&self) -> f64 {
        self.driver.values().fold(0.0, |sum, calls| sum + calls)
    }
}

/// Whether a phase is before the warm-up.
fn is_start_up(phase: &str) -> bool {
    ["", phase::INIT, phase::LOAD].contains(&phase)
}

/// Sums of the rows of a run by what is counted together, names borrowed: there are many rows and few of these.
#[derive(Default)]
struct Sums<'a>(HashMap<(Role, Thread, [&'a str; 3]), u64>);

impl<'a> Sums<'a> {
    fn add(&mut self, row: Count<'a>) {
        let sum = self.0.entry((row.role, row.thread, [row.phase, row.category, row.device])).or_default();
        *sum = sum.saturating_add(row.calls);
    }

    fn counted(self) -> Counted {
        let mut counted = Counted::default();
        for ((role, thread, [phase, category, device]), calls) in self.0 {
            counted.knows_threads |= thread != Thread::Unknown;
            if calls == 0 {
                continue;
            }
            let calls = calls as f64;
            let category = match device {
                "" => category.to_owned(),
                device => format!("{category} on {device}"),
            };
            let kinds = || [CallKind::All, CallKind::Role(role), CallKind::Category(category.clone())];
            if is_start_up(phase) {
                for kind in kinds() {
                    *counted.start_up.entry(kind).or_default() += calls;
                }
            }
            if phase::is_measured(phase) {
                let sums = if thread == Thread::Other { &mut counted.others } else { &mut counted.work };
                for kind in kinds() {
                    *sums.entry(kind).or_default() += calls;
                }
            }
            if !device.is_empty() {
                *counted.driver.entry(phase.to_owned()).or_default() += calls;
            }
            counted.categories.insert(category);
        }
        counted
    }
}

/// A call as people name it: `futex`, or `nvidiactl RM_ALLOC`.
pub fn call_name(row: Count<'_>) -> String {
    match (row.device, row.ioctl) {
        ("", _) => row.syscall.to_owned(),
        (device, "") => format!("{device} {}", row.syscall),
        (device, command) => format!("{device} {command}"),
    }
}

/// The runs of a dataset that can be used.
#[derive(Debug, Default)]
pub struct Runs {
    /// By cell and block.
    pub used: BTreeMap<(Cell, u32), Counted>,
    /// Runs that the plan asks for; the first block, whose caches are cold, is not used.
    pub wanted: u64,
    /// Runs that are not used, and why.
    pub left_out: Vec<String>,
}

impl Runs {
    /// Reads what a dataset has.
    pub fn of(dataset: &Dataset) -> Self {
        let mut runs = Self::default();
        let cells = dataset.plan.cells();
        for block in 2..=dataset.plan.blocks {
            let places: BTreeMap<Cell, u32> = dataset.plan.block(block).into_iter().zip(0..).collect();
            // One run that is a copy says that the others may be.
            let is_copy = cells.iter().any(|cell| {
                let place = dataset.run(cell, block).ok().flatten().map(|run| run.place);
                place.is_some_and(|place| places.get(cell) != Some(&place))
            });
            for cell in &cells {
                runs.wanted += 1;
                if is_copy {
                    runs.left_out.push(format!("block {block}, {}: {COPIED}", cell.arguments().join(" ")));
                    continue;
                }
                match usable(dataset, cell, block) {
                    Ok(counted) => drop(runs.used.insert((cell.clone(), block), counted)),
                    Err(why) => {
                        runs.left_out.push(format!("block {block}, {}: {why}", cell.arguments().join(" ")));
                    }
                }
            }
        }
        runs
    }

    /// A cell in a block.
    pub fn get(&self, cell: &Cell, block: u32) -> Option<&Counted> {
        self.used.get(&(cell.clone(), block))
    }

    /// A cell in all blocks that have it.
    pub fn of_cell(&self, cell: &Cell) -> impl Iterator<Item = (u32, &Counted)> {
        self.used.range((cell.clone(), 0)..=(cell.clone(), u32::MAX)).map(|((_, block), counted)| (*block, counted))
    }
}

/// Why a whole block is not used.
const COPIED: &str =
    "places in the block are not those of the plan, which has an order for each: it is a copy of another block";

/// The counts of a run, or why it is not used.
fn usable(dataset: &Dataset, cell: &Cell, block: u32) -> Result<Counted, String> {
    let (run, rows) = rows_of(dataset, cell, block)?;
    let mut sums = Sums::default();
    rows.each(|row| sums.add(row)).map_err(|error| error.to_string())?;
    Ok(Counted { run, ..sums.counted() })
}

/// A run that can be used with its counts, or why it is not.
pub(crate) fn rows_of(dataset: &Dataset, cell: &Cell, block: u32) -> Result<(RunRow, Counts), String> {
    match dataset.run(cell, block).map_err(|error| error.to_string())? {
        None => Err("not run".to_owned()),
        Some(run) if !run.error.is_empty() => Err(run.error),
        Some(run) if run.lost > 0 => Err("the tracer lost something".to_owned()),
        Some(run) => {
            let counts = dataset.counts(cell, block).map_err(|error| error.to_string())?;
            Ok((run, counts.ok_or_else(|| "its file of counts is absent".to_owned())?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_by_role_category_and_call() {
        let row = |phase, role, syscall, device, ioctl, calls| {
            let category = if syscall == "ioctl" { "ioctl" } else { "memory" };
            Count { phase, thread: Thread::Caller, role, category, syscall, device, ioctl, calls }
        };
        let rows = [
            row("init", Role::Bookkeeping, "ioctl", "nvidiactl", "RM_ALLOC", 5),
            row("work", Role::Memory, "ioctl", "nvidiactl", "RM_ALLOC", 3),
            row("work", Role::Memory, "mmap", "", "", 2),
            row("work", Role::Memory, "mmap", "nvidia0", "", 1),
        ];
        let counted = Counted::of(rows);
        assert_eq!(counted.work(&CallKind::All), 6.0);
        assert_eq!(counted.work(&CallKind::Role(Role::Memory)), 6.0);
        assert_eq!(counted.work(&CallKind::Category("ioctl on nvidiactl".to_owned())), 3.0);
        assert_eq!(rows.map(call_name)[1..], ["nvidiactl RM_ALLOC", "mmap", "nvidia0 mmap"]);
        assert_eq!((counted.start_up_on_devices(), counted.on_devices()), (5.0, 9.0));
        // What other threads do is none of the work's.
        let of_others = Count { thread: Thread::Other, ..rows[2] };
        let run = RunRow { traced_wall_ns: 500_000_000, ..RunRow::default() };
        let counted = Counted { run, ..Counted::of([rows[1], of_others]) };
        assert_eq!((counted.work(&CallKind::All), counted.rate_of_others(&CallKind::All)), (3.0, Some(4.0)));
        // Sums that no number holds are as large as one can be.
        let huge = Count { calls: u64::MAX, ..rows[2] };
        assert_eq!(Counted::of([huge, huge]).work(&CallKind::All), u64::MAX as f64);
    }
}
