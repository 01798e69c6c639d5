//! An emulated machine. It boots once for each kernel and set of modules and is saved when it is ready for a
//! job; every job starts from there. `init.sh` is the guest's half.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::checksum::sha256;

use super::{
    initramfs::{self, Archive},
    kernels::Kernel,
};

const QEMU: &str = "qemu-system-x86_64";
/// `/dev/kvm` is not there everywhere, and where it is it may hang; emulation is the same on every machine. One
/// CPU: two do not run faster when emulated, and a saved machine of two stalls now and then.
const MACHINE: [&str; 14] = [
    "-machine",
    "q35",
    "-accel",
    "tcg,tb-size=512",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-m",
    "1024",
    "-nodefaults",
    "-display",
    "none",
    "-no-reboot",
];
const KERNEL_LINE: &str = "console=ttyS0 panic=-1 oops=panic quiet loglevel=3 mitigations=off nokaslr tsc=reliable";
/// The guest knows its disk's size from when it was saved, so every job's disk has this one. Sparse.
const DISK_BYTES: u64 = 1 << 30;
/// Blocks of the disk: the first says how many more belong to the job.
const BLOCK: usize = 64 * 1024;
const BOOT_LIMIT: Duration = Duration::from_mins(5);

/// A saved machine.
#[derive(Debug)]
pub(super) struct Machine {
    image: PathBuf,
    initramfs: PathBuf,
    state: PathBuf,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    TimedOut,
    /// The kernel panicked or the machine was lost.
    Died,
}

/// What came out of a job.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: End,
    /// Of the job, both of its streams.
    pub(super) output: String,
    /// Of the kernel.
    pub(super) console: String,
}

impl Machine {
    /// The machine of this kernel with these modules loaded: saved earlier, or booted and saved now.
    pub(super) fn ready(kernel: &Kernel, modules: &[&str], cache: &Path) -> Result<Self> {
        let version = Command::new(QEMU)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot start {QEMU}\n  hint: `cargo xtask setup --vm` installs it"))?
            .stdout;
        let folder = cache.join("machines");
        fs::create_dir_all(&folder)?;
        // Another shell or another emulator: another machine.
        let parts = format!(
            "{:?}",
            (&kernel.release, modules, MACHINE, KERNEL_LINE, DISK_BYTES, initramfs::INIT, version, busybox_version())
        );
        let key = &sha256(parts.as_bytes())[..12];
        let file = |ending: &str| folder.join(format!("{}-{key}.{ending}", kernel.release));
        let machine = Self { image: kernel.image.clone(), initramfs: file("cpio"), state: file("state") };
        if !machine.state.exists() {
            let start = Instant::now();
            fs::write(&machine.initramfs, initramfs::initramfs(kernel, modules)?)?;
            machine.save(&folder).with_context(|| format!("cannot save a machine with kernel {}", kernel.release))?;
            let size = fs::metadata(&machine.state)?.len() >> 20;
            let modules = if modules.is_empty() { String::new() } else { format!(" with {}", modules.join(", ")) };
            eprintln!(
                "{}{modules}: booted and saved in {:.1} s, {size} MiB",
                kernel.release,
                start.elapsed().as_secs_f64()
            );
        }
        Ok(machine)
    }

    /// The emulator in a folder that has the file `disk`; it writes `console` and `output` there.
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(QEMU);
        command
            .args(MACHINE)
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", KERNEL_LINE, "-serial", "file:console", "-serial", "file:output"])
            .args(["-drive", "file=disk,if=virtio,format=raw,readonly=on"])
            .current_dir(folder);
        command
    }

    fn save(&self, cache: &Path) -> Result<()> {
        let folder = tempfile::tempdir_in(cache)?;
        File::create(folder.path().join("disk"))?.set_len(DISK_BYTES)?;
        let monitor = File::create(folder.path().join("monitor"))?;
        let mut emulator = Emulator::start(
            self.command(folder.path()).args(["-monitor", "stdio"]).stdin(Stdio::piped()).stdout(monitor),
        )?;
        let console = folder.path().join("console");
        let deadline = Instant::now() + BOOT_LIMIT;
        let text = loop {
            let text = read_lossy(&console);
            if text.contains("VMTEST-READY") || emulator.ended()? {
                break text;
            }
            if Instant::now() > deadline {
                bail!("not ready after {} seconds; its console ends in\n{}", BOOT_LIMIT.as_secs(), tail(&text));
            }
            thread::sleep(Duration::from_millis(50));
        };
        if !text.contains("VMTEST-READY") {
            bail!("it did not come up; its console ends in\n{}", tail(&text));
        }
        // A machine that is saved while it runs goes on by itself when it is loaded. The monitor takes the next
        // line only when the file is written.
        let mut input = emulator.0.stdin.take().context("no pipe to the monitor")?;
        input.write_all(
            b"migrate_set_parameter max-bandwidth 1000G\nmigrate \"exec:cat > state\"\ninfo migrate\nquit\n",
        )?;
        while !emulator.ended()? {
            if Instant::now() > deadline {
                bail!("the emulator did not finish: {}", read_lossy(&folder.path().join("monitor")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let said = read_lossy(&folder.path().join("monitor"));
        if !said.contains("completed") {
            bail!("the emulator could not save its state: {said}");
        }
        fs::rename(folder.path().join("state"), &self.state)?;
        Ok(())
    }

    /// Runs a shell script in a machine of its own, with these files: path in the guest, path here.
    pub(super) fn run(&self, script: &str, files: &[(String, PathBuf)], limit: Duration) -> Result<Outcome> {
        let mut archive = Archive::default();
        archive.file("vmtest/job", script.as_bytes(), 0o644)?;
        for (path, source) in files {
            archive.copy(path, source)?;
        }
        let folder = tempfile::tempdir_in(self.state.parent().context("a file lies in a folder")?)?;
        write_disk(&folder.path().join("disk"), &archive.finish()?)?;
        let start = Instant::now();
        let mut command = self.command(folder.path());
        command.args(["-monitor", "none", "-incoming", "fd:0"]).stdin(File::open(&self.state)?).stdout(Stdio::null());
        let mut emulator = Emulator::start(&mut command)?;
        let mut timed_out = false;
        while !emulator.ended()? && !timed_out {
            timed_out = start.elapsed() > limit;
            thread::sleep(Duration::from_millis(10));
        }
        drop(emulator);
        let output = read_lossy(&folder.path().join("output"));
        let (output, end) = match output.rsplit_once("\nVMTEST-EXIT ") {
            Some((output, status)) => (output.to_owned(), End::Exited(status.trim().parse().unwrap_or(-1))),
            None => (output, if timed_out { End::TimedOut } else { End::Died }),
        };
        Ok(Outcome { end, output, console: read_lossy(&folder.path().join("console")) })
    }
}

/// A running emulator, ended when dropped.
struct Emulator(Child);

impl Emulator {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("cannot start {QEMU}"))?))
    }

    fn ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_disk(path: &Path, archive: &[u8]) -> Result<()> {
    if (BLOCK + archive.len()) as u64 > DISK_BYTES {
        bail!("the files of this test are {} MiB; a machine's disk has {} MiB", archive.len() >> 20, DISK_BYTES >> 20);
    }
    let mut header = format!("VMTEST-JOB {}", archive.len().div_ceil(BLOCK)).into_bytes();
    header.resize(BLOCK, 0);
    let mut disk = File::create(path)?;
    disk.write_all(&header)?;
    disk.write_all(archive)?;
    disk.set_len(DISK_BYTES)?;
    Ok(())
}

fn busybox_version() -> Option<(u64, Option<std::time::SystemTime>)> {
    let metadata = fs::metadata(initramfs::BUSYBOX).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "")).unwrap_or_default()
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
