//! The block bootstrap: whole blocks are drawn again, so that what disturbs a block stays together.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// An interval of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether all of it lies within these bounds, ends included.
    pub fn is_inside(self, low: f64, high: f64) -> bool {
        self.low >= low && self.high <= high
    }

    /// Whether a number is in it, ends included.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half of its width.
    pub fn half(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// So many draws of `blocks` blocks, with replacement. The same seed gives the same draws everywhere.
pub fn draws(blocks: usize, count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| (0..blocks).map(|_| random.random_range(0..blocks)).collect()).collect()
}

/// The middle part of the drawn values that has this share of them (percentile interval), widened as small samples
/// demand: by the factor √(n / (n − 1)) around the estimate, since drawing again from n blocks shows only (n − 1) / n of
/// their variance.
pub fn interval(drawn: &mut [f64], estimate: f64, share: f64, blocks: usize) -> Interval {
    drawn.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let place = quantile * (drawn.len() - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(drawn.len() - 1);
        drawn[below] * (1.0 - part) + drawn[above] * part
    };
    let tail = (1.0 - share) / 2.0;
    let wider = if blocks > 1 { (blocks as f64 / (blocks as f64 - 1.0)).sqrt() } else { 1.0 };
    let widen = |end: f64| estimate + (end - estimate) * wider;
    Interval { low: widen(at(tail)), high: widen(at(1.0 - tail)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_every_time() {
        assert_eq!(draws(5, 3, 7), draws(5, 3, 7));
        assert_ne!(draws(5, 3, 7), draws(5, 3, 8));
        assert!(draws(5, 100, 7).iter().flatten().all(|block| *block < 5));
    }

    #[test]
    fn an_interval_is_that_of_numpys_percentiles() {
        // numpy.percentile(range(101), [2.5, 97.5]) is [2.5, 97.5]; around 50, widened by sqrt(10 / 9).
        let mut drawn: Vec<f64> = (0..=100).map(f64::from).collect();
        let Interval { low, high } = interval(&mut drawn, 50.0, 0.95, 10);
        let wide = 47.5 * (10.0_f64 / 9.0).sqrt();
        assert!((low - (50.0 - wide)).abs() < 1e-9 && (high - (50.0 + wide)).abs() < 1e-9, "{low} {high}");
    }
}
