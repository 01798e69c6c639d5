//! Decoding again what an H200 made of programs of CUDA, OpenCL and Vulkan, beside the reference counter that was inside them.
//! `study/phase1/h200/README.md` says how both were recorded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gpuos_decode::{devices::Devices, ioctls, nvidia::CLASS_NOT_KNOWN, version::Version};
use gpuos_runs::{columns::column, files, run::Run};
use gpuos_tracer_abi::ioctl::DeviceId;

const PROGRAMS: [&str; 11] = [
    "alloc-0",
    "alloc-1000",
    "alloc-opencl",
    "alloc-vulkan",
    "copy-opencl",
    "copy-vulkan",
    "kernel-1000",
    "kernel-opencl",
    "kernel-vulkan",
    "resnet18",
    "transformer",
];
/// The same loops on three runtimes, without the reference counter.
const STACKS: [&str; 9] = [
    "alloc-cuda",
    "alloc-opencl",
    "alloc-vulkan",
    "copy-cuda",
    "copy-opencl",
    "copy-vulkan",
    "kernel-cuda",
    "kernel-opencl",
    "kernel-vulkan",
];

fn results(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../study/phase1/h200")).join(name)
}

fn folder() -> PathBuf {
    results("decode")
}

/// The drivers of the machine of a folder.
fn devices(folder: &Path) -> Devices {
    let text = fs::read_to_string(folder.join("environment.txt")).unwrap();
    let majors: Vec<&str> = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    let mut devices = Devices::from_text(&format!("Character devices:\n  1 mem\n{}\n", majors.join("\n")), "");
    devices.nvidia_version = Version::parse("580.159.04");
    devices
}

/// One row of a run: its texts and its numbers.
struct Recorded<'a>(&'a Run, usize);

impl Recorded<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.calls.column(name).unwrap().str().unwrap().get(self.1).unwrap()
    }
    fn word(&self, name: &str) -> u32 {
        self.0.calls.column(name).unwrap().u32().unwrap().get(self.1).unwrap()
    }
    fn count(&self, name: &str) -> u64 {
        self.0.calls.column(name).unwrap().u64().unwrap().get(self.1).unwrap()
    }
}

#[test]
fn recorded_numbers_have_the_names_that_they_had() {
    let mut decoded = 0;
    let of = |folder: &'static str, program: &'static str| (results(folder), program);
    let programs = PROGRAMS.map(|program| of("decode", program)).into_iter();
    for (folder, program) in programs.chain(STACKS.map(|program| of("stacks", program))) {
        let devices = devices(&folder);
        let run = files::read(&folder.join(program).with_extension("csv")).unwrap();
        for row in (0..run.calls.height()).map(|row| Recorded(&run, row)) {
            if row.text(column::SYSCALL) != "ioctl" || row.text(column::DECODED).is_empty() {
                continue;
            }
            let (device, command) = (DeviceId(row.word(column::DEVICE_NUMBER)), row.word(column::COMMAND_NUMBER));
            let call = ioctls::decode(&devices, device, command, row.word(column::DETAIL_NUMBER)).unwrap();
            assert!(call.known || call.detail == CLASS_NOT_KNOWN, "{program}: {call:?}");
            assert_eq!(devices.name(device), row.text(column::DEVICE));
            assert_eq!(call.command, row.text(column::COMMAND_NAME));
            assert_eq!(call.detail, row.text(column::DETAIL));
            assert_eq!(call.role.unwrap().name(), row.text(column::ROLE), "{program}: {call:?}");
            decoded += 1;
        }
    }
    assert!(decoded > 1500, "{decoded} rows");
}

#[test]
fn the_reference_counter_inside_the_programs_counted_the_same() {
    for program in PROGRAMS {
        let run = files::read(&folder().join(program).with_extension("csv")).unwrap();
        let mut ours: BTreeMap<(String, u32, u32), [u64; 3]> = BTreeMap::new();
        for row in (0..run.calls.height()).map(|row| Recorded(&run, row)) {
            if row.text(column::SYSCALL) != "ioctl" || row.text(column::DECODED).is_empty() {
                continue;
            }
            let (device, command) = (row.text(column::DEVICE), row.word(column::COMMAND_NUMBER));
            // What the reference counter looks at: control commands, functions of the heap, classes of objects new and old.
            let looks = matches!(command & 0xff, 0x27 | 0x29..=0x2b | 0x34 | 0x4a | 0x4e | 0x4f | 0x57 | 0x58);
            let seen = looks && !device.contains("uvm");
            let detail = if seen { row.word(column::DETAIL_NUMBER) } else { 0 };
            let sums = ours.entry((format!("/dev/{device}"), command, detail)).or_default();
            for (sum, name) in sums.iter_mut().zip([column::CALLS, column::ERRORS, column::REFUSED]) {
                *sum += row.count(name);
            }
        }
        let text = fs::read_to_string(folder().join(program).with_extension("oracle")).unwrap();
        let mut theirs: BTreeMap<(String, u32, u32), [u64; 3]> = BTreeMap::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split(',').collect();
            let number = |at: usize| parts[at].parse::<u64>().unwrap();
            let sums = theirs.entry((parts[0].to_owned(), number(1) as u32, number(2) as u32)).or_default();
            for (sum, at) in sums.iter_mut().zip(3..6) {
                *sum += number(at);
            }
        }
        assert!(ours.len() > 100, "{program}: {}", ours.len());
        assert_eq!(ours, theirs, "{program}");
    }
}
