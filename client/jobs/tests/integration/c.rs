//! The C interface as programs of C11, C++17 and Python use it, and the symbols that the library has for them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The library, under the name that programs ask for when they start.
pub(crate) fn library() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let built = std::env::current_exe().unwrap().with_file_name("libgpuos_job.so");
    assert!(built.exists(), "{} is built with this crate", built.display());
    for name in ["libgpuos_job.so", "libgpuos_job.so.1"] {
        run(Command::new("ln").arg("-s").arg(&built).arg(folder.path().join(name)));
    }
    (folder, built)
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// A compiler's command that makes a program with the library; the source is missing.
pub(crate) fn built_with(compiler: &str, standard: &str, folder: &tempfile::TempDir, program: &Path) -> Command {
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-D_POSIX_C_SOURCE=200809L", "-I"]);
    command.arg(Path::new(FOLDER).join("include")).arg("-L").arg(folder.path()).arg("-o").arg(program);
    command
}

fn compiled(compiler: &str, standard: &str, source: &str) {
    let (folder, _) = library();
    let program = folder.path().join("program");
    let mut command = built_with(compiler, standard, &folder, &program);
    run(command.arg(Path::new(FOLDER).join("tests/c").join(source)).arg("-lgpuos_job"));
    assert_eq!(run(Command::new(program).env("LD_LIBRARY_PATH", folder.path())), "ok\n");
}

#[test]
fn a_program_of_c11_uses_it() {
    compiled("cc", "-std=c11", "jobs.c");
}

#[test]
fn a_program_of_cpp17_uses_it() {
    compiled("c++", "-std=c++17", "jobs.cpp");
}

#[test]
fn a_program_of_python_awaits_jobs() {
    let (folder, _) = library();
    let said = run(Command::new("/usr/bin/python3")
        .arg(Path::new(FOLDER).join("tests/c/jobs.py"))
        .env("PYTHONPATH", Path::new(FOLDER).join("python"))
        .env("GPUOS_JOB_LIBRARY", folder.path().join("libgpuos_job.so.1")));
    assert_eq!(said, "ok\n");
}

/// What programs are linked with does not change unseen.
#[test]
fn the_symbols_are_those_of_the_snapshot() {
    use object::{Object as _, ObjectSymbol as _};
    let (_folder, built) = library();
    let bytes = std::fs::read(built).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let exported = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    let mut names: Vec<&str> = exported.map(|symbol| symbol.name().unwrap()).collect();
    names.sort_unstable();
    let snapshot = std::fs::read_to_string(Path::new(FOLDER).join("symbols.txt")).unwrap();
    assert_eq!(names.join("\n") + "\n", snapshot, "one that goes away breaks programs: raise the interface's number");
    let header = std::fs::read_to_string(Path::new(FOLDER).join("include/gpuos_job.h")).unwrap();
    names.iter().for_each(|name| assert!(header.contains(&format!("{name}(")), "{name} is in the header"));
}
