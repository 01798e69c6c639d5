//! `cargo xtask bench analysis`: how the analysis grows with its dataset, beside DuckDB summing the same rows.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::process;

/// Rows of the datasets: three decades.
const ROWS: [u64; 4] = [100_000, 1_000_000, 10_000_000, 100_000_000];

/// What verdicts read of a dataset: calls of each role and category in the timed work, run by run.
const DUCKDB: &str = "
import duckdb, sys
rows = duckdb.sql(f\"select backend, model, block, bytes, iters, twin, role, category, device, sum(calls) as calls from read_parquet('{sys.argv[1]}/counts/**/*.parquet', hive_partitioning = true) where phase in ('work', 'infer') and block > 1 group by all\").fetchall()
print(len(rows))
";

/// Runs a command and says how long it took, and how much memory it had at most.
const MEASURED: &str = "
import resource, subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
";

/// Seconds and mebibytes.
struct Cost {
    seconds: f64,
    mebibytes: f64,
}

pub(crate) fn run(folder: &Path) -> Result<()> {
    let words = ["build", "--quiet", "--release", "--workspace", "--bins", "--examples"];
    process::run(process::cargo().args(words))?;
    let scratch = tempfile::tempdir_in(process::target_folder())?;
    println!("{:>12} {:>22} {:>22}", "rows", "report", "DuckDB, sums alone");
    for rows in ROWS {
        let dataset = scratch.path().join("dataset");
        let made = Command::new(folder.join("examples/large_dataset")).arg(&dataset).arg(rows.to_string()).output()?;
        if !made.status.success() {
            bail!("no dataset of {rows} rows: {}", String::from_utf8_lossy(&made.stderr));
        }
        let rows: f64 = String::from_utf8_lossy(&made.stdout).trim().parse()?;
        let report = scratch.path().join("report");
        let ours = measured(
            Command::new("/usr/bin/python3")
                .args(["-c", MEASURED])
                .arg(folder.join("gpuos-trace"))
                .arg("report")
                .arg(&dataset)
                .arg("-o")
                .arg(&report),
        )?;
        let theirs = measured(
            Command::new("/usr/bin/python3")
                .env("PYTHONPATH", process::target_folder().join("python"))
                .args(["-c", MEASURED, "/usr/bin/python3", "-c", DUCKDB])
                .arg(&dataset),
        )?;
        let words = |cost: &Cost| format!("{:.1} s, {:.0} MiB", cost.seconds, cost.mebibytes);
        let rate = rows / ours.seconds / 1e6;
        println!("{rows:>12} {:>22} {:>22}   {rate:.2} million rows a second", words(&ours), words(&theirs));
        std::fs::remove_dir_all(&dataset)?;
    }
    Ok(())
}

fn measured(command: &mut Command) -> Result<Cost> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?}: {}\nhint: `cargo xtask setup` fetches DuckDB", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [seconds, kibibytes] = numbers[..] else { bail!("{command:?} printed {text}") };
    Ok(Cost { seconds, mebibytes: kibibytes / 1024.0 })
}
