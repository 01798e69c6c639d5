//! `--stacks`: user stacks of system calls, with names, as folded lines for flame graphs.
//!
//! The kernel side keeps addresses. What was mapped where is read from `/proc` while the processes live, by a thread that
//! looks every [`INTERVAL`]; names are looked up when the run is over.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, BufWriter, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, anyhow};
use gpuos_decode::syscalls;
use gpuos_host::{diagnostics, files};
use gpuos_model::units;
use gpuos_runs::run::{Process, Run};
use gpuos_tracer_abi::stacks::NO_STACK;

use super::options::{StackFile, TraceOptions};
use crate::probe::{
    Stacks,
    elf::{Symbols, Table},
};

/// How often the maps of all traced processes are read, once they run for a while; at first every millisecond.
const INTERVAL: Duration = Duration::from_millis(20);

/// As many parts of files are remembered of all processes together: a program can map as many as it likes.
const MOST_MAPPINGS: usize = 1 << 20;
/// As many bytes of what `/proc` says of one process are read.
const MOST_TEXT: u64 = 16 << 20;
/// As many bytes of paths are remembered.
const MOST_PATHS: usize = 64 << 20;

/// A part of a file that a process has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    end: u64,
    offset: u64,
    /// Place among the files.
    file: u32,
}

/// The file of a mapping: whatever has its path later may be another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct MappedFile {
    path: String,
    /// Major and minor number.
    device: (u32, u32),
    inode: u64,
}

/// What processes have mapped.
#[derive(Debug, Default)]
struct Mappings {
    /// By process number and first address.
    by_process: HashMap<u32, BTreeMap<u64, Mapping>>,
    /// How many there are.
    count: usize,
    /// Each file once.
    files: Vec<MappedFile>,
    places: HashMap<MappedFile, u32>,
    /// Bytes of their paths.
    path_bytes: usize,
    /// Some parts found no place.
    left_out: bool,
}

impl Mappings {
    /// Place of a file among the others; `None` where there is no room for its path.
    fn place_of(&mut self, file: MappedFile) -> Option<u32> {
        if let Some(place) = self.places.get(&file) {
            return Some(*place);
        }
        if self.path_bytes + file.path.len() > MOST_PATHS {
            return None;
        }
        self.path_bytes += file.path.len();
        let place = self.files.len() as u32;
        self.files.push(file.clone());
        self.places.insert(file, place);
        Some(place)
    }

    /// The part at an address, and where it begins.
    fn at(&self, pid: u32, address: u64) -> Option<(u64, Mapping)> {
        let (begin, mapping) = self.by_process.get(&pid)?.range(..=address).next_back()?;
        (address < mapping.end).then_some((*begin, *mapping))
    }

    fn put(&mut self, pid: u32, begin: u64, end: u64, offset: u64, file: MappedFile) {
        let is_known = self.by_process.get(&pid).is_some_and(|of_process| of_process.contains_key(&begin));
        let place = if is_known || self.count < MOST_MAPPINGS { self.place_of(file) } else { None };
        let Some(file) = place else {
            self.left_out = true;
            return;
        };
        self.count += usize::from(!is_known);
        self.by_process.entry(pid).or_default().insert(begin, Mapping { end, offset, file });
    }
}

/// Adds what `/proc/PID/maps` says is executable. What was seen there before and is gone now stays.
fn add_mappings(text: &str, pid: u32, to: &mut Mappings) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(flags), Some(offset)) = (words.next(), words.next(), words.next()) else { continue };
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let Some((Some(begin), Some(end))) = range.split_once('-').map(|(begin, end)| (hex(begin), hex(end))) else {
            continue;
        };
        if let (true, Some(offset)) = (flags.contains('x'), hex(offset)) {
            let device = words.next().and_then(|device| device.split_once(':'));
            let device = device.and_then(|(major, minor)| Some((hex(major)? as u32, hex(minor)? as u32)));
            let inode = words.next().and_then(|inode| inode.parse().ok());
            // The rest of the line is the path, which may have blanks.
            let path = line.splitn(6, ' ').nth(5).unwrap_or_default().trim().to_owned();
            let file = MappedFile { path, device: device.unwrap_or_default(), inode: inode.unwrap_or_default() };
            to.put(pid, begin, end, offset, file);
        }
    }
}

/// Reads the maps of processes until it is finished.
#[derive(Debug)]
pub struct MappingsReader {
    mappings: Arc<Mutex<Mappings>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MappingsReader {
    /// Begins with these processes; their descendants are found.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn begin(roots: Vec<u32>) -> io::Result<Self> {
        let mappings = Arc::new(Mutex::new(Mappings::default()));
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let (mappings, ends) = (mappings.clone(), ends.clone());
            std::thread::Builder::new().name("gpuos-maps".to_owned()).spawn(move || {
                let mut wait = Duration::from_millis(1);
                while !ends.load(Ordering::Acquire) {
                    for pid in with_descendants(&roots) {
                        let mut text = Vec::new();
                        if let Ok(maps) = fs::File::open(format!("/proc/{pid}/maps")) {
                            let _ = maps.take(MOST_TEXT).read_to_end(&mut text);
                        }
                        let mut mappings = mappings.lock().unwrap_or_else(PoisonError::into_inner);
                        add_mappings(&String::from_utf8_lossy(&text), pid, &mut mappings);
                    }
                    std::thread::park_timeout(wait);
                    wait = INTERVAL.min(wait.mul_f32(1.1));
                }
            })?
        };
        Ok(Self { mappings, ends, thread: Some(thread) })
    }

    /// What was seen.
    fn finish(mut self) -> Mappings {
        self.stop();
        std::mem::take(&mut *self.mappings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for MappingsReader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Processes and all that came of them, as far as they live.
fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = roots.to_vec();
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            all.extend(children.filter(|pid| !roots.contains(pid)));
        }
        at += 1;
    }
    all
}

/// The user stacks of a trace: what the kernel side kept, and what was mapped where.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) stacks: Stacks,
    pub(super) mappings: MappingsReader,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines: different stacks with their calls.
    pub lines: usize,
    /// Calls in them.
    pub calls: u64,
    /// Of these, calls whose stack the kernel did not keep.
    pub without_stack: u64,
    /// Of these, calls whose stack is one or two frames long: code without frame pointers was on the way.
    pub short: u64,
    /// Of these, calls with an address that lies in no mapping that was seen.
    pub unknown: u64,
    /// Calls that found no place.
    pub lost: u64,
    /// Some parts of files that programs had mapped found no place: addresses in them have no name.
    pub left_out: bool,
}

impl std::fmt::Display for Written {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lines, calls, without_stack, short, unknown, lost, left_out } = self;
        let of_all = |part: u64| units::share(part, (*calls).max(1));
        write!(
            to,
            "{} of {}",
            units::plural(*lines as u64, "call site", "call sites"),
            units::plural(*calls, "call", "calls")
        )?;
        for (part, what) in [
            (short, "end after two frames: something on the way was compiled without frame pointers"),
            (
                unknown,
                "have addresses without a name: their process ended before its maps were read, or made the code itself",
            ),
            (without_stack, "have no stack: the kernel found no place for it"),
        ] {
            if *part != 0 {
                write!(to, "\n  {} of the calls {what}", of_all(*part))?;
            }
        }
        if *left_out {
            write!(to, "\n  LOST: more was mapped than there is room for; addresses in the rest have no name")?;
        }
        if *lost != 0 {
            write!(to, "\n  LOST: {} found no place", units::plural(*lost, "call", "calls"))?;
        }
        Ok(())
    }
}

/// Names of addresses, each looked up once.
struct Names {
    mappings: Mappings,
    /// `None` for a file that is not there any more, or has no symbols.
    files: HashMap<u32, Option<Symbols>>,
    known: HashMap<(u32, u64), String>,
}

impl Names {
    /// Name of an address in a process; `None` where nothing is known to be there. `is_caller`: it is where a call
    /// returns to, so the call is before it.
    fn of(&mut self, pid: u32, address: u64, is_caller: bool) -> Option<String> {
        let address = address - u64::from(is_caller);
        let (begin, mapping) = self.mappings.at(pid, address)?;
        let file = self.mappings.files.get(mapping.file as usize)?;
        let at = (mapping.file, address - begin + mapping.offset);
        let path = &file.path;
        if !path.starts_with('/') {
            return (!path.is_empty()).then(|| path.clone());
        }
        if let Some(name) = self.known.get(&at) {
            return Some(name.clone());
        }
        let symbols = self.files.entry(at.0).or_insert_with(|| file.symbols());
        let name = symbols
            .as_ref()
            .and_then(|symbols| symbols.at(at.1))
            .map_or_else(|| format!("[{}]", path.rsplit('/').next().unwrap_or_default()), |name| demangled(&name));
        self.known.insert(at, name.clone());
        Some(name)
    }
}

impl MappedFile {
    /// The symbols of this very file, when it still has its path.
    fn symbols(&self) -> Option<Symbols> {
        // The traced program may have put a pipe there, or cut the file short.
        let file = files::open_regular(Path::new(&self.path)).ok()?;
        let data = file.metadata().ok()?;
        let same_device = (libc::major(data.dev()), libc::minor(data.dev())) == self.device;
        let is_same = data.ino() == self.inode && (same_device || shows_other_devices(&file));
        is_same.then(|| Symbols::read(file, Table::Full).ok()).flatten()
    }
}

/// Whether a file system says another device of its files than `/proc/PID/maps` does: overlayfs and btrfs may.
fn shows_other_devices(file: &fs::File) -> bool {
    use nix::sys::statfs::{BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs};
    fstatfs(file).is_ok_and(|system| matches!(system.filesystem_type(), BTRFS_SUPER_MAGIC | OVERLAYFS_SUPER_MAGIC))
}

/// A name as the program's source has it.
fn demangled(name: &str) -> String {
    if let Ok(name) = rustc_demangle::try_demangle(name) {
        return format!("{name:#}");
    }
    let parsed = cpp_demangle::Symbol::new(name).ok();
    parsed.and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(|| name.to_owned())
}

/// A name as a part of a folded line: `;` stands between them.
fn part(name: &str) -> String {
    units::printable(name).replace(';', ":")
}

/// Writes the file of `--stacks` and says what is in it.
pub(super) fn write(options: &mut TraceOptions, found: Option<Found>, run: &Run) -> Result<()> {
    let (Some(Found { stacks, mappings }), Some(StackFile { path, file })) = (found, options.stacks.take()) else {
        return Ok(());
    };
    let shown = path.display();
    let mut to = BufWriter::new(file);
    let written = write_folded(&stacks, mappings, &run.header.processes, &mut to)
        .and_then(|written| Ok((written, to.into_inner().map_err(io::IntoInnerError::into_error)?)))
        .and_then(|(written, file)| file.persist().map(|()| written))
        .map_err(|error| anyhow!("cannot write `{shown}`: {error}"))?;
    if options.view.is_some() {
        diagnostics::print(&format!("\nwrote {written}\nto {shown}\n"));
    }
    Ok(())
}

/// Writes one line for each different stack: process, frames from the outermost on, system call, then the number of calls.
///
/// # Errors
/// What the output says.
pub fn write_folded(
    found: &Stacks,
    reader: MappingsReader,
    processes: &[Process],
    to: &mut dyn Write,
) -> io::Result<Written> {
    let mappings = reader.finish();
    let left_out = mappings.left_out;
    let mut names = Names { mappings, files: HashMap::new(), known: HashMap::new() };
    let commands: HashMap<u64, &Process> = processes.iter().map(|process| (process.id, process)).collect();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    let mut written = Written { lost: found.lost, left_out, ..Written::default() };
    for &(key, calls) in &found.sites {
        let process = commands.get(&key.process);
        let mut line = process.map_or_else(|| "[ended process]".to_owned(), |process| part(&process.command));
        let frames = found.stacks.get(&key.stack).map(Vec::as_slice).unwrap_or_default();
        let mut is_unknown = false;
        for (at, &address) in frames.iter().enumerate().rev() {
            let name = process.and_then(|process| names.of(process.pid, address, at != 0));
            is_unknown |= name.is_none();
            line += ";";
            line += &part(&name.unwrap_or_else(|| format!("{address:#x}")));
        }
        if key.stack == NO_STACK || frames.is_empty() {
            line += ";[no stack]";
            written.without_stack += calls;
        } else if frames.len() <= 2 {
            written.short += calls;
        }
        written.unknown += if is_unknown { calls } else { 0 };
        written.calls += calls;
        let call = syscalls::by_number(key.number)
            .map_or_else(|| format!("syscall_{}", key.number), |call| call.name.to_owned());
        *lines.entry(format!("{line};{call}")).or_default() += calls;
    }
    written.lines = lines.len();
    for (line, calls) in &lines {
        writeln!(to, "{line} {calls}")?;
    }
    to.flush()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_parts_are_kept() {
        let mut mappings = Mappings::default();
        add_mappings(
            "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a program\n\
             00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/a program\n\
             7fff00000000-7fff00001000 r-xp 00000000 00:00 0   [vdso]\nbroken\n",
            7,
            &mut mappings,
        );
        let file = MappedFile { path: "/usr/bin/a program".to_owned(), device: (8, 2), inode: 173_521 };
        let program = Mapping { end: 0x45_2000, offset: 0x1000, file: 0 };
        assert_eq!(mappings.at(7, 0x40_0010), Some((0x40_0000, program)));
        assert_eq!((mappings.at(7, 0x45_2000), mappings.at(8, 0x40_0010)), (None, None));
        assert_eq!((mappings.count, &mappings.files[0]), (2, &file));
        // A program that maps without end takes no more than there is room for.
        (0..MOST_MAPPINGS as u64 + 5).for_each(|at| mappings.put(9, at * 8192, at * 8192 + 4096, 0, file.clone()));
        assert_eq!((mappings.count, mappings.left_out), (MOST_MAPPINGS, true));
        assert!(!part("a;b\u{1b}").contains([';', '\u{1b}']));
    }
}
