//! What a text may ask of committed data: JSON, rows of CSV files, the verdicts of reports, a number in a printed table.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, bail};
use gpuos_analysis::{
    dataset::Dataset,
    interaction::{Flow, flows_of},
    plan::Cell,
};
use gpuos_runs::files::{self, FileFormat};
use minijinja::{Environment, Error, ErrorKind, Value, value::Kwargs};

use crate::{
    reports::Unpacked,
    side_by_side::{SideBySide, call_of},
};

/// The folder `study/`, and what was read of it.
#[derive(Clone)]
pub(crate) struct Study {
    folder: Arc<PathBuf>,
    read: Arc<Mutex<BTreeMap<String, Arc<serde_json::Value>>>>,
    datasets: Arc<Mutex<BTreeMap<String, Arc<Unpacked>>>>,
}

impl Study {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: Arc::new(folder.to_owned()), read: Arc::default(), datasets: Arc::default() }
    }

    fn text(&self, path: &str) -> Result<String> {
        let path = self.folder.join(path);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A table as CSV; of a traced run whatever its format.
    fn table(&self, path: &str) -> Result<String> {
        if FileFormat::by_ending(Path::new(path)).is_some_and(|format| format == FileFormat::Parquet) {
            let run = files::read(&self.folder.join(path))?;
            let mut text = Vec::new();
            FileFormat::Csv.write(&run, &mut text).map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
            return Ok(String::from_utf8(text)?);
        }
        self.text(path)
    }

    fn json(&self, path: &str) -> Result<Arc<serde_json::Value>> {
        if let Some(known) = self.read.lock().ok().and_then(|read| read.get(path).cloned()) {
            return Ok(known);
        }
        let text = self.text(path)?;
        // A value a line is a list of them.
        let parsed = if Path::new(path).extension().is_some_and(|ending| ending == "jsonl") {
            text.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>().map(Into::into)
        } else {
            serde_json::from_str(&text)
        };
        let value: Arc<serde_json::Value> = Arc::new(parsed.with_context(|| path.to_owned())?);
        if let Ok(mut read) = self.read.lock() {
            read.insert(path.to_owned(), Arc::clone(&value));
        }
        Ok(value)
    }

    /// The series of a report by its name and axis (`bytes`, `iterations`), its kinds as `by`: `all`, `role memory`, `category ipc`.
    fn series(&self, folder: &str, name: &str, axis: &str) -> Result<Value> {
        let verdicts = self.json(&format!("{folder}/verdicts.json"))?;
        let all = verdicts["series"].as_array().context("no series")?;
        let found = all.iter().find(|one| one["name"] == name && one["axis"] == axis);
        let mut found = found.with_context(|| format!("{folder} has no series `{name}` along {axis}"))?.clone();
        let by = found["kinds"].as_array().into_iter().flatten().map(|kind| {
            let word = |name: &str| kind["kind"][name].as_str().unwrap_or_default();
            let name = format!("{} {}", word("by"), word("name"));
            (name.trim_end().to_owned(), kind.clone())
        });
        found["by"] = serde_json::Value::Object(by.collect());
        Ok(Value::from_serialize(&found))
    }

    /// Rows of a CSV file, or of a traced run, whose columns have these words; a value that begins with `^` is a regular expression.
    fn rows(&self, path: &str, filters: &[(String, String)]) -> Result<Vec<BTreeMap<String, String>>> {
        let text = self.table(path)?;
        // A table of the tracer has a line of its own before the header.
        let table = if text.starts_with('#') { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let head: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        if let Some((absent, _)) = filters.iter().find(|(name, _)| !head.contains(name)) {
            bail!("{path} has no column `{absent}`");
        }
        let patterns: Vec<(&String, regex::Regex)> = filters
            .iter()
            .map(|(name, value)| {
                let pattern = value.strip_prefix('^').map_or_else(|| regex::escape(value), str::to_owned);
                Ok((name, regex::Regex::new(&format!("^(?:{pattern})$"))?))
            })
            .collect::<Result<_>>()?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let row: BTreeMap<String, String> = head.iter().cloned().zip(record?.iter().map(str::to_owned)).collect();
            if patterns.iter().all(|(name, pattern)| pattern.is_match(&row[*name])) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn unpacked(&self, folder: &str) -> Result<Arc<Unpacked>> {
        let known = self.datasets.lock().ok().and_then(|known| known.get(folder).cloned());
        let unpacked = match known {
            Some(known) => known,
            None => Arc::new(Unpacked::new(&self.folder, folder)?),
        };
        if let Ok(mut datasets) = self.datasets.lock() {
            datasets.insert(folder.to_owned(), Arc::clone(&unpacked));
        }
        Ok(unpacked)
    }

    /// Who calls what in a cell of a dataset, by the arguments of `bench`; medians of the blocks.
    fn flows(&self, folder: &str, arguments: &str) -> Result<Vec<Flow>> {
        let unpacked = self.unpacked(folder)?;
        let dataset = unpacked.open()?;
        let cell = cell_of(&dataset, folder, arguments)?;
        let (flows, runs) = flows_of(&dataset, &cell);
        if runs == 0 {
            bail!("{folder}: no run of `{arguments}` can be used");
        }
        Ok(flows)
    }

    /// Calls in a phase of a cell in each block but the first, the fewest first.
    fn by_block(&self, folder: &str, arguments: &str, phase: &str) -> Result<Vec<u64>> {
        let unpacked = self.unpacked(folder)?;
        let dataset = unpacked.open()?;
        let cell = cell_of(&dataset, folder, arguments)?;
        let mut sums = Vec::new();
        for block in 2..=dataset.plan.blocks {
            let Some(counts) = dataset.counts(&cell, block)? else { continue };
            let mut sum = 0;
            counts.each(|row| sum += if row.phase == phase { row.calls } else { 0 })?;
            sums.push(sum);
        }
        sums.sort_unstable();
        Ok(sums)
    }

    /// Calls for each iteration of the timed work, side by side. A column is a name, a folder, a backend and a series.
    fn side_by_side(&self, columns: &[[String; 4]]) -> Result<Value> {
        // What comes less often than what is no growth is a heartbeat or noise.
        let least = gpuos_analysis::verdict::FLAT_CALLS_PER_ITERATION;
        let mut table = SideBySide::new(columns.len(), least);
        for (place, [_, folder, backend, series]) in columns.iter().enumerate() {
            let verdicts = self.json(&format!("{folder}/verdicts.json"))?;
            let maps = verdicts["interactions"].as_array().into_iter().flatten();
            let mut work =
                maps.filter(|map| map["backend"] == *backend).filter_map(|map| map["work"].as_array()).flatten();
            let work = work.find(|work| work["series"] == *series);
            let work = work.with_context(|| format!("{folder} has no work of `{series}` on {backend}"))?;
            let iterations = work["iterations"].as_f64().context("no iterations")?;
            for flow in work["flows"].as_array().into_iter().flatten() {
                let word = |name: &str| flow[name].as_str().unwrap_or_default().to_owned();
                let each = flow["calls"].as_f64().unwrap_or_default() / iterations;
                table.add(place, word("role"), call_of(&word("device"), &word("call")), each);
            }
        }
        Ok(table.rows())
    }

    /// Calls of one traced run each, side by side: those in some phases, divided by a number. A column is a name and a CSV file. Calls
    /// below `least` in every column are one row.
    fn runs_side_by_side(&self, columns: &[[String; 2]], phases: &[String], units: f64, least: f64) -> Result<Value> {
        let mut table = SideBySide::new(columns.len(), least);
        for (place, [_, file]) in columns.iter().enumerate() {
            for row in self.rows(file, &[])? {
                let word = |name: &str| row.get(name).cloned().unwrap_or_default();
                if !phases.contains(&word("phase")) {
                    continue;
                }
                let is_on_gpu = word("decoded") == "true" || word("device").starts_with("nvidia");
                let device = if is_on_gpu { word("device") } else { String::new() };
                let call = if is_on_gpu && !word("ioctl").is_empty() { word("ioctl") } else { word("syscall") };
                let calls = number(&word("calls")).with_context(|| format!("{file}: `calls` is no number"))?;
                table.add(place, word("role"), call_of(&device, &call), calls / units);
            }
        }
        Ok(table.rows())
    }

    /// What the first group of a pattern matches first in a text; lines are matched one by one with `(?m)`. Nothing where the
    /// pattern matches without its group.
    fn find(&self, path: &str, pattern: &str) -> Result<Option<String>> {
        let text = self.text(path)?;
        let found =
            regex::Regex::new(pattern)?.captures(&text).with_context(|| format!("{path} has no `{pattern}`"))?;
        Ok(found.get(1).map(|group| group.as_str().to_owned()))
    }
}

/// The cell of a dataset that has these arguments of `bench`.
fn cell_of(dataset: &Dataset, folder: &str, arguments: &str) -> Result<Cell> {
    let mut cells = dataset.plan.cells().into_iter();
    let cell = cells.find(|cell| !cell.twin && cell.arguments().join(" ") == arguments);
    cell.with_context(|| format!("{folder} has no cell `{arguments}`"))
}

/// A number of a table or of a text: thousands may be separated.
fn number(word: &str) -> Option<f64> {
    word.trim().replace([',', '+'], "").replace('\u{2212}', "-").parse().ok()
}

fn failed(error: &anyhow::Error) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{error:#}"))
}

fn real(value: &Value) -> Result<f64, Error> {
    let number = value.as_str().map_or_else(|| f64::try_from(value.clone()).ok(), number);
    number.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("`{value}` is no number")))
}

/// A whole number with its thousands apart: `1,234`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 && digits != "0" { format!("\u{2212}{text}") } else { text }
}

/// A number with this count of digits behind the point, and a minus that is one.
pub(crate) fn decimals(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    let is_nothing = !text.contains(|c: char| ('1'..='9').contains(&c));
    if is_nothing { text.replace('-', "") } else { text.replace('-', "\u{2212}") }
}

/// Adds everything that a text may ask.
pub(crate) fn add(environment: &mut Environment<'_>, study: &Study) {
    let of = study.clone();
    environment.add_function("json", move |path: &str| {
        of.json(path).map(|value| Value::from_serialize(&*value)).map_err(|error| failed(&error))
    });
    let of = study.clone();
    environment.add_function("series", move |folder: &str, name: &str, axis: &str| {
        of.series(folder, name, axis).map_err(|error| failed(&error))
    });
    let of = study.clone();
    environment.add_function("rows", move |path: &str, filters: Kwargs| {
        let rows = of.rows(path, &words(&filters)?).map_err(|error| failed(&error))?;
        Ok::<_, Error>(Value::from_serialize(rows))
    });
    let of = study.clone();
    environment.add_function("sum", move |path: &str, column: &str, filters: Kwargs| {
        let filters = words(&filters)?;
        let rows = of.rows(path, &filters).map_err(|error| failed(&error))?;
        // A word that is misspelt is not none.
        for (name, value) in &filters {
            if of.rows(path, &[(name.clone(), value.clone())]).map_err(|error| failed(&error))?.is_empty() {
                let what = format!("{path} has no row whose `{name}` is `{value}`");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
        let mut sum = 0.0;
        for row in rows {
            let word = row.get(column).map_or("", String::as_str);
            sum += number(word).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, format!("{path}: `{column}` has `{word}`, which is no number"))
            })?;
        }
        Ok(sum)
    });
    let of = study.clone();
    environment
        .add_function("find", move |path: &str, pattern: &str| of.find(path, pattern).map_err(|error| failed(&error)));
    let of = study.clone();
    environment.add_function("flows", move |folder: &str, arguments: &str| {
        of.flows(folder, arguments).map(Value::from_serialize).map_err(|error| failed(&error))
    });
    let of = study.clone();
    environment.add_function("side_by_side", move |columns: Vec<Vec<String>>| {
        let columns = columns.into_iter().map(|column| {
            <[String; 4]>::try_from(column).map_err(|_| {
                Error::new(ErrorKind::InvalidOperation, "a column is a name, a folder, a backend and a series")
            })
        });
        of.side_by_side(&columns.collect::<Result<Vec<_>, _>>()?).map_err(|error| failed(&error))
    });
    let of = study.clone();
    environment.add_function("by_block", move |folder: &str, arguments: &str, phase: &str| {
        of.by_block(folder, arguments, phase).map_err(|error| failed(&error))
    });
    let of = study.clone();
    environment.add_function(
        "runs_side_by_side",
        move |columns: Vec<Vec<String>>, phases: Vec<String>, units: f64, least: f64| {
            let columns = columns.into_iter().map(|column| {
                <[String; 2]>::try_from(column)
                    .map_err(|_| Error::new(ErrorKind::InvalidOperation, "a column is a name and a CSV file"))
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            of.runs_side_by_side(&columns, &phases, units, least).map_err(|error| failed(&error))
        },
    );
    environment.add_function("must", |holds: bool, what: &str| {
        if holds {
            Ok("")
        } else {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the data do not say: {what}")))
        }
    });
    environment.add_filter("n", |value: Value| real(&value).map(thousands));
    environment.add_filter("dec", |value: Value, digits: usize| real(&value).map(|number| decimals(number, digits)));
    environment.add_filter("num", |value: Value| real(&value));
    environment.add_filter("us", |value: Value, digits: usize| real(&value).map(|ns| decimals(ns / 1e3, digits)));
    environment.add_filter("ms", |value: Value, digits: usize| real(&value).map(|ns| decimals(ns / 1e6, digits)));
    environment.add_filter("cell", |value: &str| value.replace('|', "\\|"));
    environment.add_filter("median", |values: Vec<Value>| {
        let mut numbers = values.iter().map(real).collect::<Result<Vec<f64>, _>>()?;
        numbers.sort_by(f64::total_cmp);
        match numbers.len() {
            0 => Err(Error::new(ErrorKind::InvalidOperation, "nothing has no median")),
            len => Ok(f64::midpoint(numbers[(len - 1) / 2], numbers[len / 2])),
        }
    });
}

fn words(filters: &Kwargs) -> Result<Vec<(String, String)>, Error> {
    filters.args().map(|name| Ok((name.to_owned(), filters.get::<Value>(name)?.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "# gpuos-trace {}\nname,calls\nread,3\nwrite,\"1,200\"\n").unwrap();
        std::fs::write(folder.path().join("a.txt"), "total 1,234 calls\n").unwrap();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        add(&mut environment, &Study::new(folder.path()));
        environment.render_str(text, ())
    }

    #[test]
    fn texts_read_numbers_from_data() {
        assert_eq!(render("{{ sum('a.csv', 'calls') | n }}").unwrap(), "1,203");
        assert_eq!(render("{{ sum('a.csv', 'calls', name='^r.*') }}").unwrap(), "3.0");
        assert_eq!(render("{{ rows('a.csv', name='write')[0].calls | num / 8 }}").unwrap(), "150.0");
        assert_eq!(render("{{ find('a.txt', 'total ([0-9,]+) calls') }}").unwrap(), "1,234");
        assert_eq!(render("{{ -0.125 | dec(2) }} {{ 1500 | us(1) }}").unwrap(), "\u{2212}0.12 1.5");
        assert_eq!(render("{{ -0.001 | dec(2) }}").unwrap(), "0.00");
    }

    #[test]
    fn what_the_data_do_not_say_is_an_error() {
        for text in [
            "{{ must(1 > 2, 'more') }}",
            "{{ find('a.txt', 'none ([0-9]+)') }}",
            "{{ sum('a.csv', 'name') }}",
            "{{ sum('a.csv', 'calls', colour='1') }}",
            "{{ sum('a.csv', 'calls', name='reed') }}",
            "{{ json('absent.json') }}",
            "{{ rows('a.csv')[0].absent }}",
        ] {
            assert!(render(text).is_err(), "{text}");
        }
    }
}
