//! Everything that a run can lose: where the kernel side counts it, its field in the header, and what it is called wherever
//! losses are shown.

use gpuos_tracer_abi::counters;
use serde::{Deserialize, Serialize};

/// A counter of what could not be kept, with its words.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The field of [`Losses`], and of the header in files.
    pub name: &'static str,
    /// How many.
    pub number: u64,
    /// What was lost, in a word or two: for one line of a screen.
    pub what: &'static str,
    /// What was lost, why, and the option that helps; it follows the number.
    pub sentence: &'static str,
}

macro_rules! losses {
    ($($(#[$attribute:meta])* $name:ident = $counter:expr, $what:literal, $sentence:literal;)*) => {
        /// Counters of everything that could not be kept.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Losses {
            $($(#[$attribute])* #[serde(default)] #[doc = $sentence] pub $name: u64,)*
        }

        impl Losses {
            /// Every counter with its words, also those that are 0.
            #[must_use]
            pub fn all(&self) -> Vec<Loss> {
                vec![$(Loss { name: stringify!($name), number: self.$name, what: $what, sentence: $sentence },)*]
            }

            /// What the kernel side has counted, by its `COUNTERS` array. What its programs missed is known to who loaded
            /// them.
            #[must_use]
            pub fn counted(counter: impl Fn(u32) -> u64) -> Self {
                let number = |index: Option<u32>| index.map_or(0, &counter);
                Self { $($name: number($counter),)* }
            }
        }
    };
}

losses! {
    calls = Some(counters::CALLS_WITHOUT_TOTALS), "calls", "calls were not counted because the table of totals was full (`--totals`) or the kernel had no memory";
    children = Some(counters::CHILDREN_NOT_FOLLOWED), "children", "child threads or processes were not followed because the kernel gave them no storage";
    process_records = Some(counters::PROCESSES_WITHOUT_RECORD), "process records", "processes have no record because the table was full (`--processes`) or the kernel had no memory";
    phases = Some(counters::PHASES_IGNORED), "phases", "phases, or classes of jobs, began that were not kept, and their calls and CPU belong to what is around: no place (`--phases`), more than eight inside each other, or a label that could not be read";
    objects = Some(counters::OBJECTS_WITHOUT_CLASS), "objects", "objects of NVIDIA's driver found no place (`--objects`): calls on them have no class";
    events = Some(counters::EVENTS_LOST), "recorded events", "events found no place in the ring (`--ring` makes it larger); the recording says when";
    sites = Some(counters::STACK_SITES_LOST), "call sites", "calls are in no stack of `--stacks`: no room for their place in the program (`--stacks-kept`)";
    other_rights = Some(counters::OTHER_RIGHTS), "processes with other rights", "processes were not followed any more after they executed a program with other rights (setuid, capabilities): this gpuos-trace has its own from its file, and shows nothing that you could not ptrace";
    job_tables = None, "tables of jobs", "processes had jobs whose table was not read, so they are in no count of jobs: the process ended within a tenth of a second, or closed files that it did not open";
    job_places = None, "places for jobs", "classes or threads of programs found no place in the program's table of jobs (256 classes, 512 threads at a time)";
    recursion_misses = None, "events", "events were missed because a BPF program was running already on that CPU";
}

impl Losses {
    /// Whether anything was lost.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Those that are not 0.
    pub fn found(&self) -> impl Iterator<Item = Loss> {
        self.all().into_iter().filter(|loss| loss.number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_files_has_every_loss() {
        let page = include_str!("../../docs/file-format.md");
        let row = page.lines().find(|line| line.starts_with("| `losses` |")).expect("a row of losses");
        for loss in Losses::default().all() {
            assert!(row.contains(&format!("`{}`", loss.name)), "docs/file-format.md does not name `{}`", loss.name);
        }
    }

    #[test]
    fn a_header_from_before_a_counter_was_made_is_read() {
        let losses: Losses = serde_json::from_str(r#"{"calls":3}"#).unwrap();
        assert!(losses.any());
        assert_eq!(losses.found().map(|loss| (loss.name, loss.number)).collect::<Vec<_>>(), [("calls", 3)]);
    }
}
