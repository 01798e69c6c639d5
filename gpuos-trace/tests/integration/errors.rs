//! Every failure is one message with what, why and what to type next, and the right exit status.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Output},
};

use crate::support::TRACER;
use gpuos_runs::run::SCHEMA_VERSION;
use gpuos_test_macros::privileged;

fn run(arguments: &[&str]) -> Output {
    Command::new(TRACER).args(arguments).output().unwrap()
}

/// The failure must have this status and say all of these.
fn expect(output: &Output, status: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_missing_command_is_127_an_unusable_one_126() {
    expect(&run(&["run", "--", "no-such-command"]), 127, &["`no-such-command`: command not found", "hint:"]);
    expect(&run(&["run", "--", "/no/such/file"]), 127, &["`/no/such/file`: command not found"]);
    expect(&run(&["run", "--", "/etc/passwd"]), 126, &["cannot execute `/etc/passwd`", "EACCES", "chmod"]);
    expect(&run(&["run", "--", "/etc"]), 126, &["cannot execute `/etc`"]);
}

#[privileged]
fn a_file_that_the_kernel_refuses_is_126() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "echo no first line\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    expect(&run(&["run", "--", script.to_str().unwrap()]), 126, &["ENOEXEC", "#!/bin/sh"]);
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    expect(&run(&["run", "--", script.to_str().unwrap()]), 126, &["cannot execute", "ENOENT"]);
}

#[test]
fn bad_options_are_125() {
    expect(&run(&["run"]), 125, &["required", "Usage"]);
    expect(&run(&["run", "--no-such-option", "--", "true"]), 125, &["--no-such-option"]);
    expect(&run(&["run", "-e", "ioctrl", "--", "true"]), 125, &["`ioctrl` is no role", "did you mean `ioctl`"]);
    expect(&run(&["run", "--rows", "7", "--", "true"]), 125, &["7 is not in 16..=65520"]);
    expect(&run(&["run", "--format", "csv", "--", "true"]), 125, &["`--format` needs an output", "-o FILE"]);
    expect(&run(&["run", "--roles", "/no/such.toml", "--", "true"]), 125, &["/no/such.toml", "No such file"]);
}

#[test]
fn an_unwritable_output_is_found_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let touch = ["--", "touch", ran.to_str().unwrap()];
    for (output, parts) in [
        ("/no/such/folder/run.json", ["cannot write `/no/such/folder/run.json`", "mkdir -p"]),
        ("/tmp", ["cannot write `/tmp`", "that is a directory"]),
        ("/proc/run.json", ["cannot write `/proc/run.json`", "able to hold files"]),
        ("run.xyz", ["cannot tell the format of `run.xyz`", "--format"]),
    ] {
        let mut arguments = vec!["run", "-o", output];
        arguments.extend(touch);
        expect(&run(&arguments), 125, &parts);
    }
    // One file cannot be two, whatever it is called.
    let (output, stacks) = (folder.path().join("run.csv"), folder.path().join("./run.csv"));
    let mut arguments = vec!["run", "-o", output.to_str().unwrap(), "--stacks", stacks.to_str().unwrap()];
    arguments.extend(touch);
    expect(&run(&arguments), 125, &["both the file of `--output` and that of `--stacks`", "another name"]);
    assert!(!ran.exists(), "the command must not have run");
}

#[privileged]
fn without_privileges_the_message_names_them() {
    let (_folder, copy) = crate::support::copy_for_everybody();
    let output =
        Command::new(&copy).args(["run", "--backend", "bpf", "--", "true"]).uid(65534).gid(65534).output().unwrap();
    expect(&output, 125, &["may not load BPF programs", "CAP_BPF and CAP_PERFMON", "sudo"]);
}

#[privileged]
fn two_capabilities_are_enough() {
    let (folder, copy) = crate::support::copy_for_everybody();
    // CAP_PERFMON is 38, CAP_BPF 39.
    let with = |capabilities: &str| {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["--inh-caps", capabilities, "--ambient-caps", capabilities, "--bounding-set", capabilities])
            .arg(&copy)
            .args(["run", "--backend", "bpf", "-o", "run.json", "--", "true"])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let output = with("-all,+cap_38,+cap_39");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = gpuos_runs::files::read(&folder.path().join("run.json")).unwrap();
    assert!(!run.header.losses.any() && run.header.user.id == 65534);
    for one in ["-all,+cap_38", "-all,+cap_39"] {
        expect(&with(one), 125, &["may not load BPF programs", "CAP_BPF and CAP_PERFMON"]);
    }
}

#[privileged]
fn links_are_followed_and_nobody_elses_file_decides_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("run.json"), folder.path().join("link.json"));
    let trace = |to: &std::path::Path| run(&["run", "-q", "-o", to.to_str().unwrap(), "--", "true"]);
    std::os::unix::fs::symlink(&file, &link).unwrap();
    expect(&trace(&link), 125, &["it is a link to a file that does not exist"]);
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(trace(&link).status.success());
    assert!(link.is_symlink() && fs::read_to_string(&file).unwrap().starts_with('{'));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    // Planted by somebody else, for all to read.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    assert!(trace(&file).status.success());
    let data = fs::metadata(&file).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&data), data.permissions().mode() & 0o777), (0, 0o600));
}

#[test]
fn files_that_are_no_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.parquet");
    let show = || run(&["show", file.to_str().unwrap()]);
    expect(&show(), 125, &["cannot read", "No such file"]);
    for content in
        [&b""[..], b"hello", b"{}", b"{\"header\":1}", b"# gpuos-trace {}\n", b"PAR1", b"PAR1xxxxxxxxxxxxPAR1", b"#\n"]
    {
        fs::write(&file, content).unwrap();
        expect(&show(), 125, &["is not a file that gpuos-trace wrote", "hint:"]);
    }
}

#[privileged]
fn a_damaged_file_is_refused_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["parquet", "json", "csv"] {
        let file = folder.path().join("run").with_extension(ending);
        let path = file.to_str().unwrap();
        assert!(run(&["run", "-q", "-o", path, "--", "true"]).status.success());
        let whole = fs::read(&file).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 23 + 1) {
            fs::write(&file, &whole[..length]).unwrap();
            let output = run(&["show", path]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!text.contains("panicked"), "{ending} cut at {length}: {text}");
            // A CSV cut at the end of a line is a shorter run.
            assert!(ending == "csv" || output.status.code() == Some(125), "{ending} cut at {length}");
        }
    }
}

#[privileged]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    assert!(run(&["run", "-q", "-o", file.to_str().unwrap(), "--", "true"]).status.success());
    let ours = format!("\"schema_version\": {SCHEMA_VERSION}");
    let text = fs::read_to_string(&file).unwrap().replacen(&ours, "\"schema_version\": 99", 1);
    fs::write(&file, text).unwrap();
    expect(
        &run(&["show", file.to_str().unwrap()]),
        125,
        &["schema version 99", &format!("reads up to {SCHEMA_VERSION}")],
    );
}

#[privileged]
fn a_full_disk_is_one_message_and_the_tables_are_there() {
    // A file system of one page, in a mount namespace of our own. The run is larger than that.
    // What was there before stays, and the counts are kept in the working folder.
    let folder = tempfile::tempdir().unwrap();
    let in_own_mounts = |script: &str| {
        Command::new("unshare").args(["--mount", "sh", "-c", script]).current_dir(folder.path()).output().unwrap()
    };
    let script = format!(
        "mount -t tmpfs -o size=64k none /mnt && {TRACER} run -q -o /mnt/run.json -- true && cp /mnt/run.json /tmp/before.$$ && \
         head -c 60k /dev/zero >/mnt/full; {TRACER} run -q -o /mnt/run.json -- true; echo status $?; \
         cmp /mnt/run.json /tmp/before.$$ && echo same; rm /tmp/before.$$"
    );
    let output = in_own_mounts(&script);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "status 125\nsame\n", "{output:?}");
    let script = format!("mount -t tmpfs -o size=4k none /mnt && exec {TRACER} run -o /mnt/run.json -- sh -c 'exit 3'");
    let output = in_own_mounts(&script);
    expect(&output, 125, &["cannot write `/mnt/run.json`", "No space left", "system calls"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[privileged]
fn an_object_of_another_abi_is_refused() {
    let mut object = gpuos_tracer::probe::object::BYTES.to_vec();
    let version = gpuos_tracer_abi::ABI_VERSION.to_le_bytes();
    // The section holds nothing but the version; its place is found by changing one byte after another.
    let refused =
        (0..object.len() - 4).filter(|&at| object[at..at + 4] == version).collect::<Vec<_>>().into_iter().any(|at| {
            object[at] ^= 0x40;
            let result = gpuos_tracer::probe::object::check_abi(&object);
            object[at] ^= 0x40;
            result.is_err_and(|error| error.to_string().contains("rebuild it with `cargo xtask build-ebpf`"))
        });
    assert!(refused);
}

#[privileged]
fn what_another_user_has_planted_gets_nothing() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let (victim, link, pipe) =
        (folder.path().join("victim"), folder.path().join("link.parquet"), folder.path().join("pipe.parquet"));
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    chown(&pipe, Some(NOBODY), Some(NOBODY)).unwrap();
    for (path, why) in
        [(&link, "is a link in a folder that others can write to"), (&pipe, "a pipe or a device of another user")]
    {
        for words in [&["run", "-o"][..], &["record", "-o"]] {
            let output = Command::new(TRACER).args(words).arg(path).args(["--", "true"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{text}");
            assert!(text.contains(why) || text.contains("a device or a pipe"), "{text}");
        }
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    // A file of another user is neither written into nor replaced where others can write; in a folder of ours it is replaced,
    // and who has it open sees nothing.
    let file = folder.path().join("own.json");
    std::fs::write(&file, "").unwrap();
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    let open = std::fs::File::open(&file).unwrap();
    let run = || Command::new(TRACER).args(["run", "-q", "-o"]).arg(&file).args(["--", "true"]).output().unwrap();
    let text = String::from_utf8_lossy(&run().stderr).into_owned();
    assert!(text.contains("another user made it"), "{text}");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run().status.success());
    assert_eq!(open.metadata().unwrap().len(), 0);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Words of others are shown without what a terminal would obey.
    let output = Command::new(TRACER).args(["run", "--", "a\u{1b}[31m"]).output().unwrap();
    assert!(!output.stderr.contains(&0x1b) && output.status.code() == Some(127));
}

#[privileged]
fn nobody_attaches_to_what_makes_no_calls() {
    let output = Command::new("sh").args(["-c", &format!("exec {TRACER} attach -p $$")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(125) && text.contains("is this gpuos-trace itself"), "{text}");
    // The kernel's first thread.
    let output = Command::new(TRACER).args(["attach", "-p", "2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_thread = std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    assert!(!is_thread || text.contains("is a thread of the kernel"), "{text}");
}

#[privileged]
fn a_command_needs_no_dashes_before_it() {
    let run = |words: &[&str]| Command::new(TRACER).args(["run", "-q"]).args(words).output().unwrap();
    for words in [&["echo", "-n", "-q", "--top"][..], &["--", "echo", "-n", "-q", "--top"]] {
        let output = run(words);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "-q --top", "{output:?}");
    }
    // What is no option of the tracer is not taken for the command, nor advised to be.
    let output = run(&["-f", "echo"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("unexpected argument '-f'") && !said.contains("as a value"), "{said}");
}
