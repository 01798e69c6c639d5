//! `bench` for macOS, where it has the backend `metal`: a type-check, since nothing here runs it.

use std::{path::Path, process::Command};

const TARGET: &str = "aarch64-apple-darwin";

#[test]
fn it_type_checks_for_apple_where_the_target_is_installed() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let folder = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().unwrap();
    let folder = String::from_utf8_lossy(&folder.stdout).trim().to_owned();
    if folder.is_empty() || !Path::new(&folder).exists() {
        eprintln!("SKIP: no {TARGET}; `rustup target add {TARGET}` installs it");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // A folder of its own: the one of this test is locked while it runs.
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--package", "gpuos-workloads", "--features", "wgpu", "--target", TARGET])
        .arg("--target-dir")
        .arg(root.join("target/apple"))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
