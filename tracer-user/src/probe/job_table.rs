//! Tables of jobs of running processes: found among their open files, and read like any file. What stands in one is the program's
//! word, and nothing in it is trusted but to be numbers.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use bytemuck::Pod;
use gpuos_host::proc_text;
use gpuos_tracer_abi::{
    jobs::{
        CLASSES, JobCounts, JobRecord, JobSlot, JobTableHead, MAGIC, RECORDS, SLOTS, TABLE, TABLE_VERSION, offsets,
    },
    phases::LABEL,
};

/// A table.
#[derive(Debug)]
pub struct JobTable {
    file: File,
    /// Which file it is, whoever has it open.
    pub inode: u64,
    /// Records that were read so far.
    read: u64,
}

/// Records of a table that came since the last time.
#[derive(Debug, Default)]
pub struct NewRecords {
    /// Those that are still there, in their order.
    pub records: Vec<JobRecord>,
    /// Those that others have overwritten, or that were being written.
    pub lost: u64,
}

fn name() -> String {
    format!("/memfd:{TABLE} (deleted)")
}

/// Tables that a process has open.
pub fn tables_of(pid: u32) -> Vec<JobTable> {
    let name = name();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let ours = files.filter(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == name.as_str()));
    ours.filter_map(|file| JobTable::open(File::open(file.path()).ok()?)).collect()
}

/// Addresses of the slots of a process's threads, by their numbers as the process knows them.
pub fn slots_of(pid: u32) -> HashMap<u32, u64> {
    let mut slots = HashMap::new();
    let Ok(maps) = proc_text::read(format!("/proc/{pid}/maps")) else { return slots };
    let ours = maps.lines().filter(|line| line.ends_with(&name()));
    for line in ours {
        let Some(start) = line.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok()) else {
            continue;
        };
        // Its pages, whichever file they are of: a slot is read at its address by the kernel side, too.
        let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { continue };
        for slot in 0..SLOTS {
            let address = start + (offsets::SLOT + slot * size_of::<JobSlot>()) as u64;
            let mut owner = [0; 4];
            let at = address + std::mem::offset_of!(JobSlot, thread) as u64;
            if memory.read_exact_at(&mut owner, at).is_ok() && owner != [0; 4] {
                slots.insert(u32::from_ne_bytes(owner), address);
            }
        }
    }
    slots
}

/// The number by which a thread knows itself: that of the innermost pid namespace it is in.
pub fn own_number_of(pid: u32, thread: u32) -> Option<u32> {
    let status = proc_text::read(format!("/proc/{pid}/task/{thread}/status")).ok()?;
    proc_text::field(&status, "NSpid")?.split_whitespace().last()?.parse().ok()
}

impl JobTable {
    /// A file that is one: of memory, so that reading it never waits, and with the words that tables begin with.
    fn open(file: File) -> Option<Self> {
        // TMPFS_MAGIC of `linux/magic.h`; memfds of huge pages are of another file system, and none of ours.
        const OF_MEMORY: i64 = 0x0102_1994;
        let kind = nix::sys::statfs::fstatfs(&file).ok()?.filesystem_type();
        let inode = file.metadata().ok()?.ino();
        let table = Self { file, inode, read: 0 };
        let head = table.head().ok()?;
        (i64::from(kind.0) == OF_MEMORY && head.magic == MAGIC && head.version == TABLE_VERSION).then_some(table)
    }

    fn value<T: Pod>(&self, at: usize) -> io::Result<T> {
        let mut value = T::zeroed();
        self.file.read_exact_at(bytemuck::bytes_of_mut(&mut value), at as u64)?;
        Ok(value)
    }

    /// Its beginning.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn head(&self) -> io::Result<JobTableHead> {
        self.value(0)
    }

    /// Labels and counts of its classes, by their numbers from 1 on.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn classes(&self) -> io::Result<Vec<([u8; LABEL], JobCounts)>> {
        let classes = (self.head()?.classes as usize).min(CLASSES);
        let of = |place: usize| {
            let label = self.value(offsets::LABELS + place * LABEL)?;
            Ok((label, self.value(offsets::COUNTS + place * size_of::<JobCounts>())?))
        };
        (0..classes).map(of).collect()
    }

    /// Jobs that have ended since this was asked for the last time.
    ///
    /// # Errors
    /// The program made its file shorter.
    pub fn new_records(&mut self) -> io::Result<NewRecords> {
        let recorded = self.head()?.recorded;
        let before = std::mem::replace(&mut self.read, recorded);
        let first = before.max(recorded.saturating_sub(RECORDS as u64));
        let mut new = NewRecords { lost: first.saturating_sub(before), ..NewRecords::default() };
        for number in first + 1..=recorded {
            let place = ((number - 1) % RECORDS as u64) as usize;
            let record: JobRecord = self.value(offsets::RECORD + place * size_of::<JobRecord>())?;
            if record.number == number {
                new.records.push(record);
            } else {
                new.lost += 1;
            }
        }
        Ok(new)
    }
}
