//! Ways to run the same command, as `cargo xtask bench` compares them.

use std::process::Command;

use anyhow::Result;

use crate::process;

/// A way to run a command.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) prefix: Vec<String>,
    /// Another command that must run meanwhile.
    pub(crate) beside: Vec<String>,
}

impl Variant {
    /// The command under this variant. bpftrace takes it as one word.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut all: Vec<String> = self.prefix.clone();
        if self.prefix.first().is_some_and(|first| first == "bpftrace") {
            all.push(words.join(" "));
        } else {
            all.extend(words.iter().map(ToString::to_string));
        }
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]);
        command
    }

    /// Does `work` while the command beside runs.
    pub(crate) fn with_company<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.beside.is_empty() {
            return work();
        }
        let mut company = Command::new(&self.beside[0]).args(&self.beside[1..]).spawn()?;
        // It is attached once its own child runs.
        let children = format!("/proc/{0}/task/{0}/children", company.id());
        let started = |text: String| {
            text.split_whitespace().any(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
            })
        };
        while !std::fs::read_to_string(&children).is_ok_and(started) {
            std::thread::yield_now();
        }
        let child = std::fs::read_to_string(&children)?.trim().to_owned();
        let done = work();
        process::run(Command::new("kill").arg(child))?;
        company.wait()?;
        done
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
