//! From the command line to plain values: the rest of the crate never sees clap.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use gpuos_decode::{
    devices::Devices,
    roles::{Roles, RolesError},
};
use gpuos_host::files;
use gpuos_recording::print::Choice;
use gpuos_runs::files::FileFormat;
use gpuos_tracer_abi::phases::INFERRED;

use crate::{
    cli::{BackendArg, ChoiceArgs, FormatArg, JobPart, LaunchArgs, OrderArg, TableArgs, TraceArgs},
    output::{
        Destination, OutputError, OutputFormat,
        layout::{Order, View},
    },
    probe::{self, Settings},
    session::{
        Launch,
        injected::{self, InjectedError, Wanted},
        launch::{Account, AccountError},
        options::{Backend, StackFile, TraceOptions},
    },
};

/// Checks everything that can be checked before anything is started, and tries the output.
///
/// # Errors
/// A word of `-e` or a file that is not usable.
pub(super) fn trace(args: TraceArgs) -> Result<TraceOptions, OptionsError> {
    let roles = args.roles.as_deref().map(Roles::read).transpose()?.unwrap_or_default();
    let wanted = if args.events.is_empty() { None } else { Some(roles.select(&args.events)?) };
    let destination = match (&args.output, args.format) {
        (Some(path), format) => Some(Destination::open(path, format.map(OutputFormat::from))?),
        (None, Some(_)) => return Err(OptionsError::FormatWithoutOutput),
        (None, None) => None,
    };
    let stacks = args.stacks.as_deref().map(stack_file).transpose()?;
    if let (Some(output), Some(stacks)) = (&args.output, &stacks)
        && files::is_same_file(output, &stacks.path)
    {
        return Err(OptionsError::OneFile(output.clone()));
    }
    let hooks = if args.driver_hooks { probe::driver_hooks() } else { Vec::new() };
    if args.driver_hooks && hooks.is_empty() {
        return Err(OptionsError::NoDriverHooks(if probe::has_kprobes() {
            "no driver is loaded that has one of them, or this user may not see the kernel's symbols"
        } else {
            "this kernel has no kprobes"
        }));
    }
    if args.api && probe::rights::are_of_file() {
        return Err(OptionsError::ApiOfFile);
    }
    let functions = if args.api { probe::api_functions(args.api_launches) } else { Ok(Vec::new()) };
    let functions = functions.map_err(|(path, source)| OptionsError::Library { path, source })?;
    if args.api && (functions.is_empty() || !probe::has_uprobes()) {
        return Err(OptionsError::NoApi(if probe::has_uprobes() {
            "the linker finds no libcuda.so.1, libamdhip64.so or libOpenCL.so.1"
        } else {
            "it needs Linux 6.6 or later, with uprobes"
        }));
    }
    let mut devices = Devices::of_this_machine();
    devices.nvidia_version = args.nvidia_driver.or(devices.nvidia_version);
    let view = (!args.quiet).then(|| view(&args.tables));
    Ok(TraceOptions {
        settings: Settings {
            timed: !args.no_latency,
            attaching: false,
            sample: args.sample,
            tasks_by_id: args.tasks_by_id,
            threads: args.threads,
            per_thread: args.per_thread,
            wanted,
            rows: args.rows.unwrap_or_else(Settings::rows_of_this_machine),
            totals: args.totals,
            processes: args.processes,
            objects: args.objects,
            phases: args.phases,
            hooks,
            functions,
            stacks: if args.stacks.is_some() { args.stacks_kept } else { 0 },
            devices,
            infer_phases: false,
            recording: None,
            #[cfg(feature = "bpf-log")]
            log: args.bpf_log,
        },
        filter: args.events,
        roles_file: args.roles.map(|path: PathBuf| path.display().to_string()),
        roles,
        strict: args.strict,
        stacks,
        live: args.live,
        destination,
        view,
        job_classes: args.tables.job_classes.clone(),
        backend: args.backend.into(),
        says_notes: false,
    })
}

/// How a command is launched, likewise. Phases are inferred, where that is wanted, from calls that must be counted then.
///
/// # Errors
/// A user that cannot be, and ranges or phases that cannot be had.
pub(super) fn launch(
    options: &mut TraceOptions,
    args: &LaunchArgs,
    command: Vec<OsString>,
) -> Result<Launch, OptionsError> {
    let settings = &mut options.settings;
    let sees_ioctl = settings.wanted.as_ref().is_none_or(|calls| calls.contains(&(libc::SYS_ioctl as u32)));
    if args.auto_phases && !sees_ioctl {
        return Err(OptionsError::NothingToInferFrom);
    }
    settings.infer_phases = args.auto_phases;
    settings.phases = settings.phases.max(INFERRED.len() as u32);
    Ok(Launch {
        command,
        user: args.user.as_deref().map(Account::find).transpose()?,
        wait_all: args.wait_all,
        pane: args.pane,
        variables: injected::variables(Wanted { nvtx: args.nvtx, roctx: args.roctx, jobs: words_of(&args.jobs) })?,
    })
}

/// The words of `GPUOS_JOBS`.
fn words_of(parts: &[JobPart]) -> String {
    let words = parts.iter().map(|part| match part {
        JobPart::Identity => "identity",
        JobPart::Wait => "wait",
        JobPart::Arena => "arena",
    });
    words.collect::<Vec<_>>().join(",")
}

fn stack_file(path: &Path) -> Result<StackFile, OptionsError> {
    StackFile::create(path).map_err(|source| OptionsError::Stacks { path: path.to_path_buf(), source })
}

/// Why the options are not usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionsError {
    /// A filter or a roles file.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// The output file.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A library that the command is to load.
    #[error(transparent)]
    Injected(#[from] InjectedError),
    /// The user of `-u`.
    #[error(transparent)]
    User(#[from] AccountError),
    /// `--driver-hooks` where there is nothing to hook.
    #[error(
        "`--driver-hooks` finds no function to watch: {0}\nhint: `gpuos-trace check` lists the functions that this machine has; without the option calls are counted all the same"
    )]
    NoDriverHooks(&'static str),
    /// Two outputs in one file.
    #[error("`{}` is both the file of `--output` and that of `--stacks`\nhint: choose another name for one of them", .0.display())]
    OneFile(PathBuf),
    /// `--auto-phases` without the calls that tell.
    #[error("`--auto-phases` is told by `ioctl`, which `-e` leaves out\nhint: add `ioctl` to the words of `-e`")]
    NothingToInferFrom,
    /// `--api` with rights from the file.
    #[error(
        "`--api` watches libraries for everybody who uses them, and this gpuos-trace has its rights from its file\nhint: run it through sudo"
    )]
    ApiOfFile,
    /// `--api` where there is nothing to watch.
    #[error(
        "`--api` finds nothing to watch: {0}\nhint: `gpuos-trace check` lists the libraries that it finds; `LD_LIBRARY_PATH` names folders of others"
    )]
    NoApi(&'static str),
    /// A library that cannot be read.
    #[error("cannot read the functions of `{}`: {source}", path.display())]
    Library {
        /// The file, as the user named it.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file of `--stacks`.
    #[error("cannot write `{}`: {source}\nhint: name a file in a folder that you may write to", path.display())]
    Stacks {
        /// The file, as the user named it.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// `--format` alone.
    #[error("`--format` needs an output\nhint: add `-o FILE`, or `-o -` for standard output")]
    FormatWithoutOutput,
}

/// Which events are printed.
pub(super) fn choice(args: &ChoiceArgs, calls: Vec<String>, pids: Vec<u32>) -> Choice {
    let ChoiceArgs { device, phase, failed, slower, json: _ } = args.clone();
    Choice { calls, device, phase, failed, slower, pids }
}

/// How tables are printed.
pub(super) fn view(args: &TableArgs) -> View {
    View { top: if args.top == 0 { usize::MAX } else { args.top }, order: args.sort.into() }
}

impl From<BackendArg> for Backend {
    fn from(backend: BackendArg) -> Self {
        match backend {
            BackendArg::Auto => Self::Auto,
            BackendArg::Bpf => Self::Bpf,
            BackendArg::Ptrace => Self::Ptrace,
        }
    }
}

impl From<FormatArg> for OutputFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Parquet => Self::File(FileFormat::Parquet),
            FormatArg::Json => Self::File(FileFormat::Json),
            FormatArg::Csv => Self::File(FileFormat::Csv),
            FormatArg::Table => Self::Table,
        }
    }
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Calls => Self::Calls,
            OrderArg::Total => Self::Total,
            OrderArg::Errors => Self::Errors,
            OrderArg::Max => Self::Max,
        }
    }
}
