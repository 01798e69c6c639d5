//! What is learnt of jobs: how long the last ones took, and how late sleeps to a time end.
//! From both follows when to wake up for the next one.

/// How many of the last values count.
pub const REMEMBERED: usize = 32;
/// Fewer than this say nothing yet.
pub const LEAST: usize = 8;
/// What is left between waking up and the earliest end, nanoseconds.
const MARGIN: u64 = 3_000;

/// The last values of something, nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct History {
    values: [u64; REMEMBERED],
    /// A bit for each value that is one of [`History::add_at_most`].
    at_most: u32,
    count: usize,
}

impl History {
    /// Adds one; the oldest goes.
    pub fn add(&mut self, value: u64) {
        let place = self.count % REMEMBERED;
        self.values[place] = value;
        self.at_most &= !(1 << place);
        self.count += 1;
    }

    /// Adds one that is known to be no greater than this.
    pub fn add_at_most(&mut self, value: u64) {
        let place = self.count % REMEMBERED;
        self.values[place] = value;
        self.at_most |= 1 << place;
        self.count += 1;
    }

    /// The values of one kind, the smallest first.
    fn sorted(&self, are_at_most: bool) -> ([u64; REMEMBERED], usize) {
        let mut values = [0; REMEMBERED];
        let mut count = 0;
        for place in (0..self.len()).filter(|place| (self.at_most >> place & 1 == 1) == are_at_most) {
            values[count] = self.values[place];
            count += 1;
        }
        values[..count].sort_unstable();
        (values, count)
    }

    /// The exact ones; of none the others.
    fn best(&self) -> ([u64; REMEMBERED], usize) {
        let exact = self.sorted(false);
        if exact.1 > 0 { exact } else { self.sorted(true) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.min(REMEMBERED)
    }

    /// Whether one of them is exact.
    pub fn has_exact(&self) -> bool {
        self.sorted(false).1 > 0
    }

    /// The one in the middle; `None` of none.
    pub fn median(&self) -> Option<u64> {
        let (values, count) = self.best();
        (count > 0).then(|| values[count / 2])
    }

    /// The one in the middle of the distances from the median; `None` of none.
    pub fn deviation(&self) -> Option<u64> {
        let median = self.median()?;
        let (mut values, count) = self.best();
        values[..count].iter_mut().for_each(|value| *value = value.abs_diff(median));
        values[..count].sort_unstable();
        Some(values[count / 2])
    }

    /// The greatest; `None` of none.
    pub fn greatest(&self) -> Option<u64> {
        let (values, count) = self.best();
        values[..count].last().copied()
    }

    /// The latest of the values at which waking up would have been late by no more than `budget` ‰ of the median, on average.
    /// Without a budget the earliest, also of those that are known to be at most so long. `None` of none.
    pub fn wake_up(&self, budget: u32) -> Option<u64> {
        let (values, count) = self.best();
        if count == 0 {
            return None;
        }
        let allowed = values[count / 2] as f64 * f64::from(budget) / 1e3 * count as f64;
        let mut late = 0.0;
        let mut place = 0;
        // From each value to the next, all that are earlier become later by the difference.
        while place + 1 < count {
            late += (values[place + 1] - values[place]) as f64 * (place + 1) as f64;
            if late > allowed {
                break;
            }
            place += 1;
        }
        let (others, many) = self.sorted(true);
        let earliest = others[..many].first().copied().unwrap_or(u64::MAX);
        // With a budget the earliest decides nothing by itself.
        Some(if budget == 0 { values[place].min(earliest) } else { values[place] })
    }
}

/// By how much sleeps end late. A neighbour on the same core makes some of them a slice of its time late, milliseconds; that is
/// none of what a timer needs, so that the middle counts and not the mean, and the middle deviation from it.
#[derive(Clone, Debug, Default)]
pub struct Oversleep(History);

impl Oversleep {
    /// A sleep that should have ended at `wanted` and ended at `ended`.
    pub fn add(&mut self, wanted: u64, ended: u64) {
        self.0.add(ended.saturating_sub(wanted));
    }

    /// How much earlier than `after` nanoseconds from now to wake up: as much as sleeps are late. Never more than half: what was
    /// learnt must not end sleeping, since nothing could be learnt any more.
    fn of(&self, after: u64) -> u64 {
        const FIRST_GUESS: u64 = 5_000;
        let usual = if self.0.len() >= LEAST { self.0.median().zip(self.0.deviation()) } else { None };
        usual.map_or(FIRST_GUESS, |(median, deviation)| median + deviation).min(after / 2)
    }
}

/// When to wake up for something that is likely to end after `expected` nanoseconds.
pub fn wake_after(expected: u64, oversleep: &Oversleep) -> u64 {
    expected.saturating_sub(oversleep.of(expected)).saturating_sub(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        values.into_iter().for_each(|value| history.add(value));
        history
    }

    #[test]
    fn without_a_budget_it_is_the_earliest_of_the_last_32() {
        assert_eq!(of([]).wake_up(0), None);
        assert_eq!(of([300, 100, 200, 400, 500, 600, 700, 800]).wake_up(0), Some(100));
        // What is older than 32 is forgotten.
        assert_eq!(of((0..40).map(|place| 100 + place)).wake_up(0), Some(108));
        assert_eq!(of([100; 32]).greatest(), Some(100));
        // What is at most 50 is shorter than 100.
        let mut history = of([100; 31]);
        history.add_at_most(50);
        assert_eq!((history.wake_up(0), history.median(), history.len()), (Some(50), Some(100), 32));
        (0..31).for_each(|_| history.add_at_most(60));
        assert!(!history.has_exact());
        assert_eq!((history.wake_up(0), history.median()), (Some(50), Some(60)));
    }

    #[test]
    fn a_budget_allows_for_a_mean_lateness() {
        // Eight of 100, 200, …, 800; the median is 500. Waking at 200 is late by 100 for one of eight: 12.5 on average, 25 ‰.
        let spread = of((1..=8).map(|place| place * 100));
        assert_eq!((spread.wake_up(24), spread.wake_up(25)), (Some(100), Some(200)));
        // At 300: 200 + 100 of eight, 37.5, 75 ‰.
        assert_eq!((spread.wake_up(74), spread.wake_up(75)), (Some(200), Some(300)));
        assert_eq!(spread.wake_up(10_000), Some(800));
        // One in eight is much earlier: it costs what it is late, and no more.
        let rare = of([300, 1000, 1000, 1000, 1000, 1000, 1000, 1000]);
        assert_eq!((rare.wake_up(0), rare.wake_up(87), rare.wake_up(88)), (Some(300), Some(300), Some(1000)));
    }

    #[test]
    fn a_neighbour_s_slices_do_not_end_sleeping() {
        let mut oversleep = Oversleep::default();
        for number in 0..64 {
            let late = if number % 3 == 0 { 4_000_000 } else { 9_000 };
            oversleep.add(1_000, 1_000 + late);
        }
        assert_eq!(wake_after(100_000, &oversleep), 100_000 - 9_000 - 3_000);
        // Half of them are within 2 µs of 9 µs.
        let mut spread = Oversleep::default();
        (0..32).for_each(|number| spread.add(0, 5_000 + 1_000 * (number % 9)));
        assert_eq!(wake_after(100_000, &spread), 100_000 - 9_000 - 2_000 - 3_000);
        // Even when every sleep is late by a slice.
        (0..32).for_each(|_| oversleep.add(0, 4_000_000));
        assert_eq!(wake_after(100_000, &oversleep), 47_000);
        assert_eq!(wake_after(2_000, &oversleep), 0);
    }
}
