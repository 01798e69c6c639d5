//! Phases that a program marks, by the rules of the kernel side (`tracer-ebpf/src/count/phases.rs`).

use std::collections::HashMap;

use gpuos_tracer_abi::phases::{MOST_NESTED, PhaseKey, PhaseNode};

/// Every phase, and what is counted about each.
#[derive(Debug, Default)]
pub(super) struct Phases {
    numbers: HashMap<PhaseKey, u32>,
    pub(super) nodes: Vec<(PhaseKey, PhaseNode)>,
    most: usize,
    /// Begins that were not kept.
    pub(super) ignored: u64,
}

/// Which phases of one scope are open: of a process, or a thread's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// The innermost; 0: none of this scope.
    pub(super) current: u32,
    /// What is around the outermost of this scope.
    pub(super) around: u32,
    depth: u32,
    /// Begins inside that were not kept.
    ignored: u32,
    since_ns: u64,
}

impl Phases {
    /// None yet; as many are kept.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    fn node(&mut self, number: u32) -> Option<&mut PhaseNode> {
        self.nodes.get_mut((number as usize).checked_sub(1)?).map(|(_, node)| node)
    }

    fn number_of(&mut self, key: PhaseKey) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        if self.nodes.len() >= self.most {
            return 0;
        }
        let depth = self.node(key.parent).map_or(0, |parent| parent.depth + 1);
        self.nodes.push((key, PhaseNode { parent: key.parent, depth, ..PhaseNode::default() }));
        self.numbers.insert(key, self.nodes.len() as u32);
        self.nodes.len() as u32
    }

    fn add_time(&mut self, number: u32, since_ns: u64, now_ns: u64) {
        if let Some(node) = self.node(number).filter(|_| since_ns != 0) {
            node.own_ns = node.own_ns.saturating_add(now_ns.saturating_sub(since_ns));
        }
    }

    /// Begins a phase with this label inside the open ones. Gives its number, 0 where it is not kept.
    pub(super) fn begin(
        &mut self,
        open: &mut Open,
        scope: u32,
        label: [u8; gpuos_tracer_abi::phases::LABEL],
        now_ns: u64,
    ) -> u32 {
        let parent = if open.depth == 0 { open.around } else { open.current };
        // What a process was born in counts, too.
        let depth = if open.depth == 0 {
            self.node(open.around).filter(|_| scope == 0).map_or(0, |node| node.depth + 1)
        } else {
            open.depth
        };
        let number = if depth < MOST_NESTED && open.ignored == 0 {
            self.number_of(PhaseKey { parent, scope, label })
        } else {
            0
        };
        let Some(node) = self.node(number) else {
            self.ignored += 1;
            open.ignored += 1;
            return 0;
        };
        node.entered += 1;
        if open.depth != 0 {
            self.add_time(open.current, open.since_ns, now_ns);
        }
        (open.current, open.depth, open.since_ns) = (number, open.depth + 1, now_ns);
        number
    }

    /// Ends the innermost. Says whether there was one.
    pub(super) fn end(&mut self, open: &mut Open, now_ns: u64) -> bool {
        if open.ignored != 0 {
            open.ignored -= 1;
            return true;
        }
        if open.depth == 0 {
            return false;
        }
        self.add_time(open.current, open.since_ns, now_ns);
        open.depth -= 1;
        open.current = if open.depth == 0 { 0 } else { self.node(open.current).map_or(0, |node| node.parent) };
        open.since_ns = now_ns;
        true
    }

    /// Ends all of them.
    pub(super) fn end_all(&mut self, open: &mut Open, now_ns: u64) {
        open.ignored = 0;
        while self.end(open, now_ns) {}
    }

    /// Iterations in a phase.
    pub(super) fn iterated(&mut self, number: u32, count: u64) {
        if let Some(node) = self.node(number) {
            node.iterations = node.iterations.saturating_add(count);
        }
    }
}

impl Open {
    /// Nothing of this scope yet, inside a phase of another.
    pub(super) fn inside(around: u32) -> Self {
        Self { around, ..Self::default() }
    }

    /// The phase that calls belong to.
    pub(super) fn phase(&self) -> u32 {
        if self.depth == 0 { self.around } else { self.current }
    }

    /// Whether one of this scope is open.
    pub(super) fn is_any(&self) -> bool {
        self.depth != 0
    }
}
