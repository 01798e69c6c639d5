//! What a dataset shows: what its series show, what comes with a runtime, what follows from both, and what was left out.

use serde::Serialize;

use crate::{
    claims::{self, Claims},
    counted::Runs,
    dataset::{Dataset, DatasetError},
    execution::{self, Execution},
    interaction::{self, Interaction},
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
    /// On what it was run, JSON.
    pub environment: serde_json::Value,
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
    /// What follows.
    pub claims: Claims,
    /// What was predicted before anything was run.
    pub predictions: Vec<Prediction>,
    /// Who calls what, one for each runtime.
    pub interactions: Vec<Interaction>,
    /// What was asked, in words.
    #[serde(skip)]
    pub questions: Questions,
}

/// Reads a dataset and judges it.
///
/// # Errors
/// A file of it cannot be read.
pub fn find(dataset: &Dataset) -> Result<Findings, DatasetError> {
    let environment = dataset.environment()?;
    let plan = &dataset.plan;
    let runs = Runs::of(dataset);
    let series = judge_all(&plan.series, &runs, plan.blocks);
    let execution = execution::find(&plan.series, &runs);
    let variants = variants::find(&plan.series, &runs);
    let claims = claims::form(&series, &execution, &variants);
    let study = plan.study.clone().unwrap_or_default();
    let data = predictions::Data { series: &series, variants: &variants, plans: &plan.series, runs: &runs };
    let predictions = predictions::judge(&study, &data);
    let interactions = interaction::draw_from(dataset, &environment);
    Ok(Findings {
        plan: plan.name.clone(),
        environment,
        used: runs.used.len() as u64,
        wanted: runs.wanted,
        left_out: shortened(runs.left_out),
        series,
        execution,
        variants,
        claims,
        predictions,
        interactions,
        questions: study.questions,
    })
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
