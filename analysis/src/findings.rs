//! What a dataset shows: what its series show, what comes with a runtime, what follows from both, and what was left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    claims::{self, Claims},
    counted::Runs,
    dataset::{Dataset, DatasetError, Registration},
    execution::{self, Execution},
    interaction::{self, Interaction},
    intervention::{self, InterventionFindings},
    plan::Cell,
    predictions::{self, Prediction},
    series_findings::{SeriesFindings, judge_all},
    study::Questions,
    variants::{self, VariantPair},
};

/// What a dataset shows.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Of the plan.
    pub plan: String,
    /// On what it was run, JSON; the first of several.
    pub environment: serde_json::Value,
    /// What was settled before the first run; empty for datasets that do not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registrations: Vec<Registration>,
    /// Datasets that do not say.
    pub unregistered: usize,
    /// Whether counts are those of the threads that issue the work, the others apart.
    pub knows_threads: bool,
    /// Runs that could be used, of all that were asked for.
    pub used: u64,
    /// See `used`.
    pub wanted: u64,
    /// Runs that were left out, and why.
    pub left_out: Vec<String>,
    /// One for each series of the plan: the first two questions.
    pub series: Vec<SeriesFindings>,
    /// What comes with a runtime: the third question.
    pub execution: Execution,
    /// Series that differ in options alone: waits, durations, lifetimes.
    pub variants: Vec<VariantPair>,
    /// What was restructured, with what came of what was predicted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interventions: Vec<InterventionFindings>,
    /// What follows.
    pub claims: Claims,
    /// Fewest and most calls on devices before the work, by backend; of those that make any.
    pub start_up: BTreeMap<String, (f64, f64)>,
    /// What came of the predictions.
    pub predictions: Vec<Prediction>,
    /// Who calls what, one for each runtime.
    pub interactions: Vec<Interaction>,
    /// What was asked, in words.
    #[serde(skip)]
    pub questions: Questions,
}

/// Reads datasets of one kind of machine, of which none has a series of another, and judges them as one.
///
/// # Errors
/// A file of them cannot be read, or they do not belong together.
pub fn find(datasets: &[Dataset]) -> Result<Findings, DatasetError> {
    let mut environments = Vec::new();
    let (mut plans, mut runs, mut blocks) = (Vec::new(), Runs::default(), 0);
    let mut interventions: Vec<intervention::Intervention> = Vec::new();
    let (mut names, mut registrations) = (Vec::new(), Vec::new());
    let mut interactions: Vec<Interaction> = Vec::new();
    for dataset in datasets {
        let environment = dataset.environment()?;
        let plan = &dataset.plan;
        if let Some(twice) = plan.series.iter().find(|series| plans.contains(*series)) {
            return Err(DatasetError::SeriesTwice(twice.name()));
        }
        if environments.first().is_some_and(|first| machine(first) != machine(&environment)) {
            return Err(DatasetError::OtherMachine(dataset.folder().display().to_string()));
        }
        if dataset.plan.study != datasets[0].plan.study {
            return Err(DatasetError::OtherQuestions(dataset.folder().display().to_string()));
        }
        let of_dataset = Runs::of(dataset);
        // A run belongs beside the run without work of its own dataset.
        let cells: BTreeSet<&Cell> = runs.used.keys().map(|(cell, _): &(Cell, u32)| cell).collect();
        if let Some((cell, _)) = of_dataset.used.keys().find(|(cell, _)| cells.contains(cell)) {
            return Err(DatasetError::SeriesTwice(cell.arguments().join(" ")));
        }
        runs.used.extend(of_dataset.used);
        runs.wanted += of_dataset.wanted;
        runs.left_out.extend(of_dataset.left_out);
        plans.extend(plan.series.iter().cloned());
        interventions.extend(plan.interventions.iter().cloned());
        blocks = blocks.max(plan.blocks);
        names.push(plan.name.clone());
        registrations.push(dataset.registration()?);
        for map in interaction::draw_from(dataset, &environment) {
            if !interactions.iter().any(|other| other.backend == map.backend) {
                interactions.push(map);
            }
        }
        environments.push(environment);
    }
    let series = judge_all(&plans, &runs, blocks);
    let mut start_up: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for ((cell, _), run) in &runs.used {
        let calls = run.start_up_on_devices();
        if calls > 0.0 {
            let (fewest, most) = start_up.entry(cell.backend.clone()).or_insert((calls, calls));
            (*fewest, *most) = (fewest.min(calls), most.max(calls));
        }
    }
    let execution = execution::find(&plans, &runs);
    let variants = variants::find(&plans, &runs);
    let interventions = intervention::find(&interventions, &runs, blocks);
    let claims = claims::form(&series, &execution, &variants);
    let study = datasets.first().and_then(|dataset| dataset.plan.study.clone()).unwrap_or_default();
    let data = predictions::Data { series: &series, variants: &variants, plans: &plans, runs: &runs };
    let predictions = predictions::judge(&study, &data);
    Ok(Findings {
        plan: names.join(" + "),
        knows_threads: runs.used.values().all(|run| run.knows_threads),
        registrations: registrations.iter().flatten().cloned().collect(),
        unregistered: registrations.iter().filter(|one| one.is_none()).count(),
        environment: environments.into_iter().next().unwrap_or_default(),
        used: runs.used.len() as u64,
        wanted: runs.wanted,
        left_out: shortened(runs.left_out),
        series,
        execution,
        variants,
        interventions,
        claims,
        start_up,
        predictions,
        interactions,
        questions: study.questions,
    })
}

/// What datasets that are judged as one must have in common.
fn machine(environment: &serde_json::Value) -> [serde_json::Value; 3] {
    let models = environment["nvidia_gpus"].as_array().into_iter().flatten().map(|gpu| gpu["model"].clone());
    [environment["host"]["kernel"].clone(), environment["nvidia_driver"].clone(), models.collect()]
}

/// The first of many lines, and how many more there are.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    const MOST: usize = 100;
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}
