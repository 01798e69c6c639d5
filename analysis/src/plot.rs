//! Plots as SVG and PNG: how counts scale along the series of a question, and what each phase is made of.

use std::{collections::BTreeMap, sync::Once};

use gpuos_model::Role;
use plotters::{
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
    },
    prelude::*,
    style::{FontStyle, register_font},
};

use crate::{
    axis::{self, Axis, in_units},
    counted::CallKind,
    series_findings::{KindFindings, SeriesFindings},
    verdict::Scaling,
};

/// Of one series in a plot of many, in pixels; two stand side by side.
const FACET: (u32, u32) = (440, 300);
/// Of the line of roles above them.
const LEGEND: u32 = 30;
/// All roles together, in the line of roles.
const ALL_CALLS: &str = "all calls";
/// How dark they are.
const ALL: f64 = 0.2;
/// Pixels of a PNG for one of an SVG.
const FINE: u32 = 2;

pub(crate) type Area<DB> = DrawingArea<DB, Shift>;
pub(crate) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A drawing in two formats.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Vectors.
    pub svg: String,
    /// Pixels, twice as many in each direction.
    pub png: Vec<u8>,
}

/// Facets in two columns under a line of roles, on any backend; `zoom` is pixels for each pixel of an SVG.
pub(crate) trait Facets {
    fn count(&self) -> usize;
    /// Whether a role is in any of them.
    fn has(&self, role: Option<Role>) -> bool;
    fn facet<DB>(&self, place: usize, on: &Area<DB>, zoom: u32) -> Drawn
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static;
}

/// Draws in both formats; nothing where there is nothing to draw.
pub(crate) fn drawn(what: &impl Facets) -> Option<Plot> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Its error is for fonts that cannot be read; the text is then absent.
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).ok();
    });
    let rows = what.count().div_ceil(2) as u32;
    let (wide, high) = (2 * FACET.0, LEGEND + rows * FACET.1);
    let mut svg = String::new();
    draw(what, &SVGBackend::with_string(&mut svg, (wide, high)).into_drawing_area(), 1).ok()?;
    let (wide, high) = (FINE * wide, FINE * high);
    let mut pixels = vec![0; (3 * wide * high) as usize];
    draw(what, &BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area(), FINE).ok()?;
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, wide, high);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    encoder.write_header().ok()?.write_image_data(&pixels).ok()?;
    (rows > 0).then_some(Plot { svg, png })
}

fn draw<DB>(what: &impl Facets, whole: &Area<DB>, zoom: u32) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    whole.fill(&WHITE)?;
    let (legend, rest) = whole.split_vertically(zoom * LEGEND);
    roles_line(&legend, zoom, Role::ALL.map(Some).into_iter().chain([None]).filter(|role| what.has(*role)))?;
    for (place, area) in (0..what.count()).zip(rest.split_evenly((what.count().div_ceil(2), 2))) {
        what.facet(place, &area, zoom)?;
    }
    Ok(whole.present()?)
}

pub(crate) fn role_color(role: Role) -> RGBColor {
    let (red, green, blue) = role.color();
    RGBColor(red, green, blue)
}

/// An axis of counts up to one: logarithmic, with a place for zero.
pub(crate) struct CountAxis(pub(crate) f64);

impl Ranged for CountAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, calls: &f64, (bottom, top): (i32, i32)) -> i32 {
        let share = calls.max(0.0).ln_1p() / self.0.ln_1p();
        bottom + (share * f64::from(top - bottom)).round() as i32
    }

    /// Zero and the powers of ten.
    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        let powers = std::iter::successors(Some(1.0), |mark| Some(mark * 10.0)).take_while(|mark| *mark <= self.0);
        std::iter::once(0.0).chain(powers).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

/// Calls in the timed work along every series of an axis, start-up subtracted; both axes logarithmic, calls from zero on,
/// medians with their 95 % intervals, the verdict in words, the fitted power dashed, steps marked. Nothing where there is no
/// series.
pub fn scaling(series: &[&SeriesFindings]) -> Option<Plot> {
    scaling_named(series.iter().map(|series| (series.name.clone(), *series)).collect())
}

/// The same with names of their own, such as those of their datasets before them.
pub fn scaling_named(series: Vec<(String, &SeriesFindings)>) -> Option<Plot> {
    drawn(&AlongAxis(series))
}

struct AlongAxis<'a>(Vec<(String, &'a SeriesFindings)>);

impl Facets for AlongAxis<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn has(&self, role: Option<Role>) -> bool {
        let kind = role.map_or(CallKind::All, CallKind::Role);
        self.0.iter().any(|(_, series)| series.kind(&kind).is_some())
    }

    fn facet<DB>(&self, place: usize, on: &Area<DB>, zoom: u32) -> Drawn
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (name, series) = &self.0[place];
        facet(name, series, on, zoom)
    }
}

/// The colours and their roles, side by side.
fn roles_line<DB>(area: &Area<DB>, zoom: u32, roles: impl Iterator<Item = Option<Role>>) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    let at = |pixels: i32| pixels * zoom as i32;
    for (place, role) in roles.enumerate() {
        let left = 12 + 108 * place as i32;
        let color = role.map_or(BLACK, role_color);
        let style = if color == BLACK { color.mix(ALL).filled() } else { color.filled() };
        area.draw(&Rectangle::new([(at(left), at(10)), (at(left + 12), at(22))], style))?;
        area.draw(&Text::new(role.map_or(ALL_CALLS, Role::name), (at(left + 17), at(10)), ("sans-serif", 12 * zoom)))?;
    }
    Ok(())
}

fn facet<DB>(name: &str, series: &SeriesFindings, area: &Area<DB>, zoom: u32) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    let (Some(first), Some(last)) = (series.levels.first(), series.levels.last()) else { return Ok(()) };
    let most = series.kinds.iter().flat_map(|kind| kind.medians.iter().copied()).fold(1.0, f64::max);
    // Sizes grow by powers of two, iterations by powers of ten.
    let (axis, varied, base) =
        if series.axis == Axis::Bytes { ("bytes", "by size", 4.0) } else { ("iterations", "by repetition", 10.0) };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{name}, {varied}"), ("sans-serif", 14 * zoom))
        .margin(8 * zoom)
        .margin_right(24 * zoom)
        .x_label_area_size(34 * zoom)
        .y_label_area_size(50 * zoom)
        .build_cartesian_2d((first * 0.8..last * 1.25).log_scale().base(base), CountAxis(most * 3.0))?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 11 * zoom))
        .axis_desc_style(("sans-serif", 11 * zoom))
        .axis_style(BLACK.stroke_width(zoom))
        .bold_line_style(BLACK.mix(0.2).stroke_width(zoom))
        .x_desc(axis)
        .y_desc("calls (median)")
        .x_labels(7)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| short(*value, series.axis))
        .y_label_formatter(&|value| short(*value, Axis::Iterations))
        .draw()?;
    let mut labelled: Vec<String> = Vec::new();
    let words = Text::new(series.words(&CallKind::All), (*first, most * 2.6), ("sans-serif", 12 * zoom));
    chart.draw_series(std::iter::once(words))?;
    for found in &series.kinds {
        let color = match &found.kind {
            CallKind::All => BLACK,
            CallKind::Role(role) => role_color(*role),
            CallKind::Category(_) => continue,
        };
        let points = || series.levels.iter().zip(&found.medians).map(|(level, calls)| (*level, *calls));
        // All together lie below, broad and pale, so that a role which is all of them is seen.
        let style = if color == BLACK { color.mix(ALL).stroke_width(7 * zoom) } else { color.stroke_width(2 * zoom) };
        chart.draw_series(LineSeries::new(points(), style))?;
        if color == BLACK {
            continue;
        }
        chart.draw_series(points().map(|point| Circle::new(point, 3 * zoom, color.filled())))?;
        let bars = series.levels.iter().zip(&found.intervals).map(|(level, interval)| {
            let ends = [(*level, interval.low), (*level, interval.high)];
            PathElement::new(ends, color.stroke_width(zoom))
        });
        chart.draw_series(bars)?;
        if let Some(fitted) = fitted(series, found) {
            let dash = (3 * zoom) as i32;
            let (at, label) = (fitted[fitted.len() / 2], fitted_label(series, found));
            chart.draw_series(DashedLineSeries::new(fitted, dash, dash, BLACK.mix(0.6).stroke_width(zoom)))?;
            // Below the line, where it is not drawn over; roles that lie on each other have one label.
            if !labelled.contains(&label) {
                let style = ("sans-serif", 11 * zoom).into_font().color(&BLACK);
                let offset = (6 * zoom as i32, (2 + 12 * labelled.len() as i32) * zoom as i32);
                let text = EmptyElement::at(at) + Text::new(label.clone(), offset, style);
                chart.draw_series(std::iter::once(text))?;
                labelled.push(label);
            }
        }
        // A step stands where it is.
        for (below, above) in &found.verdict.steps {
            let place = (below.max(first * 0.8) * above).sqrt();
            let line = [(place, 0.0), (place, most * 2.0)];
            chart.draw_series(std::iter::once(PathElement::new(line, color.mix(0.5).stroke_width(zoom))))?;
            let label = format!("{} to {}", short(*below, series.axis), short(*above, series.axis));
            if !labelled.contains(&label) {
                let style = ("sans-serif", 11 * zoom).into_font().color(&BLACK);
                let offset = (4 * zoom as i32, 14 * labelled.len() as i32 * zoom as i32);
                let text = EmptyElement::at((place, most * 1.4)) + Text::new(label.clone(), offset, style);
                chart.draw_series(std::iter::once(text))?;
                labelled.push(label);
            }
        }
    }
    Ok(())
}

/// The rule that is drawn, in a few letters.
fn fitted_label(series: &SeriesFindings, found: &KindFindings) -> String {
    let verdict = &found.verdict;
    let once = verdict.once.map_or_else(String::new, |once| format!(" + {}", axis::short(once)));
    match (series.axis, verdict.scaling, verdict.exponent) {
        (Axis::Iterations, Scaling::Linear, _) => format!("{} each{once}", verdict.slope_words()),
        (_, _, Some(exponent)) => format!("power {exponent:.2}{once}"),
        (_, scaling, None) => scaling.name().to_owned(),
    }
}

/// The power that the verdict is: through the largest level, from the smallest on or from 0.
fn fitted(series: &SeriesFindings, found: &KindFindings) -> Option<Vec<(f64, f64)>> {
    let verdict = &found.verdict;
    if !matches!(verdict.scaling, Scaling::Linear | Scaling::Sublinear | Scaling::Superlinear) {
        return None;
    }
    let exponent = verdict.exponent?;
    let (first, last) = (*series.levels.first()?, *series.levels.last()?);
    let (ground, from) = match (series.axis, verdict.once) {
        (Axis::Iterations, None) => (0.0, 0.0),
        (Axis::Iterations, Some(_)) | (Axis::Bytes, _) => (first.powf(exponent), *found.medians.first()?),
    };
    let growth = (found.medians.last()? - from) / (last.powf(exponent) - ground);
    let points = series.levels.iter().map(|level| (*level, from + growth * (level.powf(exponent) - ground)));
    Some(points.collect())
}

/// Calls of one workload, by phase and role.
pub struct Phases {
    /// Which workload.
    pub name: String,
    /// The phases in their order, with the calls of each role.
    pub phases: Vec<(String, BTreeMap<Role, f64>)>,
}

/// Stacked bars: calls of each role in each phase.
pub fn phases(all: &[Phases]) -> Option<Plot> {
    drawn(&Bars(all))
}

struct Bars<'a>(&'a [Phases]);

impl Facets for Bars<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn has(&self, role: Option<Role>) -> bool {
        role.is_some_and(|role| self.0.iter().any(|one| one.phases.iter().any(|(_, roles)| roles.contains_key(&role))))
    }

    fn facet<DB>(&self, place: usize, on: &Area<DB>, zoom: u32) -> Drawn
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        bars(&self.0[place], on, zoom)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the axis has labels in the middle of its segments alone")]
fn bars<DB>(one: &Phases, area: &Area<DB>, zoom: u32) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    let most = one.phases.iter().map(|(_, roles)| roles.values().sum()).fold(1.0, f64::max);
    // From the first place to the last, both included.
    let last = one.phases.len().saturating_sub(1);
    let mut chart = ChartBuilder::on(area)
        .caption(&one.name, ("sans-serif", 14 * zoom))
        .margin(8 * zoom)
        .margin_right(24 * zoom)
        .x_label_area_size(34 * zoom)
        .y_label_area_size(50 * zoom)
        .build_cartesian_2d((0..last).into_segmented(), 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 11 * zoom))
        .axis_desc_style(("sans-serif", 11 * zoom))
        .axis_style(BLACK.stroke_width(zoom))
        .bold_line_style(BLACK.mix(0.2).stroke_width(zoom))
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
        for role in Role::ALL {
            let calls = roles.get(&role).copied().unwrap_or_default();
            if calls == 0.0 {
                continue;
            }
            let corners = [(SegmentValue::Exact(place), low), (SegmentValue::Exact(place + 1), low + calls)];
            let mut bar = Rectangle::new(corners, role_color(role).filled());
            bar.set_margin(0, 0, 12 * zoom, 12 * zoom);
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
        assert!(scaling(&[]).is_none() && phases(&[]).is_none());
    }

    #[test]
    fn a_bar_has_the_roles_of_its_phase() {
        let roles = BTreeMap::from([(Role::Memory, 30.0), (Role::Io, 10.0)]);
        let plot = phases(&[Phases { name: "cuda kernel".to_owned(), phases: vec![("init".to_owned(), roles)] }]);
        let Plot { svg: text, png } = plot.unwrap();
        // Of both roles: in the legend and as a bar; other roles have neither.
        let rectangles = |role: Role| {
            let (red, green, blue) = role.color();
            text.matches(&format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"")).count()
        };
        assert_eq!((rectangles(Role::Memory), rectangles(Role::Io)), (2, 2), "{text}");
        assert!(text.contains("init"));
        // The same in pixels: more of memory than of the rest, and letters.
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (2 * 880, 2 * 330));
        let of = |color: (u8, u8, u8)| pixels.chunks(3).filter(|p| (p[0], p[1], p[2]) == color).count();
        let [memory, io] = [Role::Memory, Role::Io].map(|role| of(role.color()));
        assert!(memory > 2 * io && io > 1000 && of((0, 0, 0)) > 500, "{memory} {io}");
    }
}
