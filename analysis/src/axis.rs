//! What a series is along, and how its levels and other numbers are written for people.

use serde::{Deserialize, Serialize};

/// Which axis a series is along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Iterations; a count of 0 is expected at 0.
    Iterations,
    /// Bytes; what is looked at is how counts differ from those of the smallest size.
    Bytes,
}

impl Axis {
    /// As plans and reports have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iterations => "iterations",
            Self::Bytes => "bytes",
        }
    }

    /// A level as people write it: `64 KiB`, `1000`.
    pub fn level(self, value: f64) -> String {
        match self {
            Self::Bytes => in_units(value, 1024.0, ["", " KiB", " MiB", " GiB"]),
            Self::Iterations => short(value),
        }
    }
}

/// A number in few characters: at most one digit behind the point, and one of these units.
pub(crate) fn in_units(value: f64, step: f64, units: [&str; 4]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= step && unit < 3 {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(value.abs() < 10.0 && value.fract().abs() > 0.05);
    format!("{value:.digits$}{}", units[unit])
}

/// A number with three digits behind the point at most, and no more than it needs.
pub(crate) fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// An upper bound with three places, never below what it bounds.
pub fn upper_bound(bound: f64) -> String {
    format!("{:.3}", (bound * 1000.0).ceil() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_short() {
        assert_eq!(Axis::Bytes.level(65_536.0), "64 KiB");
        assert_eq!(Axis::Bytes.level(1_572_864.0), "1.5 MiB");
        assert_eq!(Axis::Iterations.level(1000.0), "1000");
        assert_eq!((short(7.001), short(-0.0001), short(2.0)), ("7.001".to_owned(), "0".to_owned(), "2".to_owned()));
    }
}
