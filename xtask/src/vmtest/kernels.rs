//! Kernels of Debian, fetched through apt with lists and state of our own: the machine's apt is not touched,
//! and nothing is installed.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A line of kernels and the suites that have it.
#[derive(Debug)]
pub(super) struct Line {
    /// Its first two numbers, as on the command line.
    pub(super) name: &'static str,
    /// Archive and suite.
    suites: &'static [(Archive, &'static str)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archive {
    Main,
    Security,
}

/// The long-term kernels of Debian's releases, and the newest.
pub(super) const LINES: [Line; 5] = [
    Line { name: "5.10", suites: &[(Archive::Main, "bullseye"), (Archive::Security, "bullseye-security")] },
    Line { name: "6.1", suites: &[(Archive::Main, "bookworm"), (Archive::Security, "bookworm-security")] },
    Line { name: "6.12", suites: &[(Archive::Main, "trixie"), (Archive::Security, "trixie-security")] },
    Line { name: "6.18", suites: &[(Archive::Main, "trixie-backports")] },
    Line { name: "7.2", suites: &[(Archive::Main, "trixie-backports"), (Archive::Main, "sid")] },
];

/// Signs the suites above; from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) line: &'static str,
    /// As in `uname -r`.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The folder of `modules.dep`.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// Its first two numbers.
    pub(super) fn version(&self) -> (u32, u32) {
        let mut numbers = self.line.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// What was unpacked into this folder.
    fn in_folder(line: &'static str, folder: &Path) -> Result<Self> {
        for base in ["lib/modules", "usr/lib/modules"] {
            for entry in fs::read_dir(folder.join(base)).into_iter().flatten().flatten() {
                let release = entry.file_name().to_string_lossy().into_owned();
                let modules = entry.path();
                let images = [folder.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
                if let Some(image) = images.into_iter().find(|image| image.exists()) {
                    return Ok(Self { line, release, image, modules });
                }
            }
        }
        bail!(
            "no kernel in {}\n  hint: `cargo xtask vmtest --refresh --kernel {line}` fetches it again",
            folder.display()
        )
    }
}

/// The line with this name.
pub(super) fn line(name: &str) -> Result<&'static Line> {
    LINES.iter().find(|line| line.name == name).with_context(|| {
        let names: Vec<_> = LINES.iter().map(|line| line.name).collect();
        format!("no line of kernels `{name}`\n  hint: there are {} and all", names.join(", "))
    })
}

/// The newest kernel of a line: from the folder `cache`, or from Debian when it is not there yet.
pub(super) fn fetch(line: &'static Line, cache: &Path, refresh: bool) -> Result<Kernel> {
    let folder = cache.join("kernels").join(line.name);
    if refresh {
        let _ = fs::remove_dir_all(&folder);
    }
    if !folder.exists() {
        download(line, cache, &folder).with_context(|| {
            format!(
                "cannot fetch a kernel {}\n  hint: what was fetched before is kept; `--kernel` picks other lines",
                line.name
            )
        })?;
    }
    Kernel::in_folder(line.name, &folder)
}

fn download(line: &'static Line, cache: &Path, folder: &Path) -> Result<()> {
    let apt = Apt::new(line.suites, &cache.join("apt").join(line.name))?;
    eprintln!("{}: asking Debian for the newest kernel", line.name);
    apt.update()?;
    let packages = apt.packages_of_newest(line.name)?;
    let unpacked = cache.join(format!("kernels/{}.part", line.name));
    let _ = fs::remove_dir_all(&unpacked);
    apt.unpack(line.name, &packages, &unpacked)?;
    let kernel = Kernel::in_folder(line.name, &unpacked)?;
    let base = kernel.modules.ancestors().nth(3).context("modules lie three folders deep")?;
    process::run(Command::new("depmod").arg("--basedir").arg(base).arg(&kernel.release))?;
    fs::rename(&unpacked, folder)?;
    Ok(())
}

/// An apt with its own sources, lists and caches. Proxies and credentials stay the machine's.
pub(super) struct Apt {
    root: PathBuf,
}

impl Apt {
    pub(super) fn new(suites: &[(Archive, &str)], root: &Path) -> Result<Self> {
        fs::create_dir_all(root.join("lists/partial"))?;
        fs::create_dir_all(root.join("cache/archives/partial"))?;
        fs::create_dir_all(root.join("nothing"))?;
        fs::write(root.join("status"), "")?;
        let sources: String = suites
            .iter()
            .map(|(archive, suite)| Ok(format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(*archive)?)))
            .collect::<Result<_>>()?;
        fs::write(root.join("sources.list"), sources)?;
        Ok(Self { root: root.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut set = |option: &str, value: &str| {
            command.arg("-o").arg(format!("{option}={value}"));
        };
        for (option, name) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State", ""),
            ("Dir::State::status", "status"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourceparts", "nothing"),
            ("Dir::Etc::preferencesparts", "nothing"),
        ] {
            set(option, &self.root.join(name).display().to_string());
        }
        for (option, value) in [
            ("Acquire::Languages", "none"),
            // A suite that Debian no longer updates is signed, but the signature's date has passed.
            ("Acquire::Check-Valid-Until", "false"),
            // Its user `_apt` cannot write into our folder.
            ("APT::Sandbox::User", "root"),
            ("APT::Architecture", "amd64"),
        ] {
            set(option, value);
        }
        command
    }

    /// Fetches packages and unpacks them into a folder.
    pub(super) fn unpack<S: AsRef<OsStr>>(&self, what: &str, packages: &[S], folder: &Path) -> Result<()> {
        let archives = self.root.join("archives");
        let _ = fs::remove_dir_all(&archives);
        fs::create_dir_all(&archives)?;
        fs::create_dir_all(folder)?;
        eprintln!("{what}: fetching {} packages of Debian", packages.len());
        process::run(self.command("apt-get").args(["--quiet=2", "download"]).args(packages).current_dir(&archives))?;
        for entry in fs::read_dir(&archives)? {
            process::run(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(folder))?;
        }
        fs::remove_dir_all(&archives)?;
        Ok(())
    }

    /// Asks the archives what they have.
    pub(super) fn update(&self) -> Result<()> {
        process::run(self.command("apt-get").args(["--quiet=2", "update"]))
    }

    /// The packages of the newest kernel of a line. Since 6.19 it is split into four.
    fn packages_of_newest(&self, line: &str) -> Result<Vec<String>> {
        let pattern = format!(r"^linux-(image|binary|modules|base)-{}\.", line.replace('.', r"\."));
        let output = self.command("apt-cache").args(["search", "--names-only", &pattern]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        let newest = newest(&names).with_context(|| {
            format!("no suite has a package linux-image-{line}.…-amd64: {}", self.root.join("sources.list").display())
        })?;
        let ending = format!("-{newest}-amd64");
        Ok(names.into_iter().filter(|name| name.ends_with(&ending)).map(str::to_owned).collect())
    }
}

/// Where this machine gets Debian from.
fn mirror(archive: Archive) -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("cannot start apt-get: kernels come from Debian's packages")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let main = text.lines().map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian")).context(
        "apt knows no archive that ends in `/debian`\n  hint: add one to the machine's sources, and `apt-get update`",
    )?;
    Ok(match archive {
        Archive::Main => main.to_owned(),
        Archive::Security => format!("{main}-security"),
    })
}

/// The largest version among `linux-image-VERSION-amd64`, variants (`rt`, `cloud`, `unsigned`) left out.
fn newest<'a>(packages: &[&'a str]) -> Option<&'a str> {
    let versions = packages
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-")?.strip_suffix("-amd64"))
        .filter(|version| !version.replace("+deb", "").contains(char::is_alphabetic));
    versions.max_by_key(|version| {
        version
            .split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|part| part.parse::<u64>().ok())
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_by_number_and_of_the_plain_variant() {
        let packages = [
            "linux-image-6.12.96+deb13-amd64",
            "linux-image-6.12.115+deb13-amd64",
            "linux-image-6.12.115+deb13.1-amd64",
            "linux-image-6.12.117+deb13-rt-amd64",
            "linux-image-6.12.117+deb13-amd64-unsigned",
            "linux-base-6.12.117+deb13-amd64",
        ];
        assert_eq!(newest(&packages), Some("6.12.115+deb13.1"));
        assert_eq!(newest(&["linux-image-5.10.0-9-amd64", "linux-image-5.10.0-46-amd64"]), Some("5.10.0-46"));
        assert_eq!(newest(&["linux-image-cloud-amd64"]), None);
    }
}
