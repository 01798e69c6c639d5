//! What `bench` says of a run, for the program that started it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Usage;

/// What of the object that `bench --json` prints does not depend on the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nanoseconds of the measured iterations.
    pub wall_ns: u64,
    /// Absent when nothing was timed.
    pub latency: Option<Percentiles>,
    /// What the process used meanwhile.
    pub usage: Usage,
}

/// Percentiles of the durations of single units of work in nanoseconds, to three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Units of work.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// Nine of ten took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Their mean.
    pub mean_ns: u64,
}

/// The line that `bench` prints on standard error when it has chosen a backend: news, not the reason of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Name of the backend.
    pub backend: &'a str,
    /// Its runtime and version.
    pub runtime: &'a str,
    /// The device.
    pub device: &'a str,
}

impl<'a> Chosen<'a> {
    const BEGINNING: &'static str = "bench: using ";

    /// Reads the line; `None` when it is another one.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        let (backend, rest) = line.strip_prefix(Self::BEGINNING)?.split_once(": ")?;
        // The name of a device may have commas of its own; that of a runtime has none.
        let (runtime, device) = rest.split_once(", ")?;
        Some(Self { backend, runtime, device })
    }
}

impl fmt::Display for Chosen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}, {}", Self::BEGINNING, self.backend, self.runtime, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_a_backend_is_told_from_an_error() {
        let chosen = Chosen { backend: "opencl", runtime: "OpenCL 3.0 PoCL 3.1+debian", device: "pthread, AVX2" };
        assert_eq!(Chosen::parse(&chosen.to_string()), Some(chosen));
        assert_eq!(Chosen::parse("bench: error: no device 9"), None);
    }

    #[test]
    fn an_object_with_more_in_it_is_read() {
        let text = r#"{"backend":null,"bytes":4096,"wall_ns":7,"latency":null,"usage":{"user_ns":1,"system_ns":2,
            "voluntary_switches":3,"involuntary_switches":4,"minor_faults":5,"major_faults":6}}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!((report.wall_ns, report.latency, report.usage.major_faults), (7, None, 6));
    }
}
