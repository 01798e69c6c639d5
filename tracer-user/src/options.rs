//! Plain values from the command line: the rest of the crate never sees clap.

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gpuos_tracer_abi::phases::INFERRED;

use crate::{
    bpf::{self, Settings},
    cli::{Format as FormatArg, Order as OrderArg, RunArgs, TableArgs, TraceArgs},
    launch::{Account, AccountError},
    live::{Live, output::Output},
    model::roles::{Roles, RolesError},
    names::devices::Devices,
    ranges::{self, RangesError},
    sink::{
        self, Destination, Format, SinkError,
        table::{Order, View},
    },
};

/// What is counted and where it goes.
#[derive(Debug)]
pub struct TraceOptions {
    /// What is asked of the kernel.
    pub settings: Settings,
    /// The `-e` words, for the header.
    pub filter: Vec<String>,
    /// The `--roles` file, for the header.
    pub roles_file: Option<String>,
    /// Roles and categories.
    pub roles: Roles,
    /// A loss is a failure.
    pub strict: bool,
    /// Where user stacks go.
    pub stacks: Option<Folded>,
    /// Where the counts go besides the tables.
    pub destination: Option<Destination>,
    /// The counts are shown while they grow.
    pub live: bool,
    /// Tables on standard error; `None`: none.
    pub view: Option<View>,
}

/// What `run` is to do.
#[derive(Debug)]
pub struct RunOptions {
    /// What is counted and where it goes.
    pub trace: TraceOptions,
    /// The command line.
    pub command: Vec<OsString>,
    /// As whom the command runs; `None`: as we do.
    pub user: Option<Account>,
    /// Until the tree is empty.
    pub wait_all: bool,
    /// The live view begins with a pane of the command's output.
    pub pane: bool,
    /// Added to the command's environment.
    pub variables: Vec<(&'static str, OsString)>,
}

impl TraceOptions {
    /// Checks everything that can be checked before anything is started, and tries the output.
    ///
    /// # Errors
    /// A word of `-e` or a file that is not usable.
    pub fn from_args(args: TraceArgs) -> Result<Self, OptionsError> {
        let roles = args.roles.as_deref().map(Roles::read).transpose()?.unwrap_or_default();
        let wanted = if args.events.is_empty() { None } else { Some(roles.select(&args.events)?) };
        let destination = match (&args.output, args.format) {
            (Some(path), format) => Some(Destination::open(path, format.map(Format::from))?),
            (None, Some(_)) => return Err(OptionsError::FormatWithoutOutput),
            (None, None) => None,
        };
        let stacks = args.stacks.as_deref().map(Folded::create).transpose()?;
        if let (Some(output), Some(stacks)) = (&args.output, &stacks)
            && sink::is_same_file(output, &stacks.path)
        {
            return Err(OptionsError::OneFile(output.clone()));
        }
        let hooks = if args.driver_hooks { bpf::driver_hooks() } else { Vec::new() };
        if args.driver_hooks && hooks.is_empty() {
            return Err(OptionsError::NoDriverHooks(if bpf::has_kprobes() {
                "no driver is loaded that has one of them, or this user may not see the kernel's symbols"
            } else {
                "this kernel has no kprobes"
            }));
        }
        let functions = if args.api { bpf::api_functions(args.api_launches) } else { Ok(Vec::new()) };
        let functions = functions.map_err(|(path, source)| OptionsError::Library { path, source })?;
        if args.api && (functions.is_empty() || !bpf::has_uprobes()) {
            return Err(OptionsError::NoApi(if bpf::has_uprobes() {
                "the linker finds no libcuda.so.1, libamdhip64.so or libOpenCL.so.1"
            } else {
                "it needs Linux 6.6 or later, with uprobes"
            }));
        }
        let mut devices = Devices::of_this_machine();
        devices.nvidia_version = args.nvidia_driver.or(devices.nvidia_version);
        let view = (!args.quiet).then(|| view(&args.tables));
        Ok(Self {
            settings: Settings {
                timed: !args.no_latency,
                attaching: false,
                sample: args.sample,
                tasks_by_id: args.tasks_by_id,
                threads: args.threads,
                per_thread: args.per_thread,
                wanted,
                rows: args.rows,
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
        })
    }
}

impl TraceOptions {
    /// Infers phases, where that is wanted, from calls that must be counted then.
    fn infer_phases(&mut self, is_wanted: bool) -> Result<(), OptionsError> {
        let sees_ioctl = self.settings.wanted.as_ref().is_none_or(|calls| calls.contains(&(libc::SYS_ioctl as u32)));
        if is_wanted && !sees_ioctl {
            return Err(OptionsError::NothingToInferFrom);
        }
        self.settings.infer_phases = is_wanted;
        self.settings.phases = self.settings.phases.max(INFERRED.len() as u32);
        Ok(())
    }

    /// The live view, if one was asked for. `output`: where the command's output is read from.
    ///
    /// # Errors
    /// What the terminal or the kernel says.
    pub fn live_view(&self, title: String, output: Option<OwnedFd>) -> io::Result<Option<Live>> {
        if !self.live {
            return Ok(None);
        }
        let output = output.map(Output::read).transpose()?;
        Live::begin(title, self.roles.clone(), self.settings.devices.clone(), output).map(Some)
    }
}

impl RunOptions {
    /// Likewise for `run`.
    ///
    /// # Errors
    /// As [`TraceOptions::from_args`], and a user that cannot be.
    pub fn from_args(args: RunArgs) -> Result<Self, OptionsError> {
        let mut trace = TraceOptions::from_args(args.trace)?;
        trace.infer_phases(args.launch.auto_phases)?;
        Ok(Self {
            trace,
            command: args.command,
            user: args.launch.user.as_deref().map(Account::find).transpose()?,
            wait_all: args.launch.wait_all,
            pane: args.launch.pane,
            variables: ranges::variables(args.launch.nvtx, args.launch.roctx)?,
        })
    }
}

/// The file of `--stacks`, which gets its name when it is complete.
#[derive(Debug)]
pub struct Folded {
    /// Where it will be.
    pub path: PathBuf,
    /// Until then.
    pub file: tempfile::NamedTempFile,
}

impl Folded {
    fn create(path: &Path) -> Result<Self, OptionsError> {
        let failed = |source| OptionsError::Stacks { path: path.to_path_buf(), source };
        if path.as_os_str() == "-" {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "stacks go to a file")));
        }
        let path = sink::target_of(path).map_err(failed)?;
        Ok(Self { file: sink::beside(&path).map_err(failed)?, path })
    }
}

/// Why the options are not usable.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A filter or a roles file.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// The output file.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The library behind `--nvtx`.
    #[error(transparent)]
    Ranges(#[from] RangesError),
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
    /// `--api` where there is nothing to watch.
    #[error(
        "`--api` finds nothing to watch: {0}\nhint: `gpuos-trace check` lists the libraries that it finds; `LD_LIBRARY_PATH` names folders of others"
    )]
    NoApi(&'static str),
    /// A library that cannot be read.
    #[error("cannot read the functions of `{}`: {source}", path.display())]
    Library {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of `--stacks`.
    #[error("cannot write `{}`: {source}\nhint: name a file in a folder that you may write to", path.display())]
    Stacks {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--format` alone.
    #[error("`--format` needs an output\nhint: add `-o FILE`, or `-o -` for standard output")]
    FormatWithoutOutput,
}

/// How tables are printed.
#[must_use]
pub fn view(args: &TableArgs) -> View {
    View { top: if args.top == 0 { usize::MAX } else { args.top }, order: args.sort.into() }
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Parquet => Self::Parquet,
            FormatArg::Json => Self::Json,
            FormatArg::Csv => Self::Csv,
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
