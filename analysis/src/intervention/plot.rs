//! Dose–response: calls of a unit at each dose with their interval, over the band that was predicted.

use plotters::prelude::*;

use super::{Dose, InterventionFindings, KindFinding, Outcome};
use crate::plot::{Area, CountAxis, Drawn, Facets, Plot, drawn, role_color};
use gpuos_model::Role;

/// A facet for each kind that is predicted; nothing where there is none.
pub fn doses(found: &[InterventionFindings]) -> Option<Plot> {
    let facets = found.iter().filter(|one| one.blocks > 0).flat_map(|one| {
        one.kinds.iter().map(move |kind| {
            let pilot = if one.is_pilot { ", pilot" } else { "" };
            // What a placebo voids is confirmed of no kind.
            let outcome = if one.outcome == Outcome::Void { one.outcome } else { kind.outcome };
            (format!("{}: {}, {} by {}{pilot}", one.plan.name, outcome.name(), kind.kind, one.plan.option), kind)
        })
    });
    drawn(&Doses(facets.collect()))
}

struct Doses<'a>(Vec<(String, &'a KindFinding)>);

impl Facets for Doses<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn has(&self, _role: Option<Role>) -> bool {
        false
    }

    fn facet<DB>(&self, place: usize, on: &Area<DB>, zoom: u32) -> Drawn
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (name, kind) = &self.0[place];
        facet(name, kind, on, zoom)
    }
}

fn facet<DB>(name: &str, kind: &KindFinding, area: &Area<DB>, zoom: u32) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    let ends = kind.doses.iter().flat_map(|dose| [dose.interval.high, dose.predicted.high]);
    let most = ends.chain([kind.base]).fold(0.1, f64::max);
    let last = kind.doses.len() as f64;
    let labels: Vec<String> = std::iter::once("base".to_owned())
        .chain(kind.doses.iter().map(|dose| match &dose.dose {
            Dose::Number(k) => format!("k = {k}"),
            Dose::Word(word) => word.clone(),
        }))
        .collect();
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 13 * zoom))
        .margin(8 * zoom)
        .margin_right(24 * zoom)
        .x_label_area_size(34 * zoom)
        .y_label_area_size(54 * zoom)
        .build_cartesian_2d(-0.4..last + 0.4, CountAxis(most * 1.3))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .label_style(("sans-serif", 11 * zoom))
        .axis_desc_style(("sans-serif", 11 * zoom))
        .axis_style(BLACK.stroke_width(zoom))
        .bold_line_style(BLACK.mix(0.2).stroke_width(zoom))
        .light_line_style(TRANSPARENT)
        .x_labels(labels.len())
        .y_desc("calls of a unit")
        .x_desc("dose; grey: predicted, bars: 95 %")
        .x_label_formatter(&|place| {
            let is_whole = (place - place.round()).abs() < 0.01;
            let label = labels.get(place.round() as usize).filter(|_| is_whole && *place > -0.1);
            label.cloned().unwrap_or_default()
        })
        .y_label_formatter(&|value| crate::axis::short(*value))
        .draw()?;
    let color = match &kind.kind {
        crate::counted::CallKind::Role(role) => role_color(*role),
        crate::counted::CallKind::All | crate::counted::CallKind::Category(_) => BLACK,
    };
    for (place, dose) in (1..).zip(&kind.doses) {
        let at = f64::from(place);
        // A band that has no height is drawn as high as a line.
        let band = [(at - 0.3, dose.predicted.low), (at + 0.3, dose.predicted.high)];
        chart.draw_series(std::iter::once(Rectangle::new(band, BLACK.mix(0.15).filled())))?;
        chart.draw_series(std::iter::once(Rectangle::new(band, BLACK.mix(0.3).stroke_width(zoom))))?;
        let bar = [(at, dose.interval.low), (at, dose.interval.high)];
        chart.draw_series(std::iter::once(PathElement::new(bar, color.stroke_width(2 * zoom))))?;
        chart.draw_series(std::iter::once(Circle::new((at, dose.calls), 3 * zoom, color.filled())))?;
    }
    chart.draw_series(std::iter::once(Circle::new((0.0, kind.base), 4 * zoom, color.stroke_width(2 * zoom))))?;
    Ok(())
}
