//! What may have been planted, and what is a file of the caller.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use nix::sys::stat::Mode;

use super::*;

const SHARED: u32 = 0o1777;

fn folder_with_mode(mode: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    folder
}

fn persisted(path: &Path) {
    let mut unfinished = begin(path).unwrap();
    io::Write::write_all(&mut unfinished, b"counts").unwrap();
    unfinished.persist().unwrap();
    let data = fs::symlink_metadata(path).unwrap();
    assert!(data.is_file());
    assert_eq!(fs::read(path).unwrap(), b"counts");
    let left = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(".gpuos-trace-")));
}

#[test]
fn a_pipe_that_was_made_meanwhile_does_not_hold_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.parquet");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    persisted(&path);
}

#[test]
fn a_link_that_was_made_meanwhile_says_nothing_of_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("recording.parquet"), folder.path().join("other"));
    fs::write(&other, b"of somebody").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&other, &path).unwrap();
    persisted(&path);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&other).unwrap(), b"of somebody");
}

#[test]
fn a_file_of_ours_keeps_its_mode() {
    for folder_mode in [0o700, SHARED] {
        let folder = folder_with_mode(folder_mode);
        let path = folder.path().join("recording.parquet");
        fs::write(&path, b"older").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        persisted(&path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn in_a_shared_folder_a_link_is_neither_followed_nor_replaced() {
    let (folder, own) = (folder_with_mode(SHARED), tempfile::tempdir().unwrap());
    let (link, aim) = (folder.path().join("report.md"), own.path().join("passwd"));
    fs::write(&aim, b"of somebody").unwrap();
    symlink(&aim, &link).unwrap();
    for result in [OutputTarget::open(&link).map(drop), target_of(&link).map(drop), write(&link, b"report")] {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    assert_eq!(create_new(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&aim).unwrap(), b"of somebody");
}

#[test]
fn what_is_planted_during_a_run_is_not_replaced() {
    let folder = folder_with_mode(SHARED);
    let path = folder.path().join("run.json");
    let OutputTarget::New { .. } = OutputTarget::open(&path).unwrap() else { panic!("it is not there") };
    symlink("/etc/passwd", &path).unwrap();
    assert_eq!(write(&path, b"counts").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[test]
fn in_a_folder_of_ours_a_link_is_followed() {
    let (folder, other) = (folder_with_mode(0o755), folder_with_mode(0o755));
    let (link, aim) = (folder.path().join("run.json"), other.path().join("real.json"));
    fs::write(&aim, b"older").unwrap();
    symlink(&aim, &link).unwrap();
    OutputTarget::open(&link).unwrap().write(b"counts").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&aim).unwrap(), b"counts");
    fs::remove_file(&aim).unwrap();
    assert_eq!(OutputTarget::open(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn links_on_the_way_lead_to_where_they_lead() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    symlink("a", root.path().join("relative")).unwrap();
    symlink(root.path().join("relative/b/.."), root.path().join("absolute")).unwrap();
    write(&root.path().join("absolute/b/c/d.txt"), b"there").unwrap();
    assert_eq!(fs::read(root.path().join("a/b/c/d.txt")).unwrap(), b"there");
    symlink("loop", root.path().join("loop")).unwrap();
    assert_eq!(write(&root.path().join("loop/x"), b"").unwrap_err().raw_os_error(), Some(libc::ELOOP));
    // The kernel's own links are followed by the kernel.
    let open = File::open(root.path().join("a")).unwrap();
    write(&PathBuf::from(format!("/proc/self/fd/{}/e.txt", std::os::fd::AsRawFd::as_raw_fd(&open))), b"").unwrap();
    assert!(root.path().join("a/e.txt").exists());
}

#[test]
fn a_pipe_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert_eq!(read_to_string(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_folder_is_shared_when_its_group_writes() {
    let (folder, aim) = (folder_with_mode(0o775), tempfile::tempdir().unwrap());
    symlink(aim.path().join("precious"), folder.path().join("run.json")).unwrap();
    let refused = OutputTarget::open(&folder.path().join("run.json")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let folder = folder_with_mode(SHARED);
    symlink("/nowhere", folder.path().join("report.html")).unwrap();
    write(&folder.path().join("report.html"), b"report").unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_read_again_is_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.parquet.part");
    let mut written = create_new(&path).unwrap();
    io::Write::write_all(&mut written, b"events").unwrap();
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut text = String::new();
    reopened(&written).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "events");
}

#[test]
fn the_kernels_word_is_kept() {
    let nowhere = begin(Path::new("/proc/self/run.json")).unwrap_err();
    assert!(nowhere.raw_os_error().is_some() && !nowhere.to_string().contains(".gpuos-trace-"), "{nowhere}");
}

#[test]
fn a_rescued_file_is_named_and_ours_alone() {
    let path = rescue(b"counts", ".json").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"counts");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::remove_file(&path).unwrap();
}
