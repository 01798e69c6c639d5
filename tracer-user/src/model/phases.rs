//! Phases that the program marked: their paths, how often and how long they were entered.

use gpuos_tracer_abi::phases::{PhaseKey, PhaseNode, SCOPE_THREAD};
use serde::{Deserialize, Serialize};

/// What stands between the labels of nested phases.
pub const SEPARATOR: &str = "/";

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
    /// Iterations that the program reported in it, and in no phase inside it.
    pub iterations: u64,
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
}

/// The phases by their numbers; the first has 1. `own_ns` of each holds what the kernel side has added up.
#[must_use]
pub fn from_kernel(nodes: &[(PhaseKey, PhaseNode)]) -> Vec<Phase> {
    let place = |number: u32| (number as usize).checked_sub(1).filter(|&at| at < nodes.len());
    let scope = |key: &PhaseKey| if key.scope == SCOPE_THREAD { Scope::Thread } else { Scope::Process };
    let mut phases: Vec<Phase> = Vec::with_capacity(nodes.len());
    for (key, node) in nodes {
        let length = key.label.iter().position(|&byte| byte == 0).unwrap_or(key.label.len());
        let label = String::from_utf8_lossy(&key.label[..length]);
        // The one around has the smaller number as a rule; where two threads made both at once, its label is missing.
        let around = place(node.parent).and_then(|at| phases.get(at));
        let path = around.map_or_else(|| label.to_string(), |around| format!("{}{SEPARATOR}{label}", around.path));
        phases.push(Phase {
            path,
            scope: scope(key),
            entered: node.entered,
            wall_ns: node.own_ns,
            iterations: node.iterations,
        });
    }
    // From the inside out.
    for at in (0..nodes.len()).rev() {
        if let Some(around) = place(nodes[at].1.parent)
            && around < at
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

    #[test]
    fn times_hold_what_is_inside() {
        let node = |parent: u32, label: &[u8], scope: u32, own_ns: u64| {
            let mut key = PhaseKey { parent, scope, ..PhaseKey::EMPTY };
            key.label[..label.len()].copy_from_slice(label);
            (key, PhaseNode { parent, depth: 0, entered: 2, own_ns, iterations: 0 })
        };
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
