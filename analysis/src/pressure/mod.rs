//! The list of abstraction pressures: mechanisms that interventions confirmed × what a unit of work of a real model pays for them
//! × how many units it does a second. By rule: a person writes which interventions a pressure rests on, where its cost is
//! read, and what existing abstractions fail to express; data say whether that stands.

pub mod models;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::intervention::InterventionFindings;
use models::Unit;
pub use write::markdown;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PressureError(String);

impl PressureError {
    fn new(path: &Path, why: &dyn std::fmt::Display) -> Self {
        Self(format!("{}: {why}", path.display()))
    }
}

/// An outcome: the mechanism is there.
const CONFIRMED: &str = "confirmed";

/// The role of calls that sleep: time in them is no time of a core.
const WAITING: &str = "synchronization";

/// Where the cost of a unit is read, core-microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// CPU time of threads that wait for the device, without the tracer.
    Waits,
    /// Time in calls on GPU devices that do not wait, of all threads and processes.
    Devices,
    /// Time in calls of a role, of all threads and processes: on GPU devices, or elsewhere.
    Role {
        /// Which.
        role: String,
        /// On GPU devices.
        on_devices: bool,
    },
}

impl Cost {
    fn of(&self, unit: &Unit) -> f64 {
        match self {
            Self::Waits => unit.wait_cpu_us,
            Self::Devices => {
                unit.on_devices.iter().filter(|(role, _)| *role != WAITING).map(|(_, calls)| calls.us).sum()
            }
            Self::Role { role, on_devices } => {
                let roles = if *on_devices { &unit.on_devices } else { &unit.elsewhere };
                roles.get(role).map_or(0.0, |calls| calls.us)
            }
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits => f.write_str("CPU time of waits"),
            Self::Devices => f.write_str("time in calls on GPU devices that do not wait"),
            Self::Role { role, on_devices: true } => write!(f, "time in calls of role {role} on GPU devices"),
            Self::Role { role, on_devices: false } => {
                write!(f, "time in calls of role {role} elsewhere than on GPU devices")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let known = |role: &str| role.parse::<gpuos_model::Role>().is_ok() && role != WAITING;
        let of_role = |on_devices, ending| {
            let role = text.strip_prefix("role ")?.strip_suffix(ending)?;
            known(role).then(|| Self::Role { role: role.to_owned(), on_devices })
        };
        match text.as_str() {
            "waits" => Ok(Self::Waits),
            "devices" => Ok(Self::Devices),
            _ => of_role(true, " on devices").or_else(|| of_role(false, " elsewhere")).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "`{text}` is no cost: `waits`, `devices`, `role memory on devices` or `role memory elsewhere`"
                ))
            }),
        }
    }
}

impl Serialize for Cost {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What a person wrote of a pressure.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PressurePlan {
    /// What presses.
    pub name: String,
    /// The interventions that it rests on: each must have confirmed its mechanism. Of what no intervention asked about, nothing is
    /// confirmed.
    #[serde(default)]
    pub interventions: Vec<String>,
    /// Where its cost is read.
    pub cost: Cost,
    /// Models that it is about; all where none is named.
    #[serde(default)]
    pub models: Vec<String>,
    /// Core-microseconds a unit from which a model meets it.
    pub least_us: f64,
    /// What an existing abstraction fails to express; printed when the data meet the two conditions.
    pub fails: String,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pressure: Vec<PressurePlan>,
}

/// What a model pays.
#[derive(Clone, Debug, Serialize)]
pub struct Paid {
    /// Which.
    pub model: String,
    /// Core-microseconds a unit of work.
    pub us: f64,
    /// Units a second.
    pub per_second: f64,
    /// Their product: core-microseconds a second.
    pub us_per_second: f64,
    /// By which a unit is later when waits sleep, microseconds.
    pub lateness_us: Option<f64>,
    /// Whether it meets the pressure: `us` is `least_us` or more.
    pub is_met: bool,
}

/// A pressure, with what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Pressure {
    /// As it was written.
    pub plan: PressurePlan,
    /// What followed for each mechanism that it rests on.
    pub mechanisms: Vec<Mechanism>,
    /// Each mechanism is confirmed.
    pub is_confirmed: bool,
    /// A model meets it.
    pub is_met: bool,
    /// What models pay, the dearest first.
    pub paid: Vec<Paid>,
}

/// What followed for a mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mechanism {
    /// The intervention that asked about it.
    pub intervention: String,
    /// In words.
    pub mechanism: String,
    /// Confirmed, ruled out, not alone, open.
    pub outcome: String,
}

impl Mechanism {
    /// Of an intervention.
    pub fn of(found: &InterventionFindings) -> Self {
        let InterventionFindings { plan, .. } = found;
        let (intervention, mechanism) = (plan.name.clone(), plan.mechanism.clone());
        Self { intervention, mechanism, outcome: found.mechanism().to_owned() }
    }
}

/// The list, and what it was made from.
#[derive(Debug, Serialize)]
pub struct Pressures {
    /// The dearest first; what is not confirmed after that, what no model meets last.
    pub list: Vec<Pressure>,
    /// What units of work ask for.
    pub units: Vec<Unit>,
}

/// Pressures of a file in TOML.
///
/// # Errors
/// It is none, or names one twice.
pub fn parse(text: &str) -> Result<Vec<PressurePlan>, PressureError> {
    let File { pressure } = toml::from_str(text).map_err(|error| PressureError(error.to_string()))?;
    for (place, one) in pressure.iter().enumerate() {
        if pressure[..place].iter().any(|other| other.name == one.name) {
            return Err(PressureError(format!("pressure {} is there twice", one.name)));
        }
        if !one.least_us.is_finite() || one.least_us <= 0.0 {
            return Err(PressureError(format!("pressure {}: `least_us` is above 0", one.name)));
        }
    }
    Ok(pressure)
}

/// The list.
///
/// # Errors
/// A pressure names a model or an intervention that is not there.
pub fn rank(plans: Vec<PressurePlan>, found: &[Mechanism], units: Vec<Unit>) -> Result<Pressures, PressureError> {
    let mut list = plans.into_iter().map(|plan| of_plan(plan, found, &units)).collect::<Result<Vec<_>, _>>()?;
    let dearest = |one: &Pressure| one.paid.first().map_or(0.0, |paid| paid.us_per_second);
    list.sort_by(|a, b| {
        let kept = |one: &Pressure| (one.is_met, one.is_met && one.is_confirmed);
        kept(b).cmp(&kept(a)).then(dearest(b).total_cmp(&dearest(a)))
    });
    Ok(Pressures { list, units })
}

fn of_plan(plan: PressurePlan, found: &[Mechanism], units: &[Unit]) -> Result<Pressure, PressureError> {
    if let Some(none) = plan.models.iter().find(|name| units.iter().all(|unit| unit.model != **name)) {
        return Err(PressureError(format!("pressure {}: no session has the model `{none}`", plan.name)));
    }
    let mechanism = |name: &String| {
        let one = found.iter().find(|one| one.intervention == *name);
        one.cloned().ok_or_else(|| PressureError(format!("pressure {}: no intervention `{name}`", plan.name)))
    };
    let mechanisms = plan.interventions.iter().map(mechanism).collect::<Result<Vec<_>, _>>()?;
    let is_about = |unit: &&Unit| plan.models.is_empty() || plan.models.contains(&unit.model);
    let mut paid: Vec<Paid> = units
        .iter()
        .filter(is_about)
        .map(|unit| {
            let us = plan.cost.of(unit);
            Paid {
                model: unit.model.clone(),
                us,
                per_second: unit.per_second,
                us_per_second: us * unit.per_second,
                lateness_us: unit.lateness_us.filter(|_| plan.cost == Cost::Waits),
                is_met: us >= plan.least_us,
            }
        })
        .collect();
    paid.sort_by(|a, b| b.us_per_second.total_cmp(&a.us_per_second));
    let is_confirmed = !mechanisms.is_empty() && mechanisms.iter().all(|one| one.outcome == CONFIRMED);
    let is_met = paid.iter().any(|paid| paid.is_met);
    Ok(Pressure { plan, mechanisms, is_confirmed, is_met, paid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::Calls;

    const TEXT: &str = "
[[pressure]]
name = \"waits\"
interventions = [\"I4\"]
cost = \"waits\"
least_us = 10
fails = \"nothing says for how long\"

[[pressure]]
name = \"memory\"
interventions = [\"I1\", \"I2\"]
cost = \"role memory on devices\"
least_us = 10
fails = \"nothing says for whom\"
";

    fn unit(model: &str, per_second: f64, wait_cpu_us: f64, memory_us: f64) -> Unit {
        let memory = Calls { calls: 7.0, us: memory_us };
        // Waits in calls, and memory of the host, are none of it.
        let asleep = Calls { calls: 1.0, us: 1e9 };
        let on_devices = [("memory".to_owned(), memory), (WAITING.to_owned(), asleep)].into();
        let elsewhere = [("memory".to_owned(), asleep)].into();
        let model = model.to_owned();
        Unit { model, per_second, wait_cpu_us, lateness_us: Some(30.0), on_devices, elsewhere, ..Unit::default() }
    }

    fn list(outcomes: [&str; 3], units: Vec<Unit>) -> Pressures {
        let found: Vec<Mechanism> = ["I4", "I1", "I2"]
            .into_iter()
            .zip(outcomes)
            .map(|(name, outcome)| Mechanism {
                intervention: name.to_owned(),
                mechanism: format!("of {name}"),
                outcome: outcome.to_owned(),
            })
            .collect();
        rank(parse(TEXT).unwrap(), &found, units).unwrap()
    }

    fn names(list: &Pressures) -> Vec<&str> {
        list.list.iter().map(|one| one.plan.name.as_str()).collect()
    }

    #[test]
    fn the_dearest_a_second_is_first_and_what_no_model_meets_is_last() {
        // 300 µs ten times a second are less than 40 µs a hundred times.
        let of = |waits, memory| vec![unit("slow", 10.0, 0.0, memory), unit("fast", 100.0, waits, 0.0)];
        let both = list(["confirmed"; 3], of(40.0, 300.0));
        assert_eq!(names(&both), ["waits", "memory"]);
        assert_eq!(both.list[0].paid[0].us_per_second, 4_000.0);
        assert_eq!(both.list[0].paid[0].lateness_us, Some(30.0));
        assert_eq!(both.list[1].paid[0].lateness_us, None);
        assert_eq!(names(&list(["confirmed"; 3], of(20.0, 300.0))), ["memory", "waits"]);
        // What is met and not confirmed comes after what is; what is not met after both.
        assert_eq!(names(&list(["open", "confirmed", "confirmed"], of(40.0, 300.0))), ["memory", "waits"]);
        let unmet = list(["confirmed"; 3], of(9.0, 300.0));
        assert_eq!(names(&unmet), ["memory", "waits"]);
        let text = markdown(&unmet);
        assert!(text.contains("no real model here meets it"), "{text}");
        assert!(text.contains("nothing says for whom") && !text.contains("nothing says for how long"), "{text}");
        assert!(!markdown(&list(["confirmed", "confirmed", "not alone"], of(9.0, 300.0))).contains("for whom"));
    }

    #[test]
    fn what_no_intervention_asked_about_is_not_confirmed() {
        let text = TEXT.replace("interventions = [\"I4\"]\n", "").replace("\"waits\"\nleast", "\"devices\"\nleast");
        let plans = parse(text.split("\n\n").next().unwrap_or_default()).unwrap();
        let list = rank(plans, &[], vec![unit("fast", 2.0, 0.0, 300.0)]).unwrap();
        assert!(list.list[0].is_met && !list.list[0].is_confirmed);
        assert_eq!(list.list[0].paid[0].us_per_second, 600.0);
        assert!(markdown(&list).contains("no intervention asked about it"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let wrong = |from: &str, to: &str| {
            let plans = parse(&TEXT.replacen(from, to, 1))?;
            rank(plans, &[], vec![unit("fast", 1.0, 0.0, 0.0)]).map(|_| ())
        };
        let said = |from: &str, to: &str| wrong(from, to).unwrap_err().to_string();
        assert!(said("waits\"\nleast", "waits\"\nleast").contains("no intervention `I4`"));
        assert!(said("least_us", "models = [\"none\"]\nleast_us").contains("no session has the model `none`"));
        assert!(said("\"waits\"\nleast", "\"weights\"\nleast").contains("`weights` is no cost"));
        assert!(said("least_us = 10", "least_us = 0").contains("above 0"));
        assert!(said("name = \"memory\"", "name = \"waits\"").contains("there twice"));
    }
}
