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

/// Draws of [`median_interval`], enough for the ends of intervals that are corrected for many questions.
const DRAWS: usize = 10_000;
/// Their seed: the same intervals on every machine.
const SEED: u64 = 0x6770_756f_7300_0002;

/// The median of one value for each block, and its interval with this certainty. No block gives NaN.
pub fn median_interval(blocks: &[f64], certainty: f64) -> (f64, Interval) {
    if blocks.is_empty() {
        return (f64::NAN, Interval { low: f64::NAN, high: f64::NAN });
    }
    let estimate = median(&mut blocks.to_vec());
    let mut again: Vec<f64> = draws(blocks.len(), DRAWS, SEED)
        .into_iter()
        .map(|drawn| median(&mut drawn.into_iter().map(|block| blocks[block]).collect::<Vec<_>>()))
        .collect();
    (estimate, interval(&mut again, estimate, certainty, blocks.len()))
}

/// The median: nearly half of the values may be disturbed without moving it far. (A mean of the middle half was tried: of
/// ten values it bears two.)
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
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
    fn the_median_is_that_of_numpy() {
        assert_eq!(median(&mut [100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 4.5);
        assert_eq!(median(&mut [9.0, 50.0, 0.0, 0.0, 1.0]), 1.0);
        assert_eq!(median(&mut [3.0]), 3.0);
    }

    #[test]
    fn the_interval_of_a_median_holds_it_and_narrows() {
        assert_eq!(median_interval(&[2.0; 10], 0.999), (2.0, Interval { low: 2.0, high: 2.0 }));
        let blocks: Vec<f64> = (0..20).map(f64::from).collect();
        let (middle, wide) = median_interval(&blocks, 0.99);
        let (_, narrow) = median_interval(&blocks, 0.80);
        assert!(middle == 9.5 && wide.low < narrow.low && narrow.low < 9.5 && narrow.high < wide.high);
        assert!(median_interval(&[], 0.95).0.is_nan());
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
