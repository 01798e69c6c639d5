//! Which device a call is on: every kind of fd, by every way of getting one.

use std::collections::BTreeMap;

use crate::support::{Trace, example, trace};
use gpuos_decode::devices::Devices;
use gpuos_runs::{columns::column, group};
use gpuos_test_macros::privileged;
use gpuos_tracer_abi::ioctl::DeviceId;

/// What `device_calls` says it did: calls by device.
fn expected(trace: &Trace) -> BTreeMap<String, u64> {
    let devices = Devices::of_this_machine();
    let mut expected = BTreeMap::new();
    for line in String::from_utf8_lossy(&trace.output.stdout).lines() {
        let (calls, name) = line.split_once(' ').expect("a number and a name");
        let name = match name.split_once(':') {
            Some((major, minor)) => devices.name(DeviceId::new(major.parse().unwrap(), minor.parse().unwrap())),
            None => name.to_owned(),
        };
        *expected.entry(name).or_insert(0) += calls.parse::<u64>().unwrap();
    }
    assert!(expected.len() >= 9, "{expected:?}");
    expected
}

/// Counted calls of the command that `device_calls` makes, by device.
fn counted(trace: &Trace) -> BTreeMap<String, u64> {
    group::group(&trace.run.calls, &[column::DEVICE, column::COMMAND_NAME])
        .unwrap()
        .into_iter()
        .filter(|group| group.key[1] == "_IOC(_IOC_NONE, 0xee, 0x5a, 0x0)")
        .map(|group| {
            assert_eq!(group.errors, group.calls, "no driver has this command: {:?}", group.key);
            (group.key[0].clone(), group.calls)
        })
        .collect()
}

#[privileged]
fn every_fd_leads_to_its_device() {
    let program = example("device_calls");
    let modes: [&[&str]; 7] = [
        &[],
        &["--no-latency"],
        &["-e", "ioctl"],
        &["--sample", "7"],
        &["--per-thread"],
        &["--backend", "ptrace"],
        &["--backend", "ptrace", "--wait-all", "-e", "ioctl"],
    ];
    for options in modes {
        let trace = trace(options, &[program.as_os_str(), "250".as_ref()]);
        assert!(trace.output.status.success(), "{}", trace.stderr());
        let (expected, counted) = (expected(&trace), counted(&trace));
        assert_eq!(counted, expected, "{options:?}");
    }
}

#[privileged]
fn calls_beyond_the_rows_of_a_thread_are_exact() {
    // A thousand different commands, each three times: more than a thread has rows for.
    let script = "import fcntl\nf = open('/dev/null')\nfor turn in range(3):\n    for command in range(1000):\n        try: fcntl.ioctl(f, 0xee000000 + command)\n        except OSError: pass";
    for options in [&[][..], &["--rows", "16"], &["--no-latency"]] {
        let trace = trace(options, &["/usr/bin/python3", "-c", script]);
        assert!(!trace.run.header.losses.any());
        let groups = group::group(&trace.run.calls, &[column::DEVICE, column::COMMAND_NAME]).unwrap();
        let ours: Vec<u64> = groups
            .iter()
            .filter(|group| group.key[0] == "null" && group.key[1].contains("_IOC_READ|_IOC_WRITE"))
            .map(|group| group.calls)
            .collect();
        assert_eq!((ours.len(), ours.iter().all(|&calls| calls == 3)), (1000, true), "{options:?}: {ours:?}");
    }
}

#[privileged]
fn a_program_cannot_fill_the_maps_with_numbers() {
    let script = "import fcntl\nf = open('/dev/null')\nfor command in range(300_000):\n    try: fcntl.ioctl(f, 0xee000000 + command)\n    except OSError: pass";
    for options in [&[][..], &["--no-latency"], &["--tasks-by-id"]] {
        let trace = trace(options, &["/usr/bin/python3", "-c", script]);
        assert!(!trace.run.header.losses.any(), "{options:?}: {:?}", trace.run.header.losses);
        let on_null: Vec<_> = group::group(&trace.run.calls, &[column::DEVICE, column::COMMAND_NAME])
            .unwrap()
            .into_iter()
            .filter(|group| group.key[0] == "null")
            .collect();
        assert!(on_null.iter().map(|group| group.calls).sum::<u64>() >= 300_000, "{options:?}");
        let others = on_null.iter().find(|group| group.key[1] == "other commands").unwrap();
        assert!(others.calls > 290_000 && on_null.len() > 4000, "{options:?}: {} others", others.calls);
    }
}
