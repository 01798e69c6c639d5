//! A plan of a sweep: which cells are run, how often, in which order. Its text is part of the dataset, so that an analysis
//! knows which counts belong together.

use std::collections::BTreeSet;

use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};

use crate::{axis::Axis, bytes::Bytes, intervention::Intervention, study::Study};

/// More blocks than this are a mistake.
const MOST_BLOCKS: u32 = 1000;

/// A file such as `study/phase1/plans/quick.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// For people.
    pub name: String,
    /// Of the order within blocks.
    pub seed: u64,
    /// Blocks that are run; the first is kept and not used (cold caches).
    pub blocks: u32,
    /// What is varied.
    #[serde(default)]
    pub series: Vec<SeriesPlan>,
    /// What is restructured, with what is predicted of it.
    #[serde(default, rename = "intervention")]
    pub interventions: Vec<Intervention>,
    /// What is asked and predicted; where a plan states nothing, that of phase 1.
    #[serde(default)]
    pub study: Option<Study>,
}

/// Cells along one axis, all else alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesPlan {
    /// As `bench --backend` has it; `cpu` for the model of that name.
    pub backend: String,
    /// As the command of `bench`.
    pub model: String,
    /// `--bytes`; more than one makes it a series along bytes.
    #[serde(default)]
    pub bytes: Vec<Bytes>,
    /// `--iters`; more than one makes it a series along iterations. `0` is always run, too.
    pub iters: Vec<u64>,
    /// Further arguments of `bench`.
    #[serde(default)]
    pub options: Vec<String>,
    /// What is run in place of `bench`, such as `python3 study/phase2/models.py`. It takes `--iters N` and `--json`, marks its phases as
    /// `bench` does, and prints the same report. `backend` and `model` are then its names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program: Vec<String>,
    /// Arms, each a series of its own: as `bench --via` has them, or with `program` those of [`ARMS_OF_PROGRAMS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
}

/// Arms of `bench --via`.
pub const ARMS: [&str; 9] = ["native", "spin", "block", "pool", "identity", "completion", "arena", "all", "all-batch"];
/// Arms of another program, which goes through the interposer, with the value of `GPUOS_JOBS`; empty: without it.
pub const ARMS_OF_PROGRAMS: [(&str, &str); 5] = [
    ("native", ""),
    ("identity", "identity"),
    ("completion", "identity,wait"),
    ("arena", "arena"),
    ("all", "identity,wait,arena"),
];
/// The option of an arm.
const VIA: &str = "--via";

/// One run of `bench`, or of another program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// As in [`SeriesPlan`].
    pub backend: String,
    /// As in [`SeriesPlan`].
    pub model: String,
    /// Absent where the model has no size.
    pub bytes: Option<u64>,
    /// 0 is everything but the timed work.
    pub iters: u64,
    /// Further arguments, joined by blanks.
    pub options: String,
    /// The second run of the same cell in a block: the control that shows the noise.
    pub twin: bool,
    /// What is run in place of `bench`, joined by blanks; empty where it is `bench`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
}

impl Cell {
    /// Of a program that goes through the interposer, the value of `GPUOS_JOBS`; empty for all else.
    pub fn jobs(&self) -> &'static str {
        let words: Vec<&str> = self.options.split_whitespace().collect();
        let arm = words.windows(2).find(|pair| pair[0] == VIA).map(|pair| pair[1]);
        let known = ARMS_OF_PROGRAMS.iter().find(|(name, _)| Some(*name) == arm && !self.program.is_empty());
        known.map_or("", |(_, jobs)| jobs)
    }

    /// The arguments of `bench`, or of the program, of which the first is its name. An arm is none of a program's.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.program.split_whitespace().map(str::to_owned).collect();
        if arguments.is_empty() {
            arguments.push(self.model.clone());
            if self.model != "cpu" {
                arguments.extend(["--backend".to_owned(), self.backend.clone()]);
            }
        }
        if let Some(bytes) = self.bytes {
            arguments.extend(["--bytes".to_owned(), bytes.to_string()]);
        }
        arguments.extend(["--iters".to_owned(), self.iters.to_string()]);
        let mut options = self.options.split_whitespace();
        while let Some(option) = options.next() {
            if option == VIA && !self.program.is_empty() {
                options.next();
            } else {
                arguments.push(option.to_owned());
            }
        }
        arguments
    }

    /// The cell of the same series without timed work.
    #[must_use]
    pub fn without_work(&self) -> Self {
        Self { iters: 0, twin: false, ..self.clone() }
    }
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError(pub String);

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl SeriesPlan {
    /// A series for each arm.
    fn arms(self) -> Vec<Self> {
        if self.via.is_empty() {
            return vec![self];
        }
        let of = |arm: &String| {
            let options = self.options.iter().cloned().chain([VIA.to_owned(), arm.clone()]).collect();
            Self { options, via: Vec::new(), ..self.clone() }
        };
        self.via.iter().map(of).collect()
    }

    /// Which axis it varies.
    pub fn axis(&self) -> Axis {
        if self.iters.len() > 1 { Axis::Iterations } else { Axis::Bytes }
    }

    /// The cells with timed work, in the order of the axis.
    pub fn cells(&self) -> Vec<Cell> {
        let cell = |bytes: Option<u64>, iters| Cell {
            backend: self.backend.clone(),
            model: self.model.clone(),
            bytes,
            iters,
            options: self.options.join(" "),
            twin: false,
            program: self.program.join(" "),
        };
        match self.axis() {
            Axis::Iterations => self.iters.iter().map(|iters| cell(self.bytes.first().map(|b| b.0), *iters)).collect(),
            Axis::Bytes => self.bytes.iter().map(|bytes| cell(Some(bytes.0), self.iters[0])).collect(),
        }
    }

    /// Where a cell is on its axis.
    pub fn level(&self, cell: &Cell) -> f64 {
        match self.axis() {
            Axis::Iterations => cell.iters as f64,
            Axis::Bytes => cell.bytes.unwrap_or_default() as f64,
        }
    }

    /// In words.
    pub fn name(&self) -> String {
        let fixed = match (self.axis(), self.bytes.first()) {
            (Axis::Bytes, _) => format!("{} iterations", self.iters[0]),
            (Axis::Iterations, Some(bytes)) => Axis::Bytes.level(bytes.0 as f64),
            (Axis::Iterations, None) => String::new(),
        };
        // Of another program the file that it is.
        let file = self.program.iter().rev().find_map(|word| word.rsplit_once('/')).map_or("", |(_, file)| file);
        [self.backend.as_str(), &self.model, file, &self.options.join(" "), &fixed]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn check(&self) -> Result<(), PlanError> {
        let fail = |what: &str| Err(PlanError(format!("series {}: {what}", self.name())));
        check_words(&self.backend, &self.model, &self.options)?;
        let is_program = |word: &String| !word.is_empty() && is_plain(word) && !is_taken(word);
        if !self.program.iter().all(is_program) {
            return Err(PlanError(format!("`program` has plain words alone, and none of {}", TAKEN.join(", "))));
        }
        let arms: Vec<&str> =
            if self.program.is_empty() { ARMS.to_vec() } else { ARMS_OF_PROGRAMS.map(|(name, _)| name).to_vec() };
        if let Some(unknown) = self.via.iter().find(|arm| !arms.contains(&arm.as_str())) {
            return Err(PlanError(format!("`via` has no arm `{unknown}`; its arms are {}", arms.join(", "))));
        }
        if !self.program.is_empty() && self.options.iter().any(|option| option == VIA) {
            return fail("`--via` is no option of a program; `via` has its arms");
        }
        if !self.via.is_empty() && self.options.iter().any(|option| option == VIA || option.starts_with("--via=")) {
            return fail("either `via` or the option `--via`");
        }
        if self.iters.is_empty() {
            return Err(PlanError(format!("series of {} {}: `iters` is empty", self.backend, self.model)));
        }
        if (self.iters.len() > 1) == (self.bytes.len() > 1) {
            return fail("either `bytes` or `iters` has more than one level, the other one");
        }
        let grows = self.iters.is_sorted_by(|a, b| a < b) && self.bytes.is_sorted_by(|a, b| a < b);
        if !grows || self.iters[0] == 0 || self.bytes.first().is_some_and(|bytes| bytes.0 == 0) {
            return fail("levels grow and begin above 0 (`iters = 0` is always run)");
        }
        if self.iters.len().max(self.bytes.len()) < 3 {
            return fail("an axis needs three levels or more");
        }
        Ok(())
    }
}

/// Options that a sweep sets itself.
const TAKEN: [&str; 4] = ["--iters", "--bytes", "--backend", "--json"];

fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_graphic() && !"|<>`\"".contains(c))
}

fn is_taken(word: &str) -> bool {
    TAKEN.iter().any(|taken| word == *taken || word.starts_with(&format!("{taken}=")))
}

/// Whether words can stand in a command line, in file names and in reports.
pub(crate) fn check_words(backend: &str, model: &str, options: &[String]) -> Result<(), PlanError> {
    // Both are parts of file names.
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if ![backend, model].into_iter().all(|word| is_word(word) && !word.starts_with('-')) {
        return Err(PlanError("`backend` and `model` are names of letters, digits and `-`".to_owned()));
    }
    if !options.iter().all(|option| !option.is_empty() && is_plain(option)) {
        return Err(PlanError("`options` are plain words without blanks, quotes, `|`, `<` and `>`".to_owned()));
    }
    if options.iter().any(|option| is_taken(option)) {
        return Err(PlanError(format!("`options` may not have {}", TAKEN.join(", "))));
    }
    Ok(())
}

impl Plan {
    /// Reads a plan and checks it.
    ///
    /// # Errors
    /// A [`PlanError`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut plan: Self =
            toml::from_str(text).map_err(|error| PlanError(error.to_string().trim_end().to_owned()))?;
        if plan.name.chars().any(|c| c.is_control() || c == '<') {
            return Err(PlanError("`name` is one line of plain text".to_owned()));
        }
        if plan.series.is_empty() && plan.interventions.is_empty() {
            return Err(PlanError("a plan needs a `[[series]]` or an `[[intervention]]`".to_owned()));
        }
        if !(2..=MOST_BLOCKS).contains(&plan.blocks) {
            return Err(PlanError(format!("`blocks` is 2 at least (the first is not used) and {MOST_BLOCKS} at most")));
        }
        plan.series.iter().try_for_each(SeriesPlan::check)?;
        plan.series = plan.series.into_iter().flat_map(SeriesPlan::arms).collect();
        plan.interventions.iter().try_for_each(Intervention::check)?;
        for (place, one) in plan.interventions.iter().enumerate() {
            if plan.interventions[..place].iter().any(|other| other.name == one.name) {
                return Err(PlanError(format!("intervention {} is there twice", one.name)));
            }
        }
        for (place, series) in plan.series.iter().enumerate() {
            // Of what differs in its program alone nothing would tell the cells apart.
            let nameless = |series: &SeriesPlan| SeriesPlan { program: Vec::new(), ..series.clone() };
            if plan.series[..place].iter().any(|other| nameless(other) == nameless(series)) {
                return Err(PlanError(format!("series {} is there twice", series.name())));
            }
        }
        Ok(plan)
    }

    /// Every cell of a block, each once, in the order of the plan: those of all series, their `iters = 0`, and the last of
    /// each series a second time.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = BTreeSet::new();
        for series in &self.series {
            let of_series = series.cells();
            cells.extend(of_series.iter().map(Cell::without_work));
            if let Some(last) = of_series.last() {
                cells.insert(Cell { twin: true, ..last.clone() });
            }
            cells.extend(of_series);
        }
        cells.extend(self.interventions.iter().flat_map(Intervention::cells));
        cells.into_iter().collect()
    }

    /// The words of the programs that are run in place of `bench`.
    pub fn programs(&self) -> Vec<String> {
        self.series.iter().flat_map(|series| series.program.iter().cloned()).collect()
    }

    /// The cells of a block in its random order; the same plan gives the same.
    pub fn block(&self, block: u32) -> Vec<Cell> {
        let mut cells = self.cells();
        cells.shuffle(&mut SmallRng::seed_from_u64(self.seed ^ (u64::from(block) << 32)));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
name = \"test\"
seed = 1
blocks = 11

[[series]]
backend = \"host\"
model = \"alloc\"
bytes = [\"64K\"]
iters = [10, 100, 1000]

[[series]]
backend = \"host\"
model = \"alloc\"
bytes = [4096, \"64K\", \"1M\"]
iters = [100]
options = [\"--batch\", \"2\"]
";

    #[test]
    fn cells_are_those_of_the_series_and_their_controls() {
        let plan = Plan::parse(TEXT).unwrap();
        // 3 levels, 1 without work, 1 twin; 3 levels, each without work, 1 twin.
        assert_eq!(plan.cells().len(), 5 + 7);
        assert_eq!(plan.series[0].axis(), Axis::Iterations);
        assert_eq!(plan.series[1].name(), "host alloc --batch 2 100 iterations");
        let first = &plan.series[0].cells()[0];
        assert_eq!(first.arguments().join(" "), "alloc --backend host --bytes 65536 --iters 10");
        assert!(plan.cells().contains(&first.without_work()));
    }

    #[test]
    fn an_arm_is_a_series_of_its_own() {
        let text =
            TEXT.replacen("iters = [10, 100, 1000]", "iters = [10, 100, 1000]\nvia = [\"native\", \"arena\"]", 1);
        let plan = Plan::parse(&text).unwrap();
        assert_eq!(plan.series.len(), 3);
        assert_eq!(plan.series[1].name(), "host alloc --via arena 64 KiB");
        let arguments = |plan: &Plan| plan.series[1].cells()[0].arguments().join(" ");
        assert_eq!(arguments(&plan), "alloc --backend host --bytes 65536 --iters 10 --via arena");
        assert_eq!(plan.series[1].cells()[0].jobs(), "");
        // Another program knows of no arms: the interposer has them.
        let text = text.replacen("via =", "program = [\"python3\", \"a.py\"]\nvia =", 1);
        let plan = Plan::parse(&text).unwrap();
        assert_eq!(arguments(&plan), "python3 a.py --bytes 65536 --iters 10");
        assert_eq!([0, 1].map(|place: usize| plan.series[place].cells()[0].jobs()), ["", "arena"]);
        let refused = |from: &str, to: &str| Plan::parse(&text.replace(from, to)).unwrap_err().0;
        assert!(refused("\"arena\"", "\"speed\"").contains("no arm `speed`; its arms are native"));
        assert!(refused("\"arena\"", "\"spin\"").contains("no arm `spin`"));
        assert!(refused("via =", "options = [\"--via\", \"all\"]\nvia =").contains("no option of a program"));
        let text = text.replace("program = [\"python3\", \"a.py\"]", "options = [\"--via\", \"all\"]");
        assert!(Plan::parse(&text).unwrap_err().0.contains("either `via` or"));
    }

    #[test]
    fn every_block_has_an_order_of_its_own_and_always_the_same() {
        let plan = Plan::parse(TEXT).unwrap();
        assert_eq!(plan.block(3), plan.block(3));
        assert_ne!(plan.block(3), plan.block(4));
        let mut sorted = plan.block(4);
        sorted.sort();
        assert_eq!(sorted, plan.cells());
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_said() {
        let error = |from: &str, to: &str| Plan::parse(&TEXT.replace(from, to)).unwrap_err().0;
        assert!(error("blocks = 11", "blocks = 1").contains("2 at least"));
        assert!(error("[10, 100, 1000]", "[10, 100]").contains("three levels"));
        assert!(error("[10, 100, 1000]", "[0, 100, 1000]").contains("begin above 0"));
        assert!(error("[\"64K\"]", "[\"64K\", \"1M\"]").contains("more than one level"));
        assert!(error("\"1M\"]", "\"1X\"]").contains("`1X` is no size"));
        assert!(error("seed = 1", "seeds = 1").contains("seed"));
        assert!(error("\"--batch\"", "\"--iters\"").contains("may not have"));
        // What would leave the folder of the dataset, or mean something to a browser.
        assert!(error("\"host\"", "\"../host\"").contains("letters"));
        assert!(error("\"alloc\"", "\"--list\"").contains("letters"));
        assert!(error("\"--batch\"", "\"<script>\"").contains("plain words"));
        assert!(error("\"test\"", "\"a\\n# b\"").contains("one line"));
        assert!(error("blocks = 11", "blocks = 4000000").contains("1000 at most"));
        let twice = TEXT.to_owned() + &TEXT[TEXT.find("[[series]]").unwrap()..];
        assert!(Plan::parse(&twice).unwrap_err().0.contains("is there twice"));
    }

    #[test]
    fn the_plans_of_the_study_are_read() {
        let study = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../study");
        let mut plans = 0;
        for phase in ["phase1", "phase2", "phase4"] {
            for file in std::fs::read_dir(study.join(phase).join("plans")).unwrap() {
                let path = file.unwrap().path();
                let plan = Plan::parse(&std::fs::read_to_string(&path).unwrap());
                assert!(plan.is_ok(), "{}: {plan:?}", path.display());
                plans += 1;
            }
        }
        assert!(plans >= 8, "{plans}");
    }
}
