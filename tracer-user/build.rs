//! Whether the object of `--bpf-log` was built, so that its absence is one readable error.

use std::path::Path;

fn main() {
    let object = "../tracer-ebpf/bytecode/gpuos-trace-log.bpf.o";
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-check-cfg=cfg(no_log_object)");
    if std::env::var_os("CARGO_FEATURE_BPF_LOG").is_some() && !Path::new(object).exists() {
        println!("cargo::rustc-cfg=no_log_object");
    }
}
