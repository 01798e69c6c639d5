//! The reports of the committed datasets.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gpuos_analysis::{
    compare::{self, Source},
    dataset::Dataset,
    findings, report,
};

use crate::Files;

/// A report, and the datasets that it is of.
pub(crate) struct Report {
    /// Where it lies.
    pub folder: &'static str,
    /// The folders of the datasets, each with its `dataset.tar.gz`.
    pub datasets: &'static [&'static str],
    /// Whether the dataset's backends are compared, too.
    pub is_compared: bool,
}

/// Every committed report.
pub(crate) fn all() -> [Report; 14] {
    let one = |folder, datasets, is_compared| Report { folder, datasets, is_compared };
    [
        one("phase1/without-gpu", &["phase1/without-gpu"], false),
        one("phase1/hip-cpu", &["phase1/hip-cpu"], false),
        one("phase1/h200/sweep", &["phase1/h200/sweep"], false),
        one("phase1/h200/threads", &["phase1/h200/threads"], false),
        one("phase1/h200/inference", &["phase1/h200/inference"], false),
        one("phase1/h200/stacks", &["phase1/h200/stacks"], true),
        one("phase2/without-gpu", &["phase2/without-gpu"], false),
        one("phase2/h200", &["phase2/h200"], false),
        one("phase2/h200-start", &["phase2/h200-start"], false),
        one("phase2/h200-more", &["phase2/h200-more"], false),
        one("phase2/h200-pilot", &["phase2/h200-pilot"], false),
        one("phase4/without-gpu", &["phase4/without-gpu"], false),
        one("phase2/models-cpu", &["phase2/models-cpu"], false),
        one("phase1/h200/models", &["phase1/h200/sweep", "phase1/h200/inference"], false),
    ]
}

/// A dataset, unpacked as long as this lives.
pub(crate) struct Unpacked {
    folder: tempfile::TempDir,
}

impl Unpacked {
    pub(crate) fn new(study: &Path, folder: &str) -> Result<Self> {
        let archive = study.join(folder).join("dataset.tar.gz");
        let unpacked = Self { folder: tempfile::tempdir()? };
        let file = File::open(&archive).with_context(|| archive.display().to_string())?;
        tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(unpacked.folder.path())?;
        Ok(unpacked)
    }

    pub(crate) fn open(&self) -> Result<Dataset> {
        Ok(Dataset::open(self.folder.path())?)
    }
}

impl Report {
    /// Its files, by their path under `study/`.
    ///
    /// # Errors
    /// A dataset cannot be read.
    pub(crate) fn make(&self, study: &Path) -> Result<Files> {
        let unpacked: Vec<Unpacked> =
            self.datasets.iter().map(|folder| Unpacked::new(study, folder)).collect::<Result<_>>()?;
        let datasets: Vec<Dataset> = unpacked.iter().map(Unpacked::open).collect::<Result<_>>()?;
        let made = tempfile::tempdir()?;
        report::write(&findings::find(&datasets)?, made.path())?;
        if self.is_compared {
            let name = |folder: &str| folder.rsplit('/').next().unwrap_or_default().to_owned();
            let sources =
                self.datasets.iter().zip(&datasets).map(|(folder, dataset)| Source::of(name(folder), dataset));
            let sources = sources.collect::<Result<Vec<_>, _>>()?;
            compare::write(&compare::compare(&sources), made.path())?;
        }
        let mut files = Files::new();
        for entry in fs::read_dir(made.path())? {
            let entry = entry?;
            files.insert(PathBuf::from(self.folder).join(entry.file_name()), fs::read(entry.path())?);
        }
        Ok(files)
    }
}
