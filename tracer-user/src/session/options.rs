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
    /// Of what was called for these classes of jobs alone; empty: of all.
    pub job_classes: Vec<String>,
}

impl TraceOptions {
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
