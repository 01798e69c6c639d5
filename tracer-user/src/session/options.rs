//! What a trace is asked for, as plain values: nothing here knows of a command line.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gpuos_decode::roles::Roles;
use gpuos_host::files;

use crate::{
    live::{Live, output::Output},
    output::{Destination, layout::View},
    probe::Settings,
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
    pub stacks: Option<StackFile>,
    /// Where the counts go besides the tables.
    pub destination: Option<Destination>,
    /// The counts are shown while they grow.
    pub live: bool,
    /// Tables on standard error; `None`: none.
    pub view: Option<View>,
    /// Notes and losses on standard error where there are no tables.
    pub says_notes: bool,
    /// How calls are looked at.
    pub backend: Backend,
    /// Of what was called for these classes of jobs alone; empty: of all.
    pub job_classes: Vec<String>,
}

/// How calls are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// By BPF where that may be used, else by ptrace.
    #[default]
    Auto,
    /// By programs in the kernel.
    Bpf,
    /// By stopping at each call.
    Ptrace,
}

impl Backend {
    /// Its word in files: that which was used.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto | Self::Bpf => "bpf",
            Self::Ptrace => "ptrace",
        }
    }
}

impl TraceOptions {
    /// The first option that needs BPF; `None`: ptrace does.
    #[must_use]
    pub fn needs_bpf(&self) -> Option<&'static str> {
        let settings = &self.settings;
        let asks = [
            (!settings.hooks.is_empty(), "--driver-hooks"),
            (!settings.functions.is_empty(), "--api"),
            (self.stacks.is_some(), "--stacks"),
            (settings.infer_phases, "--auto-phases"),
            (self.live, "--live"),
            (settings.recording.is_some_and(|recording| recording.switches), "--sched"),
            (settings.recording.is_some_and(|recording| recording.faults), "--faults"),
        ];
        asks.into_iter().find_map(|(asks, option)| asks.then_some(option))
    }

    /// The live view, if one was asked for. `output`: where the command's output is read from.
    ///
    /// # Errors
    /// What the terminal or the kernel says.
    pub(super) fn live_view(&self, title: String, output: Option<OwnedFd>) -> io::Result<Option<Live>> {
        if !self.live {
            return Ok(None);
        }
        let output = output.map(Output::read).transpose()?;
        Live::begin(title, self.roles.clone(), self.settings.devices.clone(), output).map(Some)
    }
}

/// The file of `--stacks`, which gets its name when it is complete.
#[derive(Debug)]
pub struct StackFile {
    /// Where it will be.
    pub path: PathBuf,
    /// Until then.
    pub file: files::Unfinished,
}

impl StackFile {
    /// Tries whether the file can be written.
    ///
    /// # Errors
    /// What the file system says; `InvalidInput` for standard output.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "stacks go to a file"));
        }
        let path = files::target_of(path)?;
        Ok(Self { file: files::begin(&path)?, path })
    }
}
