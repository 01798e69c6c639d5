//! Archives that the guest unpacks: its first file system, and the files of a test.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

use super::kernels::Kernel;

/// The guest's first process.
pub(super) const INIT: &str = include_str!("init.sh");
/// A shell and its programs in one static file; from the package busybox-static.
pub(super) const BUSYBOX: &str = "/bin/busybox";
/// What reads the disk with the job.
const DISK_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// An archive in the `newc` format, the one that the kernel and busybox read.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, path: &str, kind: ModeFileType, mode: u32, content: &[u8], device: (u32, u32)) -> Result<()> {
        self.entries += 1;
        let builder = Builder::new(path)
            .ino(self.entries)
            .mode(mode)
            .rdev_major(device.0)
            .rdev_minor(device.1)
            .set_mode_file_type(kind);
        let mut writer = builder.write(&mut self.bytes, content.len().try_into().context("a file above 4 GiB")?);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    /// The folders above a path that are not there yet.
    fn parents(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            if self.folders.insert(path[..at].to_owned()) {
                self.entry(&path[..at], ModeFileType::Directory, 0o755, &[], (0, 0))?;
            }
        }
        Ok(())
    }

    /// A file at an absolute path of the guest.
    pub(super) fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.entry(path, ModeFileType::Regular, mode, content, (0, 0))
    }

    /// A file of this machine, with its permissions.
    pub(super) fn copy(&mut self, path: &str, source: &Path) -> Result<()> {
        let reading = || format!("cannot read {}", source.display());
        let mode = fs::metadata(source).with_context(reading)?.permissions().mode();
        self.file(path, &fs::read(source).with_context(reading)?, mode & 0o777)
    }

    fn character_device(&mut self, path: &str, device: (u32, u32)) -> Result<()> {
        self.parents(path)?;
        self.entry(path, ModeFileType::Char, 0o600, &[], device)
    }

    /// The archive's bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(trailer(self.bytes)?)
    }
}

/// The guest's first file system: a shell, `init.sh`, and the modules that it loads.
pub(super) fn initramfs(kernel: &Kernel, modules: &[&str]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.character_device("dev/console", (5, 1))?;
    archive.character_device("dev/null", (1, 3))?;
    archive
        .copy("bin/busybox", Path::new(BUSYBOX))
        .context("no static busybox\n  hint: `cargo xtask setup --vm` installs it")?;
    archive.file("init", INIT.as_bytes(), 0o755)?;
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)?;
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    let mut load = String::new();
    for path in with_dependencies(kernel, &[&DISK_MODULES, modules].concat())? {
        let name = format!("{}.ko", module_name(&path));
        archive.file(&format!("vmtest/modules/{name}"), &read_module(&kernel.modules.join(&path))?, 0o644)?;
        load += &format!("{name}\n");
    }
    archive.file("vmtest/load", load.as_bytes(), 0o644)?;
    archive.finish()
}

/// `kernel/drivers/block/virtio_blk.ko.xz` → `virtio_blk`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Paths of these modules and of those that they need, in the order to load them. Built-in ones are left out.
fn with_dependencies(kernel: &Kernel, modules: &[&str]) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    order(&dependencies, &builtin, modules).with_context(|| format!("kernel {}", kernel.release))
}

fn order(dependencies: &str, builtin: &str, modules: &[&str]) -> Result<Vec<String>> {
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let lines: HashMap<String, (&str, &str)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needed)| (module_name(path), (path, needed)))
        .collect();
    let mut ordered: Vec<String> = Vec::new();
    for module in modules.iter().filter(|module| !builtin.contains(**module)) {
        let Some((path, needed)) = lines.get(*module) else { bail!("has no module {module}") };
        // `modules.dep` lists all that is needed, the first to load last.
        for path in needed.split_whitespace().rev().chain([*path]) {
            if !ordered.iter().any(|other| other == path) {
                ordered.push(path.to_owned());
            }
        }
    }
    Ok(ordered)
}

/// A module, unpacked and without its signature: to verify one takes seconds in an emulated machine.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => Some("xz"),
        Some("zst") => Some("zstd"),
        _ => None,
    };
    let Some(program) = unpack else {
        return Ok(without_signature(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?));
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout", "--quiet"])
        .arg(path)
        .output()
        .with_context(|| format!("cannot start {program}\n  hint: `cargo xtask setup --vm` installs it"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(without_signature(output.stdout))
}

/// Cuts off what `scripts/sign-file` appends: the signature, `struct module_signature` (12 bytes that end in the
/// signature's length, big-endian) and a magic line.
fn without_signature(mut module: Vec<u8>) -> Vec<u8> {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    if let Some(rest) = module.strip_suffix(MAGIC)
        && let Some((signed, length)) = rest.split_last_chunk::<4>()
    {
        module.truncate((signed.len() - 8).saturating_sub(u32::from_be_bytes(*length) as usize));
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let dependencies = "kernel/virtio_pci.ko.xz: kernel/virtio_ring.ko.xz kernel/virtio.ko.xz\n\
            kernel/virtio_blk.ko.xz: kernel/virtio_ring.ko.xz kernel/virtio.ko.xz\n\
            kernel/virtio_ring.ko.xz: kernel/virtio.ko.xz\nkernel/virtio.ko.xz:\n";
        let paths = order(dependencies, "kernel/fs/built-in.ko\n", &["virtio_blk", "built_in", "virtio_pci"]).unwrap();
        let names: Vec<_> = paths.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_blk", "virtio_pci"]);
        assert!(order(dependencies, "", &["nothing"]).is_err());
    }

    #[test]
    fn a_signature_is_cut_off() {
        let mut module = b"code".to_vec();
        module.extend(b"signature");
        module.extend([0; 8]);
        module.extend(9_u32.to_be_bytes());
        module.extend(b"~Module signature appended~\n");
        assert_eq!(without_signature(module), b"code");
        assert_eq!(without_signature(b"code".to_vec()), b"code");
    }

    #[test]
    fn folders_come_once_and_first() {
        let mut archive = Archive::default();
        archive.file("/a/b/one", b"1", 0o644).unwrap();
        archive.file("/a/b/two", b"22", 0o755).unwrap();
        let bytes = archive.finish().unwrap();
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(format!("{} {:o}", reader.entry().name(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, ["a 40755", "a/b 40755", "a/b/one 100644", "a/b/two 100755"]);
    }
}
