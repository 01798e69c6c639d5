//! What the rules of drivers make of a call, without a driver: in a list of devices of the test's own, `/dev/null` is the
//! node of a GPU's.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::support::TRACER;
use gpuos_runs::{columns::column, files, group, run::Run};
use gpuos_test_macros::privileged;

/// `/dev/null`'s major is this driver's.
fn list(driver: &str) -> String {
    format!("Character devices:\n  1 {driver}\n  5 /dev/tty\n136 pts\n\nBlock devices:\n")
}

/// Traces a Python script where this is the list of devices; its first argument is the list's file.
fn trace(folder: &Path, devices: &str, options: &[&str], script: &str) -> (Run, String) {
    let (list, file) = (folder.join("devices"), folder.join("run.parquet"));
    fs::write(&list, devices).unwrap();
    // Nor does sysfs know the node: it has no names of NVIDIA's.
    let mounts = "mount --bind \"$1\" /proc/devices && mount -t tmpfs none /sys/dev/char && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", mounts, "sh"])
        .args([list.as_os_str(), TRACER.as_ref(), "run".as_ref(), "-o".as_ref(), file.as_os_str()])
        .args(options)
        .args(["--", "/usr/bin/python3", "-c", script])
        .arg(&list)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    (files::read(&file).unwrap(), stderr)
}

/// Calls, refused calls and errors by device, command and detail, of what is a GPU's.
fn counted(run: &Run) -> BTreeMap<[String; 3], [u64; 3]> {
    let by = [column::DEVICE, column::COMMAND_NAME, column::DETAIL, column::SYSCALL];
    group::group(&group::on_gpu(&run.calls).unwrap(), &by)
        .unwrap()
        .into_iter()
        .filter(|group| group.key[3] == "ioctl")
        .map(|group| {
            let key = [0, 1, 2].map(|at| group.key[at].clone());
            (key, [group.calls, group.refused, group.errors])
        })
        .collect()
}

const CALLS: &str = "import fcntl, struct, sys, time
null = open('/dev/null')
def call(command, argument):
    try: fcntl.ioctl(null, command, bytearray(argument), True)
    except OSError: pass
";

#[privileged]
fn what_the_kernel_answers_itself_has_no_status_of_a_driver() {
    // FIONBIO, FIGETBSZ, FIOCLEX, FIONCLEX; wherever a status is looked for there is one.
    let script = format!("{CALLS}for command in (0x5421, 0x2, 0x5451, 0x5450): call(command, b'\\x22' * 1000)");
    let folder = tempfile::tempdir().unwrap();
    for driver in ["nvidia-uvm", "kfd", "nvidia-modeset"] {
        for options in [&[][..], &["--no-latency"], &["--nvidia-driver", "515.43.04"]] {
            let (run, stderr) = trace(folder.path(), &list(driver), options, &script);
            let counted = counted(&run);
            for name in ["FIONBIO", "FIGETBSZ", "FIOCLEX", "FIONCLEX"] {
                let (_, counts) = counted.iter().find(|(key, _)| key[1] == name).unwrap();
                assert_eq!(*counts, [1, 0, 0], "{driver} {options:?} {name}");
            }
            assert!(!stderr.contains("of a device call's argument") && !stderr.contains("refused by"), "{stderr}");
        }
    }
}

#[privileged]
fn a_driver_that_comes_later_is_known_from_then_on() {
    // AMDKFD_IOC_WAIT_EVENTS with wait_for_all, before and after the list has the driver.
    let script = format!(
        "{CALLS}def wait(): call(0xc0184b0c, struct.pack('<6I', 0, 0, 0, 1, 0, 0))
wait()
open(sys.argv[1], 'r+').write(open(sys.argv[1]).read().replace('mem', 'kfd'))
time.sleep(1)
wait(); wait()"
    );
    let folder = tempfile::tempdir().unwrap();
    let (run, _) = trace(folder.path(), &list("mem"), &[], &script);
    let waits = counted(&run).into_iter().filter(|(key, _)| key[1] == "AMDKFD_IOC_WAIT_EVENTS");
    let found: Vec<_> = waits.map(|(key, counts)| (key[2].clone(), counts)).collect();
    // Of the first nobody looked at the argument: it is not taken for one that waits for any event.
    assert_eq!(found, [(String::new(), [1, 0, 1]), ("all events".to_owned(), [2, 0, 2])]);
}

#[privileged]
fn what_is_not_known_of_a_driver_is_said() {
    let script = format!("{CALLS}call(0x22, bytes(64))");
    let folder = tempfile::tempdir().unwrap();
    let said = |version: &str| {
        let (run, stderr) = trace(folder.path(), &list("nvidia-uvm"), &["--nvidia-driver", version], &script);
        assert!(counted(&run).keys().any(|key| key[1] == "UVM_FREE"));
        stderr
    };
    assert!(said("470.82").contains("470.82 are not known, the oldest is 515.43.04"));
    assert!(said("610.1").contains("610.1 is newer than the tables"));
    let known = said("580.159.04");
    assert!(!known.contains("than the tables") && !known.contains("are not known"), "{known}");
    // No node in sysfs, as NVIDIA's have none.
    let (run, _) = trace(folder.path(), &list("nvidia-caps"), &[], &script);
    assert_eq!(counted(&run).keys().next().unwrap()[0], "nvidia-caps 3");
}
