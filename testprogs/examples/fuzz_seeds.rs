//! Writes the binary seeds of the fuzz targets (`fuzz/seeds`): runs in every format and a small BTF blob.
//! Nothing of the machine is in them. `cargo run --package gpuos-testprogs --example fuzz_seeds`
#![expect(clippy::disallowed_methods, reason = "a test program")]

use std::{collections::HashMap, fs, path::Path};

use gpuos_decode::{devices::Devices, roles::Roles};
use gpuos_recording::journal::append;
use gpuos_runs::{
    frame,
    losses::Losses,
    run::{End, Header, Mode, Process, Run},
};
use gpuos_tracer::output::Destination;
use gpuos_tracer_abi::{
    events::{
        ARGUMENT, CALL, Call, DEVICE_CALL, DeviceCall, END, EXEC, EventHeader, FAULT, Fault, GAP, Gap, JOB, Job,
        Lifecycle, NAME, PATH, PATH_CALL, PHASE, PROCESS, PathCall, PhaseChange, SWITCH, Switch, THREAD,
    },
    ioctl::DeviceId,
    phases::{LABEL, OPERATION_BEGIN, OPERATION_END, OPERATION_ITERATIONS},
    syscalls::{ABI_COMPAT, RowCounts, RowKey},
};

fn process(id: u64, command: &str) -> Process {
    Process { id, pid: id as u32, command: command.into(), stands_for: 1, threads: 2, wall_ns: 9, ..Default::default() }
}

/// A run of few calls: of two processes, with errors, unfinished calls and a histogram.
fn run(with_calls: bool) -> Run {
    let processes = if with_calls { vec![process(1, "a"), process(2, "b\u{1b}")] } else { vec![] };
    let mut rows = HashMap::new();
    for (process, number, calls) in [(1, 0, 7), (1, 9, 3), (2, 202, 5)] {
        let mut counts = RowCounts { calls, errors: 1, total_ns: 900, max_ns: 300, ..RowCounts::ZERO };
        counts.buckets[8] = calls - 1;
        rows.insert(RowKey { process, number, ..Default::default() }, counts);
    }
    rows.insert(
        RowKey { process: 2, number: 9, abi: ABI_COMPAT, ..Default::default() },
        RowCounts { calls: 1, ..RowCounts::ZERO },
    );
    // `NV_ESC_RM_CONTROL` on /dev/nvidiactl.
    rows.insert(
        RowKey {
            process: 1,
            number: 16,
            device: DeviceId::new(195, 255),
            command: 0xc020_462a,
            detail: 1,
            ..Default::default()
        },
        RowCounts { calls: 2, refused: 1, status: 0x56, ..RowCounts::ZERO },
    );
    let devices = Devices::from_text("195 nvidia\n", "");
    if !with_calls {
        rows.clear();
    }
    Run {
        calls: frame::build(&rows, &processes, &[], &Roles::default(), &devices).expect("columns of one length"),
        header: Header {
            command: vec!["a".into(), "-b".into()],
            mode: Mode { sample: if with_calls { 16 } else { 1 }, ..Mode::default() },
            started: "2026-01-01T00:00:00Z".into(),
            wall_ns: 1_000_000,
            end: if with_calls { End::Killed(9) } else { End::Exited(0) },
            losses: Losses { calls: u64::from(with_calls), ..Default::default() },
            nvidia_driver: with_calls.then(|| "580.159.04".into()),
            notes: vec!["n".into()],
            processes,
            ..Header::default()
        },
    }
}

/// Types of the kinds that a lookup passes: see `fuzz/fuzz_targets/kernel_btf.rs` for the names asked for.
fn type_information() -> Vec<u8> {
    let strings = b"\0int\0outer\0a\0b\0c\0inner\0number\0flag\0";
    let name = |text: &str| {
        let with_end = [text.as_bytes(), b"\0"].concat();
        strings.windows(with_end.len()).position(|window| window == with_end).expect("a name of the list") as u32
    };
    let mut words: Vec<u32> = vec![name("int"), 1 << 24, 4, 32]; // 1: int
    words.extend([0, 4 << 24 | 2, 8, name("b"), 1, 0, name("c"), 1, 32]); // 2: anonymous struct
    words.extend([0, 5 << 24 | 2, 8, name("a"), 1, 0, 0, 2, 0]); // 3: anonymous union
    words.extend([name("number"), 8 << 24, 3]); // 4: typedef
    words.extend([0, 10 << 24, 4]); // 5: const
    // 6: struct outer, with bit fields
    words.extend([name("outer"), 1 << 31 | 4 << 24 | 3, 20, 0, 5, 32, name("inner"), 7, 64, name("flag"), 1, 1 << 24]);
    words.extend([0, 9 << 24, 3]); // 7: volatile
    words.extend([0, 13 << 24 | 1, 1, name("a"), 1]); // 8: function type
    words.extend([0, 3 << 24, 0, 1, 1, 4]); // 9: array
    btf(&words, strings)
}

/// A structure whose anonymous members are itself.
fn inside_itself() -> Vec<u8> {
    btf(&[&[1, 4 << 24 | 8, 4][..], &[0, 1, 0].repeat(8)].concat(), b"\0outer\0")
}

/// Types and names behind the header of BTF.
fn btf(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    for value in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
        blob.extend(value.to_le_bytes());
    }
    [&blob, &types, strings].concat()
}

/// An event of each kind, as they stand in a journal behind its head.
fn records() -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = |at_ns, kind| EventHeader { at_ns, kind, pid: 7, thread: 8, phase: 1, ..EventHeader::default() };
    let comm = *b"a\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for (at_ns, kind) in [(1, PROCESS), (2, THREAD), (3, EXEC), (4, NAME)] {
        append(&mut bytes, &Lifecycle { head: head(at_ns, kind), process: 77, comm, ..Lifecycle::default() });
    }
    let mut label = [0; LABEL];
    label[..2].copy_from_slice(b"a\x1b");
    for (at_ns, operation, begun) in [(5, OPERATION_BEGIN, 1), (6, OPERATION_ITERATIONS, 0), (90, OPERATION_END, 0)] {
        let change = PhaseChange { head: head(at_ns, PHASE), operation, scope: 0, count: 3, begun, parent: 0, label };
        append(&mut bytes, &change);
    }
    let call = Call {
        head: head(10, CALL),
        duration_ns: 5,
        returned: -9,
        arguments: [1; 4],
        number: 9,
        device: DeviceId::NONE,
    };
    append(&mut bytes, &call);
    let mut device_call = DeviceCall {
        call: Call { head: head(20, DEVICE_CALL), number: 16, device: DeviceId::new(195, 255), ..call },
        command: 0xc020_462a,
        detail: 1,
        status: 0x56,
        length: 32,
        argument: [3; ARGUMENT],
    };
    append(&mut bytes, &device_call);
    device_call.call.device = DeviceId::new(236, 0);
    device_call.command = 0xc018_4b0c;
    append(&mut bytes, &device_call);
    append(&mut bytes, &Switch { head: head(30, SWITCH), duration_ns: 9, state: 1, cpu: 1 });
    append(&mut bytes, &Fault { head: head(40, FAULT), address: 4096, code: 6 });
    let mut path = [0; PATH];
    path[..8].copy_from_slice(b"/tmp/\"\xff\n");
    let opened = Call {
        head: head(42, PATH_CALL),
        number: 257,
        arguments: [-100_i64 as u64, 1, 0, 0],
        returned: 3,
        ..Call::default()
    };
    append(&mut bytes, &PathCall { call: opened, path });
    let mut label = [0; LABEL];
    label[..3].copy_from_slice(b"a/b");
    append(
        &mut bytes,
        &Job { head: head(44, JOB), duration_ns: 7, looked_ns: 5, number: 1, knower: 2, failed: 1, label },
    );
    append(&mut bytes, &Gap { head: head(50, GAP), duration_ns: 5, lost: 2 });
    append(&mut bytes, &Lifecycle { head: head(99, END), exit_code: 9, ..Lifecycle::default() });
    bytes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let folder = |name| {
        let path = seeds.join(name);
        fs::create_dir_all(&path).map(|()| path)
    };
    for (name, with_calls) in [("empty", false), ("few", true)] {
        for (target, ending) in [("run_file", "json"), ("run_file", "csv"), ("parquet_file", "parquet")] {
            Destination::open(&folder(target)?.join(name).with_extension(ending), None)?.write(&run(with_calls))?;
        }
    }
    fs::write(folder("journal")?.join("one_of_each"), records())?;
    fs::write(folder("kernel_btf")?.join("outer"), type_information())?;
    fs::write(folder("kernel_btf")?.join("inside_itself"), inside_itself())?;
    Ok(())
}
