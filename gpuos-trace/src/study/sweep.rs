//! `gpuos-trace sweep`: every cell of a plan, block after block, under the tracer and without it, into a dataset.

use std::{
    fs,
    io::{IsTerminal as _, Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use gpuos_analysis::{
    dataset::{CountRow, Dataset, RunRow, SCHEMA_VERSION, Thread},
    plan::Cell,
};
use gpuos_host::{diagnostics, environment, proc_text};
use gpuos_model::{
    Role,
    bench::{Chosen, Report},
    phase, units,
};
use gpuos_runs::{columns::column, files, group, losses::Losses, run::Run};
use gpuos_tracer::session::injected::{self, Wanted};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::{
    sys::{
        prctl,
        signal::{Signal, killpg},
    },
    unistd::Pid,
};
use polars_core::prelude::PolarsResult;
use serde_json::{Value, json};

/// Variables that change what GPU runtimes do.
const VARIABLES: [&str; 8] = [
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "HIP_VISIBLE_DEVICES",
    "HSA_ENABLE_INTERRUPT",
    "GPU_MAX_HW_QUEUES",
    "LD_LIBRARY_PATH",
];

/// What is run, where the runs go.
pub(super) struct Sweep {
    /// The dataset.
    pub(super) dataset: Dataset,
    /// The program that has the workloads.
    pub(super) bench: PathBuf,
    /// A run that takes longer has failed.
    pub(super) limit: Duration,
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Cells that were run now.
    pub(super) run: u64,
    /// Cells that were there already.
    pub(super) kept: u64,
    /// Cells that failed, and say why.
    pub(super) failed: u64,
    /// Cells of which something was lost.
    pub(super) lost: u64,
}

/// On what a sweep is run, JSON.
pub(super) fn environment_of(bench: &Path, programs: &[String]) -> String {
    let text = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let host = environment::host();
    let variables: serde_json::Map<String, Value> =
        VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?.into()))).collect();
    let size: usize = std::env::vars_os().map(|(name, value)| name.len() + value.len() + 2).sum();
    let binary = fs::read(bench).map(|bytes| gpuos_analysis::dataset::checksum(&bytes)).ok();
    let mut environment = json!({
        "schema": SCHEMA_VERSION,
        "tool_version": env!("CARGO_PKG_VERSION"),
        "host": host,
        "nvidia_driver": text("/sys/module/nvidia/version"),
        "nvidia_gpus": nvidia_gpus(),
        "backends": backends(bench).unwrap_or_else(|| json!([])),
        "amdgpu": text("/sys/module/amdgpu/version"),
        "governor": text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").unwrap_or_else(|| "none: no cpufreq".to_owned()),
        "hypervisor": hypervisor(),
        "container": text("/proc/self/cgroup").unwrap_or_else(|| "none".to_owned()),
        "cgroup_cpu": limit_of_cgroup("cpu.max"),
        "cgroup_memory": limit_of_cgroup("memory.max"),
        "load": text("/proc/loadavg"),
        "variables": variables,
        "environment_bytes": size,
        "bench_checksum": binary,
    });
    // Files that other programs are named by: a changed one is another program.
    let programs: serde_json::Map<String, Value> = programs
        .iter()
        .filter_map(|word| Some((word.clone(), gpuos_analysis::dataset::checksum(&fs::read(word).ok()?).into())))
        .collect();
    if !programs.is_empty() {
        environment["program_checksums"] = programs.into();
    }
    environment.to_string()
}

/// Under which hypervisor this runs, as far as it says.
fn hypervisor() -> String {
    let text = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let named = text("/sys/hypervisor/type").or_else(|| text("/sys/class/dmi/id/product_name"));
    let processor = text("/proc/cpuinfo").unwrap_or_default();
    let is_guest =
        || proc_text::field(&processor, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    named.unwrap_or_else(|| if is_guest() { "one that does not say its name" } else { "none that is seen" }.to_owned())
}

/// A limit of the cgroup of this process, or of the nearest one above it that has the file.
fn limit_of_cgroup(file: &str) -> String {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folders = Path::new("/sys/fs/cgroup").join(path);
    let found = folders.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let mut limits = found.filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
    limits.next().map_or_else(|| "none: the root of all cgroups has no limit".to_owned(), |text| text.trim().to_owned())
}

/// Model and UUID of each GPU, as NVIDIA's driver says them.
fn nvidia_gpus() -> Vec<Value> {
    let Ok(folders) = fs::read_dir("/proc/driver/nvidia/gpus") else { return Vec::new() };
    let information = folders.flatten().filter_map(|gpu| fs::read_to_string(gpu.path().join("information")).ok());
    let field = |text: &str, name| proc_text::field(text, name).map(str::to_owned);
    information.map(|text| json!({ "model": field(&text, "Model"), "uuid": field(&text, "GPU UUID") })).collect()
}

/// Runtimes, their libraries and versions, as `bench --list` finds them.
fn backends(bench: &Path) -> Option<Value> {
    const LIMIT: Duration = Duration::from_mins(1);
    let output = output(Command::new(bench).args(["--list", "--json"]), LIMIT).ok()??;
    serde_json::from_slice(&output.stdout).ok()
}

impl Sweep {
    /// Runs what is not there yet, and calls `each` after every cell.
    ///
    /// # Errors
    /// The dataset cannot be written. A cell that fails is no error: the dataset says why.
    pub(super) fn run(&self, mut each: impl FnMut(&Done)) -> anyhow::Result<Done> {
        let mut done = Done::default();
        for block in 1..=self.dataset.plan.blocks {
            for (place, cell) in self.dataset.plan.block(block).into_iter().enumerate() {
                if self.dataset.has(&cell, block) {
                    done.kept += 1;
                } else {
                    let (run, counts) = self.cell(&cell, block, place as u32);
                    done.run += 1;
                    done.failed += u64::from(!run.error.is_empty());
                    done.lost += u64::from(run.lost > 0);
                    self.dataset.add(&cell, &run, &counts)?;
                }
                each(&done);
            }
        }
        Ok(done)
    }

    /// One cell, with the tracer and without, in the order that the place gives; one without iterations has nothing to time and
    /// is only traced.
    fn cell(&self, cell: &Cell, block: u32, place: u32) -> (RunRow, Vec<CountRow>) {
        let command = cell.arguments().join(" ");
        let mut run = RunRow { block, place, command, load: load(), ..RunRow::default() };
        let mut counts = Vec::new();
        let traced_first = place.is_multiple_of(2);
        for traced in [traced_first, !traced_first].into_iter().filter(|traced| *traced || cell.iters > 0) {
            let outcome = if traced { self.traced(cell, &mut run) } else { self.bare(cell, &mut run).map(|()| None) };
            match outcome {
                Ok(Some(found)) => counts = found,
                Ok(None) => {}
                Err(error) => {
                    run.error = error;
                    return (run, Vec::new());
                }
            }
        }
        run.load_after = load();
        (run, counts)
    }

    /// What is run for a cell, with its arguments.
    fn program(&self, cell: &Cell) -> (PathBuf, Vec<String>) {
        let mut arguments = cell.arguments();
        let is_bench = cell.program.is_empty();
        let program = if is_bench { self.bench.clone() } else { PathBuf::from(arguments.remove(0)) };
        (program, arguments)
    }

    fn bare(&self, cell: &Cell, run: &mut RunRow) -> Result<(), String> {
        let (program, arguments) = self.program(cell);
        let wanted = Wanted { jobs: cell.jobs().to_owned(), ..Wanted::default() };
        let variables = injected::variables(wanted).map_err(|error| error.to_string())?;
        let report = self.report(Command::new(program).args(arguments).envs(variables))?;
        let latency = report.latency.unwrap_or_default();
        run.bare_p50_ns = latency.p50_ns;
        run.bare_p90_ns = latency.p90_ns;
        run.bare_p99_ns = latency.p99_ns;
        run.bare_max_ns = latency.max_ns;
        run.wall_ns = report.wall_ns;
        run.usage = report.usage;
        Ok(())
    }

    fn traced(&self, cell: &Cell, run: &mut RunRow) -> Result<Option<Vec<CountRow>>, String> {
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().map_err(|error| error.to_string())?;
        let tracer = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(tracer);
        let (program, arguments) = self.program(cell);
        command.args(["run", "--quiet", "--per-thread", "--output"]).arg(file.path());
        if !cell.jobs().is_empty() {
            command.arg(format!("--jobs={}", cell.jobs()));
        }
        command.arg("--").arg(program);
        let report = self.report(command.args(arguments))?;
        let traced = files::read(file.path()).map_err(|error| error.to_string())?;
        // Without the phase there would be no calls in it, and that is not the same as none.
        if !traced.header.phases.iter().any(|marked| phase::is_measured(&marked.path)) {
            return Err(format!("the program never began a phase `{}`", phase::MEASURED.join("` or `")));
        }
        run.traced_wall_ns = report.wall_ns;
        run.traced_p50_ns = report.latency.unwrap_or_default().p50_ns;
        // Counts of jobs are no part of a dataset, and a table of jobs that was not read changes no other.
        run.lost = u64::from(Losses { job_tables: 0, job_places: 0, ..traced.header.losses }.any());
        counts(&traced).map(Some).map_err(|error| error.to_string())
    }

    /// Runs a program with `--json`; what it says on standard error when it fails is the reason.
    fn report(&self, command: &mut Command) -> Result<Report, String> {
        let output = output(command.arg("--json"), self.limit).map_err(|error| error.to_string())?;
        let Some(output) = output else {
            return Err(format!("ended after {} s, the limit of a run", self.limit.as_secs()));
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().find(|line| Chosen::parse(line).is_none()).unwrap_or_default();
            return Err(format!("{}: {}", output.status, units::printable(line)));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("what the program printed is no report: {error}"))
    }
}

/// The one-minute load of this machine.
fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// What a program printed, or `None` when it ran longer than `limit` and was ended: by SIGTERM, which the tracer passes on,
/// and where that did not help by SIGKILL. Whatever it leaves behind ends with it, so that it disturbs nothing later.
fn output(command: &mut Command, limit: Duration) -> std::io::Result<Option<Output>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    // Files, because somebody else may hold a pipe open after the program has ended.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).process_group(0);
    // SAFETY: one system call, between fork and exec.
    unsafe {
        // In a group of its own it gets no Ctrl-C: it ends when this program does.
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
    let mut child = command.spawn()?;
    let group = Pid::from_raw(child.id().cast_signed());
    let (ended, end) = mpsc::channel::<()>();
    let (status, late) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let runs = |time| matches!(end.recv_timeout(time), Err(RecvTimeoutError::Timeout));
            let late = runs(limit);
            if late {
                // It ended this very moment: nothing is left to end.
                killpg(group, Signal::SIGTERM).ok();
                if runs(PATIENCE) {
                    killpg(group, Signal::SIGKILL).ok();
                }
            }
            late
        });
        let status = child.wait();
        drop(ended);
        (status, watch.join().unwrap_or_default())
    });
    // Nothing is left in most cases, which is an error.
    killpg(group, Signal::SIGKILL).ok();
    let read = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let output = Output { status: status?, stdout: read(&mut stdout)?, stderr: read(&mut stderr)? };
    Ok((!late).then_some(output))
}

/// Calls by phase, kind and who makes them, of all processes. Only GPU devices are named. `bench` marks, launches and waits in
/// the first thread of its process.
fn counts(run: &Run) -> PolarsResult<Vec<CountRow>> {
    let calls = group::in_marked_phases(&group::with_callers(run)?, &run.header.phases)?;
    let by = [
        group::CALLER,
        column::PHASE,
        column::ROLE,
        column::CATEGORY,
        column::SYSCALL,
        column::DEVICE,
        column::COMMAND_NAME,
        column::DETAIL,
        column::DECODED,
    ];
    let rows = group::group(&calls, &by)?.into_iter().map(|group| {
        let [is_caller, phase, role, category, syscall, device, ioctl, detail, decoded] =
            std::array::from_fn(|at| group.key[at].clone());
        let on_gpu = |name: String| if decoded.is_empty() { String::new() } else { name };
        let [device, ioctl, detail] = [device, ioctl, detail].map(on_gpu);
        CountRow {
            phase,
            thread: if is_caller == group::IS_CALLER { Thread::Caller } else { Thread::Other },
            role: role.parse().unwrap_or(Role::Unknown),
            category,
            syscall,
            device,
            ioctl,
            detail,
            calls: group.calls,
            errors: group.errors,
            total_ns: group.total_ns,
        }
    });
    Ok(rows.collect())
}

/// The bar of a long sweep; silent when nobody looks.
pub(super) fn progress(cells: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} cells, {eta} left {msg}");
    ProgressBar::with_draw_target(Some(cells), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What came of it, in a sentence.
pub(super) fn report(done: &Done, folder: &Path) {
    let Done { run, kept, failed, lost } = done;
    diagnostics::report(&format!(
        "{}: {run} cells run, {kept} kept, {failed} failed, {lost} with losses; `gpuos-trace report {}` says what they show",
        folder.display(),
        folder.display()
    ));
}
