//! What was counted along an axis: one row for each block, one column for each level.

use crate::resample::{Interval, median};

/// Counts of one thing (a role, a category, a call) along one axis, start-up subtracted.
///
/// `values[block][level]` is the count of a cell minus the count of the cell of the same block with `iters = 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Bytes or iterations, growing, above 0.
    levels: Vec<f64>,
    values: Vec<Vec<f64>>,
    /// How long the work took and how many iterations it had, one for each level.
    work: Option<Vec<Work>>,
    /// What is known of the threads that are not the work's.
    others: Others,
    /// By how much the same cell, run twice in a block, differs from itself.
    noise: f64,
}

/// What other threads do while the work is done, as those of a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Others {
    /// The counts are those of all threads together: the dataset does not say which thread made a call.
    #[default]
    Unknown,
    /// They are not among the counts. They make calls at this rate, a second, with its 95 % interval.
    Apart(f64, Interval),
}

/// The timed work of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// How long it took.
    pub seconds: f64,
    /// How often the unit of work was issued.
    pub iterations: f64,
}

/// Why numbers are no series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesError {
    /// Fewer than three levels, or not growing.
    Levels,
    /// No block, or one that has not a finite value for each level.
    Blocks,
}

impl std::fmt::Display for SeriesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Levels => "a series needs three levels or more, each larger than the one before and than 0",
            Self::Blocks => "a series needs blocks with a number for every level",
        })
    }
}

impl std::error::Error for SeriesError {}

impl Series {
    /// # Errors
    /// See [`SeriesError`].
    pub fn new(levels: Vec<f64>, values: Vec<Vec<f64>>) -> Result<Self, SeriesError> {
        let grows = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.len() < 3 || !grows || levels[0] <= 0.0 {
            return Err(SeriesError::Levels);
        }
        let whole = |row: &Vec<f64>| row.len() == levels.len() && row.iter().all(|value| value.is_finite());
        if values.is_empty() || !values.iter().all(whole) {
            return Err(SeriesError::Blocks);
        }
        Ok(Self { levels, values, work: None, others: Others::Unknown, noise: 0.0 })
    }

    /// With the work of each level: what a runtime does now and then counts with its time.
    #[must_use]
    pub fn with_work(self, work: Vec<Work>) -> Self {
        let is_whole = work.len() == self.levels.len() && work.iter().all(|work| work.seconds.is_finite());
        Self { work: is_whole.then_some(work), ..self }
    }

    /// With what other threads do meanwhile.
    #[must_use]
    pub fn with_others(self, others: Others) -> Self {
        Self { others, ..self }
    }

    /// With what the same cell differs from itself by: an effect is one beyond that.
    #[must_use]
    pub fn with_noise(self, noise: f64) -> Self {
        Self { noise, ..self }
    }

    /// What is known of other threads.
    pub fn others(&self) -> Others {
        self.others
    }

    /// By how much the same cell differs from itself; 0 where it was not run twice.
    pub fn noise(&self) -> f64 {
        self.noise
    }

    /// The work of each level, where it is known.
    pub fn work(&self) -> Option<&[Work]> {
        self.work.as_deref()
    }

    /// The levels of the axis.
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.values.len()
    }

    /// The counts of one level, block by block.
    pub fn of_level(&self, level: usize) -> Vec<f64> {
        self.values.iter().map(|row| row[level]).collect()
    }

    /// Whether every block has the same counts.
    pub fn is_deterministic(&self) -> bool {
        self.values.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The middle of each level over the blocks with these numbers, of which some may come more than once.
    pub fn medians(&self, blocks: &[usize]) -> Vec<f64> {
        let mut column = Vec::with_capacity(blocks.len());
        (0..self.levels.len())
            .map(|level| {
                column.clear();
                column.extend(blocks.iter().map(|block| self.values[*block][level]));
                median(&mut column)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_series_is_refused() {
        let of = |levels: &[f64], values: &[&[f64]]| {
            Series::new(levels.to_vec(), values.iter().map(|row| row.to_vec()).collect())
        };
        assert_eq!(of(&[1.0, 2.0], &[&[1.0, 2.0]]), Err(SeriesError::Levels));
        assert_eq!(of(&[0.0, 2.0, 3.0], &[&[1.0, 2.0, 3.0]]), Err(SeriesError::Levels));
        assert_eq!(of(&[1.0, 1.0, 3.0], &[&[1.0, 2.0, 3.0]]), Err(SeriesError::Levels));
        assert_eq!(of(&[1.0, 2.0, 3.0], &[]), Err(SeriesError::Blocks));
        assert_eq!(of(&[1.0, 2.0, 3.0], &[&[1.0, f64::NAN, 3.0]]), Err(SeriesError::Blocks));
        let series = of(&[1.0, 2.0, 3.0], &[&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]]).unwrap();
        assert_eq!(series.medians(&[0, 0, 1, 1]), [2.0, 2.0, 2.0]);
        assert!(!series.is_deterministic());
    }
}
