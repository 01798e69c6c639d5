//! What several targets share.

use std::{
    fs::File,
    io::{Read as _, Write as _, sink as nowhere},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use gpuos_decode::{devices::Devices, version::Version};
use gpuos_recording::{
    RecordingError,
    counts::Counts,
    export::{self, ExportFormat},
    journal::{self, JournalHeader},
    source::{self, Source},
};
use gpuos_runs::files;
use gpuos_tracer::output::{
    layout::{Order, TerminalStyle, View},
    summary::render,
};

/// What a terminal would obey must not come through from a file that anybody may have written.
fn assert_printable(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

/// What a journal begins with, of a machine with drivers.
static HEAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut devices = Devices::from_text("195 nvidia\n226 drm\n236 kfd\n511 nvidia-uvm\n", "58 udmabuf\n");
    devices.nvidia_version = Version::parse("580.159.04");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("head");
    journal::create(&path, &JournalHeader { devices, ..JournalHeader::default() }).expect("a journal");
    std::fs::read(path).expect("what was written")
});

/// A file of which nothing is left, and a path to it.
fn in_memory(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("memory");
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    (file, path)
}

/// Reads a journal, or records behind a good head, in all the ways in which it is read.
pub fn journal(bytes: &[u8]) {
    let whole = if journal::is_journal(bytes) { bytes.to_vec() } else { [HEAD.as_slice(), bytes].concat() };
    let (_file, path) = in_memory(&whole);
    let open = || match Source::open(&path) {
        Ok(source) => source,
        Err(error) => {
            assert_printable(&error.to_string());
            None
        }
    };
    let Some(mut source) = open() else { return };
    let mut counts = Counts::default();
    let damage = source.read(|rows| counts.add(rows).map_err(RecordingError::from)).expect("rows of a journal");
    assert_printable(&damage.unwrap_or_default());
    if let Source::Journal(reader) = &source {
        let _ = source::unfinished(&reader.head, &counts);
    }
    for format in [
        ExportFormat::Perfetto,
        ExportFormat::Chrome,
        ExportFormat::Speedscope,
        ExportFormat::Folded,
        ExportFormat::Csv,
        ExportFormat::OtlpJson,
    ] {
        let Some(source) = open() else { return };
        export::export(source, format, &mut nowhere()).expect("an export");
    }
    // What is made of it has as many events as it has itself.
    let Some(Source::Journal(reader)) = open() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let file = folder.path().join("finished.parquet");
    source::finish(*reader, &file, source::unfinished).expect("a recording");
    let mut finished = Counts::default();
    let mut start = [0; 4];
    File::open(&file).and_then(|mut file| file.read_exact(&mut start)).expect("a file");
    assert_eq!(&start, b"PAR1");
    let mut source = Source::open(&file).expect("a recording").expect("a recording");
    source.read(|rows| finished.add(rows).map_err(RecordingError::from)).expect("its rows");
    assert_eq!((finished.events, finished.rows.len()), (counts.events, counts.rows.len()));
}

/// Reads a run file and prints its tables in every way, as `show` does.
pub fn show(bytes: &[u8]) {
    let run = match files::from_bytes(bytes.to_vec(), "file") {
        Ok(run) => run,
        Err(error) => return assert_printable(&error.to_string()),
    };
    for (top, order, width) in [(usize::MAX, Order::Calls, usize::MAX), (1, Order::Total, 80), (3, Order::Max, 1)] {
        match render(&run, View { top, order }, TerminalStyle { width, color: false }) {
            Ok(text) => assert_printable(&text),
            Err(error) => assert_printable(&error.to_string()),
        }
    }
    let _ = render(&run, View { top: 20, order: Order::Errors }, TerminalStyle { width: 100, color: true });
}
