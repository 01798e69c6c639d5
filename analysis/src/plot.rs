//! Plots as SVG. Roles have the same colours everywhere, and colours that people with any colour vision tell apart (Okabe
//! and Ito 2008).

use plotters::prelude::*;

use crate::{findings::SeriesFindings, verdict::Axis};

/// Of a plot, and of the room beside it for the legend, in pixels.
const WIDTH: u32 = 860;
const LEGEND: u32 = 170;

/// Of roles; what is unknown and all calls together are black.
fn color(role: &str) -> RGBColor {
    match role {
        "memory" => RGBColor(0x00, 0x72, 0xb2),
        "submission" => RGBColor(0xd5, 0x5e, 0x00),
        "synchronization" => RGBColor(0x00, 0x9e, 0x73),
        "scheduling" => RGBColor(0xcc, 0x79, 0xa7),
        "bookkeeping" => RGBColor(0xe6, 0x9f, 0x00),
        "io" => RGBColor(0x56, 0xb4, 0xe9),
        _ => BLACK,
    }
}

/// Calls in `work` along a series, both axes logarithmic. A count of 0 lies on the lowest line, at ½.
pub fn scaling(series: &SeriesFindings) -> String {
    let mut text = String::new();
    if draw(series, &mut text).is_err() {
        // Nothing to draw.
        return String::new();
    }
    text
}

fn draw(series: &SeriesFindings, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let (first, last) = (series.levels[0], series.levels[series.levels.len() - 1]);
    let most = series.roles.iter().flat_map(|role| role.middles.iter().copied()).fold(1.0, f64::max);
    let whole = SVGBackend::with_string(text, (WIDTH, 420)).into_drawing_area();
    whole.fill(&WHITE)?;
    let (area, legend) = whole.split_horizontally(WIDTH - LEGEND);
    // Sizes grow by powers of two, iterations by powers of ten.
    let (axis, base) = if series.axis == Axis::Bytes { ("bytes", 4.0) } else { ("iterations", 10.0) };
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: calls in the phase work", series.name), ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((first * 0.8..last * 1.25).log_scale().base(base), (0.5..most * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc("calls, median of the blocks")
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| short(*value, series.axis))
        .y_label_formatter(&|value| short(*value, Axis::Iterations))
        .draw()?;
    for (number, role) in series.roles.iter().enumerate() {
        let points = || series.levels.iter().zip(&role.middles).map(|(level, calls)| (*level, calls.max(0.5)));
        let color = color(&role.role);
        // All together lie below, broad and pale, so that a role which is all of them is seen.
        let style = if color == BLACK { color.mix(0.25).stroke_width(7) } else { color.stroke_width(2) };
        chart.draw_series(LineSeries::new(points(), style))?;
        let high = 45 + 20 * number as i32;
        legend.draw(&PathElement::new([(5, high), (25, high)], style))?;
        legend.draw(&Text::new(role.role.clone(), (32, high - 6), ("sans-serif", 13)))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
        // A step stands where it is.
        for (below, above) in &role.verdict.steps {
            let place = (below * above).sqrt();
            let line = [(place, 0.5), (place, most * 2.0)];
            chart.draw_series(std::iter::once(PathElement::new(line, color.mix(0.4).stroke_width(1))))?;
        }
    }
    whole.present()?;
    Ok(())
}

/// A number in few characters: powers of 1,024 for bytes, of 1,000 for all else.
fn short(value: f64, axis: Axis) -> String {
    let (step, units): (f64, [&str; 4]) = match axis {
        Axis::Bytes => (1024.0, ["", " KiB", " MiB", " GiB"]),
        Axis::Iterations => (1000.0, ["", "k", "M", "G"]),
    };
    let mut value = value;
    let mut unit = 0;
    while value >= step && unit < 3 {
        value /= step;
        unit += 1;
    }
    let digits = if value < 10.0 && value.fract() > 0.05 { 1 } else { 0 };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(0.5, Axis::Iterations), "0.5");
        assert_eq!(short(1000.0, Axis::Iterations), "1k");
        assert_eq!(short(65_536.0, Axis::Bytes), "64 KiB");
        assert_eq!(short(1_572_864.0, Axis::Bytes), "1.5 MiB");
    }
}
