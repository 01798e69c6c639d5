//! Two shapes that counts along an axis may have: a power of the level, or one or two steps.

/// Values at levels, each with a weight (one over its variance).
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// Levels, growing, above 0.
    pub levels: &'a [f64],
    /// One value for each.
    pub values: &'a [f64],
    /// One weight for each.
    pub weights: &'a [f64],
}

/// A fit, with the weighted sum of squares that it leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit<P> {
    /// What was fitted.
    pub parameters: P,
    /// Weighted squares of what is left.
    pub left: f64,
}

/// `factor · level ^ exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    /// Value at level 1.
    pub factor: f64,
    /// 1 is proportional.
    pub exponent: f64,
}

/// Exponents that are looked at, and how far apart; what lies outside is as good as the end.
pub(crate) const EXPONENTS: (f64, f64) = (-1.0, 4.0);
pub(crate) const APART: f64 = 0.02;

/// Fits powers to many values at the same levels, of which only the values differ.
#[derive(Clone, Debug)]
pub struct PowerFitter {
    /// For each exponent: weight times power at each level, and the sum of weight times power squared.
    exponents: Vec<(f64, Vec<f64>, f64)>,
    weights: Vec<f64>,
    largest: f64,
}

impl PowerFitter {
    /// For these levels, growing, above 0, and weights. What is fitted is how much a power grows from `base` on, a level
    /// below all of them, or 0.
    pub fn new(levels: &[f64], weights: &[f64], base: f64) -> Self {
        // Levels as shares of the largest: no power of them is too large for a float.
        let largest = levels[levels.len() - 1];
        let looks = ((EXPONENTS.1 - EXPONENTS.0) / APART).round() as usize;
        let exponents = (0..=looks).map(|look| {
            let exponent = EXPONENTS.0 + look as f64 * APART;
            let ground = if base > 0.0 { (base / largest).powf(exponent) } else { 0.0 };
            let powers: Vec<f64> = levels.iter().map(|level| (level / largest).powf(exponent) - ground).collect();
            let down = powers.iter().zip(weights).map(|(power, weight)| weight * power * power).sum();
            let up = powers.iter().zip(weights).map(|(power, weight)| weight * power).collect();
            (exponent, up, down)
        });
        Self { exponents: exponents.collect(), weights: weights.to_vec(), largest }
    }

    /// The power that leaves least: the best exponent of all looks, made finer by a parabola through its neighbours.
    pub fn fit(&self, values: &[f64]) -> Fit<Power> {
        let all: f64 = values.iter().zip(&self.weights).map(|(value, weight)| weight * value * value).sum();
        // Least squares: what is left is all of it less what the best factor explains.
        let look = |index: usize| {
            let (_, up, down) = &self.exponents[index];
            let product: f64 = values.iter().zip(up).map(|(value, up)| value * up).sum();
            // An exponent of 0 from a base on is no growth at all.
            if *down > 0.0 { (product / down, all - product * product / down) } else { (0.0, all) }
        };
        let mut best = (0, look(0));
        for index in 1..self.exponents.len() {
            let found = look(index);
            if found.1 < best.1.1 {
                best = (index, found);
            }
        }
        let (index, (top, left)) = best;
        let mut exponent = self.exponents[index].0;
        if index > 0 && index + 1 < self.exponents.len() {
            let (before, after) = (look(index - 1).1, look(index + 1).1);
            let bend = before - 2.0 * left + after;
            if bend > 0.0 {
                exponent += APART * (before - after) / (2.0 * bend);
            }
        }
        Fit { parameters: Power { factor: top * self.largest.powf(-exponent), exponent }, left: left.max(0.0) }
    }
}

impl Points<'_> {
    /// The best of so many steps, one or two; the parameters are the number of levels before each. After the last step
    /// come two levels at least: one alone cannot be told from growth that goes on.
    pub fn steps(&self, count: usize) -> Fit<Vec<usize>> {
        let levels = self.levels.len();
        let ends = levels.saturating_sub(1);
        let mut best = Fit { parameters: Vec::new(), left: f64::INFINITY };
        let mut look = |places: Vec<usize>| {
            let ends = places.iter().copied().chain([levels]);
            let left =
                std::iter::once(0).chain(places.iter().copied()).zip(ends).map(|(from, to)| self.spread(from, to));
            let left = left.sum();
            if left < best.left {
                best = Fit { parameters: places, left };
            }
        };
        match count {
            1 => (1..ends).for_each(|place| look(vec![place])),
            _ => (1..ends).for_each(|first| (first + 1..ends).for_each(|second| look(vec![first, second]))),
        }
        best
    }

    /// Weighted squares around the weighted mean of a stretch of levels.
    fn spread(&self, from: usize, to: usize) -> f64 {
        let (values, weights) = (&self.values[from..to], &self.weights[from..to]);
        let weight: f64 = weights.iter().sum();
        let mean = values.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>() / weight;
        values.iter().zip(weights).map(|(value, weight)| weight * (value - mean).powi(2)).sum()
    }
}

/// Akaike's criterion for small samples (Hurvich and Tsai 1989), variances known: the smaller, the better. Infinite where
/// there are too few points for so many parameters.
pub fn aicc(left: f64, parameters: usize, points: usize) -> f64 {
    if points <= parameters + 1 {
        return f64::INFINITY;
    }
    let (k, n) = (parameters as f64, points as f64);
    left + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0)
}

/// The growing values that leave least (pool adjacent violators; as `sklearn.isotonic.isotonic_regression`).
pub fn isotonic(values: &[f64], weights: &[f64]) -> Vec<f64> {
    // Mean, weight and length of each pool.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (value, weight) in values.iter().zip(weights) {
        let mut pool = (*value, *weight, 1);
        while let Some((mean, weight, length)) = pools.pop_if(|(mean, ..)| *mean > pool.0) {
            let sum = weight + pool.1;
            pool = ((mean * weight + pool.0 * pool.1) / sum, sum, length + pool.2);
        }
        pools.push(pool);
    }
    pools.into_iter().flat_map(|(mean, _, length)| std::iter::repeat_n(mean, length)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_found_again() {
        let levels = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
        for exponent in [0.0, 0.5, 1.0, 1.5, 2.0] {
            let values: Vec<f64> = levels.iter().map(|level: &f64| 7.0 * level.powf(exponent)).collect();
            let fit = PowerFitter::new(&levels, &[1.0; 7], 0.0).fit(&values);
            assert!((fit.parameters.exponent - exponent).abs() < 1e-3, "{fit:?}");
            assert!((fit.parameters.factor - 7.0).abs() < 0.1, "{fit:?}");
        }
        // Between two looks, with noise.
        for exponent in [0.613, 1.127, 1.509] {
            let values: Vec<f64> = levels.iter().map(|level: &f64| (7.0 * level.powf(exponent)).round()).collect();
            let fit = PowerFitter::new(&levels, &[1.0; 7], 0.0).fit(&values);
            assert!((fit.parameters.exponent - exponent).abs() < 1e-3, "{fit:?}");
        }
    }

    #[test]
    fn growth_from_a_base_on_is_a_power_too() {
        let levels = [4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
        let values: Vec<f64> = levels.iter().map(|level: &f64| level.sqrt() - 1.0).collect();
        let fit = PowerFitter::new(&levels, &[1.0; 6], 1.0).fit(&values);
        assert!((fit.parameters.exponent - 0.5).abs() < 1e-3 && fit.left < 1e-3, "{fit:?}");
    }

    #[test]
    fn steps_are_found_where_they_are() {
        let levels = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        let points = |values: &[f64; 7], count| Points { levels: &levels, values, weights: &[1.0; 7] }.steps(count);
        let one = points(&[0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0], 1);
        assert_eq!((one.parameters, one.left), (vec![3], 0.0));
        let two = points(&[0.0, 0.0, 3.0, 3.0, 3.0, 9.0, 9.0], 2);
        assert_eq!((two.parameters, two.left), (vec![2, 5], 0.0));
    }

    #[test]
    fn isotonic_regression_is_that_of_sklearn() {
        // isotonic_regression([1, 3, 2, 4, 3, 5]) and with sample_weight [1, 3, 1, 1, 1, 1].
        assert_eq!(isotonic(&[1.0, 3.0, 2.0, 4.0, 3.0, 5.0], &[1.0; 6]), [1.0, 2.5, 2.5, 3.5, 3.5, 5.0]);
        let weighted = isotonic(&[1.0, 3.0, 2.0, 4.0, 3.0, 5.0], &[1.0, 3.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(weighted, [1.0, 2.75, 2.75, 3.5, 3.5, 5.0]);
    }

    #[test]
    fn small_samples_pay_for_parameters() {
        assert_eq!(aicc(1.0, 2, 7), 1.0 + 4.0 + 12.0 / 4.0);
        assert_eq!(aicc(0.0, 5, 6), f64::INFINITY);
    }
}
