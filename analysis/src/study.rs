//! What a study asks and predicts, and what counts as a vendor's stack: data, stated by a plan before anything is run.

use serde::Deserialize;

use crate::{axis::Axis, bytes::Bytes, verdict::Scaling};

/// Of phase 1: what plans mean that state nothing.
const PHASE_1: &str = include_str!("../../study/phase1/questions.toml");

/// The table `study` of a plan.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Backends that are a vendor's own stack, executed by the vendor's hardware.
    pub vendors: Vec<String>,
    /// What is asked.
    pub questions: Questions,
    /// What was predicted, in the order of the report.
    pub predictions: Vec<Hypothesis>,
}

/// The three questions, in the words of the report.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    /// Of series along bytes.
    pub bytes: String,
    /// Of series along iterations.
    pub iterations: String,
    /// Of runtimes beside the CPU.
    pub execution: String,
}

/// A prediction, and how it is judged.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypothesis {
    /// `P1` and so on.
    pub name: String,
    /// Its words.
    pub text: String,
    /// A backend, or `vendors`: each of those.
    pub on: String,
    /// How it is judged.
    pub rule: Rule,
}

/// How a prediction is judged. All of them read the verdicts on all calls together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Every series of these models along an axis is flat.
    Flat {
        /// As in a plan.
        models: Vec<String>,
        /// Along which.
        axis: Axis,
    },
    /// Series of these models along an axis scale like this.
    Scaling {
        /// As in a plan.
        models: Vec<String>,
        /// Along which.
        axis: Axis,
        /// What confirms it.
        expected: Vec<Scaling>,
        /// What has the direction of it.
        direction: Vec<Scaling>,
    },
    /// Series along iterations, without options, scale in one way from a size on and in another below.
    SizeDecides {
        /// As in a plan.
        models: Vec<String>,
        /// The size.
        bytes: Bytes,
        /// How they scale from there on.
        from_there: Vec<Scaling>,
        /// And how below.
        below: Vec<Scaling>,
        /// Or with fewer calls an iteration than this, as a staircase has that makes some for many iterations at once.
        #[serde(default)]
        below_each: f64,
    },
    /// Series that differ in one of these options alone differ in calls, and those of these models that hold the last of the
    /// options constant are flat along bytes.
    OptionsDecide {
        /// Of `bench`.
        options: Vec<String>,
        /// As in a plan.
        models: Vec<String>,
    },
    /// Calls on devices before the work are as many in each run of a model.
    StartUp {
        /// At least so many.
        least: f64,
        /// Fewer than this.
        below: f64,
        /// They differ by this share of their median at most.
        share: f64,
    },
    /// No run calls a GPU's driver.
    NoDriverCalls,
}

impl Study {
    /// In one form, whatever the text was: what is compared when it is said not to have changed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Default for Study {
    fn default() -> Self {
        toml::from_str(PHASE_1).expect("a test reads it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_1_is_read_and_its_predictions_have_names_of_their_own() {
        let study = Study::default();
        let names: std::collections::BTreeSet<&str> = study.predictions.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names.len(), study.predictions.len());
        assert_eq!(study.vendors, ["cuda", "hip"]);
    }

    #[test]
    fn a_rule_that_nobody_knows_is_refused() {
        let text = PHASE_1.replace("no-driver-calls", "no-calls");
        assert!(toml::from_str::<Study>(&text).unwrap_err().to_string().contains("no-calls"));
    }
}
