//! Phases that the program marked: their paths, how often and how long they were entered.

use std::collections::{HashMap, HashSet};

use gpuos_tracer_abi::phases::{PhaseKey, PhaseNode, SCOPE_FUNCTION, SCOPE_JOB, SCOPE_THREAD};
use serde::{Deserialize, Serialize};

/// What stands between the labels of nested phases.
pub const SEPARATOR: &str = "/";

/// End of the path of a thread's own phase, where a phase of the process has the same.
pub const THREADS_OWN: &str = " (thread)";

/// A phase of a run, of all processes that were in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its label behind those of the phases around it.
    pub path: String,
    /// Whose it is.
    pub scope: Scope,
    /// How often it began.
    pub entered: u64,
    /// Nanoseconds in it, phases of the same scope inside it included; summed over the processes, or threads, that
    /// began it. One that is a thread's own and never ended does not count.
    pub wall_ns: u64,
    /// The same without those inside it: what the rate of its own calls is taken from.
    #[serde(default)]
    pub own_ns: u64,
    /// Iterations that the program reported in it, and in no phase inside it.
    pub iterations: u64,
    /// Of a class of jobs: its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// Whom a phase holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All threads of the process.
    #[default]
    Process,
    /// The thread that began it.
    Thread,
    /// A thread while it is in a function of a GPU library (`--api`).
    Function,
    /// A thread while it works for a class of jobs.
    Job,
}

impl Scope {
    /// From one of the `SCOPE_` values of the ABI crate.
    #[must_use]
    pub const fn from_kernel(scope: u32) -> Self {
        match scope {
            SCOPE_THREAD => Self::Thread,
            SCOPE_FUNCTION => Self::Function,
            SCOPE_JOB => Self::Job,
            _ => Self::Process,
        }
    }

    /// Whether it is one that the program marked as a phase, or that was inferred: not a function, nor a class of jobs.
    #[must_use]
    pub const fn is_marked(self) -> bool {
        matches!(self, Self::Process | Self::Thread)
    }
}

/// A label as text: what is no UTF-8 and no label at all stay apart from each other.
#[must_use]
pub fn label_of(label: &[u8]) -> String {
    let length = label.iter().position(|&byte| byte == 0).unwrap_or(label.len());
    match std::str::from_utf8(&label[..length]) {
        Ok("") => "(no label)".to_owned(),
        Ok(label) => label.to_owned(),
        // Cut to its length in the middle of a character.
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            String::from_utf8_lossy(&label[..error.valid_up_to()]).into_owned()
        }
        Err(_) => label[..length].escape_ascii().to_string(),
    }
}

/// Path of the phase around one, empty where there is none; and the label of the inner one. In a label a separator has a
/// backslash before it.
#[must_use]
pub fn split_path(path: &str) -> (&str, &str) {
    let mut places = path.rmatch_indices(SEPARATOR).map(|(place, _)| place);
    match places.find(|place| !path[..*place].ends_with('\\')) {
        Some(place) => (&path[..place], &path[place + SEPARATOR.len()..]),
        None => ("", path),
    }
}

/// The phases of functions and of jobs, by their paths: each with that of the marked or inferred phase around it, empty where
/// there is none.
#[must_use]
pub fn marked_around(phases: &[Phase]) -> HashMap<&str, &str> {
    let inner: HashSet<&str> =
        phases.iter().filter(|phase| !phase.scope.is_marked()).map(|phase| phase.path.as_str()).collect();
    let with_outside = inner.iter().map(|&path| {
        let mut outside = path;
        while inner.contains(outside) {
            (outside, _) = split_path(outside);
        }
        (path, outside)
    });
    with_outside.collect()
}

/// Path of a phase with this label inside another one, unlike all that are taken; it is taken from now on.
pub fn path_of(around: Option<&str>, label: &[u8], scope: Scope, taken: &mut HashSet<String>) -> String {
    let label = label_of(label).replace(SEPARATOR, "\\/");
    let mut path = around.map_or_else(|| label.clone(), |around| format!("{around}{SEPARATOR}{label}"));
    if taken.contains(&path) && scope == Scope::Thread {
        path += THREADS_OWN;
    }
    while taken.contains(&path) {
        path += "'";
    }
    taken.insert(path.clone());
    path
}

/// The phases by their numbers; the first has 1. `own_ns` of each holds what the kernel side has added up. No two have
/// the same path.
#[must_use]
pub fn from_kernel(nodes: &[(PhaseKey, PhaseNode)]) -> Vec<Phase> {
    let place = |number: u32| (number as usize).checked_sub(1).filter(|&at| at < nodes.len());
    let mut phases: Vec<Phase> = nodes
        .iter()
        .map(|(key, node)| Phase {
            path: String::new(),
            scope: Scope::from_kernel(key.scope),
            entered: node.entered,
            own_ns: node.own_ns,
            wall_ns: node.own_ns,
            iterations: node.iterations,
            job: (key.scope == SCOPE_JOB).then(|| label_of(&key.label)),
        })
        .collect();
    // From the outside in. Numbers are no order: where two threads make the same phase at once, the larger may win.
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&at| nodes[at].1.depth);
    let mut taken = HashSet::new();
    for &at in &order {
        let (key, node) = &nodes[at];
        let around = place(node.parent).filter(|&around| nodes[around].1.depth < node.depth);
        let around = around.map(|around| phases[around].path.clone());
        phases[at].path = path_of(around.as_deref(), &key.label, phases[at].scope, &mut taken);
    }
    for &at in order.iter().rev() {
        if let Some(around) = place(nodes[at].1.parent).filter(|&around| nodes[around].1.depth < nodes[at].1.depth)
            && phases[around].scope == phases[at].scope
        {
            phases[around].wall_ns = phases[around].wall_ns.saturating_add(phases[at].wall_ns);
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: u32, depth: u32, label: &[u8], scope: u32, own_ns: u64) -> (PhaseKey, PhaseNode) {
        let mut key = PhaseKey { parent, scope, ..PhaseKey::EMPTY };
        key.label[..label.len()].copy_from_slice(label);
        (key, PhaseNode { parent, depth, entered: 2, own_ns, ..PhaseNode::default() })
    }

    #[test]
    fn no_two_paths_are_the_same_and_order_does_not_matter() {
        // The one inside has the smaller number.
        let nodes = [
            node(2, 1, b"b", 0, 1),
            node(0, 0, b"a", 0, 1),
            node(0, 0, b"a/b", 0, 1),
            node(2, 1, b"b", 1, 1),
            node(0, 0, b"", 0, 1),
            node(0, 0, b"\xff", 0, 1),
            node(0, 0, b"\xfe", 0, 1),
        ];
        let phases = from_kernel(&nodes);
        let paths: Vec<_> = phases.iter().map(|phase| phase.path.as_str()).collect();
        assert_eq!(paths, ["a/b", "a", "a\\/b", "a/b (thread)", "(no label)", "\\xff", "\\xfe"]);
        assert_eq!(phases[1].wall_ns, 2);
    }

    #[test]
    fn what_is_called_for_a_job_belongs_to_the_phase_around_it() {
        let node = |parent: u32, label, scope| node(parent, u32::from(parent != 0), label, scope, 0);
        let phases = from_kernel(&[
            node(0, b"work", 0),
            node(1, b"a/b", SCOPE_JOB),
            node(0, b"c", SCOPE_JOB),
            node(1, b"cuCtxSynchronize()", SCOPE_FUNCTION),
        ]);
        assert_eq!((phases[1].path.as_str(), phases[1].job.as_deref()), ("work/a\\/b", Some("a/b")));
        let around = marked_around(&phases);
        assert_eq!(around[phases[1].path.as_str()], "work");
        assert_eq!((around["c"], around["work/cuCtxSynchronize()"], around.len()), ("", "work", 3));
    }

    #[test]
    fn times_hold_what_is_inside() {
        let node = |parent, label, scope, own_ns| node(parent, parent, label, scope, own_ns);
        let phases = from_kernel(&[
            node(0, b"work", 0, 5),
            node(1, b"copy", 0, 3),
            node(2, b"range", 1, 100),
            node(3, b"deep", 1, 11),
        ]);
        let shown: Vec<_> = phases.iter().map(|phase| (phase.path.as_str(), phase.wall_ns)).collect();
        assert_eq!(shown, [("work", 8), ("work/copy", 3), ("work/copy/range", 111), ("work/copy/range/deep", 11)]);
    }
}
