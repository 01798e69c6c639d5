//! Two runs side by side: what each group of calls was in the first and is in the second, and rules that say how much may change.

use std::collections::BTreeMap;

use polars_core::prelude::PolarsResult;

use crate::{
    columns::column,
    group::{self, Group},
    phases::marked_around,
    run::Run,
};

/// What is compared of a group of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Entries.
    Calls,
    /// Returns with an error, and those after which a driver's own status told of one.
    Errors,
    /// Nanoseconds inside.
    Time,
}

impl Measure {
    /// All of them, with their words in rules.
    pub const ALL: [(&'static str, Self); 3] = [("calls", Self::Calls), ("errors", Self::Errors), ("time", Self::Time)];

    fn of(self, group: &Group) -> f64 {
        (match self {
            Self::Calls => group.calls,
            Self::Errors => group.errors.saturating_add(group.refused),
            Self::Time => group.estimated_total_ns(),
        }) as f64
    }
}

/// Columns that calls are told apart by, in the order of keys.
pub const BY: [(&str, &str); 7] = [
    ("phase", column::PHASE),
    ("role", column::ROLE),
    ("category", column::CATEGORY),
    ("syscall", column::SYSCALL),
    ("device", column::DEVICE),
    ("call", column::COMMAND_NAME),
    ("detail", column::DETAIL),
];

/// Calls that have all columns of [`BY`] in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// Values of the columns.
    pub key: Vec<String>,
    /// Of the first run and of the second: calls, errors, time, in the order of [`Measure::ALL`]; by unit of work where that was asked.
    pub first: [f64; 3],
    /// See `first`.
    pub second: [f64; 3],
}

impl Pair {
    /// How much more the second has.
    #[must_use]
    pub fn change(&self, measure: Measure) -> f64 {
        self.second[measure as usize] - self.first[measure as usize]
    }

    /// Adds another, of the same key or for a sum.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.first.iter_mut().zip(other.first).chain(self.second.iter_mut().zip(other.second)) {
            *sum += more;
        }
    }
}

/// Pairs that share the columns of these places of [`BY`], summed, in the order of their keys.
#[must_use]
pub fn by(pairs: &[Pair], places: &[usize]) -> Vec<Pair> {
    let mut sums: BTreeMap<Vec<String>, Pair> = BTreeMap::new();
    for pair in pairs {
        let key: Vec<String> = places.iter().map(|place| pair.key[*place].clone()).collect();
        sums.entry(key.clone()).or_insert_with(|| Pair { key, ..Pair::default() }).add(pair);
    }
    sums.into_values().collect()
}

/// Both runs, as fine as rules can ask. `by_unit`: divided by the iterations of the phase; calls of phases without any are left out.
///
/// # Errors
/// A table lacks a column.
pub fn compare(first: &Run, second: &Run, by_unit: bool) -> PolarsResult<Vec<Pair>> {
    let mut pairs: BTreeMap<Vec<String>, Pair> = BTreeMap::new();
    for (is_second, run) in [(false, first), (true, second)] {
        let units: BTreeMap<&str, u64> =
            run.header.phases.iter().map(|phase| (phase.path.as_str(), phase.iterations)).collect();
        // Functions and classes of jobs have the units of the phase around them.
        let around = marked_around(&run.header.phases);
        for group in group::group(&run.calls, &BY.map(|(_, name)| name))? {
            let path = group.key[0].as_str();
            let phase = around.get(path).copied().unwrap_or(path);
            let units = if by_unit { units.get(phase).copied().unwrap_or(0) } else { 1 };
            if units == 0 {
                continue;
            }
            let pair = pairs.entry(group.key.clone()).or_default();
            pair.key.clone_from(&group.key);
            let side = if is_second { &mut pair.second } else { &mut pair.first };
            *side = Measure::ALL.map(|(_, measure)| measure.of(&group) / units as f64);
        }
    }
    Ok(pairs.into_values().collect())
}

/// By how much the second run may not be beyond.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// More than this.
    Above(f64),
    /// More than the first run has and this.
    More(f64),
    /// More than this many percent beyond the first run.
    MorePercent(f64),
}

/// A rule such as `phase=work role=memory calls>+0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    text: String,
    /// Places of [`BY`], and the values that are wanted.
    wanted: Vec<(usize, Vec<String>)>,
    measure: Measure,
    bound: Bound,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rule: {1}\nhint: a rule is `phase=work role=memory calls>+0`: columns ({columns}) with the values that are wanted, and one of calls, errors, time with `>N`, `>+N` or `>+N%`; a time may have ns, us, ms or s",
    columns = BY.map(|(word, _)| word).join(", ")
)]
pub struct RuleError(String, String);

impl std::str::FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let fail = |why: String| Err(RuleError(text.to_owned(), why));
        let (mut wanted, mut limit) = (Vec::new(), None);
        for word in text.split_whitespace() {
            if let Some((name, bound)) = word.split_once('>') {
                let Some((_, measure)) = Measure::ALL.into_iter().find(|(known, _)| *known == name) else {
                    return fail(format!("`{name}` is not measured"));
                };
                let Some(bound) = self::bound(bound, measure) else { return fail(format!("`{bound}` is no number")) };
                if limit.replace((measure, bound)).is_some() {
                    return fail("it has two bounds".to_owned());
                }
            } else if let Some((name, values)) = word.split_once('=') {
                let Some(place) = BY.iter().position(|(known, _)| *known == name) else {
                    return fail(format!("there is no column `{name}`"));
                };
                wanted.push((place, values.split(',').map(str::to_owned).collect()));
            } else {
                return fail(format!("`{word}` has neither `=` nor `>`"));
            }
        }
        let Some((measure, bound)) = limit else { return fail("it has no bound".to_owned()) };
        Ok(Self { text: text.to_owned(), wanted, measure, bound })
    }
}

/// What follows `>`.
fn bound(text: &str, measure: Measure) -> Option<Bound> {
    let (is_more, number) = text.strip_prefix('+').map_or((false, text), |number| (true, number));
    if let Some(percent) = number.strip_suffix('%') {
        return is_more
            .then_some(Bound::MorePercent(percent.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?));
    }
    let units: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let in_unit = |(unit, factor): (&str, f64)| Some((number.strip_suffix(unit)?, factor));
    let has_unit = if measure == Measure::Time { units.into_iter().find_map(in_unit) } else { None };
    let (number, factor) = has_unit.unwrap_or((number, 1.0));
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    Some(if is_more { Bound::More(number * factor) } else { Bound::Above(number * factor) })
}

impl Rule {
    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it measures.
    #[must_use]
    pub const fn measure(&self) -> Measure {
        self.measure
    }

    /// The calls that it is about, in both runs together.
    #[must_use]
    pub fn sum(&self, pairs: &[Pair]) -> Pair {
        let is_wanted = |pair: &&Pair| self.wanted.iter().all(|(place, values)| values.contains(&pair.key[*place]));
        let mut sum = Pair::default();
        pairs.iter().filter(is_wanted).for_each(|pair| sum.add(pair));
        sum
    }

    /// Values that no call of either run has: a rule with one of them asks for nothing, which a slip of the pen does, too.
    #[must_use]
    pub fn unknown(&self, pairs: &[Pair]) -> Vec<String> {
        let is_there = |place: usize, value: &String| pairs.iter().any(|pair| pair.key[place] == *value);
        let named = |(place, values): &(usize, Vec<String>)| {
            let place = *place;
            let absent = values.iter().filter(move |value| !is_there(place, value));
            absent.map(move |value| format!("{}={value}", BY[place].0)).collect::<Vec<_>>()
        };
        self.wanted.iter().flat_map(named).collect()
    }

    /// Whether the second run is beyond the bound.
    #[must_use]
    pub fn is_broken(&self, pairs: &[Pair]) -> bool {
        let sum = self.sum(pairs);
        let (first, second) = (sum.first[self.measure as usize], sum.second[self.measure as usize]);
        let most = match self.bound {
            Bound::Above(most) => most,
            Bound::More(most) => first + most,
            Bound::MorePercent(most) => first * (1.0 + most / 100.0),
        };
        // Sums of numbers by unit are exact to some digits.
        second > most + most * 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(phase: &str, role: &str, first: f64, second: f64) -> Pair {
        let mut key = vec![String::new(); BY.len()];
        key[0] = phase.to_owned();
        key[1] = role.to_owned();
        Pair { key, first: [first, 0.0, first * 10.0], second: [second, 1.0, second * 10.0] }
    }

    fn pairs() -> Vec<Pair> {
        vec![pair("work", "memory", 10.0, 12.0), pair("work", "io", 5.0, 4.0), pair("init", "memory", 100.0, 90.0)]
    }

    #[test]
    fn a_rule_sums_what_it_wants_and_compares() {
        let is_broken = |text: &str| text.parse::<Rule>().unwrap().is_broken(&pairs());
        assert!(is_broken("phase=work role=memory calls>+0") && !is_broken("phase=work role=memory calls>+2"));
        assert!(is_broken("phase=work calls>+0") && !is_broken("calls>+0"));
        assert!(is_broken("phase=work role=memory calls>+19%") && !is_broken("phase=work role=memory calls>+20%"));
        assert!(is_broken("phase=work role=memory,io calls>15") && !is_broken("phase=work role=memory,io calls>16"));
        assert!(is_broken("errors>2") && !is_broken("errors>3") && !is_broken("phase=none calls>0"));
        let unknown = |text: &str| text.parse::<Rule>().unwrap().unknown(&pairs());
        assert_eq!(unknown("phase=wrok role=memory,paging calls>+0"), ["phase=wrok", "role=paging"]);
        assert!(unknown("phase=work role=io calls>+0").is_empty());
        // A third and two thirds are one.
        let thirds = vec![pair("work", "io", 1.0, 1.0 / 3.0), pair("work", "memory", 0.0, 2.0 / 3.0 + 1e-15)];
        assert!(!"calls>+0".parse::<Rule>().unwrap().is_broken(&thirds));
        // 120 ns, where 100 were.
        assert!(is_broken("phase=work role=memory time>0.1us") && !is_broken("phase=work role=memory time>+20ns"));
    }

    #[test]
    fn what_is_no_rule_is_said() {
        let why = |text: &str| text.parse::<Rule>().unwrap_err().to_string();
        assert!(why("phase=work").contains("it has no bound"));
        assert!(why("calls>1 errors>1").contains("two bounds"));
        assert!(why("speed>1").contains("`speed` is not measured"));
        assert!(why("thread=1 calls>1").contains("no column `thread`"));
        assert!(why("calls>+x").contains("`+x` is no number") && why("calls>NaN").contains("no number"));
        assert!(why("calls>5%").contains("no number") && why("calls>5ms").contains("no number"));
        assert!(why("time>5ss").contains("no number") && why("time>msms").contains("no number"));
        assert!(why("work calls>1").contains("neither") && why("").contains("no bound"));
        assert!(why("calls>-1").contains("no number"));
    }

    #[test]
    fn pairs_are_summed_by_what_they_share() {
        let by_role = by(&pairs(), &[1]);
        assert_eq!(by_role.len(), 2);
        assert_eq!((by_role[1].key[0].as_str(), by_role[1].first[0], by_role[1].second[0]), ("memory", 110.0, 102.0));
        assert_eq!(by_role[1].change(Measure::Calls), -8.0);
    }
}
