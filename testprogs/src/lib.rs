//! What tests need beside the programs, which are the examples of this package: whether a test can run here.
#![expect(clippy::disallowed_methods, reason = "tests run in folders of their own")]

use std::{fs::OpenOptions, io::Write as _};

/// The oldest kernel on which the tracer must work.
const MINIMUM_KERNEL: (u32, u32) = (5, 10);

/// Whether this test can run here. Where it cannot, the skip is written down and counted; on a
/// kernel that has the feature there is no excuse, and with `GPUOS_REQUIRE_PRIVILEGED=1` nowhere.
pub fn privileged(test: &str) -> bool {
    let old = gpuos_host::environment::kernel_version() < MINIMUM_KERNEL;
    let root = nix::unistd::Uid::effective().is_root();
    if root && !old {
        return true;
    }
    skip(test, if root { "this kernel is older than 5.10" } else { "not root; `cargo xtask test` uses sudo" });
    false
}

/// Writes down that a test does not run here, and why.
///
/// # Panics
/// With `GPUOS_REQUIRE_PRIVILEGED`, and when the file of skips cannot be written.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("GPUOS_REQUIRE_PRIVILEGED").is_none(), "{test} must run: {reason}");
    if let Some(log) = std::env::var_os("GPUOS_SKIP_LOG") {
        let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(file, "{test}: {reason}").unwrap();
    }
    eprintln!("SKIP {test}: {reason}");
}
