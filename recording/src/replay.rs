//! Replays a recording from its beginning: which process a thread is of, what it is called, which phases are open.

use std::collections::HashSet;

use gpuos_runs::phases::{Scope, path_of};
use gpuos_tracer_abi::{
    events::{END, EXEC, EventHeader, Lifecycle, NAME, PROCESS, PhaseChange, THREAD},
    phases::{INFERRED, OPERATION_BEGIN, OPERATION_END, OPERATION_INFERRED, OPERATION_SWITCH},
};
use hashbrown::HashMap;

use crate::{
    event::{Event, head_before},
    interner::{StringId, StringInterner},
    journal,
};

/// More phases are not told apart: a journal may say anything.
const MOST_PHASES: usize = 1 << 17;
/// Bytes of the longest path that gets another part.
const LONGEST_PATH: usize = 4096;

/// What is known at a moment of a recording.
#[derive(Debug, Default)]
pub struct TraceState {
    /// Names of threads and phases, among others.
    pub strings: StringInterner,
    /// By process number.
    processes: HashMap<u32, OfProcess>,
    /// By thread number.
    threads: HashMap<u32, OfThread>,
    /// By number.
    phases: HashMap<u32, OfPhase>,
    paths: HashSet<String>,
}

#[derive(Debug, Default)]
struct OfProcess {
    id: u64,
    phase: u32,
    /// Phases that it has begun itself, the outer first. The one that it was born in may be around them.
    begun: Vec<u32>,
    ignored: u32,
}

#[derive(Debug, Default)]
struct OfThread {
    pid: u32,
    name: StringId,
    own: Vec<u32>,
    ignored: u32,
}

#[derive(Debug)]
struct OfPhase {
    path: StringId,
    parent: u32,
    /// As the kernel told of it.
    definition: PhaseChange,
}

/// What a marker, or the end of a thread or of a program, did to one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// It began, or it ended.
    pub began: bool,
    /// Its number.
    pub phase: u32,
    /// Whose it is.
    pub scope: Scope,
    /// The thread that did it, or, of a thread's own, whose it is.
    pub thread: u32,
}

impl OfThread {
    /// Ends what it has begun for itself, the inner first.
    fn end_all(&mut self, thread: u32, changes: &mut Vec<Change>) {
        self.ignored = 0;
        let ended = self.own.drain(..).rev();
        changes.extend(ended.map(|phase| Change { began: false, phase, scope: Scope::Thread, thread }));
    }
}

impl OfProcess {
    /// Ends what it has begun, the inner first, up to the phase `kept`.
    fn end_all(&mut self, kept: Option<u32>, thread: u32, changes: &mut Vec<Change>) {
        self.ignored = 0;
        while let Some(phase) = self.begun.pop_if(|phase| Some(*phase) != kept) {
            changes.push(Change { began: false, phase, scope: Scope::Process, thread });
        }
    }
}

impl TraceState {
    /// Id of a process, unique unlike its number; 0 for one that is not known.
    #[must_use]
    pub fn process(&self, pid: u32) -> u64 {
        self.processes.get(&pid).map_or(0, |process| process.id)
    }

    /// Name of a thread, empty when it is not known.
    #[must_use]
    pub fn thread_name(&self, thread: u32) -> StringId {
        self.threads.get(&thread).map_or(StringInterner::EMPTY, |thread| thread.name)
    }

    /// Path of a phase; empty for 0.
    pub fn phase_path(&mut self, number: u32) -> StringId {
        match self.phases.get(&number) {
            _ if number == 0 => StringInterner::EMPTY,
            Some(phase) => phase.path,
            // Its beginning was lost.
            None => self.strings.intern(&format!("phase {number}")),
        }
    }

    /// Takes a step in the life of a thread in; says which phases it ended: those that a thread, a process or a program
    /// leaves open end with it.
    pub fn live(&mut self, life: &Lifecycle) -> Vec<Change> {
        let head = &life.head;
        let mut changes = Vec::new();
        match head.kind {
            PROCESS => {
                // The end of one that had the number before was lost.
                self.end_threads(head.pid, &mut changes);
                let process = OfProcess { id: life.process, phase: head.phase, ..OfProcess::default() };
                if let Some(mut before) = self.processes.insert(head.pid, process) {
                    before.end_all(None, head.thread, &mut changes);
                }
                self.threads.insert(head.thread, OfThread::default());
            }
            THREAD => {
                // Of a process that was attached to, or whose beginning was lost.
                self.processes.entry(head.pid).or_insert_with(|| OfProcess {
                    id: life.process,
                    phase: head.phase,
                    ..OfProcess::default()
                });
                self.threads.insert(head.thread, OfThread::default());
            }
            EXEC => {
                self.end_threads(head.pid, &mut changes);
                // The beginning may have been lost, or its leader may have ended: a thread executed.
                let process = self.processes.entry(head.pid).or_default();
                process.end_all(Some(head.phase), head.thread, &mut changes);
                (process.id, process.phase) = (life.process, head.phase);
                self.threads.insert(head.thread, OfThread::default());
            }
            NAME => {}
            // Its events are all there: a thread's own are in order.
            _ => {
                if let Some(mut thread) = self.threads.remove(&head.thread) {
                    thread.end_all(head.thread, &mut changes);
                }
                // A leader may end before its other threads.
                if !self.threads.values().any(|thread| thread.pid == head.pid)
                    && let Some(process) = self.processes.get_mut(&head.pid)
                {
                    process.end_all(None, head.thread, &mut changes);
                }
                return changes;
            }
        }
        let length = life.comm.iter().position(|&byte| byte == 0).unwrap_or(life.comm.len());
        let name = self.strings.intern(&String::from_utf8_lossy(&life.comm[..length]));
        let thread = self.threads.entry(head.thread).or_default();
        (thread.name, thread.pid) = (name, head.pid);
        changes
    }

    /// Forgets a process whose threads have all ended, as far as they are known. What comes of it later has its number alone.
    pub fn forget(&mut self, pid: u32) {
        if !self.threads.values().any(|thread| thread.pid == pid) {
            self.processes.remove(&pid);
        }
    }

    /// The threads of a process are gone.
    fn end_threads(&mut self, pid: u32, changes: &mut Vec<Change>) {
        self.threads.retain(|number, thread| {
            let is_gone = thread.pid == pid;
            if is_gone {
                thread.end_all(*number, changes);
            }
            !is_gone
        });
    }

    /// Takes any event in; says which phases began and ended.
    pub fn follow(&mut self, event: &Event) -> Vec<Change> {
        match event {
            Event::Lifecycle(life) => {
                let changes = self.live(life);
                if life.head.kind == END && life.head.thread == life.head.pid {
                    self.forget(life.head.pid);
                }
                changes
            }
            Event::Phase(change) => self.mark(change),
            Event::Call(_)
            | Event::PathCall(_)
            | Event::DeviceCall(_)
            | Event::Switch(_)
            | Event::Fault(_)
            | Event::Job(_)
            | Event::Gap(_) => Vec::new(),
        }
    }

    /// Path of a phase, as text.
    pub fn phase_path_text(&mut self, number: u32) -> String {
        let path = self.phase_path(number);
        self.strings.get(path).to_owned()
    }

    /// Writes records that tell all of this to who did not hear it.
    pub fn write(&self, at_ns: u64, to: &mut Vec<u8>) {
        let mut numbers: Vec<&u32> = self.phases.keys().collect();
        // From the outside in.
        numbers.sort_by_key(|number| self.depth(**number));
        for number in numbers {
            let head = EventHeader { at_ns, pid: 0, thread: 0, ..self.phases[number].definition.head };
            journal::append(to, &PhaseChange { head, ..self.phases[number].definition });
        }
        for (&pid, process) in &self.processes {
            // What it has begun itself follows below.
            let born_in = process.begun.first().map_or(process.phase, |outermost| self.parent(*outermost));
            let head = head_before(at_ns, pid, pid, born_in, PROCESS);
            let comm = self.comm(pid);
            journal::append(to, &Lifecycle { head, process: process.id, comm, ..Lifecycle::default() });
        }
        for (&thread, of_thread) in self.threads.iter().filter(|(thread, _)| !self.processes.contains_key(*thread)) {
            let head = head_before(at_ns, of_thread.pid, thread, 0, THREAD);
            let process = self.process(of_thread.pid);
            journal::append(to, &Lifecycle { head, process, comm: self.comm(thread), ..Lifecycle::default() });
        }
        // What is open begins here for who did not hear of its beginning: the outer phases first.
        let mut begin = |number: u32, pid: u32, thread: u32| {
            if let Some(phase) = self.phases.get(&number) {
                let head = EventHeader { at_ns, pid, thread, ..phase.definition.head };
                journal::append(to, &PhaseChange { head, operation: OPERATION_BEGIN, ..phase.definition });
            }
        };
        for (&pid, process) in &self.processes {
            process.begun.iter().for_each(|&number| begin(number, pid, pid));
        }
        for (&thread, of_thread) in &self.threads {
            of_thread.own.iter().for_each(|&number| begin(number, of_thread.pid, thread));
        }
    }

    /// A phase and those around it, the outermost first.
    fn way_to(&self, number: u32) -> Vec<u32> {
        let parent = |number: &u32| self.phases.get(number).map(|phase| phase.parent).filter(|parent| *parent != 0);
        // A damaged journal may have a circle.
        let mut way: Vec<u32> =
            std::iter::successors(Some(number).filter(|number| *number != 0), parent).take(64).collect();
        way.reverse();
        way
    }

    fn parent(&self, number: u32) -> u32 {
        self.phases.get(&number).map_or(0, |phase| phase.parent)
    }

    fn depth(&self, number: u32) -> usize {
        self.way_to(number).len()
    }

    /// Name of a thread as the kernel writes it.
    fn comm(&self, thread: u32) -> [u8; 16] {
        let mut comm = [0; 16];
        let name = self.strings.get(self.thread_name(thread)).as_bytes();
        comm.iter_mut().take(15).zip(name).for_each(|(to, from)| *to = *from);
        comm
    }

    /// Takes a marker in, and says which phases it ended and began, in this order.
    pub fn mark(&mut self, change: &PhaseChange) -> Vec<Change> {
        let head = &change.head;
        let scope = Scope::from_kernel(change.scope);
        let is_new = change.begun != 0 && !self.phases.contains_key(&change.begun);
        if is_new && self.phases.len() < MOST_PHASES {
            let around = self.phases.get(&change.parent).map(|phase| self.strings.get(phase.path));
            let around = around.filter(|path| path.len() < LONGEST_PATH);
            let mut label = change.label;
            if change.operation == OPERATION_INFERRED {
                let inferred = INFERRED.get(change.begun as usize - 1).copied().unwrap_or_default();
                label[..inferred.len()].copy_from_slice(inferred.as_bytes());
            }
            let path = path_of(around, &label, scope, &mut self.paths);
            let path = self.strings.intern(&path);
            // Without an operation, it only tells of the label.
            let definition = PhaseChange { operation: 0, label, ..*change };
            self.phases.insert(change.begun, OfPhase { path, parent: change.parent, definition });
        }
        let mut changes = Vec::new();
        let ends = matches!(change.operation, OPERATION_END | OPERATION_SWITCH | OPERATION_INFERRED);
        let begins = matches!(change.operation, OPERATION_BEGIN | OPERATION_SWITCH | OPERATION_INFERRED);
        if !ends && !begins {
            return changes;
        }
        let parents = &self.phases;
        let parent = |number: u32| parents.get(&number).map_or(0, |phase| phase.parent);
        match scope {
            Scope::Process => {
                let process = self.processes.entry(head.pid).or_default();
                if ends && process.ignored != 0 {
                    process.ignored -= 1;
                } else if ends {
                    // The one that it was born in began elsewhere.
                    let ended = process.begun.pop();
                    changes.extend(ended.map(|phase| Change { began: false, phase, scope, thread: head.thread }));
                    process.phase = parent(process.phase);
                }
                if begins && change.begun == 0 {
                    process.ignored += 1;
                } else if begins {
                    changes.push(Change { began: true, phase: change.begun, scope, thread: head.thread });
                    process.begun.push(change.begun);
                    process.phase = change.begun;
                }
            }
            Scope::Thread | Scope::Function | Scope::Job => {
                let thread = self.threads.entry(head.thread).or_default();
                // One that runs since before it was attached to may be heard of for the first time.
                thread.pid = head.pid;
                if ends && thread.ignored != 0 {
                    thread.ignored -= 1;
                } else if ends && let Some(phase) = thread.own.pop() {
                    changes.push(Change { began: false, phase, scope, thread: head.thread });
                }
                if begins && change.begun == 0 {
                    thread.ignored += 1;
                } else if begins {
                    changes.push(Change { began: true, phase: change.begun, scope, thread: head.thread });
                    thread.own.push(change.begun);
                }
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::{
        events::PHASE,
        phases::{LABEL, SCOPE_PROCESS, SCOPE_THREAD},
    };

    fn marker(operation: u32, scope: u32, begun: u32, parent: u32, label: &[u8]) -> PhaseChange {
        let mut bytes = [0; LABEL];
        bytes[..label.len()].copy_from_slice(label);
        let head = EventHeader { pid: 1, thread: 1, kind: PHASE, ..Default::default() };
        PhaseChange { head, operation, scope, count: 0, begun, parent, label: bytes }
    }

    #[test]
    fn phases_end_in_the_order_in_which_they_began() {
        let mut state = TraceState::default();
        let scope = |phase| if phase == 3 { Scope::Thread } else { Scope::Process };
        let began = |phase| Change { began: true, phase, scope: scope(phase), thread: 1 };
        let ended = |phase| Change { began: false, phase, scope: scope(phase), thread: 1 };
        assert_eq!(state.mark(&marker(OPERATION_BEGIN, SCOPE_PROCESS, 1, 0, b"work")), [began(1)]);
        assert_eq!(state.mark(&marker(OPERATION_BEGIN, SCOPE_PROCESS, 2, 1, b"copy")), [began(2)]);
        assert_eq!(state.mark(&marker(OPERATION_BEGIN, SCOPE_THREAD, 3, 2, b"mine")), [began(3)]);
        assert_eq!(state.mark(&marker(OPERATION_SWITCH, SCOPE_PROCESS, 4, 1, b"next")), [ended(2), began(4)]);
        // One that found no place, and its end.
        assert_eq!(state.mark(&marker(OPERATION_BEGIN, SCOPE_PROCESS, 0, 4, b"lost")), []);
        assert_eq!(state.mark(&marker(OPERATION_END, SCOPE_PROCESS, 0, 0, b"")), []);
        assert_eq!(state.mark(&marker(OPERATION_END, SCOPE_THREAD, 0, 0, b"")), [ended(3)]);
        assert_eq!(state.mark(&marker(OPERATION_END, SCOPE_PROCESS, 0, 0, b"")), [ended(4)]);
        assert_eq!(state.mark(&marker(OPERATION_END, SCOPE_PROCESS, 0, 0, b"")), [ended(1)]);
        assert_eq!(state.mark(&marker(OPERATION_END, SCOPE_PROCESS, 0, 0, b"")), []);
        let paths = [4, 3, 9].map(|number| state.phase_path(number));
        assert_eq!(paths.map(|path| state.strings.get(path)), ["work/next", "work/copy/mine", "phase 9"]);
    }

    fn life(kind: u8, pid: u32, thread: u32, phase: u32) -> Lifecycle {
        let head = EventHeader { pid, thread, phase, kind, ..Default::default() };
        Lifecycle { head, process: u64::from(pid), ..Default::default() }
    }

    fn marked(pid: u32, thread: u32, operation: u32, scope: u32, begun: u32, parent: u32) -> PhaseChange {
        let mut change = marker(operation, scope, begun, parent, b"phase");
        (change.head.pid, change.head.thread) = (pid, thread);
        change
    }

    #[test]
    fn phases_end_with_who_began_them() {
        let mut state = TraceState::default();
        let ended = |phase, thread, scope| Change { began: false, phase, scope, thread };
        state.live(&life(PROCESS, 1, 1, 0));
        state.live(&life(THREAD, 1, 2, 0));
        state.mark(&marked(1, 1, OPERATION_BEGIN, SCOPE_PROCESS, 1, 0));
        state.mark(&marked(1, 2, OPERATION_BEGIN, SCOPE_THREAD, 2, 1));
        // A child is born in its parent's phase; what it begins itself is its own.
        state.live(&life(PROCESS, 5, 5, 1));
        state.mark(&marked(5, 5, OPERATION_BEGIN, SCOPE_PROCESS, 3, 1));
        // Another program in it: the phase of the parent goes on.
        assert_eq!(state.live(&life(EXEC, 5, 5, 1)), [ended(3, 5, Scope::Process)]);
        assert_eq!(state.live(&life(END, 5, 5, 1)), []);
        // The leader goes first, as when a thread of it executes; the process goes on.
        state.mark(&marked(1, 1, OPERATION_BEGIN, SCOPE_THREAD, 4, 1));
        assert_eq!(state.live(&life(END, 1, 1, 1)), [ended(4, 1, Scope::Thread)]);
        assert_eq!(state.live(&life(EXEC, 1, 1, 0)), [ended(2, 2, Scope::Thread), ended(1, 1, Scope::Process)]);
        state.mark(&marked(1, 1, OPERATION_BEGIN, SCOPE_PROCESS, 1, 0));
        assert_eq!(state.live(&life(END, 1, 1, 0)), [ended(1, 1, Scope::Process)]);
        // The end of a process was lost, and another has its number.
        state.live(&life(PROCESS, 9, 9, 0));
        state.mark(&marked(9, 9, OPERATION_BEGIN, SCOPE_PROCESS, 1, 0));
        assert_eq!(state.live(&life(PROCESS, 9, 9, 0)), [ended(1, 9, Scope::Process)]);
    }
}
