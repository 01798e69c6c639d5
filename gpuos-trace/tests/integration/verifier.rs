//! The verifier's work is written down, so that growth is noticed: it is paid at every start, and has a limit.

use gpuos_host::environment::kernel_version;
use gpuos_test_macros::privileged;
use gpuos_tracer::probe::{RecordingSettings, Settings, Tracer};

/// Program and instructions that the verifier looked at, on Linux 6.18 with the object of today.
const WRITTEN_DOWN: &str = include_str!("../../../tracer-ebpf/bytecode/verified-instructions.csv");

#[privileged]
fn the_verifiers_work_does_not_grow_unnoticed() {
    let mut found = Tracer::start(&Settings::default()).unwrap().verified_instructions().unwrap();
    let counting = Settings { timed: false, ..Settings::default() };
    let single = Settings { wanted: Some(vec![libc::SYS_ioctl as u32]), ..Settings::default() };
    let many: Vec<u32> = (0..20).collect();
    let filtered = Settings { wanted: Some(many.clone()), ..Settings::default() };
    let filtered_counting = Settings { wanted: Some(many), ..counting.clone() };
    for settings in [counting, single, filtered, filtered_counting] {
        found.extend(Tracer::start(&settings).unwrap().verified_instructions().unwrap());
    }
    let by_id = Settings { tasks_by_id: true, ..Settings::default() };
    found.extend(Tracer::start(&by_id).unwrap().verified_instructions().unwrap());
    // What more is asked for makes other programs of the same sources: they stand under their own names.
    let recording = Some(RecordingSettings { ring_bytes: 1 << 16, switches: true, faults: true, paths: true });
    for tasks_by_id in [false, true] {
        let plain = Settings { tasks_by_id, ..Settings::default() };
        for (what, settings) in [
            ("recording", Settings { recording, ..plain.clone() }),
            ("inferring", Settings { infer_phases: true, ..plain.clone() }),
            ("stacks", Settings { stacks: 64, ..plain.clone() }),
        ] {
            let counts = Tracer::start(&settings).unwrap().verified_instructions().unwrap();
            found.extend(counts.into_iter().map(|(name, count)| (format!("{name} ({what})"), count)));
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    let text: String = found.iter().map(|(name, count)| format!("{name},{count}\n")).collect();
    // Written down on 6.18. Kernels look at more or less of the same program: 6.1 at four times as much of one.
    let written_here = kernel_version() == (6, 18);
    for (name, count) in &found {
        let line = WRITTEN_DOWN.lines().find_map(|line| line.split_once(',').filter(|(program, _)| program == name));
        let written: u32 = line.unwrap_or_else(|| panic!("write down:\n{text}")).1.parse().unwrap();
        let most = if written_here { written + written / 2 } else { written * 6 };
        assert!(
            *count <= most,
            "{name}: {count} instructions, {written} written down; if that is meant, write down:\n{text}"
        );
    }
    if written_here {
        assert_eq!(found.len(), WRITTEN_DOWN.lines().count() - 1, "write down:\n{text}");
    }
}
