//! Interventions: execution is restructured and the work left alone. What is predicted is written in the plan, before anything
//! is run, as an interval for each kind of call that should move and for placebos that must not.

mod judge;
pub mod plot;
#[cfg(test)]
mod simulated;
mod write;

use serde::{Deserialize, Serialize};

use crate::{
    bytes::Bytes,
    counted::CallKind,
    plan::{Cell, PlanError, check_words},
};

pub(crate) use judge::find;
pub use judge::{DoseFinding, InterventionFindings, KindFinding, Outcome, PlaceboOutcome};
pub(crate) use write::{section, summary};

/// A table `[[intervention]]` of a plan.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// `I1` and so on.
    pub name: String,
    /// Which constraint it asks about.
    pub constraint: String,
    /// What would explain it, and is tested.
    pub mechanism: String,
    /// Why this tests it, in a sentence.
    pub reason: String,
    /// What is restructured.
    pub base: Base,
    /// The option of `bench` that restructures it.
    pub option: String,
    /// Its values; the first is the base.
    pub doses: Vec<Dose>,
    /// What is the same at every dose.
    #[serde(default)]
    pub held: Held,
    /// Where calls are counted.
    #[serde(default)]
    pub phase: Where,
    /// Whose calls are counted.
    #[serde(default)]
    pub threads: Threads,
    /// What is predicted.
    #[serde(rename = "prediction")]
    pub predictions: Vec<Expected>,
    /// Kinds that must stay as they are.
    pub placebos: Vec<CallKind>,
    /// Where those are counted; as what is predicted where it is left out.
    #[serde(default)]
    pub placebo_phase: Option<Where>,
    /// Whether what is predicted is that nothing changes, so that the mechanism is ruled out when it is confirmed.
    #[serde(default)]
    pub rules_out: bool,
    /// Whether the quantities were known on this driver before they were written down: then they are no predictions here.
    #[serde(default)]
    pub postdiction: bool,
}

/// A cell that is restructured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// As in a series.
    pub backend: String,
    /// As in a series.
    pub model: String,
    /// As in a series.
    #[serde(default)]
    pub bytes: Option<Bytes>,
    /// Iterations of the base, which are its units of work.
    pub iters: u64,
    /// Further arguments of `bench`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A value of the option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Dose {
    /// A number: k.
    Number(u32),
    /// A word, such as `pooled`.
    Word(String),
}

impl std::fmt::Display for Dose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

/// What is the same at every dose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Iterations; each is a unit of work.
    #[default]
    Iterations,
    /// The amount of work: an iteration does k units, and there are k times fewer.
    Work,
}

/// Where calls are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// In the timed work, less those of the run without iterations; for each unit of work.
    #[default]
    Work,
    /// Before the warm-up; for the whole run.
    StartUp,
}

/// Whose calls are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threads {
    /// Those of the thread that issues the work.
    #[default]
    Caller,
    /// Those of all threads: what a runtime's thread does for a wait is part of it, and so are its heartbeats.
    All,
}

/// A prediction for one kind of call.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Of what.
    pub kind: CallKind,
    /// How it follows the dose.
    pub shape: Shape,
    /// Within which bounds: of an inverse or a proportion as a ratio to it, of a constant as calls a unit more than the base, of
    /// zero as calls a unit.
    pub interval: [f64; 2],
}

/// How a count follows the dose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// As the base divided by k.
    Inverse,
    /// As the base.
    Constant,
    /// None, at every dose but the base.
    Zero,
    /// As the base times k.
    Proportional,
}

impl Shape {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inverse => "inverse",
            Self::Constant => "constant",
            Self::Zero => "zero",
            Self::Proportional => "proportional",
        }
    }
}

/// The most kinds × doses of an intervention. Of ten blocks the smallest probability of a sign-flip test is 2 in 1,024, and 25 of
/// these, as Holm asks for the first of 25 tests, are just below 5 %.
const MOST_ASKED: usize = 25;

impl Intervention {
    /// The cell of a dose.
    pub fn cell(&self, dose: &Dose) -> Cell {
        let k = if let (Held::Work, Dose::Number(k)) = (self.held, dose) { u64::from(*k) } else { 1 };
        let options = self.base.options.iter().cloned().chain([self.option.clone(), dose.to_string()]);
        Cell {
            backend: self.base.backend.clone(),
            model: self.base.model.clone(),
            bytes: self.base.bytes.map(|bytes| bytes.0),
            iters: self.base.iters / k,
            options: options.collect::<Vec<_>>().join(" "),
            twin: false,
            program: String::new(),
        }
    }

    /// Every cell that it needs: each dose with its run without iterations, and the base twice.
    pub fn cells(&self) -> Vec<Cell> {
        let doses: Vec<Cell> = self.doses.iter().map(|dose| self.cell(dose)).collect();
        let mut cells: Vec<Cell> = doses.iter().map(Cell::without_work).collect();
        cells.extend(doses.first().map(|base| Cell { twin: true, ..base.clone() }));
        cells.extend(doses);
        cells
    }

    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let fail = |what: &str| Err(PlanError(format!("intervention {}: {what}", self.name)));
        let plain = [&self.name, &self.constraint, &self.mechanism, &self.reason];
        if plain.into_iter().any(|text| text.is_empty() || text.contains(|c: char| c.is_control() || c == '<')) {
            return fail("`name`, `constraint`, `mechanism` and `reason` are one line of plain text each");
        }
        let doses: Vec<String> = self.doses.iter().map(Dose::to_string).collect();
        let words = [self.base.options.clone(), vec![self.option.clone()], doses.clone()].concat();
        if let Err(PlanError(why)) = check_words(&self.base.backend, &self.base.model, &words) {
            return fail(&why);
        }
        let has_option = |word: &String| *word == self.option || word.starts_with(&format!("{}=", self.option));
        if !self.option.starts_with("--") || self.base.options.iter().any(has_option) {
            return fail("`option` is one of `bench` (`--batch`) that the base's options do not have");
        }
        if doses.iter().enumerate().any(|(place, dose)| doses[..place].contains(dose)) {
            return fail("every dose is there once");
        }
        if self.doses.len() < 2 || self.base.iters == 0 {
            return fail("it needs a base with iterations and a dose beside it");
        }
        let numbers: Vec<u32> =
            self.doses.iter().filter_map(|dose| if let Dose::Number(k) = dose { Some(*k) } else { None }).collect();
        let are_numbers = numbers.len() == self.doses.len();
        let needs_numbers = self.held == Held::Work
            || self.predictions.iter().any(|one| matches!(one.shape, Shape::Inverse | Shape::Proportional));
        if needs_numbers && !(are_numbers && numbers[0] == 1 && numbers.is_sorted_by(|a, b| a < b)) {
            return fail("doses of an inverse, a proportion or held work are numbers that grow from 1 on");
        }
        let smallest = numbers.get(1).map_or(f64::INFINITY, |k| f64::from(*k));
        let allows_no_change = |one: &Expected| match one.shape {
            Shape::Inverse => one.interval[1] >= smallest,
            Shape::Proportional => one.interval[0] <= 1.0 / smallest,
            Shape::Constant | Shape::Zero => false,
        };
        if self.predictions.iter().any(allows_no_change) {
            return fail("an interval of an inverse or a proportion leaves out that nothing changes");
        }
        let asked = (self.predictions.len() + self.placebos.len()) * (self.doses.len() - 1);
        if asked > MOST_ASKED {
            return fail(&format!(
                "{asked} kinds × doses are more than ten blocks can tell at once ({MOST_ASKED}): leave some out, or make two of it"
            ));
        }
        if self.held == Held::Work && numbers.iter().any(|k| !self.base.iters.is_multiple_of(u64::from(*k))) {
            return fail("where work is held, each dose divides the iterations of the base");
        }
        if self.predictions.is_empty() || self.placebos.is_empty() {
            return fail("it needs a prediction, and a placebo that must not move");
        }
        let is_interval =
            |one: &Expected| one.interval[0] <= one.interval[1] && one.interval.iter().all(|end| end.is_finite());
        if !self.predictions.iter().all(is_interval) {
            return fail("an interval is a lower and an upper bound");
        }
        if let Some(both) = self.placebos.iter().find(|kind| self.predictions.iter().any(|one| one.kind == **kind)) {
            return fail(&format!("`{both}` is predicted and a placebo"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Plan;

    pub(crate) const PLAN: &str = "
name = \"t\"
seed = 1
blocks = 11

[[intervention]]
name = \"I4\"
constraint = \"C3\"
mechanism = \"a wake-up for each wait\"
reason = \"one wait for k kernels wakes up once\"
base = { backend = \"cuda\", model = \"kernel\", bytes = \"4K\", iters = 160, options = [\"--wait\", \"block\"] }
option = \"--sync-every\"
doses = [1, 2, 4, 8, 16]
placebos = [\"role memory\"]

[[intervention.prediction]]
kind = \"role synchronization\"
shape = \"inverse\"
interval = [0.9, 1.1]
";

    #[test]
    fn a_plan_has_the_cells_of_its_interventions() {
        let plan = Plan::parse(PLAN).unwrap();
        // Five doses, each with and without work, and the base twice.
        assert_eq!(plan.cells().len(), 11);
        let last = plan.interventions[0].cell(&Dose::Number(16));
        assert_eq!(
            last.arguments().join(" "),
            "kernel --backend cuda --bytes 4096 --iters 160 --wait block --sync-every 16"
        );
        let held = PLAN.replace("option =", "held = \"work\"\noption =");
        assert_eq!(Plan::parse(&held).unwrap().interventions[0].cell(&Dose::Number(16)).iters, 10);
    }

    #[test]
    fn what_is_no_intervention_is_refused_with_its_name() {
        let complaint = |from: &str, to: &str| {
            assert!(PLAN.contains(from), "{from}");
            Plan::parse(&PLAN.replacen(from, to, 1)).unwrap_err().0
        };
        assert!(complaint("[1, 2, 4, 8, 16]", "[2, 4]").contains("I4: doses of an inverse"));
        assert!(complaint("[1, 2, 4, 8, 16]", "[1]").contains("a dose beside it"));
        assert!(complaint("[\"role memory\"]", "[]").contains("a placebo that must not move"));
        assert!(complaint("[\"role memory\"]", "[\"role synchronization\"]").contains("predicted and a placebo"));
        assert!(complaint("role memory", "role nothing").contains("role nothing"));
        assert!(complaint("[0.9, 1.1]", "[1.1, 0.9]").contains("lower and an upper"));
        assert!(complaint("--sync-every", "--iters").contains("may not have --iters"));
        assert!(complaint("[1, 2, 4, 8, 16]", "[1, 2, 2]").contains("every dose is there once"));
        assert!(complaint("\"--wait\", \"block\"", "\"--iters=9\"").contains("may not have --iters"));
        assert!(complaint("\"--wait\", \"block\"", "\"--sync-every\"").contains("the base's options do not have"));
        assert!(complaint("[0.9, 1.1]", "[0.5, 2.0]").contains("leaves out that nothing changes"));
        // Names become folders.
        assert!(complaint("\"cuda\"", "\"../host\"").contains("names of letters"));
        assert!(complaint("\"kernel\"", "\"--list\"").contains("names of letters"));
        let odd = PLAN.replace("iters = 160", "iters = 100").replace("option =", "held = \"work\"\noption =");
        assert!(Plan::parse(&odd).unwrap_err().0.contains("divides the iterations"));
    }
}
