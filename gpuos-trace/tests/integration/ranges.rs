//! NVTX and roctx ranges of programs that know nothing of us are phases.

use std::{collections::BTreeMap, path::Path, process::Command};

use crate::support::{TRACER, Trace, trace};
use gpuos_runs::{columns::column, group};
use gpuos_test_macros::privileged;

/// `getppid` calls by phase.
fn counted(trace: &Trace) -> BTreeMap<String, u64> {
    let groups = group::group(&trace.run.calls, &[column::SYSCALL, column::PHASE]).unwrap();
    groups.into_iter().filter(|g| g.key[0] == "getppid").map(|group| (group.key[1].clone(), group.calls)).collect()
}

fn expected<const N: usize>(list: [(&str, u64); N]) -> BTreeMap<String, u64> {
    list.map(|(phase, calls)| (phase.to_owned(), calls)).into()
}

/// `cargo test` alone does not build a library that nobody links.
fn build_library() {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "gpuos-nvtx"]).status();
    assert!(built.is_ok_and(|status| status.success()), "cannot build gpuos-nvtx");
}

/// Where `cargo xtask setup --tests` puts Python packages.
fn packages() -> String {
    let folder = Path::new(TRACER).ancestors().nth(2).unwrap().join("python");
    assert!(folder.exists(), "`cargo xtask setup --tests` fetches {}", folder.display());
    folder.display().to_string()
}

fn compile(folder: &Path, source: &str, flags: &[&str]) -> std::path::PathBuf {
    let (file, program) = (folder.join("ranges.c"), folder.join("ranges"));
    std::fs::write(&file, source).unwrap();
    let built = Command::new("cc").args(["-Wall", "-Werror", "-o"]).arg(&program).arg(&file).args(flags).status();
    assert!(built.unwrap().success());
    program
}

const CALLS: &str = "#include <unistd.h>\n#include <sys/syscall.h>\n\
    static void calls(int n) { while (n--) syscall(SYS_getppid); }\n";

#[privileged]
fn nvtx_ranges_of_a_c_program_are_phases() {
    build_library();
    let folder = tempfile::tempdir().unwrap();
    let headers = format!("-I{}/nvidia/nvtx/include", packages());
    let source = format!(
        "{CALLS}#include <nvtx3/nvToolsExt.h>\n\
         int main(void) {{\n\
         calls(1); int level = nvtxRangePushA(\"step\"); calls(2); level += nvtxRangePushA(\"inner\"); calls(3);\n\
         nvtxRangePop(); nvtxRangePop(); if (level != 1 && level != -4) return 1;\n\
         nvtxRangeId_t a = nvtxRangeStartA(\"a\"); calls(4); nvtxRangeId_t b = nvtxRangeStartW(L\"b\\u00e9\"); calls(5);\n\
         nvtxRangeEnd(a); calls(6); nvtxRangeEnd(b); calls(7);\n\
         nvtxDomainHandle_t domain = nvtxDomainCreateA(\"lib\"); nvtxEventAttributes_t event = {{0}};\n\
         event.version = NVTX_VERSION; event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE; event.messageType = NVTX_MESSAGE_TYPE_REGISTERED;\n\
         event.message.registered = nvtxDomainRegisterStringA(domain, \"load\");\n\
         nvtxDomainRangePushEx(domain, &event); calls(8); nvtxDomainRangePop(domain);\n\
         event.messageType = NVTX_MESSAGE_TYPE_ASCII; event.message.ascii = \"plain\";\n\
         nvtxRangeId_t c = nvtxDomainRangeStartEx(domain, &event); calls(9); nvtxDomainRangeEnd(domain, c);\n\
         nvtxMarkA(\"mark\"); nvtxDomainDestroy(domain); return 0; }}\n"
    );
    let program = compile(folder.path(), &source, &[&headers, "-ldl"]);
    let with = trace(&["--nvtx"], &[&program]);
    assert!(with.output.status.success(), "{}", with.stderr());
    let phases = [
        ("", 1 + 7),
        ("step", 2),
        ("step/inner", 3),
        ("a", 4),
        ("a/b\u{e9}", 5),
        ("b\u{e9}", 6),
        ("lib:load", 8),
        ("lib:plain", 9),
    ];
    assert_eq!(counted(&with), expected(phases));
    let says_none = |trace: &Trace| trace.run.header.notes.iter().any(|note| note.contains("no NVTX or roctx range"));
    assert!(!says_none(&with));
    for option in ["--nvtx", "--roctx"] {
        assert!(says_none(&crate::support::trace(&[option], &["true"])), "{option}");
    }
    // Without the option the ranges mean nothing, and nothing fails.
    let without = trace(&[], &[&program]);
    assert_eq!(counted(&without), expected([("", 45)]));
}

#[privileged]
fn nvtx_ranges_of_a_python_program_are_phases() {
    build_library();
    let script = format!(
        "import sys, os, threading\nsys.path.insert(0, {:?})\nsys.dont_write_bytecode = True\nimport nvtx\n\
         def calls(n):\n for _ in range(n): os.getppid()\n\
         @nvtx.annotate('f')\ndef f(): calls(2)\n\
         calls(1)\nf()\n\
         with nvtx.annotate('outer', domain='train'):\n calls(3)\n f()\n\
         r = nvtx.start_range('whole'); calls(4)\n\
         t = threading.Thread(target=f); t.start(); t.join()\n\
         nvtx.end_range(r); calls(5)\n",
        packages()
    );
    let trace = trace(&["--nvtx"], &["/usr/bin/python3", "-c", &script]);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    let phases = [("", 1 + 5), ("f", 2), ("train:outer", 3), ("train:outer/f", 2), ("whole", 4), ("whole/f", 2)];
    assert_eq!(counted(&trace), expected(phases));
}

#[privileged]
fn roctx_ranges_are_phases() {
    build_library();
    let folder = tempfile::tempdir().unwrap();
    // A fake of AMD's library: it says what it was called with.
    let library = folder.path().join("libroctx64.so");
    let source = folder.path().join("fake.c");
    std::fs::write(
        &source,
        "#include <stdio.h>\nint roctxRangePushA(const char *m) { printf(\"push %s\\n\", m); return 7; }\n\
         int roctxRangePop(void) { puts(\"pop\"); return 7; }\n\
         unsigned long roctxRangeStartA(const char *m) { printf(\"start %s\\n\", m); return 99; }\n\
         void roctxRangeStop(unsigned long id) { printf(\"stop %lu\\n\", id); }\n",
    )
    .unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.unwrap().success());
    let source = format!(
        "{CALLS}int roctxRangePushA(const char *); int roctxRangePop(void);\n\
         unsigned long roctxRangeStartA(const char *); void roctxRangeStop(unsigned long);\n\
         int main(void) {{ calls(1); int level = roctxRangePushA(\"step\"); calls(2); roctxRangePop();\n\
         unsigned long id = roctxRangeStartA(\"whole\"); calls(3); roctxRangeStop(id); calls(4);\n\
         return level != 7 || id != 99; }}\n"
    );
    let flags = [format!("-L{}", folder.path().display()), format!("-Wl,-rpath,{}", folder.path().display())];
    let program = compile(folder.path(), &source, &[&flags[0], &flags[1], "-lroctx64"]);
    let trace = trace(&["--roctx"], &[&program]);
    assert!(trace.output.status.success(), "{}", trace.stderr());
    assert_eq!(counted(&trace), expected([("", 1 + 4), ("step", 2), ("whole", 3)]));
    assert_eq!(String::from_utf8_lossy(&trace.output.stdout), "push step\npop\nstart whole\nstop 99\n");
}

#[test]
fn a_missing_library_is_said_before_anything_runs() {
    let (_folder, copy) = crate::support::copy_for_everybody();
    let output = Command::new(copy).args(["run", "--nvtx", "--", "echo", "ran"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("cannot find libgpuos_nvtx.so") && text.contains("hint: `cargo build"), "{text}");
    assert!(output.stdout.is_empty());
}
