//! How a count scales along an axis, in one word, with what the word rests on. The rules were fixed before any data was
//! seen; `tests/simulated.rs` says how often they are wrong where the truth is known.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use crate::{
    axis::Axis,
    fit::{EXPONENTS, Points, PowerFitter, aicc, isotonic},
    resample::{Interval, draws, interval},
    series::{Series, Work},
};

/// Version of all rules here and in [`crate::claims`], [`crate::variants`], [`crate::execution`] and [`crate::predictions`]: a
/// dataset says by which it was begun. `docs/decisions/0015-verdicts.md` says which were changed after data was seen.
pub const RULES: &str = "3";

/// Blocks that a verdict needs.
pub const LEAST_BLOCKS: usize = 10;
/// Levels that a verdict needs, and by what factor they must be apart: seven over three decades.
pub const LEAST_LEVELS: usize = 7;
/// See [`LEAST_LEVELS`].
pub const LEAST_SPAN: f64 = 1000.0;
/// On iterations: so many calls an iteration are no growth.
pub const FLAT_CALLS_PER_ITERATION: f64 = 0.01;
/// On bytes: so many calls in all, or this share of those at the smallest size, are no growth.
pub const FLAT_CALLS: f64 = 1.0;
/// See [`FLAT_CALLS`].
pub const FLAT_SHARE: f64 = 0.02;
/// Exponents that are called linear.
pub const LINEAR: (f64, f64) = (0.85, 1.15);
/// Exponents that are called no growth, where there is an effect.
const CONSTANT: f64 = 0.15;
/// Share of all growth that one or two steps must explain.
const STEP_SHARE: f64 = 0.95;
/// How much better than a power steps must be, and a power than steps, by Akaike's criterion.
const STEP_MARGIN: f64 = 6.0;
/// Draws of the bootstrap.
const DRAWS: usize = 2000;
/// Its seed: the same words on every machine.
const SEED: u64 = 0x6770_756f_7300_0001;
/// Counts are whole, and shapes are never exact. Spread that every value has: its variance in calls², as a share of the
/// value, and as a share of what is no growth.
const WHOLE: f64 = 1.0 / 3.0;
const INEXACT: f64 = 0.01;
const NEGLIGIBLE: f64 = 0.15;
/// A power that leaves more than chance does with this probability is no power.
const UNLIKELY: f64 = 0.001;

/// How a count scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// Does not grow: shown by equivalence, never by absence of evidence.
    Flat,
    /// Grows as the level does.
    Linear,
    /// Grows more slowly.
    Sublinear,
    /// Grows faster.
    Superlinear,
    /// Changes at one or two places.
    Step,
    /// Changes, less than once an iteration, and the time that the work takes explains it as well as the axis does.
    Timed,
    /// None of these is shown.
    Inconclusive,
}

impl Scaling {
    /// As reports have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Linear => "linear",
            Self::Sublinear => "sublinear",
            Self::Superlinear => "superlinear",
            Self::Step => "step",
            Self::Timed => "axis or time",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How a count scales, and what that rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// How the count scales.
    #[serde(rename = "word")]
    pub scaling: Scaling,
    /// Blocks that were used.
    pub blocks: usize,
    /// Whether all of them have the same counts; the intervals are then points.
    pub deterministic: bool,
    /// Count at the largest level, less what is subtracted on that axis.
    pub difference: f64,
    /// Its 95 % interval.
    pub difference_95: Interval,
    /// Calls for each unit of the axis, at the largest level.
    pub slope: f64,
    /// Its 95 % interval.
    pub slope_95: Interval,
    /// The exponent of a power of the level, where there is an effect.
    pub exponent: Option<f64>,
    /// Its 95 % interval.
    pub exponent_95: Option<Interval>,
    /// Calls that come with the first iteration and do not come again, where there are some beside a power.
    pub once: Option<f64>,
    /// Calls a second of work, where a constant rate explains the growth as well.
    pub per_second: Option<f64>,
    /// Between which levels the steps are.
    pub steps: Vec<(f64, f64)>,
    /// How many blocks would settle it, where that can be said.
    pub blocks_needed: Option<usize>,
}

/// What verdicts are made of, drawn again and again.
struct Drawn {
    levels: Vec<f64>,
    /// The middle of each level.
    values: Vec<f64>,
    /// The same for every draw.
    again: Vec<Vec<f64>>,
    blocks: usize,
    /// Differences up to here are none.
    tolerance: f64,
    /// The level that is compared with; 0 iterations, or the smallest size.
    base: f64,
}

impl Drawn {
    fn new(series: &Series, axis: Axis) -> Self {
        let whole: Vec<usize> = (0..series.blocks()).collect();
        let medians = series.medians(&whole);
        let again = draws(series.blocks(), DRAWS, SEED).into_iter().map(|blocks| series.medians(&blocks));
        let levels = series.levels().to_vec();
        let largest = levels[levels.len() - 1];
        let tolerance = match axis {
            Axis::Iterations => FLAT_CALLS_PER_ITERATION * largest,
            Axis::Bytes => FLAT_CALLS.max(FLAT_SHARE * medians[0].abs()),
        };
        let drawn = Self { tolerance, base: 0.0, again: again.collect(), values: medians, blocks: whole.len(), levels };
        match axis {
            Axis::Iterations => drawn,
            Axis::Bytes => drawn.less_the_first(),
        }
    }

    /// The same less the smallest level: what is made once is gone.
    fn less_the_first(&self) -> Self {
        let less = |values: &Vec<f64>| values[1..].iter().map(|value| value - values[0]).collect::<Vec<_>>();
        Self {
            levels: self.levels[1..].to_vec(),
            values: less(&self.values),
            again: self.again.iter().map(less).collect(),
            blocks: self.blocks,
            tolerance: self.tolerance,
            base: self.levels[0],
        }
    }

    fn last(&self) -> usize {
        self.levels.len() - 1
    }

    fn interval(&self, level: usize, share: f64) -> Interval {
        let mut drawn: Vec<f64> = self.again.iter().map(|values| values[level]).collect();
        interval(&mut drawn, self.values[level], share, self.blocks)
    }

    /// One over the variance of each value.
    fn weights(&self) -> Vec<f64> {
        (0..self.levels.len())
            .map(|level| {
                let mean = self.again.iter().map(|values| values[level]).sum::<f64>() / self.again.len() as f64;
                let squares = self.again.iter().map(|values| (values[level] - mean).powi(2)).sum::<f64>();
                let drawn = squares / self.again.len() as f64;
                let floor = WHOLE + (INEXACT * self.values[level]).powi(2) + (NEGLIGIBLE * self.tolerance).powi(2);
                1.0 / (drawn + floor)
            })
            .collect()
    }
}

/// The probability of a difference at the largest level as large as this, were there none: two-sided. The share of the
/// draws on the other side of 0, and no less than a bound of the normal distribution by the spread of the draws,
/// exp(−z²/2): a share of none of two thousand draws says only that much.
pub fn effect(series: &Series, axis: Axis) -> f64 {
    let drawn = Drawn::new(series, axis);
    let (last, count) = (drawn.last(), drawn.again.len() as f64);
    let not_above = drawn.again.iter().filter(|values| values[last] <= 0.0).count() as f64;
    let not_below = drawn.again.iter().filter(|values| values[last] >= 0.0).count() as f64;
    let share = 2.0 * not_above.min(not_below) / count;
    let z_squared = drawn.values[last].powi(2) * drawn.weights()[last];
    share.max((-z_squared / 2.0).exp()).min(1.0)
}

/// Which of many effects are there, at a level of 5 % for all together (Holm 1979).
pub fn holm(probabilities: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let mut there = vec![false; probabilities.len()];
    for (rank, index) in order.into_iter().enumerate() {
        if probabilities[index] > 0.05 / (probabilities.len() - rank) as f64 {
            break;
        }
        there[index] = true;
    }
    there
}

/// Whether there are blocks, and levels, for any verdict.
pub fn is_enough(blocks: usize, levels: &[f64]) -> bool {
    blocks >= LEAST_BLOCKS && is_wide(levels)
}

/// Whether there are levels for any verdict, far enough apart.
pub fn is_wide(levels: &[f64]) -> bool {
    levels.len() >= LEAST_LEVELS && matches!(levels, [first, .., last] if *last >= LEAST_SPAN * first)
}

/// The 95 % interval of the median at each level.
pub fn intervals(series: &Series) -> Vec<Interval> {
    let whole: Vec<usize> = (0..series.blocks()).collect();
    let medians = series.medians(&whole);
    let again: Vec<Vec<f64>> =
        draws(series.blocks(), DRAWS, SEED).into_iter().map(|blocks| series.medians(&blocks)).collect();
    let of_level = |level: usize| {
        let mut drawn: Vec<f64> = again.iter().map(|values| values[level]).collect();
        interval(&mut drawn, medians[level], 0.95, series.blocks())
    };
    (0..medians.len()).map(of_level).collect()
}

/// How a series scales. `is_rejected`: whether the difference at the largest level was found to be one, corrected for
/// everything that was asked at once ([`effect`], [`holm`]).
pub fn judge(series: &Series, axis: Axis, is_rejected: bool) -> Verdict {
    let drawn = Drawn::new(series, axis);
    let last = drawn.last();
    let difference_95 = drawn.interval(last, 0.95);
    let per_unit = |value: f64| value / drawn.levels[last];
    let mut verdict = Verdict {
        scaling: Scaling::Inconclusive,
        blocks: drawn.blocks,
        deterministic: series.is_deterministic(),
        difference: drawn.values[last],
        difference_95,
        slope: per_unit(drawn.values[last]),
        slope_95: Interval { low: per_unit(difference_95.low), high: per_unit(difference_95.high) },
        exponent: None,
        exponent_95: None,
        once: None,
        per_second: None,
        steps: Vec::new(),
        blocks_needed: None,
    };
    // An effect that counts: what may be as small as no growth is none.
    let beyond = difference_95.low > drawn.tolerance || difference_95.high < -drawn.tolerance;
    let resolved = is_rejected && beyond;
    let mut shape = Shape::of(&drawn, resolved);
    // Neither a power nor steps from 0 on: perhaps some calls are made once, and others each time.
    if let (Axis::Iterations, Some(from_zero)) = (axis, &shape)
        && !from_zero.is_a_power
        && from_zero.steps.is_empty()
        && let Some((found, once)) = once_and_each(&drawn)
    {
        verdict.once = Some(once);
        let each = |value: f64| per_unit(value - once);
        verdict.slope = each(drawn.values[last]);
        verdict.slope_95 = Interval { low: each(difference_95.low), high: each(difference_95.high) };
        shape = Some(found);
    }
    if let Some(shape) = &shape {
        verdict.exponent = Some(shape.exponent);
        verdict.exponent_95 = Some(shape.interval);
    }
    verdict.scaling = scaling_of(&drawn, shape.as_ref(), is_enough(drawn.blocks, series.levels()));
    if let Some(shape) = &shape {
        compare_with_time(&mut verdict, series, &drawn, shape, axis);
        if verdict.scaling == Scaling::Step {
            let before = |place: usize| if place == 0 { drawn.base } else { drawn.levels[place - 1] };
            verdict.steps = shape.steps.iter().map(|place| (before(*place), drawn.levels[*place])).collect();
        }
    }
    if verdict.scaling == Scaling::Inconclusive && is_wide(series.levels()) {
        // More blocks than there are, or nothing: more of the same would not help.
        let needed = blocks_needed(&drawn, shape.as_ref()).map(|blocks| blocks.max(LEAST_BLOCKS));
        verdict.blocks_needed = needed.filter(|needed| *needed > drawn.blocks);
    }
    verdict
}

/// What is shown by the shape of a growth, or by there being none.
fn scaling_of(drawn: &Drawn, shape: Option<&Shape>, is_enough: bool) -> Scaling {
    match shape {
        _ if !is_enough => Scaling::Inconclusive,
        _ if is_flat(drawn) => Scaling::Flat,
        Some(shape) if !shape.steps.is_empty() => Scaling::Step,
        Some(shape) if !shape.is_a_power => Scaling::Inconclusive,
        Some(shape) if shape.interval.is_inside(LINEAR.0, LINEAR.1) => Scaling::Linear,
        Some(shape) if shape.interval.high < LINEAR.0 => Scaling::Sublinear,
        Some(shape) if shape.interval.low > LINEAR.1 => Scaling::Superlinear,
        _ => Scaling::Inconclusive,
    }
}

/// What is made less than once an iteration may be of a thread that wakes up now and then: then a constant rate explains the
/// growth as well as the axis does.
fn compare_with_time(verdict: &mut Verdict, series: &Series, drawn: &Drawn, shape: &Shape, axis: Axis) {
    let changes = !matches!(verdict.scaling, Scaling::Flat | Scaling::Inconclusive);
    let is_rare = |work: &&[Work]| {
        let medians = series.medians(&(0..series.blocks()).collect::<Vec<_>>());
        work.iter().zip(medians).all(|(work, calls)| calls.abs() < work.iterations)
    };
    let Some(work) = series.work().filter(|_| changes).filter(is_rare) else { return };
    let seconds: Vec<f64> = work.iter().map(|work| work.seconds).collect();
    let rate = rate(drawn, &seconds, axis).filter(|rate| rate.criterion <= shape.criterion + STEP_MARGIN);
    verdict.per_second = rate.map(|rate| rate.per_second);
    // In proportion to repetition is in proportion to time: both are said, and the verdict stays.
    let is_linear = axis == Axis::Iterations && verdict.scaling == Scaling::Linear;
    if verdict.per_second.is_some() && !is_linear {
        verdict.scaling = Scaling::Timed;
    }
}

/// Calls at a constant rate, as of a thread that wakes up now and then.
struct Rate {
    per_second: f64,
    /// Akaike's.
    criterion: f64,
}

/// The rate that explains the growth, where it leaves what chance leaves.
fn rate(drawn: &Drawn, seconds: &[f64], axis: Axis) -> Option<Rate> {
    let seconds: Vec<f64> = match axis {
        Axis::Iterations => seconds.to_vec(),
        Axis::Bytes => seconds[1..].iter().map(|time| time - seconds[0]).collect(),
    };
    let weights = drawn.weights();
    let sum = |of: &dyn Fn(usize) -> f64| (0..seconds.len()).map(|level| weights[level] * of(level)).sum::<f64>();
    let per_second = sum(&|level| seconds[level] * drawn.values[level]) / sum(&|level| seconds[level].powi(2));
    let left = sum(&|level| (drawn.values[level] - per_second * seconds[level]).powi(2));
    let fits = per_second > 0.0 && left <= chance_leaves(seconds.len() - 1);
    fits.then(|| Rate { per_second, criterion: aicc(left, 1, seconds.len() + 1) })
}

/// Growth from the smallest level on that is linear, and what is left of the smallest level without it: the calls that are
/// made once. Other powers beside a constant are not told from a staircase (simulated: 21 of 500 staircases were).
fn once_and_each(drawn: &Drawn) -> Option<(Shape, f64)> {
    let rest = drawn.less_the_first();
    let last = rest.last();
    let beyond = rest.interval(last, 0.95);
    let resolved = beyond.low > drawn.tolerance || beyond.high < -drawn.tolerance;
    let shape = Shape::of(&rest, resolved)?;
    let is_linear = shape.is_a_power && shape.steps.is_empty() && shape.interval.is_inside(LINEAR.0, LINEAR.1);
    let each = rest.values[last] / (rest.levels[last] - rest.base);
    is_linear.then_some((shape, drawn.values[0] - each * rest.base))
}

/// The 90 % interval of the difference lies inside the tolerance at the largest level, as of every other: what goes up and
/// comes down again is not flat.
fn is_flat(drawn: &Drawn) -> bool {
    (0..=drawn.last()).all(|level| drawn.interval(level, 0.90).is_inside(-drawn.tolerance, drawn.tolerance))
}

/// The exponent of a power, and steps where they say more.
struct Shape {
    exponent: f64,
    interval: Interval,
    /// Whether what the power leaves is what chance leaves, and steps say less.
    is_a_power: bool,
    /// The level that each step leads to.
    steps: Vec<usize>,
    /// Akaike's, of the power or the steps, whichever is better.
    criterion: f64,
}

impl Shape {
    fn of(drawn: &Drawn, resolved: bool) -> Option<Self> {
        if !resolved {
            return None;
        }
        let weights = drawn.weights();
        let fitter = PowerFitter::new(&drawn.levels, &weights, drawn.base);
        let power = fitter.fit(&drawn.values);
        let mut exponents: Vec<f64> = drawn.again.iter().map(|values| fitter.fit(values).parameters.exponent).collect();
        let exponent = power.parameters.exponent;
        let interval = interval(&mut exponents, exponent, 0.95, drawn.blocks);
        // The level that is compared with is a point of its own, at 0: a step may come right after it.
        let (mut levels, mut values, mut all_weights) = (vec![drawn.base], vec![0.0], vec![1.0 / WHOLE]);
        levels.extend(&drawn.levels);
        values.extend(&drawn.values);
        all_weights.extend(&weights);
        let stepped = Stepped::of(&Points { levels: &levels, values: &values, weights: &all_weights });
        let power_left = aicc(power.left, 2, levels.len());
        let fits = power.left <= chance_leaves(drawn.levels.len() - 2);
        // The end of all exponents is none.
        let bounded = EXPONENTS.0 + 0.1 < interval.low && interval.high < EXPONENTS.1 - 0.1;
        let is_a_power = fits && bounded && power_left + STEP_MARGIN <= stepped.criterion;
        let is_stepped = stepped.criterion + STEP_MARGIN <= power_left && stepped.explains;
        // A power that does not grow is one step, right after 0 iterations.
        let is_constant =
            drawn.base == 0.0 && (fits && interval.is_inside(-CONSTANT, CONSTANT) || is_flat(&drawn.less_the_first()));
        let steps = match (is_constant, is_stepped) {
            (true, _) => vec![0],
            (false, true) => stepped.places.iter().map(|place| place - 1).collect(),
            (false, false) => Vec::new(),
        };
        Some(Self { exponent, interval, is_a_power, steps, criterion: power_left.min(stepped.criterion) })
    }
}

/// The weighted squares that chance leaves at most, but once in a thousand times: a quantile of the chi-squared
/// distribution. Without freedom nothing is left.
fn chance_leaves(freedom: usize) -> f64 {
    ChiSquared::new(freedom as f64).map_or(0.0, |distribution| distribution.inverse_cdf(1.0 - UNLIKELY))
}

/// The better of one step and two.
struct Stepped {
    /// Akaike's.
    criterion: f64,
    /// Levels before each step.
    places: Vec<usize>,
    /// Whether the steps are nearly all of the growth, and leave what chance leaves.
    explains: bool,
}

impl Stepped {
    fn of(points: &Points<'_>) -> Self {
        let count = points.levels.len();
        let fits = [(1, 3), (2, 5)].map(|(steps, parameters)| {
            let fit = points.steps(steps);
            let fits = count > parameters && fit.left <= chance_leaves(count - parameters);
            (aicc(fit.left, parameters, count), fit.parameters, fits)
        });
        let [one, two] = fits;
        let (criterion, places, fits) = if one.0 <= two.0 { one } else { two };
        let sign = points.values[count - 1].signum();
        let upward: Vec<f64> = points.values.iter().map(|value| value * sign).collect();
        let grown = isotonic(&upward, points.weights);
        let range = grown[count - 1] - grown[0];
        // Chance alone moves both ends.
        let chance = 2.0 * (1.0 / points.weights[0] + 1.0 / points.weights[count - 1]).sqrt();
        let jumps: f64 = places.iter().map(|place| grown[*place] - grown[place - 1]).sum();
        Self { criterion, places, explains: fits && jumps >= STEP_SHARE * range - chance }
    }
}

/// The fewest blocks by which an interval would fall on one side of a rule's border: intervals shrink with the root of the
/// number of blocks.
fn blocks_needed(drawn: &Drawn, shape: Option<&Shape>) -> Option<usize> {
    let more = |half: f64, room: f64| (room > 0.0).then(|| drawn.blocks as f64 * (half / room).powi(2));
    let last = drawn.last();
    let value = drawn.values[last];
    let flat = more(drawn.interval(last, 0.90).half(), drawn.tolerance - value.abs());
    let grows = match shape {
        Some(shape) => {
            let border =
                [LINEAR.0, LINEAR.1].into_iter().map(|border| (shape.exponent - border).abs()).fold(f64::MAX, f64::min);
            more(shape.interval.half(), border)
        }
        None => more(drawn.interval(last, 0.95).half(), value.abs() - drawn.tolerance),
    };
    let fewest = [flat, grows].into_iter().flatten().fold(f64::INFINITY, f64::min);
    (fewest < 10_000.0).then(|| fewest.ceil() as usize)
}

/// The spread of a control: by how many calls the same cell, run twice in every block, differs from itself in nine of ten
/// blocks at most. What is below it is noise.
pub fn noise_floor(first: &[f64], second: &[f64]) -> Option<f64> {
    let mut differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| (a - b).abs()).collect();
    differences.sort_by(f64::total_cmp);
    let place = (0.9 * differences.len().saturating_sub(1) as f64).round() as usize;
    differences.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 7] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];

    fn exact(blocks: usize, of: impl Fn(f64) -> f64) -> Series {
        Series::new(LEVELS.to_vec(), vec![LEVELS.iter().map(|level| of(*level)).collect(); blocks]).unwrap()
    }

    #[test]
    fn exact_counts_have_their_word() {
        let word = |of: &dyn Fn(f64) -> f64| judge(&exact(10, of), Axis::Iterations, true);
        let linear = word(&|n| 7.0 * n);
        assert_eq!((linear.scaling, linear.deterministic, linear.slope), (Scaling::Linear, true, 7.0));
        assert_eq!(word(&|_| 0.0).scaling, Scaling::Flat);
        assert_eq!(word(&|_| 3.0).scaling, Scaling::Flat);
        assert_eq!(word(&|n| (10.0 * n.sqrt()).round()).scaling, Scaling::Sublinear);
        assert_eq!(word(&|n| n * n).scaling, Scaling::Superlinear);
        let step = word(&|n| if n < 100.0 { 0.0 } else { 70.0 });
        assert_eq!((step.scaling, step.steps), (Scaling::Step, vec![(30.0, 100.0)]));
        // What comes with the first iteration and stays is a step there.
        let constant = word(&|_| 12.0);
        assert_eq!((constant.scaling, constant.steps), (Scaling::Step, vec![(0.0, 1.0)]));
        // At the last level a step cannot be told from growth.
        assert_eq!(word(&|n| if n < 1000.0 { 0.0 } else { 250.0 }).scaling, Scaling::Inconclusive);
        // What is not flat in between is not flat.
        assert_ne!(word(&|n| if n == 30.0 { 50.0 } else { 0.0 }).scaling, Scaling::Flat);
    }

    #[test]
    fn on_bytes_the_smallest_size_is_what_is_compared_with() {
        let word = |of: &dyn Fn(f64) -> f64| judge(&exact(10, of), Axis::Bytes, true);
        assert_eq!(word(&|_| 1400.0).scaling, Scaling::Flat);
        assert_eq!(word(&|n| if n < 1000.0 { 1400.0 } else { 1420.0 }).scaling, Scaling::Flat);
        // Right after the smallest size, too.
        let first = word(&|n| if n < 2.0 { 1400.0 } else { 2000.0 });
        assert_eq!((first.scaling, first.steps), (Scaling::Step, vec![(1.0, 3.0)]));
        let two = word(&|n| {
            1400.0
                + if n < 5.0 {
                    0.0
                } else if n < 50.0 {
                    300.0
                } else {
                    900.0
                }
        });
        assert_eq!((two.scaling, two.steps), (Scaling::Step, vec![(3.0, 10.0), (30.0, 100.0)]));
        let step = word(&|n| if n < 300.0 { 1400.0 } else { 2000.0 });
        assert_eq!((step.scaling, step.steps), (Scaling::Step, vec![(100.0, 300.0)]));
        assert_eq!(word(&|n| 1400.0 + 5.0 * n).scaling, Scaling::Linear);
    }

    #[test]
    fn what_a_thread_does_now_and_then_is_not_told_from_time() {
        // Copies on an H200: ten polls a second, of 256 MiB a hundred times 2.8 s. The size that takes long has most.
        let seconds = [0.0007, 0.0019, 0.0081, 0.028, 0.105, 0.393, 2.76];
        let work = |iterations: f64| seconds.map(|seconds| Work { seconds, iterations }).to_vec();
        let levels: Vec<f64> = [4096, 65_536, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28].map(f64::from).to_vec();
        let of = |rows: Vec<Vec<f64>>| Series::new(levels.clone(), rows).unwrap();
        let polls =
            |block: usize| vec![0.0, f64::from(block == 3), 0.0, 0.0, 1.0, 4.0, if block < 5 { 27.0 } else { 28.0 }];
        let series = of((0..10).map(polls).collect());
        assert_eq!(judge(&series, Axis::Bytes, true).scaling, Scaling::Superlinear);
        let verdict = judge(&series.clone().with_work(work(100.0)), Axis::Bytes, true);
        assert_eq!(verdict.scaling, Scaling::Timed);
        assert!((verdict.per_second.unwrap() - 10.0).abs() < 0.5, "{verdict:?}");
        // More than one an iteration is the iteration's own, whatever the time.
        assert_eq!(judge(&series.with_work(work(10.0)), Axis::Bytes, true).scaling, Scaling::Superlinear);
        // As are calls for each megabyte, a step, and both in time that grows with the calls.
        for of_size in [|bytes: f64| (bytes / 1_048_576.0).floor(), |bytes: f64| if bytes < 3e6 { 0.0 } else { 700.0 }]
        {
            let calls: Vec<f64> = levels.iter().map(|bytes| of_size(*bytes)).collect();
            let work = calls.iter().map(|calls| Work { seconds: calls * 1e-5, iterations: 100.0 }).collect();
            let series = of(vec![calls; 10]).with_work(work);
            assert!(matches!(judge(&series, Axis::Bytes, true).scaling, Scaling::Linear | Scaling::Step));
        }
        // Rarer than once an iteration, in proportion to repetition: both are said.
        let each = |calls: f64| {
            let work = LEVELS.iter().map(|n| Work { seconds: n * 1e-3, iterations: *n }).collect();
            judge(&exact(10, |n| calls * n).with_work(work), Axis::Iterations, true)
        };
        let rare = each(0.5);
        assert_eq!(rare.scaling, Scaling::Linear);
        assert!((rare.per_second.unwrap() - 500.0).abs() < 1.0);
        assert_eq!((each(2.0).scaling, each(2.0).per_second), (Scaling::Linear, None));
    }

    #[test]
    fn what_stays_after_the_first_iteration_is_a_step_there() {
        // A second thread from 300 iterations on, within what is no growth (`hip-cpu launch`).
        let verdict = judge(&exact(10, |n| if n < 300.0 { 7.0 } else { 14.0 }), Axis::Iterations, true);
        assert_eq!((verdict.scaling, verdict.steps), (Scaling::Step, vec![(0.0, 1.0)]));
    }

    #[test]
    fn too_few_blocks_say_nothing_and_how_many_would() {
        let verdict = judge(&exact(9, |n| 7.0 * n), Axis::Iterations, true);
        assert_eq!((verdict.scaling, verdict.blocks_needed), (Scaling::Inconclusive, Some(LEAST_BLOCKS)));
    }

    #[test]
    fn too_few_levels_or_too_near_ones_say_nothing() {
        let of = |levels: &[f64]| {
            let row: Vec<f64> = levels.iter().map(|n| 2.0 * n).collect();
            judge(&Series::new(levels.to_vec(), vec![row; 10]).unwrap(), Axis::Iterations, true).scaling
        };
        assert_eq!(of(&[1.0, 10.0, 100.0, 1000.0]), Scaling::Inconclusive);
        assert_eq!(of(&[100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0]), Scaling::Inconclusive);
        assert_eq!(of(&LEVELS), Scaling::Linear);
    }

    #[test]
    fn many_questions_at_once_have_answers() {
        let probabilities = vec![effect(&exact(10, |n| 2.0 * n), Axis::Iterations); 500];
        assert!(holm(&probabilities).iter().all(|there| *there));
        assert!(effect(&exact(10, |_| 0.0), Axis::Iterations) > 0.9);
    }

    #[test]
    fn an_effect_that_is_not_there_has_no_shape() {
        let verdict = judge(&exact(10, |n| 7.0 * n), Axis::Iterations, false);
        assert_eq!((verdict.scaling, verdict.exponent), (Scaling::Inconclusive, None));
    }

    #[test]
    fn what_chance_leaves_is_that_of_scipy() {
        // scipy.stats.chi2.ppf(0.999, [5, 7, 10]) is 20.515, 24.322, 29.588.
        for (freedom, quantile) in [(5, 20.515), (7, 24.322), (10, 29.588)] {
            assert!((chance_leaves(freedom) / quantile - 1.0_f64).abs() < 1e-4, "{freedom}");
        }
    }

    #[test]
    fn holm_is_that_of_statsmodels() {
        // multipletests([0.01, 0.04, 0.03, 0.005], method="holm") rejects the first and the last.
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.005]), [true, false, false, true]);
        assert_eq!(holm(&[]), [false; 0]);
    }

    #[test]
    fn the_same_cell_twice_shows_the_noise() {
        assert_eq!(noise_floor(&[5.0; 10], &[5.0; 10]), Some(0.0));
        assert_eq!(noise_floor(&[1.0, 2.0, 3.0], &[1.0, 4.0, 3.0]), Some(2.0));
        assert_eq!(noise_floor(&[], &[]), None);
    }
}
