//! Phases that nobody marked are told by a process's calls on GPU devices. Here `/dev/ptmx` stands for AMD's: its major
//! number is given to the tracer as that of `kfd`. On the real driver: `cargo xtask vmtest -- kfd`.

use std::ffi::OsString;

use gpuos_decode::devices::Devices;
use gpuos_recording::{RecordingError, file::Recording, rows::column, table::word};
use gpuos_runs::phases::Phase;
use gpuos_test_macros::privileged;
use gpuos_tracer::{
    aggregate::Aggregator,
    probe::{Settings, Tracer},
    session::{
        launch::{Command, SpawnOptions, Suspended},
        signals::reap,
    },
};

/// `getppid` calls by phase, and the phases, of a Python program.
fn traced(script: &str, timed: bool) -> (Vec<u64>, Vec<Phase>) {
    let devices = Devices::from_text("5 kfd\n", "");
    let words: Vec<OsString> = ["/usr/bin/python3", "-c", script].map(OsString::from).into();
    let suspended = Suspended::spawn(&Command::find(&words).unwrap(), &SpawnOptions::default()).unwrap();
    let settings = Settings { timed, infer_phases: true, devices: devices.clone(), ..Settings::default() };
    let mut tracer = Tracer::start(&settings).unwrap();
    tracer.arm(suspended.pid(), suspended.pidfd().unwrap()).unwrap();
    let counters = tracer.counters().unwrap();
    let gathered = Aggregator::begin(devices, &counters, false).unwrap();
    let running = suspended.release().unwrap();
    while reap(running.pid).unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    tracer.detach(true).unwrap();
    let finished = gathered.finish(&counters).unwrap();
    let mut calls = vec![0; finished.phases.len() + 1];
    for (key, counts) in finished.rows.iter().filter(|(key, _)| i64::from(key.number) == libc::SYS_getppid) {
        calls[key.phase as usize] += counts.calls;
    }
    (calls, finished.phases)
}

const PROGRAM: &str = "import ctypes,fcntl,os,threading,time\n\
    def calls(n):\n for _ in range(n): os.getppid()\n\
    def gpu(command):\n try: fcntl.ioctl(fd, command, bytearray(128))\n except OSError: pass\n\
    version,make,end=0x80084b01,0xc0604b02,0xc0084b03\n\
    calls(3)\n\
    os.waitpid(os.posix_spawn('/usr/bin/python3',['python3','-c','import os; os.getppid()'],{}),0)\n\
    fd=os.open('/dev/ptmx',os.O_RDWR|os.O_NOCTTY)\n\
    os.close(os.dup(fd))\n\
    gpu(version)\n\
    calls(5)\n\
    gpu(make)\n\
    time.sleep(0.06)\n\
    calls(7)\n\
    t=threading.Thread(target=calls,args=(11,))\n\
    t.start()\n\
    t.join()\n\
    gpu(make)\n\
    time.sleep(0.06)\n\
    gpu(version)\n\
    calls(13)\n";

#[privileged]
fn phases_are_inferred_from_calls_on_gpu_devices() {
    for (timed, ends) in [(true, "os.close(fd)"), (false, "gpu(end)")] {
        let (calls, phases) = traced(&format!("{PROGRAM}{ends}\ncalls(17)"), timed);
        let entered: Vec<_> = phases.iter().map(|phase| (phase.path.as_str(), phase.entered)).collect();
        // A process of its own begins before the GPU.
        assert_eq!(entered, [("before the GPU", 2), ("set-up", 2), ("steady state", 2), ("teardown", 1)]);
        assert_eq!(calls, [0, 3 + 1, 5, 7 + 11 + 13, 17]);
        assert!(phases[1].own_ns > 100_000_000 && phases[1].own_ns < phases.iter().map(|phase| phase.own_ns).sum());
    }
}

#[privileged]
fn a_program_without_a_gpu_is_before_it() {
    let (calls, phases) = traced("import os\nfor _ in range(4): os.getppid()", true);
    assert_eq!(calls, [0, 4, 0, 0, 0]);
    assert_eq!(phases.iter().map(|phase| phase.entered).collect::<Vec<_>>(), [1, 0, 0, 0]);
}

#[privileged]
fn a_recording_says_whose_phase_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.parquet");
    let status = std::process::Command::new(crate::support::TRACER)
        .args(["record", "-q", "--auto-phases", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "true; /bin/true"])
        .status();
    assert!(status.unwrap().success());
    let mut begun = Vec::new();
    let recording = Recording::open(&file).unwrap().unwrap();
    let read = recording.read(|rows| {
        let event = rows.column(column::EVENT).unwrap().str().unwrap();
        let process = rows.column(column::PROCESS).unwrap().u64().unwrap();
        let begins = (0..rows.height()).filter(|row| event.get(*row) == Some(word::PHASE_BEGIN));
        begun.extend(begins.map(|row| process.get(row)));
        Ok::<_, RecordingError>(())
    });
    read.unwrap();
    assert!(begun.len() == 2 && begun.iter().all(|process| process.is_some_and(|id| id != 0)), "{begun:?}");
}
