//! Classes of jobs of a run: what the programs counted of their jobs, and what the kernel side charged to them.

use std::collections::HashSet;

use gpuos_model::units::printable;
use gpuos_tracer_abi::jobs::{BUCKETS, JobCounts, bucket_start};
use polars_core::prelude::BooleanChunked;
use serde::{Deserialize, Serialize};

use crate::{columns::column, files::CodecError, run::Run};

/// A class of jobs, of all processes that had one of this label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobClass {
    /// Its label.
    pub label: String,
    /// Processes that had it.
    pub processes: u64,
    /// Jobs that began.
    pub begun: u64,
    /// Jobs whose work was done.
    pub done: u64,
    /// Jobs that failed, or were cancelled.
    pub failed: u64,
    /// From submission until the end was known, of jobs that were done; `None` where none was.
    pub duration: Option<Spread>,
    /// How much later than its end a job's end was known, at most: the time since the previous poll.
    pub lateness: Option<Spread>,
    /// The most memory that jobs of one process had at once, bytes.
    pub bytes: u64,
    /// What threads used while they worked for it.
    #[serde(flatten)]
    pub used: JobUsage,
}

/// Where most of a set of times are, nanoseconds: from a histogram with eight buckets for each power of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of them are at most so long, to 13 %.
    pub p50_ns: u64,
    /// 99 of 100 are.
    pub p99_ns: u64,
}

/// What threads used while they worked for a class of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobUsage {
    /// Time on a CPU, nanoseconds.
    pub cpu_ns: u64,
    /// Context switches because a thread had to wait.
    pub voluntary_switches: u64,
    /// Context switches because another thread was to run.
    pub involuntary_switches: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
}

impl std::ops::AddAssign for JobUsage {
    fn add_assign(&mut self, other: Self) {
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.voluntary_switches = self.voluntary_switches.saturating_add(other.voluntary_switches);
        self.involuntary_switches = self.involuntary_switches.saturating_add(other.involuntary_switches);
        self.minor_faults = self.minor_faults.saturating_add(other.minor_faults);
        self.major_faults = self.major_faults.saturating_add(other.major_faults);
    }
}

impl Spread {
    /// Of a histogram with the buckets of [`bucket_start`]; `None` of an empty one. A value is taken to be in the middle of its
    /// bucket.
    #[must_use]
    pub fn of(buckets: &[u64; BUCKETS]) -> Option<Self> {
        let all = buckets.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let at = |share: f64| {
            let wanted = (all as f64 * share).ceil() as u64;
            let mut seen = 0_u64;
            let bucket = buckets.iter().position(|count| {
                seen = seen.saturating_add(*count);
                seen >= wanted.max(1)
            })?;
            let next = if bucket + 1 < BUCKETS { bucket_start(bucket + 1) } else { bucket_start(bucket) + 1 };
            Some(u64::midpoint(bucket_start(bucket), next - 1))
        };
        Some(Self { p50_ns: at(0.5)?, p99_ns: at(0.99)? }).filter(|_| all > 0)
    }
}

/// Why what was called for some classes cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum ClassError {
    /// There is no such class.
    #[error("no job class `{wanted}`\nhint: {known}")]
    Unknown {
        /// The label that was asked for.
        wanted: String,
        /// Which there are.
        known: String,
    },
    /// The frame lacks a column, as that of a foreign file may.
    #[error(transparent)]
    Frame(#[from] CodecError),
}

/// A run of what was called for these classes alone: its processes, phases and losses are those of all.
///
/// # Errors
/// [`ClassError`].
pub fn only_of(run: &Run, labels: &[String]) -> Result<Run, ClassError> {
    let classes = &run.header.jobs;
    if let Some(wanted) = labels.iter().find(|label| classes.iter().all(|class| class.label != **label)) {
        let all: Vec<String> = classes.iter().map(|class| format!("`{}`", printable(&class.label))).collect();
        let known = if all.is_empty() {
            "its programs had no jobs that were seen".to_owned()
        } else {
            format!("there are {}", all.join(", "))
        };
        return Err(ClassError::Unknown { wanted: printable(wanted), known });
    }
    let is_wanted = |job: &Option<String>| job.as_ref().is_some_and(|label| labels.contains(label));
    let of_them = run.header.phases.iter().filter(|phase| is_wanted(&phase.job));
    let paths: HashSet<&str> = of_them.map(|phase| phase.path.as_str()).collect();
    let phases = run.calls.column(column::PHASE).and_then(|column| column.str().cloned()).map_err(CodecError::from)?;
    let mask: BooleanChunked =
        phases.iter().map(|phase| Some(phase.is_some_and(|path| paths.contains(path)))).collect();
    let calls = run.calls.filter(&mask).map_err(CodecError::from)?;
    let mut header = run.header.clone();
    header.jobs.retain(|class| labels.contains(&class.label));
    header.phases.retain(|phase| is_wanted(&phase.job));
    Ok(Run { header, calls })
}

/// What processes counted of one class.
#[derive(Clone, Debug)]
pub struct JobSums {
    processes: u64,
    begun: u64,
    done: u64,
    failed: u64,
    bytes: u64,
    durations: Box<[u64; BUCKETS]>,
    lateness: Box<[u64; BUCKETS]>,
}

impl Default for JobSums {
    fn default() -> Self {
        let none = || Box::new([0; BUCKETS]);
        Self { processes: 0, begun: 0, done: 0, failed: 0, bytes: 0, durations: none(), lateness: none() }
    }
}

impl JobSums {
    /// Adds what one process counted since `before`.
    pub fn add(&mut self, counts: &JobCounts, before: Option<&JobCounts>) {
        let none = JobCounts::default();
        let before = before.unwrap_or(&none);
        self.processes += 1;
        self.begun = self.begun.saturating_add(counts.begun.saturating_sub(before.begun));
        self.done = self.done.saturating_add(counts.done.saturating_sub(before.done));
        self.failed = self.failed.saturating_add(counts.failed.saturating_sub(before.failed));
        self.bytes = self.bytes.max(counts.bytes);
        for (sums, now, before) in [
            (&mut self.durations, &counts.durations, &before.durations),
            (&mut self.lateness, &counts.lateness, &before.lateness),
        ] {
            let more = now.iter().zip(before).map(|(now, before)| u64::from(now.saturating_sub(*before)));
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
    }

    /// The class with this label.
    #[must_use]
    pub fn class(&self, label: String, used: JobUsage) -> JobClass {
        JobClass {
            label,
            processes: self.processes,
            begun: self.begun,
            done: self.done,
            failed: self.failed,
            duration: Spread::of(&self.durations),
            lateness: Spread::of(&self.lateness),
            bytes: self.bytes,
            used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::jobs::bucket_of;

    #[test]
    fn a_spread_is_within_a_bucket_of_the_truth() {
        let mut buckets = [0; BUCKETS];
        for microseconds in 1..=1000_u64 {
            buckets[bucket_of(microseconds * 1000)] += 1;
        }
        let spread = Spread::of(&buckets).unwrap();
        assert!(spread.p50_ns.abs_diff(500_000) < 500_000 / 14, "{spread:?}");
        assert!(spread.p99_ns.abs_diff(990_000) < 990_000 / 14, "{spread:?}");
        assert_eq!(Spread::of(&[0; BUCKETS]), None);
        let mut last = [0; BUCKETS];
        last[BUCKETS - 1] = u64::MAX;
        assert!(Spread::of(&last).is_some());
    }

    #[test]
    fn processes_of_one_class_are_added_up() {
        let counts = JobCounts { begun: 3, done: 2, failed: 1, bytes: 10, ..JobCounts::default() };
        let mut sums = JobSums::default();
        sums.add(&counts, None);
        let twice = JobCounts { begun: 6, done: 4, failed: 2, bytes: 7, ..counts };
        sums.add(&twice, Some(&counts));
        let class = sums.class("a".to_owned(), JobUsage::default());
        assert_eq!((class.processes, class.begun, class.done, class.failed, class.bytes), (2, 6, 4, 2, 10));
    }
}
