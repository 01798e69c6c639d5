//! The figures: a folder for each, with what it shows, from which data, by which command, and what is expected.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gpuos_analysis::{axis::Axis, findings, plot, scatter};

use crate::{Files, falsifiers, reports::Unpacked};

/// Some series of a dataset along an axis.
struct Figure {
    folder: &'static str,
    dataset: &'static str,
    axis: Axis,
    /// As reports name them.
    series: &'static [&'static str],
}

const ALL: [Figure; 4] = [
    Figure {
        folder: "figures/1-size",
        dataset: "phase1/h200/sweep",
        axis: Axis::Bytes,
        series: &["cuda alloc 100 iterations", "cuda kernel 100 iterations"],
    },
    Figure {
        folder: "figures/2-repetition",
        dataset: "phase1/h200/sweep",
        axis: Axis::Iterations,
        series: &[
            "cuda alloc 4 MiB",
            "cuda launch",
            "cuda sync --wait block --duration-us 300",
            "cuda sync --wait spin --duration-us 300",
        ],
    },
    Figure {
        folder: "figures/3-runtimes",
        dataset: "phase1/h200/stacks",
        axis: Axis::Iterations,
        series: &["cuda alloc 4 MiB", "opencl alloc 4 MiB", "cuda kernel 1 MiB", "vulkan kernel 1 MiB"],
    },
    Figure {
        folder: "figures/4-hip-cpu",
        dataset: "phase1/hip-cpu",
        axis: Axis::Iterations,
        series: &["hip-cpu alloc 4 MiB", "hip-cpu kernel 64 KiB"],
    },
];

/// What a wait costs against how late its end is known.
const WAITING: &str = "figures/5-waiting";

/// Every figure that is asked for as SVG and PNG.
///
/// # Errors
/// A dataset cannot be read or has not a series.
pub(crate) fn all(study: &Path, is_asked: &dyn Fn(&Path) -> bool) -> Result<Files> {
    let mut files = Files::new();
    for figure in ALL.iter().filter(|figure| is_asked(Path::new(figure.folder))) {
        let unpacked = Unpacked::new(study, figure.dataset)?;
        let found = findings::find(&[unpacked.open()?])?;
        let series = figure.series.iter().map(|name| {
            let named = found.series.iter().find(|one| one.name == *name && one.axis == figure.axis);
            named.with_context(|| format!("{} has no series `{name}`", figure.dataset))
        });
        let plot = plot::scaling(&series.collect::<Result<Vec<_>>>()?).context("nothing to draw")?;
        let path = |name: &str| PathBuf::from(figure.folder).join(name);
        files.insert(path("figure.svg"), plot.svg.into_bytes());
        files.insert(path("figure.png"), plot.png);
    }
    if is_asked(Path::new(WAITING)) {
        let plot = scatter::scatter(&falsifiers::waits(study)?).context("waits to draw")?;
        files.insert(Path::new(WAITING).join("figure.svg"), plot.svg.into_bytes());
        files.insert(Path::new(WAITING).join("figure.png"), plot.png);
    }
    Ok(files)
}
