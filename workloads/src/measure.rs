//! Timing of single units of work, and what the process used meanwhile.

use std::time::{Duration, Instant};

use gpuos_model::{Usage, bench::Percentiles};
use hdrhistogram::Histogram;

/// Durations of single units of work.
#[derive(Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // A nanosecond to an hour, three significant digits.
        Self { histogram: Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("these bounds are allowed") }
    }

    /// Does the work and records how long it took.
    pub(crate) fn time<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let result = work()?;
        self.histogram.saturating_record(start.elapsed().as_nanos() as u64);
        Ok(result)
    }

    /// `None` when nothing was timed.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Percentiles {
            count: self.histogram.len(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            max_ns: self.histogram.max(),
            mean_ns: self.histogram.mean() as u64,
        })
    }
}

/// What the process has used so far.
pub(crate) fn usage_now() -> Usage {
    // SAFETY: an all-zero `rusage` is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills it.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |time: libc::timeval| {
        (Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)).as_nanos() as u64
    };
    Usage {
        user_ns: time(usage.ru_utime),
        system_ns: time(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_timed_has_no_percentiles() {
        assert!(Latencies::new().percentiles().is_none());
    }

    #[test]
    fn a_failure_is_passed_on_and_not_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.time(|| Err::<(), _>("broken")), Err("broken"));
        assert!(latencies.percentiles().is_none());
        latencies.time(|| Ok::<(), ()>(())).unwrap();
        latencies
            .time(|| -> Result<(), ()> {
                std::thread::sleep(Duration::from_millis(2));
                Ok(())
            })
            .unwrap();
        let percentiles = latencies.percentiles().unwrap();
        assert!(percentiles.max_ns >= 2_000_000);
        assert!(percentiles.p50_ns <= percentiles.p99_ns && percentiles.p99_ns <= percentiles.max_ns);
    }
}
