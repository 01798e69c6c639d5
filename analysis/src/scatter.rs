//! Two costs against each other, both logarithmic: a line for each way, a point with its name for each case.

use gpuos_model::Role;
use plotters::prelude::*;

use crate::plot::{Area, Drawn, Facets, Plot, drawn};

/// A facet.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// What is shown.
    pub name: String,
    /// What lies along, and its unit.
    pub along: String,
    /// What lies upward, and its unit.
    pub up: String,
    /// By their names, in the order of their colours.
    pub ways: Vec<(String, Vec<Point>)>,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Point {
    /// Above 0.
    pub along: f64,
    /// Above 0.
    pub up: f64,
    /// Beside it.
    pub name: String,
}

/// Told apart by people who see no red or no green, too (Okabe and Ito).
const COLORS: [RGBColor; 4] =
    [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Draws them; nothing where there is none.
pub fn scatter(all: &[Scatter]) -> Option<Plot> {
    drawn(&Scatters(all))
}

struct Scatters<'a>(&'a [Scatter]);

impl Facets for Scatters<'_> {
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
        facet(&self.0[place], on, zoom)
    }
}

/// From below the least to above the most, so that names have room.
fn room(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    values.clone().fold(f64::MAX, f64::min) / 1.6..values.fold(f64::MIN_POSITIVE, f64::max) * 2.5
}

/// Where names stand: points that lie on each other share a place.
fn names(points: &[Point]) -> Vec<((f64, f64), String)> {
    /// Of a power of ten.
    const NEAR: f64 = 0.08;
    let is_near = |one: f64, other: f64| (one / other).log10().abs() < NEAR;
    let mut names: Vec<((f64, f64), String)> = Vec::new();
    for Point { along, up, name } in points {
        match names.last_mut() {
            Some((place, before)) if is_near(place.0, *along) && is_near(place.1, *up) => {
                before.push_str(", ");
                before.push_str(name);
            }
            _ => names.push(((*along, *up), name.clone())),
        }
    }
    names
}

fn facet<DB>(one: &Scatter, area: &Area<DB>, zoom: u32) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    let points = || one.ways.iter().flat_map(|(_, points)| points);
    let (along, up) = (room(points().map(|point| point.along)), room(points().map(|point| point.up)));
    let mut chart = ChartBuilder::on(area)
        .caption(&one.name, ("sans-serif", 13 * zoom))
        .margin(8 * zoom)
        .margin_right(16 * zoom)
        .x_label_area_size(34 * zoom)
        .y_label_area_size(54 * zoom)
        .build_cartesian_2d(along.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 11 * zoom))
        .axis_desc_style(("sans-serif", 11 * zoom))
        .axis_style(BLACK.stroke_width(zoom))
        .bold_line_style(BLACK.mix(0.2).stroke_width(zoom))
        .light_line_style(TRANSPARENT)
        .x_labels(5)
        .y_labels(5)
        .x_desc(&one.along)
        .y_desc(&one.up)
        .x_label_formatter(&|value| crate::axis::short(*value))
        .y_label_formatter(&|value| crate::axis::short(*value))
        .draw()?;
    for ((name, points), color) in one.ways.iter().zip(COLORS.into_iter().cycle()) {
        let line = points.iter().map(|point| (point.along, point.up));
        chart
            .draw_series(LineSeries::new(line.clone(), color.stroke_width(zoom)))?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8 * zoom.cast_signed(), y), 3 * zoom, color.filled()));
        chart.draw_series(line.map(|place| Circle::new(place, 3 * zoom, color.filled())))?;
        let style = ("sans-serif", 10 * zoom).into_font().color(&color);
        let away = (5 * zoom).cast_signed();
        let beside = |(place, name)| EmptyElement::at(place) + Text::new(name, (away, -2 * away), style.clone());
        chart.draw_series(names(points).into_iter().map(beside))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 11 * zoom))
        .background_style(WHITE.mix(0.8))
        .legend_area_size(18 * zoom)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_its_line_its_name_and_its_points() {
        let point = |along, up| Point { along, up, name: format!("{along} case") };
        let ways = vec![
            ("spin".to_owned(), vec![point(10.0, 1.0), point(100.0, 2.0)]),
            ("sleep".to_owned(), vec![point(20.0, 30.0), point(21.0, 30.0)]),
        ];
        let one = Scatter { name: "waits".to_owned(), along: "CPU, µs".to_owned(), up: "late, µs".to_owned(), ways };
        let Plot { svg, png } = scatter(&[one]).unwrap();
        for words in ["waits", "CPU, µs", "late, µs", "spin", "sleep", "10 case", "100 case", "20 case, 21 case"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        // A circle each, and one a way in the legend.
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(!png.is_empty() && scatter(&[]).is_none());
    }
}
