//! The list of abstraction pressures: mechanisms that interventions confirmed × what a unit of work of a real model pays for them
//! × how many units it does a second. By rule: a person writes which interventions a pressure rests on, where its cost is
//! read, and what existing abstractions fail to express; data say whether that stands.

pub mod models;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{dataset::Dataset, findings, intervention::InterventionFindings};
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

/// Where the cost of a unit is read, core-microseconds. No microsecond is in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// CPU time of threads that wait for the device, beyond that of waits that sleep; without the tracer.
    Waits,
    /// Time in calls on GPU devices that neither wait nor are of memory or submission, of all threads and processes.
    Devices,
    /// Time in calls of a role, of all threads and processes: on GPU devices, or elsewhere.
    Role {
        /// Which.
        role: String,
        /// On GPU devices.
        on_devices: bool,
    },
    /// Nothing here pays it.
    None,
}

impl Cost {
    /// `None` where no session says.
    fn of(&self, unit: &Unit) -> Option<f64> {
        let is_traced = unit.traced > 0;
        match self {
            Self::Waits => Some((unit.wait_cpu_us - unit.asleep_wait_cpu_us.unwrap_or_default()).max(0.0)),
            Self::Devices => is_traced.then(|| {
                let other = |role: &String| ![WAITING, "memory", "submission"].contains(&role.as_str());
                unit.on_devices.iter().filter(|(role, _)| other(role)).map(|(_, calls)| calls.us).sum()
            }),
            Self::Role { role, on_devices } => {
                let roles = if *on_devices { &unit.on_devices } else { &unit.elsewhere };
                is_traced.then(|| roles.get(role).map_or(0.0, |calls| calls.us))
            }
            Self::None => Some(0.0),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits => f.write_str("CPU time of waits, less that of waits that sleep"),
            Self::Devices => f.write_str("time in calls on GPU devices but those of waits, memory and submission"),
            Self::Role { role, on_devices: true } => write!(f, "time in calls of role {role} on GPU devices"),
            Self::Role { role, on_devices: false } => {
                write!(f, "time in calls of role {role} elsewhere than on GPU devices")
            }
            Self::None => f.write_str("of nothing that these models do"),
        }
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // Others are among `devices`, and no microsecond is to be counted twice.
        let known = |role: &str, on_devices: bool| {
            let is_apart = ["memory", "submission"].contains(&role);
            role.parse::<gpuos_model::Role>().is_ok() && role != WAITING && (is_apart || !on_devices)
        };
        let of_role = |on_devices, ending| {
            let role = text.strip_prefix("role ")?.strip_suffix(ending)?;
            known(role, on_devices).then(|| Self::Role { role: role.to_owned(), on_devices })
        };
        match text.as_str() {
            "waits" => Ok(Self::Waits),
            "devices" => Ok(Self::Devices),
            "none" => Ok(Self::None),
            _ => of_role(true, " on devices").or_else(|| of_role(false, " elsewhere")).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "`{text}` is no cost: `waits`, `devices`, `role memory on devices`, `role memory elsewhere` or `none`"
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
    /// What an existing abstraction fails to express; printed when the data meet the two conditions.
    pub fails: String,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Core-microseconds from which a model meets a pressure: a second, or each time of what happens once.
    least_us: f64,
    /// Models that happen once in the life of a process.
    once: Vec<String>,
    pressure: Vec<PressurePlan>,
}

/// What a model pays.
#[derive(Clone, Debug, Serialize)]
pub struct Paid {
    /// Which.
    pub model: String,
    /// It happens once in the life of a process.
    pub is_once: bool,
    /// Core-microseconds a unit of work; `None` where no session counted it.
    pub us: Option<f64>,
    /// Units a second.
    pub per_second: f64,
    /// Core-microseconds a second, the product of both; of what happens once those of each time.
    pub price: Option<f64>,
    /// By which a unit is later when waits sleep, microseconds.
    pub lateness_us: Option<f64>,
    /// Whether it meets the pressure.
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
    /// A model meets it, each second.
    pub is_met: bool,
    /// A model meets it where it begins.
    pub is_met_once: bool,
    /// What models pay: first each second, then what is paid once; the dearest first.
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
    /// The quantities were known on this driver before they were written down.
    pub was_known: bool,
}

impl Mechanism {
    /// Of an intervention.
    fn of(found: &InterventionFindings) -> Self {
        let InterventionFindings { plan, .. } = found;
        let (intervention, mechanism) = (plan.name.clone(), plan.mechanism.clone());
        Self { intervention, mechanism, outcome: found.mechanism().to_owned(), was_known: plan.postdiction }
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

/// The list, from the text of a plan, datasets with interventions, and a folder of sessions.
///
/// # Errors
/// A file cannot be read or is none of its kind; the plan names what is not there.
pub fn list(text: &str, mechanisms: &[Dataset], sessions: &Path) -> Result<Pressures, PressureError> {
    let plans = parse(text)?;
    let found = findings::find(mechanisms).map_err(|error| PressureError(error.to_string()))?;
    let mechanisms: Vec<Mechanism> = found.interventions.iter().map(Mechanism::of).collect();
    let units = models::read(sessions)?;
    if units.is_empty() {
        let why = "no session of a real model\nhint: `study/phase2/sessions.sh` leaves them as NAME.bare.jsonl, NAME.traced.jsonl and NAME.parquet";
        return Err(PressureError::new(sessions, &why));
    }
    rank(plans, &mechanisms, units)
}

/// What a person wrote of all pressures.
#[derive(Debug)]
struct Plans(File);

/// Pressures of a file in TOML.
///
/// # Errors
/// It is none, or names one twice.
fn parse(text: &str) -> Result<Plans, PressureError> {
    let file: File = toml::from_str(text).map_err(|error| PressureError(error.to_string()))?;
    for (place, one) in file.pressure.iter().enumerate() {
        if file.pressure[..place].iter().any(|other| other.name == one.name) {
            return Err(PressureError(format!("pressure {} is there twice", one.name)));
        }
    }
    if !file.least_us.is_finite() || file.least_us <= 0.0 {
        return Err(PressureError("`least_us` is above 0".to_owned()));
    }
    Ok(Plans(file))
}

/// The list.
///
/// # Errors
/// It names a model or an intervention that is not there.
fn rank(Plans(file): Plans, found: &[Mechanism], units: Vec<Unit>) -> Result<Pressures, PressureError> {
    if let Some(none) = file.once.iter().find(|name| units.iter().all(|unit| unit.model != **name)) {
        return Err(PressureError(format!("`once`: no session has the model `{none}`")));
    }
    let (least, once) = (file.least_us, file.once);
    let list = file.pressure.into_iter().map(|plan| of_plan(plan, found, &units, least, &once));
    let mut list = list.collect::<Result<Vec<_>, _>>()?;
    // The dearest each second, else the dearest once.
    let dearest = |one: &Pressure| {
        let of = |is_once: bool| one.paid.iter().find(|paid| paid.is_once == is_once && paid.is_met);
        of(false).or_else(|| of(true)).and_then(|paid| paid.price).unwrap_or_default()
    };
    list.sort_by(|a, b| {
        let kept = |one: &Pressure| {
            let is_met = one.is_met || one.is_met_once;
            (is_met, is_met && one.is_confirmed, one.is_met)
        };
        kept(b).cmp(&kept(a)).then(dearest(b).total_cmp(&dearest(a)))
    });
    Ok(Pressures { list, units })
}

fn of_plan(
    plan: PressurePlan,
    found: &[Mechanism],
    units: &[Unit],
    least: f64,
    once: &[String],
) -> Result<Pressure, PressureError> {
    let mechanism = |name: &String| {
        let one = found.iter().find(|one| one.intervention == *name);
        one.cloned().ok_or_else(|| PressureError(format!("pressure {}: no intervention `{name}`", plan.name)))
    };
    let mechanisms = plan.interventions.iter().map(mechanism).collect::<Result<Vec<_>, _>>()?;
    let pays = |unit: &Unit| {
        let is_once = once.contains(&unit.model);
        let us = plan.cost.of(unit);
        let price = us.map(|us| if is_once { us } else { us * unit.per_second });
        Paid {
            model: unit.model.clone(),
            is_once,
            us,
            per_second: unit.per_second,
            price,
            lateness_us: unit.lateness_us.filter(|_| plan.cost == Cost::Waits),
            is_met: price.is_some_and(|price| price >= least),
        }
    };
    let mut paid: Vec<Paid> = units.iter().map(pays).collect();
    paid.sort_by(|a, b| a.is_once.cmp(&b.is_once).then(b.price.unwrap_or(-1.0).total_cmp(&a.price.unwrap_or(-1.0))));
    let is_confirmed = !mechanisms.is_empty() && mechanisms.iter().all(|one| one.outcome == CONFIRMED);
    let meets = |is_once: bool| paid.iter().any(|paid| paid.is_met && paid.is_once == is_once);
    let (is_met, is_met_once) = (meets(false), meets(true));
    Ok(Pressure { plan, mechanisms, is_confirmed, is_met, is_met_once, paid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::Calls;

    const TEXT: &str = "
least_us = 100
once = [\"load\"]

[[pressure]]
name = \"waits\"
interventions = [\"I4\"]
cost = \"waits\"
fails = \"nothing says for how long\"

[[pressure]]
name = \"memory\"
interventions = [\"I1\", \"I2\"]
cost = \"role memory on devices\"
fails = \"nothing says for whom\"
";

    fn unit(model: &str, per_second: f64, wait_cpu_us: f64, memory_us: f64) -> Unit {
        let memory = Calls { calls: 7.0, us: memory_us };
        // Waits in calls, and memory of the host, are none of it.
        let asleep = Calls { calls: 1.0, us: 1e9 };
        let on_devices = [("memory".to_owned(), memory), (WAITING.to_owned(), asleep)].into();
        let elsewhere = [("memory".to_owned(), asleep)].into();
        let (model, lateness_us) = (model.to_owned(), Some(30.0));
        Unit { model, traced: 1, per_second, wait_cpu_us, lateness_us, on_devices, elsewhere, ..Unit::default() }
    }

    fn list(outcomes: [&str; 3], units: Vec<Unit>) -> Pressures {
        let found: Vec<Mechanism> = ["I4", "I1", "I2"]
            .into_iter()
            .zip(outcomes)
            .map(|(name, outcome)| Mechanism {
                intervention: name.to_owned(),
                mechanism: format!("of {name}"),
                outcome: outcome.to_owned(),
                was_known: name == "I2",
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
        let of = |waits, memory| {
            vec![unit("slow", 10.0, 0.0, memory), unit("fast", 100.0, waits, 0.0), unit("load", 1e6, 0.0, 0.0)]
        };
        let both = list(["confirmed"; 3], of(40.0, 300.0));
        assert_eq!(names(&both), ["waits", "memory"]);
        assert_eq!((both.list[0].paid[0].price, both.list[0].paid[0].lateness_us), (Some(4_000.0), Some(30.0)));
        assert_eq!(both.list[1].paid[0].lateness_us, None);
        assert_eq!(names(&list(["confirmed"; 3], of(20.0, 300.0))), ["memory", "waits"]);
        // What is met and not confirmed comes after what is; what is not met after both.
        assert_eq!(names(&list(["open", "confirmed", "confirmed"], of(40.0, 300.0))), ["memory", "waits"]);
        let unmet = list(["confirmed"; 3], of(0.9, 300.0));
        assert_eq!(names(&unmet), ["memory", "waits"]);
        let text = markdown(&unmet);
        assert!(text.contains("no real model here meets it") && text.contains("I2: of I2: confirmed, known"), "{text}");
        assert!(text.contains("nothing says for whom") && !text.contains("nothing says for how long"), "{text}");
        assert!(!markdown(&list(["confirmed", "confirmed", "not alone"], of(9.0, 300.0))).contains("for whom"));
    }

    #[test]
    fn what_happens_once_has_no_rate_and_comes_after_what_is_paid_each_second() {
        let units = vec![unit("fast", 100.0, 2.0, 0.0), unit("load", 1e6, 0.0, 5_000.0)];
        let both = list(["confirmed"; 3], units);
        assert_eq!(names(&both), ["waits", "memory"]);
        let memory = &both.list[1];
        assert!(memory.is_met_once && !memory.is_met);
        assert_eq!(memory.paid.iter().find(|paid| paid.is_once).unwrap().price, Some(5_000.0));
    }

    #[test]
    fn a_wait_that_sleeps_has_its_price_and_what_was_not_counted_is_no_zero() {
        let awake = Unit { asleep_wait_cpu_us: Some(35.0), ..unit("fast", 100.0, 36.0, 0.0) };
        let untraced = Unit { traced: 0, ..unit("slow", 100.0, 0.0, 300.0) };
        let both = list(["confirmed"; 3], vec![awake, untraced, unit("load", 1.0, 0.0, 0.0)]);
        let of = |name: &str| both.list.iter().find(|one| one.plan.name == name).unwrap();
        assert_eq!(of("waits").paid[0].us, Some(1.0));
        let slow = of("memory").paid.iter().find(|paid| paid.model == "slow").unwrap();
        assert!(slow.us.is_none() && !slow.is_met);
        assert!(markdown(&both).contains("| slow | not counted |"), "{}", markdown(&both));
    }

    #[test]
    fn what_no_intervention_asked_about_is_not_confirmed() {
        let text = TEXT.replace("interventions = [\"I4\"]\n", "").replace("cost = \"waits\"", "cost = \"devices\"");
        let text = text.replace("once = [\"load\"]", "once = []");
        let plans = parse(text.split("\n\n[[pressure]]\nname = \"memory").next().unwrap_or_default()).unwrap();
        let mut unit = unit("fast", 2.0, 0.0, 300.0);
        // Memory is another pressure's.
        unit.on_devices.insert("bookkeeping".to_owned(), Calls { calls: 1.0, us: 200.0 });
        let list = rank(plans, &[], vec![unit]).unwrap();
        assert!(list.list[0].is_met && !list.list[0].is_confirmed);
        assert_eq!(list.list[0].paid[0].price, Some(400.0));
        assert!(markdown(&list).contains("no intervention asked about it"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let wrong = |from: &str, to: &str| {
            let plans = parse(&TEXT.replacen(from, to, 1))?;
            rank(plans, &[], vec![unit("load", 1.0, 0.0, 0.0)]).map(|_| ())
        };
        let said = |from: &str, to: &str| wrong(from, to).unwrap_err().to_string();
        assert!(said("least", "least").contains("no intervention `I4`"));
        assert!(said("[\"load\"]", "[\"none\"]").contains("no session has the model `none`"));
        assert!(said("cost = \"waits\"", "cost = \"weights\"").contains("`weights` is no cost"));
        assert!(said("least_us = 100", "least_us = 0").contains("above 0"));
        assert!(said("name = \"memory\"", "name = \"waits\"").contains("there twice"));
    }
}
