//! Plots as SVG: how counts scale along the series of a question, and what each phase is made of.

use std::collections::BTreeMap;

use plotters::{coord::Shift, prelude::*};

use crate::{
    counted::Kind,
    findings::{KindFindings, SeriesFindings},
    palette::{self, ROLES},
    verdict::{Axis, Word, in_units},
};

/// Of one series in a plot of many, in pixels; two stand side by side.
const FACET: (u32, u32) = (440, 300);
/// Of the line of roles above them.
const LEGEND: u32 = 30;
/// Counts below are drawn here.
const LEAST: f64 = 0.5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn color(role: &str) -> RGBColor {
    let (red, green, blue) = palette::color_of(role);
    RGBColor(red, green, blue)
}

/// Calls in the timed work along every series of an axis, start-up subtracted; both axes logarithmic, medians with their
/// 95 % intervals, the fitted power dashed, steps marked. Empty where there is nothing to draw.
pub fn scaling(series: &[&SeriesFindings]) -> String {
    drawn(series, |text| {
        let rows = series.len().div_ceil(2) as u32;
        let whole = SVGBackend::with_string(text, (2 * FACET.0, LEGEND + rows * FACET.1)).into_drawing_area();
        whole.fill(&WHITE)?;
        let (legend, rest) = whole.split_vertically(LEGEND);
        let present = |role: &&str| {
            let kind = Kind::Role((*role).to_owned());
            series.iter().any(|series| series.kind(&kind).is_some())
        };
        roles_line(&legend, ROLES.iter().copied().filter(|role| present(role)).chain(["all calls"]))?;
        for (series, area) in series.iter().zip(rest.split_evenly((rows as usize, 2))) {
            facet(series, &area)?;
        }
        whole.present()?;
        Ok(())
    })
}

fn drawn<T>(what: &[T], draw: impl FnOnce(&mut String) -> Drawn) -> String {
    let mut text = String::new();
    if what.is_empty() || draw(&mut text).is_err() {
        return String::new();
    }
    text
}

/// The colours and their roles, side by side.
fn roles_line<'a>(area: &Area<'_>, roles: impl Iterator<Item = &'a str>) -> Drawn {
    for (place, role) in roles.enumerate() {
        let left = 12 + 108 * place as i32;
        area.draw(&Rectangle::new([(left, 10), (left + 12, 22)], color(role).filled()))?;
        area.draw(&Text::new(role.to_owned(), (left + 17, 10), ("sans-serif", 12)))?;
    }
    Ok(())
}

fn facet(series: &SeriesFindings, area: &Area<'_>) -> Drawn {
    let (Some(first), Some(last)) = (series.levels.first(), series.levels.last()) else { return Ok(()) };
    let most = series.kinds.iter().flat_map(|kind| kind.middles.iter().copied()).fold(1.0, f64::max);
    // Sizes grow by powers of two, iterations by powers of ten.
    let (axis, base) = if series.axis == Axis::Bytes { ("bytes", 4.0) } else { ("iterations", 10.0) };
    let mut chart = ChartBuilder::on(area)
        .caption(&series.name, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(50)
        .build_cartesian_2d((first * 0.8..last * 1.25).log_scale().base(base), (LEAST..most * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc("calls (median)")
        .x_labels(7)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| short(*value, series.axis))
        .y_label_formatter(&|value| short(*value, Axis::Iterations))
        .draw()?;
    for found in series.kinds.iter() {
        let color = match &found.kind {
            Kind::All => BLACK,
            Kind::Role(role) => color(role),
            Kind::Category(_) => continue,
        };
        let points = || series.levels.iter().zip(&found.middles).map(|(level, calls)| (*level, calls.max(LEAST)));
        // All together lie below, broad and pale, so that a role which is all of them is seen.
        let style = if color == BLACK { color.mix(0.2).stroke_width(7) } else { color.stroke_width(2) };
        chart.draw_series(LineSeries::new(points(), style))?;
        if color == BLACK {
            continue;
        }
        chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
        let bars = series.levels.iter().zip(&found.intervals).map(|(level, interval)| {
            let ends = [(*level, interval.low.max(LEAST)), (*level, interval.high.max(LEAST))];
            PathElement::new(ends, color.stroke_width(1))
        });
        chart.draw_series(bars)?;
        if let Some(fitted) = fitted(series, found) {
            chart.draw_series(DashedLineSeries::new(fitted, 3, 3, BLACK.mix(0.6).stroke_width(1)))?;
        }
        // A step stands where it is.
        for (below, above) in &found.verdict.steps {
            let place = (below.max(first * 0.8) * above).sqrt();
            let line = [(place, LEAST), (place, most * 2.0)];
            chart.draw_series(std::iter::once(PathElement::new(line, color.mix(0.5).stroke_width(1))))?;
        }
    }
    Ok(())
}

/// The power that the verdict is: through the largest level, from the smallest on or from 0.
fn fitted(series: &SeriesFindings, found: &KindFindings) -> Option<Vec<(f64, f64)>> {
    let verdict = &found.verdict;
    if !matches!(verdict.word, Word::Linear | Word::Sublinear | Word::Superlinear) {
        return None;
    }
    let exponent = verdict.exponent?;
    let (first, last) = (*series.levels.first()?, *series.levels.last()?);
    let (ground, from) = match (series.axis, verdict.once) {
        (Axis::Iterations, None) => (0.0, 0.0),
        (Axis::Iterations, Some(_)) | (Axis::Bytes, _) => (first.powf(exponent), *found.middles.first()?),
    };
    let growth = (found.middles.last()? - from) / (last.powf(exponent) - ground);
    let points =
        series.levels.iter().map(|level| (*level, (from + growth * (level.powf(exponent) - ground)).max(LEAST)));
    Some(points.collect())
}

/// Calls of one workload, by phase and role.
pub struct Phases {
    /// Which workload.
    pub name: String,
    /// The phases in their order, with the calls of each role.
    pub phases: Vec<(String, BTreeMap<String, f64>)>,
}

/// Stacked bars: calls of each role in each phase.
pub fn phases(all: &[Phases]) -> String {
    drawn(all, |text| {
        let rows = all.len().div_ceil(2) as u32;
        let whole = SVGBackend::with_string(text, (2 * FACET.0, LEGEND + rows * FACET.1)).into_drawing_area();
        whole.fill(&WHITE)?;
        let (legend, rest) = whole.split_vertically(LEGEND);
        let present = |role: &&str| all.iter().any(|one| one.phases.iter().any(|(_, roles)| roles.contains_key(*role)));
        roles_line(&legend, ROLES.iter().copied().filter(|role| present(role)))?;
        for (one, area) in all.iter().zip(rest.split_evenly((rows as usize, 2))) {
            bars(one, &area)?;
        }
        whole.present()?;
        Ok(())
    })
}

fn bars(one: &Phases, area: &Area<'_>) -> Drawn {
    let most = one.phases.iter().map(|(_, roles)| roles.values().sum()).fold(1.0, f64::max);
    let count = one.phases.len();
    let mut chart = ChartBuilder::on(area)
        .caption(&one.name, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(50)
        .build_cartesian_2d((0..count.max(1)).into_segmented(), 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("phase")
        .y_desc("calls (median)")
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|place| match place {
            SegmentValue::CenterOf(place) => one.phases.get(*place).map(|(name, _)| name.clone()).unwrap_or_default(),
            _ => String::new(),
        })
        .y_label_formatter(&|value| short(*value, Axis::Iterations))
        .draw()?;
    for (place, (_, roles)) in one.phases.iter().enumerate() {
        let mut low = 0.0;
        for role in ROLES {
            let calls = roles.get(role).copied().unwrap_or_default();
            let corners = [(SegmentValue::Exact(place), low), (SegmentValue::Exact(place + 1), low + calls)];
            let mut bar = Rectangle::new(corners, color(role).filled());
            bar.set_margin(0, 0, 12, 12);
            chart.draw_series(std::iter::once(bar))?;
            low += calls;
        }
    }
    Ok(())
}

/// A number in few characters: powers of 1,024 for bytes, of 1,000 for all else.
fn short(value: f64, axis: Axis) -> String {
    match axis {
        Axis::Bytes => axis.level(value),
        Axis::Iterations => in_units(value, 1000.0, ["", "k", "M", "G"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(0.5, Axis::Iterations), "0.5");
        assert_eq!(short(1000.0, Axis::Iterations), "1k");
        assert_eq!(short(65_536.0, Axis::Bytes), "64 KiB");
    }

    #[test]
    fn nothing_to_draw_is_no_plot() {
        assert_eq!(scaling(&[]), "");
        assert_eq!(phases(&[]), "");
    }

    #[test]
    fn a_bar_has_the_roles_of_its_phase() {
        let roles = BTreeMap::from([("memory".to_owned(), 30.0), ("io".to_owned(), 10.0)]);
        let text = phases(&[Phases { name: "cuda kernel".to_owned(), phases: vec![("init".to_owned(), roles)] }]);
        // Of both roles: in the legend and as a bar; other roles have neither.
        let rectangles = |role: &str| {
            let (red, green, blue) = palette::color_of(role);
            text.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"")).count()
        };
        assert_eq!((rectangles("memory"), rectangles("io")), (2, 2), "{text}");
        assert!(text.contains("init"));
    }
}
