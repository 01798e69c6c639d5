//! Latency histograms with log2 buckets: quantiles and a small picture.

use gpuos_tracer_abi::syscalls::BUCKETS;

/// Counts by bucket; bucket b holds 2^b to 2^(b+1) − 1 ns, the last is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// From a list of at most [`BUCKETS`] counts; missing ones are 0.
    #[must_use]
    pub fn from_counts(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = Self::default();
        for (bucket, count) in histogram.0.iter_mut().zip(counts) {
            *bucket = count;
        }
        histogram
    }

    /// Adds another histogram.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The `q`-quantile in nanoseconds, at most `maximum`; `None` when nothing was timed.
    ///
    /// Inside a bucket the durations are taken as evenly spread, so the value is within a factor
    /// of two of the true one, and usually much nearer.
    #[must_use]
    pub fn quantile(&self, q: f64, maximum: u64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (q * count as f64).ceil().clamp(1.0, count as f64);
        let mut below = 0.0;
        for (bucket, &inside) in self.0.iter().enumerate() {
            let inside = inside as f64;
            if below + inside >= rank {
                let start = if bucket == 0 { 0.0 } else { (1_u64 << bucket) as f64 };
                let width = (1_u64 << (bucket + 1)) as f64 - start;
                let value = start + width * (rank - below - 0.5) / inside;
                return Some((value as u64).min(maximum));
            }
            below += inside;
        }
        Some(maximum)
    }

    /// One character a bucket from `first` to `last`, its height the share of the largest bucket.
    /// A bucket that holds anything shows at least the lowest bar.
    #[must_use]
    pub fn picture(&self, first: usize, last: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let largest = self.0.iter().copied().max().unwrap_or(0);
        self.0[first.min(BUCKETS - 1)..=last.min(BUCKETS - 1)]
            .iter()
            .map(|&count| match count {
                0 => ' ',
                _ => BARS[((count as f64 / largest as f64 * 8.0).ceil() as usize).clamp(1, 8) - 1],
            })
            .collect()
    }

    /// First and last bucket that hold anything.
    #[must_use]
    pub fn span(&self) -> Option<(usize, usize)> {
        Some((self.0.iter().position(|&c| c != 0)?, self.0.iter().rposition(|&c| c != 0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuos_tracer_abi::syscalls::bucket_of;
    use proptest::prelude::*;

    #[test]
    fn empty_has_no_quantile_and_no_picture() {
        assert_eq!(Histogram::default().quantile(0.5, 0), None);
        assert_eq!(Histogram::default().span(), None);
        assert_eq!(Histogram::default().picture(0, 2), "   ");
    }

    #[test]
    fn picture_shows_every_bucket_that_holds_anything() {
        let histogram = Histogram::from_counts([0, 1, 800, 400]);
        assert_eq!(histogram.picture(0, 4), " ▁█▄ ");
        assert_eq!(histogram.span(), Some((1, 3)));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_factor_of_two(mut values in prop::collection::vec(1_u64..1 << 38, 1..200), q in 0.0_f64..=1.0) {
            let mut histogram = Histogram::default();
            for &value in &values {
                histogram.0[bucket_of(value)] += 1;
            }
            values.sort_unstable();
            let exact = values[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1] as f64;
            let estimate = histogram.quantile(q, values[values.len() - 1]).unwrap() as f64;
            prop_assert!(estimate <= 2.0 * exact && exact <= 2.0 * estimate + 1.0, "{estimate} for {exact}");
        }

        #[test]
        fn quantiles_do_not_fall(counts in prop::collection::vec(0_u64..1000, 40), low in 0.0_f64..=1.0, high in 0.0_f64..=1.0) {
            let histogram = Histogram::from_counts(counts);
            let (low, high) = (low.min(high), low.max(high));
            prop_assert!(histogram.quantile(low, u64::MAX) <= histogram.quantile(high, u64::MAX));
        }
    }
}
