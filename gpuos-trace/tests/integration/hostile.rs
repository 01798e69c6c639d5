//! What somebody else does to the tracer: planted names, pipes, streams that take nothing, files that lie.

use std::{
    fs::{self, File},
    io::{Cursor, Read as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use gpuos_test_macros::privileged;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
    unistd::mkfifo,
};

use crate::support::TRACER;

/// A dataset that is small, unpacked in a folder.
fn dataset(folder: &Path) -> String {
    const PACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../study/phase1/h200/inference/dataset.tar.gz");
    let unpacked = folder.join("dataset");
    fs::create_dir(&unpacked).unwrap();
    assert!(Command::new("tar").args(["-xzf", PACKED, "-C"]).arg(&unpacked).status().unwrap().success());
    unpacked.display().to_string()
}

/// A folder that others can write to.
fn shared_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    folder
}

fn run(words: &[&str], folder: &Path) -> Output {
    Command::new(TRACER).args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_report_overwrites_no_file_that_a_planted_link_names() {
    let own = tempfile::tempdir().unwrap();
    let (precious, dataset) = (own.path().join("precious"), dataset(own.path()));
    fs::write(&precious, "precious").unwrap();
    for name in ["report.md", "report.html", "verdicts.json"] {
        let shared = shared_folder();
        let link = shared.path().join(name);
        symlink(&precious, &link).unwrap();
        let output = run(&["report", &dataset, "-o", "."], shared.path());
        assert!(!output.status.success() && stderr(&output).contains("no file of the caller"), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
    let shared = shared_folder();
    mkfifo(&shared.path().join("report.md"), Mode::S_IRWXU).unwrap();
    let output = run(&["report", &dataset, "-o", "."], shared.path());
    assert!(!output.status.success() && stderr(&output).contains("no file of the caller"), "{}", stderr(&output));
}

#[test]
fn a_sweep_does_not_wait_for_a_pipe_that_was_planted() {
    let shared = shared_folder();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../study/phase1/plans/quick.toml");
    for name in ["plan.toml", "environment.json"] {
        let pipe = shared.path().join(name);
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let output = run(&["sweep", plan, "-o", ".", "--bench", "/bin/true"], shared.path());
        assert!(!output.status.success() && stderr(&output).contains(name), "{}", stderr(&output));
        fs::remove_file(&pipe).unwrap();
    }
}

#[privileged]
fn counts_reach_a_pipe_that_takes_nothing_for_a_while() {
    let (read, write) = nix::unistd::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut tracer = Command::new(TRACER)
        .args(["run", "-q", "-o", "-", "--", "sh", "-c", "ls / | wc -l > /dev/null"])
        .stdout(write)
        .spawn()
        .unwrap();
    // It has met the full pipe by now, or meets it later: both come to the same.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert!(tracer.wait().unwrap().success());
    let run: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(run["header"]["processes"].as_array().unwrap().len() == 3);
}

#[privileged]
fn counts_that_cannot_be_written_are_kept_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(TRACER)
        .args(["run", "-q", "-o", "-", "--format", "csv", "--", "true"])
        .current_dir(folder.path())
        .stdout(full)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = stderr(&output);
    let (_, rest) = said.split_once("the counts are in `").unwrap_or_else(|| panic!("{said}"));
    let kept = Path::new(rest.split('`').next().unwrap());
    assert_eq!(kept.parent(), Some(folder.path()));
    assert_eq!(gpuos_runs::files::read(kept).unwrap().header.command, ["true"]);
    // A name that was planted while the command ran.
    let shared = shared_folder();
    let output = run(&["run", "-q", "-o", "x.json", "--", "ln", "-s", "/etc/passwd", "x.json"], shared.path());
    assert!(stderr(&output).contains("the counts are in `"), "{}", stderr(&output));
    assert!(fs::symlink_metadata(shared.path().join("x.json")).unwrap().is_symlink());
}

#[test]
fn a_small_file_with_too_many_rows_is_refused() {
    use polars_core::prelude::{Column, DataFrame};
    const ROWS: usize = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let of_a_run = gpuos_runs::frame::empty().unwrap();
    let of_a_run: Vec<&str> =
        of_a_run.get_column_names().into_iter().map(polars_core::prelude::PlSmallStr::as_str).collect();
    for (key, names) in
        [("gpuos-trace", of_a_run.as_slice()), ("gpuos-trace-recording", gpuos_recording::rows::COLUMNS)]
    {
        let columns = names.iter().map(|name| Column::new((*name).into(), vec![true; ROWS]));
        let frame = DataFrame::new(ROWS, columns.collect()).unwrap();
        let mut bytes = Cursor::new(Vec::new());
        let mut table = gpuos_tables::TableWriter::begin(&mut bytes, frame.schema()).unwrap();
        table.add(&frame).unwrap();
        let header = serde_json::to_string(&gpuos_runs::run::Header {
            schema_version: gpuos_runs::run::SCHEMA_VERSION,
            ..Default::default()
        });
        table.finish(&[(key, header.unwrap())]).unwrap();
        assert!(bytes.get_ref().len() < 4 << 20);
        fs::write(folder.path().join("large.parquet"), bytes.into_inner()).unwrap();
        let output = run(&["show", "large.parquet"], folder.path());
        assert!(!output.status.success());
        let said = stderr(&output);
        assert!(said.contains("takes more than 1024 MiB of memory"), "{key}: {said}");
    }
}

#[privileged]
fn what_is_written_under_sudo_belongs_to_who_called_it() {
    use std::os::unix::fs::MetadataExt as _;
    let (shared, own) = (shared_folder(), tempfile::tempdir().unwrap());
    let status = Command::new(TRACER)
        .args(["report", &dataset(own.path())])
        .args(["-o", "new/report"])
        .current_dir(shared.path())
        .envs([("SUDO_UID", "65534"), ("SUDO_GID", "65534")])
        .status();
    assert!(status.unwrap().success());
    for made in ["new", "new/report", "new/report/report.md", "new/report/report.html"] {
        assert_eq!(fs::metadata(shared.path().join(made)).unwrap().uid(), 65534, "{made}");
    }
}

#[test]
fn nobody_waits_for_a_pipe_that_is_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    mkfifo(&folder.path().join("pipe.parquet"), Mode::S_IRWXU).unwrap();
    for words in [
        &["show", "pipe.parquet"][..],
        &["export", "--to", "csv", "pipe.parquet"],
        &["run", "--roles", "pipe.parquet", "--", "true"],
        &["record", "-o", "x.parquet", "--roles", "pipe.parquet", "--", "true"],
        &["sweep", "pipe.parquet", "-o", "data"],
    ] {
        let output = run(words, folder.path());
        assert!(
            !output.status.success() && stderr(&output).contains("not a regular file"),
            "{words:?} {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_file_of_zeros_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("large.parquet")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"PAR1", 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xf0, 0xff, 0xff, 0xff, b'P', b'A', b'R', b'1'], (9 << 30) - 8)
        .unwrap();
    let json = File::create(folder.path().join("large.json")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&json, b"{", 0).unwrap();
    json.set_len(9 << 30).unwrap();
    for (name, why) in [("large.parquet", "1024 MiB of memory"), ("large.json", "more than 512 MiB")] {
        let output = run(&["show", name], folder.path());
        assert!(!output.status.success() && stderr(&output).contains(why), "{}", stderr(&output));
    }
}
