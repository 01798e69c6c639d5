//! The files of a sweep. `docs/dataset.md` describes them for other programs.
//!
//! ```text
//! DATASET/plan.toml                                                 the plan, as it was given
//! DATASET/environment.json                                          on what it was run
//! DATASET/registration.json                                         what was asked, by which rules, before the first run
//! DATASET/runs/backend=host/model=alloc/block=3/CELL.parquet        one row: latency, use, losses
//! DATASET/counts/backend=host/model=alloc/block=3/CELL.parquet      a row for each phase and call
//! ```

mod table;

use std::{
    io,
    path::{Path, PathBuf},
};

use gpuos_host::files;
use gpuos_model::{Role, Usage};
use gpuos_tables::TableFile;
use polars_core::{frame::DataFrame, prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    plan::{Cell, Plan, PlanError},
    verdict::RULES,
};
use table::{columns, counts_frame, is_of, parquet, run_frame, run_row};

/// The plan in a dataset, byte by byte as it was given.
pub const PLAN: &str = "plan.toml";
/// On what it was run, JSON.
pub const ENVIRONMENT: &str = "environment.json";
/// Of the files, in `environment.json`: one more with each change of what they have.
pub const SCHEMA_VERSION: u64 = 3;
/// The oldest that is read, too. It does not say which thread made a call, nor how long the traced work took.
const OLDEST: u64 = 2;
/// What was asked, by which rules, and when that was settled, JSON. Datasets of before version 3 have none.
pub const REGISTRATION: &str = "registration.json";
const RUNS: &str = "runs";
const COUNTS: &str = "counts";

/// What `environment.json` must say, of version 3 on; what a machine has not is said in words.
const NEEDED: [&str; 10] = [
    "host",
    "tool_version",
    "bench_checksum",
    "backends",
    "variables",
    "governor",
    "hypervisor",
    "container",
    "cgroup_cpu",
    "cgroup_memory",
];

/// More calls no run makes: a thousand years of a million a second.
const MOST_CALLS: u64 = 1 << 55;

/// One run of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRow {
    /// Of 1 and so on; 1 is not used.
    pub block: u32,
    /// Its place in the random order.
    pub place: u32,
    /// The command line of the workload.
    pub command: String,
    /// Median latency of an iteration, in nanoseconds, under the tracer; 0 where nothing was timed.
    pub traced_p50_ns: u64,
    /// Latency of an iteration without the tracer: the median, and so on.
    pub bare_p50_ns: u64,
    /// See [`RunRow::bare_p50_ns`].
    pub bare_p90_ns: u64,
    /// See [`RunRow::bare_p50_ns`].
    pub bare_p99_ns: u64,
    /// See [`RunRow::bare_p50_ns`].
    pub bare_max_ns: u64,
    /// Of the timed work without the tracer.
    pub wall_ns: u64,
    /// Of the timed work under the tracer; 0 in datasets of version 2.
    pub traced_wall_ns: u64,
    /// What the process used for that, as `getrusage` has it.
    pub usage: Usage,
    /// What the tracer lost: runs that lost anything are not used.
    pub lost: u64,
    /// One-minute load of the machine before.
    pub load: f64,
    /// The same after.
    pub load_after: f64,
    /// Why it failed; empty where it did not.
    pub error: String,
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Thread {
    /// The thread that marks, launches and waits for the work.
    Caller,
    /// Any other, as those of a runtime.
    Other,
    /// A dataset of version 2 does not say.
    #[default]
    Unknown,
}

impl Thread {
    /// As files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Other => "other",
            Self::Unknown => "",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Caller, Self::Other, Self::Unknown].into_iter().find(|thread| thread.name() == name)
    }
}

/// Calls of one kind in one phase of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountRow {
    /// As the workload marks it.
    pub phase: String,
    /// Who made them.
    pub thread: Thread,
    /// Role, category, system call, and on GPU devices the device and its command.
    pub role: Role,
    /// See `role`.
    pub category: String,
    /// See `role`.
    pub syscall: String,
    /// See `role`.
    pub device: String,
    /// See `role`.
    pub ioctl: String,
    /// What the command is about: a control command, a class.
    pub detail: String,
    /// Number of calls.
    pub calls: u64,
    /// Of them errors.
    pub errors: u64,
    /// Time inside them.
    pub total_ns: u64,
}

/// The same, borrowed, without what verdicts do not read.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a> {
    /// The phase, by its path.
    pub phase: &'a str,
    /// Who made them.
    pub thread: Thread,
    /// What the calls are for.
    pub role: Role,
    /// What service of the kernel they ask for.
    pub category: &'a str,
    /// The system call.
    pub syscall: &'a str,
    /// The device, of an `ioctl`.
    pub device: &'a str,
    /// The command, of an `ioctl`.
    pub ioctl: &'a str,
    /// How many.
    pub calls: u64,
}

impl<'a> From<&'a CountRow> for Count<'a> {
    fn from(row: &'a CountRow) -> Self {
        let CountRow { phase, thread, role, category, syscall, device, ioctl, calls, .. } = row;
        Self { phase, thread: *thread, role: *role, category, syscall, device, ioctl, calls: *calls }
    }
}

/// The calls of one run, as they are in its file.
#[derive(Clone, Debug)]
pub struct Counts(DataFrame);

impl Counts {
    /// What verdicts read of a file.
    const WORDS: [&str; 7] = ["phase", "role", "category", "syscall", "device", "ioctl", Self::THREAD];
    const CALLS: &str = "calls";
    const THREAD: &str = "thread";

    /// Calls `take` with each row.
    ///
    /// # Errors
    /// A column is absent or of another type, has a word that is no role, or no number of calls.
    pub fn each<'a>(&'a self, mut take: impl FnMut(Count<'a>)) -> PolarsResult<()> {
        let mut words = Vec::with_capacity(Self::WORDS.len());
        for name in Self::WORDS {
            words.push(self.0.column(name)?.str()?.iter());
        }
        for calls in self.0.column(Self::CALLS)?.u64()?.iter() {
            let mut word = |place: usize| words[place].next().flatten();
            let wrong = |what: String| PolarsError::ComputeError(what.into());
            let read: [Option<&str>; 7] = std::array::from_fn(&mut word);
            if let Some(place) = read.iter().position(Option::is_none) {
                return Err(wrong(format!("`{}` is null", Self::WORDS[place])));
            }
            let [phase, role, category, syscall, device, ioctl, thread] = read.map(Option::unwrap_or_default);
            let role = role.parse().map_err(|()| wrong(format!("`{role}` is no role")))?;
            let thread = Thread::from_name(thread).ok_or_else(|| wrong(format!("`{thread}` is no thread")))?;
            // Nothing is not none.
            let calls = calls.ok_or_else(|| wrong("a number of calls is null".to_owned()))?;
            if calls > MOST_CALLS {
                return Err(wrong(format!("{calls} calls are more than a run can make")));
            }
            take(Count { phase, thread, role, category, syscall, device, ioctl, calls });
        }
        Ok(())
    }
}

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file of it cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong with it.
        error: io::Error,
    },
    /// A file of it is no table.
    #[error("{}: {error}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What went wrong with it.
        error: PolarsError,
    },
    /// Its plan is none.
    #[error("the plan of the dataset: {0}")]
    Plan(#[from] PlanError),
    /// It belongs to another plan.
    #[error("`{0}` is a dataset of another plan\nhint: choose another folder, or the plan that it has in `plan.toml`")]
    OtherPlan(String),
    /// It is there already.
    #[error("`{0}` has runs already\nhint: `--resume` goes on with it; choose another folder for a new one")]
    NotEmpty(String),
    /// It has no environment.
    #[error("`{0}` does not say on what it was run (environment.json is absent or damaged), so it is not used")]
    NoEnvironment(String),
    /// It does not say enough.
    #[error("`{folder}` does not say on what it was run: `{missing}` is not in environment.json, so it is not used")]
    Incomplete {
        /// The dataset.
        folder: String,
        /// The first field that is absent.
        missing: &'static str,
    },
    /// Its files are of another version.
    #[error(
        "`{folder}` has files of version {found}, and this program reads versions {OLDEST} and {SCHEMA_VERSION}\nhint: sweep again, or read it with the gpuos-trace that made it"
    )]
    OtherSchema {
        /// The dataset.
        folder: String,
        /// Its version.
        found: u64,
    },
    /// Two datasets that are to be judged as one ask other questions.
    #[error("`{0}` has other questions or predictions than the first dataset\nhint: report each by itself")]
    OtherQuestions(String),
    /// Two datasets that are to be judged as one have a series or a cell in common.
    #[error(
        "more than one of the datasets has the series or cell `{0}`\nhint: `gpuos-trace compare` sets them side by side"
    )]
    SeriesTwice(String),
    /// Or are of machines that differ.
    #[error(
        "`{0}` is of another kernel, driver or GPU than the first dataset\nhint: `gpuos-trace compare` sets machines side by side"
    )]
    OtherMachine(String),
    /// What was asked, or the rules, were changed after the first run.
    #[error(
        "`{0}` was begun with another plan or other rules (its registration.json differs), and what was registered is not changed\nhint: choose another folder"
    )]
    OtherRegistration(String),
    /// It does not say what was settled before the first run.
    #[error(
        "`{0}` does not say what was registered before the first run (registration.json is absent), so it is not used"
    )]
    NotRegistered(String),
    /// It was made with another program.
    #[error(
        "`{0}` was made with other programs, on another machine or with other variables (its environment.json differs)\nhint: choose another folder, or what it was made with"
    )]
    OtherEnvironment(String),
}

/// What was asked, by which rules, before anything was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// When, RFC 3339.
    pub registered: String,
    /// Of the plan, byte by byte.
    pub plan_sha256: String,
    /// Of the questions and predictions, in a form of their own.
    pub questions_sha256: String,
    /// [`RULES`].
    pub rules: String,
}

impl Registration {
    fn is_same(&self, other: &Self) -> bool {
        *self == Self { registered: self.registered.clone(), ..other.clone() }
    }
}

/// A folder with the runs of one plan on one machine.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    /// What is run.
    pub plan: Plan,
    /// Version of its files.
    schema: u64,
}

/// SHA-256, in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DatasetError {
    let path = path.to_owned();
    move |error| DatasetError::File { path, error }
}

fn table_error(path: &Path) -> impl Fn(PolarsError) -> DatasetError {
    let path = path.to_owned();
    move |error| DatasetError::Table { path: path.clone(), error }
}

impl Dataset {
    /// Makes the folder, or goes on with one that `resume` allows. `now`: the time, RFC 3339, for the registration.
    ///
    /// # Errors
    /// It belongs to another plan, has runs already, or cannot be written.
    pub fn create(folder: &Path, plan: &str, environment: &str, now: &str, resume: bool) -> Result<Self, DatasetError> {
        let parsed = Plan::parse(plan)?;
        let there = folder.join(PLAN);
        if there.exists() {
            let old = files::read_to_string(&there).map_err(file_error(&there))?;
            if old != plan {
                return Err(DatasetError::OtherPlan(folder.display().to_string()));
            }
            if !resume && folder.join(RUNS).exists() {
                return Err(DatasetError::NotEmpty(folder.display().to_string()));
            }
        }
        let dataset = Self { folder: folder.to_owned(), plan: parsed, schema: SCHEMA_VERSION };
        // What was run stays what it was run on.
        if there.exists() && folder.join(ENVIRONMENT).exists() {
            let (old, new) = (dataset.environment()?, serde_json::from_str(environment).unwrap_or_default());
            if identity(&old) != identity(&new) {
                return Err(DatasetError::OtherEnvironment(folder.display().to_string()));
            }
            if old["schema"].as_u64() != Some(SCHEMA_VERSION) {
                let found = old["schema"].as_u64().unwrap_or(1);
                return Err(DatasetError::OtherSchema { folder: folder.display().to_string(), found });
            }
        } else {
            dataset.put(ENVIRONMENT, environment.as_bytes())?;
        }
        dataset.register(plan, now)?;
        dataset.put(PLAN, plan.as_bytes())?;
        Ok(dataset)
    }

    /// Writes down what is asked and by which rules, before the first run; or compares with what was written.
    fn register(&self, plan: &str, now: &str) -> Result<(), DatasetError> {
        let asked = Registration {
            registered: now.to_owned(),
            plan_sha256: checksum(plan.as_bytes()),
            questions_sha256: checksum(self.plan.study.clone().unwrap_or_default().text().as_bytes()),
            rules: RULES.to_owned(),
        };
        match self.registration()? {
            Some(before) if before.is_same(&asked) => Ok(()),
            Some(_) => Err(DatasetError::OtherRegistration(self.folder.display().to_string())),
            None => self.put(REGISTRATION, serde_json::to_string_pretty(&asked).unwrap_or_default().as_bytes()),
        }
    }

    /// What was registered before the first run; `None` in datasets of version 2.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn registration(&self) -> Result<Option<Registration>, DatasetError> {
        let path = self.folder.join(REGISTRATION);
        let text = match files::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&path))?,
        };
        serde_json::from_str(&text).map(Some).map_err(|error| file_error(&path)(error.into()))
    }

    /// Opens one to read.
    ///
    /// # Errors
    /// It has no plan or no environment, or its plan is none.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let path = folder.join(PLAN);
        let text = files::read_to_string(&path).map_err(file_error(&path))?;
        let mut dataset = Self { folder: folder.to_owned(), plan: Plan::parse(&text)?, schema: SCHEMA_VERSION };
        dataset.schema = dataset.environment()?["schema"].as_u64().unwrap_or(1);
        // What was registered is what is there, and what is judged by.
        if dataset.schema >= 3 {
            let shown = || folder.display().to_string();
            let registration = dataset.registration()?.ok_or_else(|| DatasetError::NotRegistered(shown()))?;
            if registration.plan_sha256 != checksum(text.as_bytes()) {
                return Err(DatasetError::OtherRegistration(shown()));
            }
        }
        Ok(dataset)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// On what it was run.
    ///
    /// # Errors
    /// The file is absent, or is none of ours.
    pub fn environment(&self) -> Result<serde_json::Value, DatasetError> {
        let text = files::read_to_string(&self.folder.join(ENVIRONMENT)).unwrap_or_default();
        let environment: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let folder = || self.folder.display().to_string();
        // The first version did not say.
        let found = environment["schema"].as_u64().unwrap_or(1);
        if !environment["host"]["kernel"].is_string() {
            Err(DatasetError::NoEnvironment(folder()))
        } else if !(OLDEST..=SCHEMA_VERSION).contains(&found) {
            Err(DatasetError::OtherSchema { folder: folder(), found })
        } else if let Some(missing) = NEEDED.iter().find(|name| found >= 3 && is_nothing(&environment[**name])) {
            Err(DatasetError::Incomplete { folder: folder(), missing })
        } else {
            Ok(environment)
        }
    }

    /// Writes a file as a whole or not at all.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), DatasetError> {
        let path = self.folder.join(name);
        files::write(&path, bytes).map_err(file_error(&path))
    }

    /// Where the runs of a cell are, by the names that readers of partitioned datasets understand.
    fn place(&self, table: &str, cell: &Cell, block: u32) -> PathBuf {
        let mut name =
            format!("{}-{}", cell.bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string()), cell.iters);
        if !cell.options.is_empty() {
            // Options differ in characters that no file name should have.
            name += &format!("-{}", &checksum(cell.options.as_bytes())[..12]);
        }
        if cell.twin {
            name.push_str("-twin");
        }
        self.folder
            .join(table)
            .join(format!("backend={}", cell.backend))
            .join(format!("model={}", cell.model))
            .join(format!("block={block}"))
            .join(name + ".parquet")
    }

    /// Whether this cell of this block was run, without a failure, and its files can be read.
    pub fn has(&self, cell: &Cell, block: u32) -> bool {
        let ran = matches!(self.run(cell, block), Ok(Some(run)) if run.error.is_empty());
        ran && matches!(self.counts(cell, block), Ok(Some(_)))
    }

    /// Adds a run. The row of `runs` is written last: a cell that is cut off is run again.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn add(&self, cell: &Cell, run: &RunRow, counts: &[CountRow]) -> Result<(), DatasetError> {
        self.write(COUNTS, cell, run.block, counts_frame(cell, counts))?;
        self.write(RUNS, cell, run.block, run_frame(cell, run))
    }

    fn write(&self, table: &str, cell: &Cell, block: u32, frame: PolarsResult<DataFrame>) -> Result<(), DatasetError> {
        let path = self.place(table, cell, block);
        let bytes = frame.and_then(|frame| parquet(&frame)).map_err(table_error(&path))?;
        files::write(&path, &bytes).map_err(file_error(&path))
    }

    /// The run of a cell in a block; `None` where it was not run.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn run(&self, cell: &Cell, block: u32) -> Result<Option<RunRow>, DatasetError> {
        let path = self.place(RUNS, cell, block);
        let Some(frame) = read(&path)? else { return Ok(None) };
        is_of(&frame, cell).map_err(table_error(&path))?;
        if frame.height() != 1 {
            let rows = format!("a run is one row, and it has {}", frame.height());
            return Err(table_error(&path)(PolarsError::ComputeError(rows.into())));
        }
        run_row(&frame, block).map(Some).map_err(table_error(&path))
    }

    /// The calls of that run; `None` where there is no file of them, which is not the same as no call.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn counts(&self, cell: &Cell, block: u32) -> Result<Option<Counts>, DatasetError> {
        let path = self.place(COUNTS, cell, block);
        let Some(mut frame) = read(&path)? else { return Ok(None) };
        is_of(&frame, cell).map_err(table_error(&path))?;
        let says = |name: &str| frame.column(name).is_ok();
        if self.schema >= 3 && !says(Counts::THREAD) {
            return Err(table_error(&path)(PolarsError::ComputeError(
                "it does not say which thread made a call".into(),
            )));
        }
        if !says(Counts::THREAD) {
            // Version 2 does not say.
            let unknown = Column::new(Counts::THREAD.into(), vec![Thread::Unknown.name(); frame.height()]);
            frame.with_column(unknown).map_err(table_error(&path))?;
        }
        let counts = Counts(frame);
        // All columns are there.
        counts.each(|_| {}).map_err(table_error(&path))?;
        Ok(Some(counts))
    }
}

/// Whether a field of an environment says nothing.
fn is_nothing(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// What must be the same for runs to belong together.
fn identity(environment: &serde_json::Value) -> [&serde_json::Value; 8] {
    [
        "bench_checksum",
        "program_checksums",
        "tool_version",
        "host",
        "nvidia_driver",
        "nvidia_gpus",
        "backends",
        "variables",
    ]
    .map(|name| &environment[name])
}

fn read(path: &Path) -> Result<Option<DataFrame>, DatasetError> {
    match files::open_regular(path) {
        Ok(file) => {
            let read = TableFile::open(file).and_then(|table| table.read(&columns()));
            read.map(Some).map_err(PolarsError::from).map_err(table_error(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(phase: Option<&str>, thread: Option<&str>, calls: Option<u64>) -> PolarsResult<u64> {
        let word = |name: &str, word: Option<&str>| Column::new(name.into(), [word]);
        let mut columns: Vec<Column> =
            ["category", "syscall", "device", "ioctl"].into_iter().map(|name| word(name, Some("x"))).collect();
        columns.extend([word("role", Some("memory")), word("phase", phase), word("thread", thread)]);
        columns.push(Column::new("calls".into(), [calls]));
        let mut sum = 0;
        Counts(DataFrame::new(1, columns)?).each(|row| sum += row.calls).map(|()| sum)
    }

    #[test]
    fn nothing_is_not_none() {
        assert_eq!(counts(Some("work"), Some("caller"), Some(7)).unwrap(), 7);
        let complaint = |found: PolarsResult<u64>| found.unwrap_err().to_string();
        assert!(complaint(counts(None, Some("caller"), Some(7))).contains("`phase` is null"));
        assert!(complaint(counts(Some("work"), None, Some(7))).contains("`thread` is null"));
        assert!(complaint(counts(Some("work"), Some("caller"), None)).contains("calls is null"));
        assert!(complaint(counts(Some("work"), Some("whoever"), Some(7))).contains("no thread"));
        assert!(complaint(counts(Some("work"), Some("caller"), Some(u64::MAX))).contains("more than a run can make"));
    }
}
