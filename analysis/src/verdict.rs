//! How a count scales along an axis, in one word, with what the word rests on. `tests/simulated.rs` says how often the rules are
//! wrong where the truth is known, `docs/verdicts.md` which of them were changed after data was seen.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use crate::{
    axis::{Axis, short},
    fit::{EXPONENTS, Points, PowerFitter, aicc, isotonic},
    resample::{Interval, draws, interval},
    series::{Others, Series, Work},
};

/// Version of all rules here and in [`crate::claims`], [`crate::variants`], [`crate::execution`] and [`crate::predictions`]: a
/// dataset says by which it was begun. `docs/verdicts.md` says which were changed after data was seen.
pub const RULES: &str = "5";

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
/// Growth must have begun before the last level: the one before has this share of it.
const BEGUN: f64 = 0.06;
/// Or two levels before it have at least this number of calls: more than a call that comes once, and rounding.
const MANY: f64 = 5.0;
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
/// Rates that are as many times apart at most are one.
pub const SAME_RATE: f64 = 1.2;
/// The fastest heartbeat, in calls a second, that is accepted where a dataset does not say which thread made a call. A faster
/// one counts as a cost of the work. A choice, not a measurement.
const FASTEST_HEARTBEAT: f64 = 100.0;
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
    /// Calls by which the same cell differs from itself; an effect is one beyond that.
    pub noise: f64,
    /// How many blocks would settle it, where that can be said.
    pub blocks_needed: Option<usize>,
}

impl Verdict {
    /// The slope, or from where to where it may lie when that is more than what is no growth and a hundredth of it: a program that
    /// makes five calls an iteration in one run and seven in the next makes five to seven.
    #[must_use]
    pub fn slope_words(&self) -> String {
        let Interval { low, high } = self.slope_95;
        let exact = (FLAT_CALLS_PER_ITERATION).max(0.01 * self.slope.abs());
        if high - low > 2.0 * exact { format!("{} to {}", short(low), short(high)) } else { short(self.slope) }
    }
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
    /// Differences up to here may be chance: those of the same cell run twice.
    noise: f64,
    /// Whether all blocks have the same counts.
    is_exact: bool,
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
        let drawn = Self {
            tolerance,
            noise: series.noise(),
            is_exact: series.is_deterministic(),
            base: 0.0,
            again: again.collect(),
            values: medians,
            blocks: whole.len(),
            levels,
        };
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
            noise: self.noise,
            is_exact: self.is_exact,
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

    /// The same, no wider than what the draws show: counts are whole, and one that is 0 or 1 never differs by more than 1.
    fn interval_of_draws(&self, level: usize, share: f64) -> Interval {
        let Interval { low, high } = self.interval(level, share);
        let drawn = || self.again.iter().map(|values| values[level]);
        Interval { low: low.max(drawn().fold(f64::MAX, f64::min)), high: high.min(drawn().fold(f64::MIN, f64::max)) }
    }

    /// Where exact counts change, when that is at one or two levels; the first is compared with what is before it.
    fn exact_steps(&self) -> Option<Vec<usize>> {
        let before = |level: usize| if level == 0 { 0.0 } else { self.values[level - 1] };
        let places: Vec<usize> =
            (0..self.levels.len()).filter(|level| (self.values[*level] - before(*level)).abs() > 0.0).collect();
        (self.is_exact && (1..=2).contains(&places.len())).then_some(places)
    }

    /// Whether an interval lies beyond what is no growth, and beyond chance.
    fn is_beyond(&self, interval: Interval) -> bool {
        let least = self.tolerance.max(self.noise);
        interval.low > least || interval.high < -least
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
    let drawn_95 = drawn.interval_of_draws(last, 0.95);
    let mut verdict = Verdict {
        scaling: Scaling::Inconclusive,
        blocks: drawn.blocks,
        deterministic: series.is_deterministic(),
        difference: drawn.values[last],
        difference_95,
        slope: per_unit(drawn.values[last]),
        slope_95: Interval { low: per_unit(drawn_95.low), high: per_unit(drawn_95.high) },
        exponent: None,
        exponent_95: None,
        once: None,
        per_second: None,
        steps: Vec::new(),
        noise: drawn.noise,
        blocks_needed: None,
    };
    // An effect that counts: what may be as small as no growth is none.
    let resolved = is_rejected && drawn.is_beyond(difference_95);
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
        verdict.slope_95 = Interval { low: each(drawn_95.low), high: each(drawn_95.high) };
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
        Some(shape) if !shape.is_a_power && shape.is_a_logarithm => Scaling::Sublinear,
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
    // A constant rate is a hypothesis: other threads must be seen to have it, or it is one that a heartbeat may have.
    let rate = rate.filter(|rate| match series.others() {
        Others::Unknown => rate.per_second <= FASTEST_HEARTBEAT,
        // Known to a factor of two, so that it is not absence of evidence.
        Others::Apart(_, seen) => {
            let is_known = seen.low > 0.0 && seen.high <= 2.0 * seen.low;
            is_known && (seen.low / SAME_RATE..=seen.high * SAME_RATE).contains(&rate.per_second)
        }
    });
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
    let resolved = rest.is_beyond(rest.interval(last, 0.95));
    let shape = Shape::of(&rest, resolved)?;
    let is_linear = shape.is_a_power && shape.steps.is_empty() && shape.interval.is_inside(LINEAR.0, LINEAR.1);
    let each = rest.values[last] / (rest.levels[last] - rest.base);
    is_linear.then_some((shape, drawn.values[0] - each * rest.base))
}

/// The 90 % interval of the difference lies inside the tolerance at the largest level, as of every other: what goes up and
/// comes down again is not flat.
fn is_flat(drawn: &Drawn) -> bool {
    (0..=drawn.last()).all(|level| drawn.interval_of_draws(level, 0.90).is_inside(-drawn.tolerance, drawn.tolerance))
}

/// The exponent of a power, and steps where they say more.
struct Shape {
    exponent: f64,
    interval: Interval,
    /// Whether what the power leaves is what chance leaves, and steps say less.
    is_a_power: bool,
    /// Whether the same is true of a logarithm.
    is_a_logarithm: bool,
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
        // Growth that goes on must be better than growth that ended before the first level.
        let goes_on = |criterion: f64| criterion + STEP_MARGIN <= stepped.criterion.min(constant(drawn, &weights));
        // What only the last level has is a step or a steep power, and neither is shown.
        let size = |level: usize| drawn.values[level].abs();
        let last = drawn.last();
        let has_begun = last > 0 && size(last - 1) >= BEGUN * size(last);
        let is_seen_twice = has_begun || (0..last).filter(|level| size(*level) >= MANY).count() >= 2;
        let is_a_power = fits && bounded && is_seen_twice && goes_on(power_left);
        let is_stepped = stepped.criterion + STEP_MARGIN <= power_left && stepped.explains;
        // What does not change after the first level is one step, right before it.
        let is_constant =
            is_flat(&drawn.less_the_first()) || drawn.base == 0.0 && fits && interval.is_inside(-CONSTANT, CONSTANT);
        let steps = match (is_constant, is_stepped) {
            (true, _) => drawn.exact_steps().unwrap_or_else(|| vec![0]),
            (false, true) => stepped.places.iter().map(|place| place - 1).collect(),
            (false, false) => Vec::new(),
        };
        let (log_left, log_parameters) = logarithm(drawn, &weights);
        let log_criterion = aicc(log_left, log_parameters, levels.len());
        let is_a_logarithm = log_left <= chance_leaves(drawn.levels.len() - log_parameters)
            && goes_on(log_criterion)
            && log_criterion + STEP_MARGIN <= power_left;
        let criterion = power_left.min(stepped.criterion);
        Some(Self { exponent, interval, is_a_power, is_a_logarithm, steps, criterion })
    }
}

/// Akaike's criterion of one value at every level.
fn constant(drawn: &Drawn, weights: &[f64]) -> f64 {
    let sum = |of: &dyn Fn(usize) -> f64| (0..weights.len()).map(|at| weights[at] * of(at)).sum::<f64>();
    let mean = sum(&|at| drawn.values[at]) / sum(&|_| 1.0);
    aicc(sum(&|at| (drawn.values[at] - mean).powi(2)), 1, weights.len() + 1)
}

/// What a logarithm of the level leaves, and how many numbers it has: growth with each doubling. Along iterations, what comes with
/// the first one is a number of its own.
fn logarithm(drawn: &Drawn, weights: &[f64]) -> (f64, usize) {
    let from = if drawn.base > 0.0 { drawn.base } else { 1.0 };
    let logs: Vec<f64> = drawn.levels.iter().map(|level| (level / from).ln()).collect();
    let sum = |of: &dyn Fn(usize) -> f64| (0..logs.len()).map(|at| weights[at] * of(at)).sum::<f64>();
    let (mean_log, mean_value) = if drawn.base > 0.0 {
        (0.0, 0.0)
    } else {
        (sum(&|at| logs[at]) / sum(&|_| 1.0), sum(&|at| drawn.values[at]) / sum(&|_| 1.0))
    };
    let down = sum(&|at| (logs[at] - mean_log).powi(2));
    let slope = sum(&|at| (logs[at] - mean_log) * (drawn.values[at] - mean_value)) / down;
    let left = sum(&|at| (drawn.values[at] - mean_value - slope * (logs[at] - mean_log)).powi(2));
    (left, if drawn.base > 0.0 { 1 } else { 2 })
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
    // Every level must be flat: the one that needs most decides.
    let of_level = |level: usize| more(drawn.interval(level, 0.90).half(), drawn.tolerance - drawn.values[level].abs());
    let flat = (0..=last).map(of_level).reduce(|most, blocks| Some(most?.max(blocks?))).flatten();
    let grows = match shape {
        // Blocks narrow an exponent; they make no power of what is none.
        Some(shape) if !shape.is_a_power => None,
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
            let work = LEVELS.iter().map(|n| Work { seconds: n * 1e-2, iterations: *n }).collect();
            judge(&exact(10, |n| calls * n).with_work(work), Axis::Iterations, true)
        };
        let rare = each(0.5);
        assert_eq!(rare.scaling, Scaling::Linear);
        assert!((rare.per_second.unwrap() - 50.0).abs() < 1.0);
        assert_eq!((each(2.0).scaling, each(2.0).per_second), (Scaling::Linear, None));
    }

    #[test]
    fn a_rate_that_no_thread_has_is_no_heartbeat() {
        let levels = [4096, 65_536, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28].map(f64::from);
        let of = |per_second: f64, others: Others| {
            let seconds = levels.map(|bytes| 1e-3 + bytes * 1e-8);
            let rows = vec![seconds.map(|seconds| (per_second * seconds).floor()).to_vec(); 10];
            let work = seconds.map(|seconds| Work { seconds, iterations: 1e6 }).to_vec();
            let series = Series::new(levels.to_vec(), rows).unwrap().with_work(work).with_others(others);
            judge(&series, Axis::Bytes, true).scaling
        };
        let apart = |rate: f64| Others::Apart(rate, Interval { low: 0.9 * rate, high: 1.1 * rate });
        assert_eq!(of(10.0, Others::Unknown), Scaling::Timed);
        // A cost of each call, however well a rate fits it.
        assert_ne!(of(15_000.0, Others::Unknown), Scaling::Timed);
        assert_eq!(of(10.0, apart(10.0)), Scaling::Timed);
        assert_ne!(of(10.0, apart(0.0)), Scaling::Timed);
    }

    #[test]
    fn a_step_right_after_the_smallest_size_is_seen_at_the_levels_of_the_plan() {
        let levels = [4096, 65_536, 1 << 20, 1 << 23, 1 << 25, 1 << 26, 1 << 28].map(f64::from);
        for after in [1500.0, 1700.0] {
            for jitter in [0.0, 1.0] {
                let row = |block: usize| {
                    levels
                        .map(|bytes| if bytes < 5000.0 { 1400.0 } else { after + jitter * (block % 3) as f64 })
                        .to_vec()
                };
                let series = Series::new(levels.to_vec(), (0..10).map(row).collect()).unwrap();
                let verdict = judge(&series, Axis::Bytes, true);
                assert_eq!((verdict.scaling, verdict.steps), (Scaling::Step, vec![(4096.0, 65_536.0)]), "{after}");
            }
        }
        // The same down: not a power.
        let row = levels.map(|bytes| if bytes < 5000.0 { 1596.0 } else { 1500.0 }).to_vec();
        let fall = judge(&Series::new(levels.to_vec(), vec![row; 10]).unwrap(), Axis::Bytes, true);
        assert_eq!((fall.scaling, fall.difference), (Scaling::Step, -96.0));
    }

    /// As `malloc` of HIP-CPU, which asks for each piece from its threshold on, the last size of the plan.
    #[test]
    fn what_only_the_largest_size_has_is_neither_a_step_nor_a_power() {
        let levels = [4, 16, 64, 256, 1024, 4096, 16_384, 65_536].map(|kib| f64::from(kib) * 1024.0);
        let counts = [101.0, 101.0, 101.0, 102.0, 102.0, 102.0, 102.0, 301.0];
        let series = Series::new(levels.to_vec(), vec![counts.to_vec(); 10]).unwrap();
        assert_eq!(judge(&series, Axis::Bytes, true).scaling, Scaling::Inconclusive);
        let rising = [[&counts[..6], &[111.0, 301.0][..]].concat(), [&counts[..6], &[105.0, 301.0][..]].concat()];
        for row in rising {
            let series = Series::new(levels.to_vec(), vec![row; 10]).unwrap();
            assert_eq!(judge(&series, Axis::Bytes, true).scaling, Scaling::Inconclusive);
        }
        // Where growth has begun, a last level that is far away hides nothing.
        let far = |levels: &[f64], of: fn(f64) -> f64, axis| {
            let row: Vec<f64> = levels.iter().map(|level| of(*level)).collect();
            judge(&Series::new(levels.to_vec(), vec![row; 10]).unwrap(), axis, true).scaling
        };
        assert_eq!(far(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 2000.0], |n| 7.0 * n, Axis::Iterations), Scaling::Linear);
        let decades = [1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6];
        assert_eq!(far(&decades, |n| n * n, Axis::Iterations), Scaling::Superlinear);
        // A level beyond it settles it.
        let mut beyond = levels.to_vec();
        beyond.push(4.0 * levels[7]);
        let row = [&counts[..], &counts[7..]].concat();
        let settled = judge(&Series::new(beyond, vec![row; 10]).unwrap(), Axis::Bytes, true);
        assert_eq!((settled.scaling, settled.steps), (Scaling::Step, vec![(levels[6], levels[7])]));
    }

    #[test]
    fn a_logarithm_is_sublinear_whatever_it_is_multiplied_by() {
        for factor in [10.0, 30.0, 100.0, 1000.0] {
            for once in [0.0, 50.0] {
                let verdict = judge(&exact(10, |n| (once + factor * n.log2()).round()), Axis::Iterations, true);
                assert_eq!(verdict.scaling, Scaling::Sublinear, "{factor} {once}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_count_of_none_or_one_is_flat_along_bytes() {
        let mut state = 1_u64;
        let mut coin = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) % 2
        };
        for _ in 0..20 {
            let rows = (0..10).map(|_| LEVELS.iter().map(|_| coin() as f64).collect()).collect();
            let series = Series::new(LEVELS.to_vec(), rows).unwrap();
            let word = judge(&series, Axis::Bytes, effect(&series, Axis::Bytes) <= 0.05).scaling;
            assert_eq!(word, Scaling::Flat);
        }
    }

    #[test]
    fn what_differs_from_itself_is_no_effect_and_a_slope_says_how_far_it_is_known() {
        let coin = |block: usize| if block.is_multiple_of(2) { 5.0 } else { 7.0 };
        let rows = (0..10).map(|block| LEVELS.iter().map(|n| coin(block) * n).collect()).collect();
        let series = Series::new(LEVELS.to_vec(), rows).unwrap().with_noise(2000.0);
        let verdict = judge(&series, Axis::Iterations, true);
        assert_eq!((verdict.scaling, verdict.slope_words().as_str()), (Scaling::Linear, "5 to 7"));
        // Twice as much from itself as there is: nothing is shown.
        assert_eq!(judge(&series.with_noise(12_000.0), Axis::Iterations, true).scaling, Scaling::Inconclusive);
        assert_eq!(judge(&exact(10, |n| 7.0 * n), Axis::Iterations, true).slope_words(), "7");
    }

    #[test]
    fn blocks_are_wanted_for_every_level_that_the_rule_looks_at() {
        // The last level is settled; the one before it is not.
        let rows = (0..10_u32).map(|block| {
            LEVELS.iter().map(|n| if *n == 300.0 { 24.0 * f64::from(block % 2) - 3.0 } else { 0.0 }).collect()
        });
        let verdict = judge(&Series::new(LEVELS.to_vec(), rows.collect()).unwrap(), Axis::Iterations, false);
        assert_eq!(verdict.scaling, Scaling::Inconclusive);
        assert!(verdict.blocks_needed.is_some_and(|blocks| blocks > 10), "{verdict:?}");
    }

    #[test]
    fn what_stays_after_the_first_iteration_is_a_step_there() {
        // A second thread from 300 iterations on, within what is no growth (`hip-cpu launch`).
        let verdict = judge(&exact(10, |n| if n < 300.0 { 7.0 } else { 14.0 }), Axis::Iterations, true);
        assert_eq!((verdict.scaling, verdict.steps), (Scaling::Step, vec![(0.0, 1.0), (100.0, 300.0)]));
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
