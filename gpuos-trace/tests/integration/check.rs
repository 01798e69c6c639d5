//! `check` says what `run` would meet, and its exit status agrees with what `run` does.

use std::process::Command;

use crate::support::TRACER;
use gpuos_test_macros::privileged;

#[privileged]
fn says_ready_as_root() {
    let output = Command::new(TRACER).args(["check", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ready"], true);
    let findings = report["findings"].as_array().unwrap();
    let of =
        |what: &str| findings.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("no {what}"));
    for what in ["kernel", "type information (BTF)", "capabilities", "kernel lockdown", "loading and attaching"] {
        assert_eq!(of(what)["verdict"], "ok", "{what}");
    }
    for what in ["locked memory limit", "unprivileged_bpf_disabled", "perf_event_paranoid", "CUDA driver API", "OpenCL"]
    {
        assert!(!of(what)["found"].as_str().unwrap().is_empty());
    }
    let text = Command::new(TRACER).arg("check").output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("loading and attaching"));
    assert!(String::from_utf8_lossy(&text.stderr).contains("works here"));
}

#[privileged]
fn says_not_ready_without_privileges() {
    let (_folder, copy) = crate::support::copy_for_everybody();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["check", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ready"], false);
    let advice: String = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["verdict"] == "missing")
        .map(|f| f["advice"].as_str().unwrap())
        .collect();
    assert!(advice.contains("CAP_BPF") && advice.contains("sudo"), "{advice}");
}

#[privileged]
fn root_of_a_user_namespace_is_not_taken_for_root() {
    let inside = |words: &[&str]| Command::new("unshare").args(["-Ur", TRACER]).args(words).output().unwrap();
    let output = inside(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_capabilities = |finding: &&serde_json::Value| finding["what"] == "capabilities";
    let finding = report["findings"].as_array().unwrap().iter().find(of_capabilities).unwrap();
    assert_eq!(finding["verdict"], "missing");
    assert!(finding["found"].as_str().unwrap().ends_with("CAP_BPF, of a user namespace"), "{finding}");
    let output = inside(&["run", "--backend", "bpf", "--", "true"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("outside of the rootless container"), "{text}");
}

#[privileged]
fn a_kernel_without_type_information_is_named() {
    // An empty folder over the kernel's, in a mount namespace of our own; `no_btf.rs` has the traces.
    let script = format!("mount -t tmpfs none /sys/kernel/btf && exec {TRACER} check");
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains("type information (BTF)")).unwrap();
    assert!(line.trim_start().starts_with("limited") && line.contains("CONFIG_DEBUG_INFO_BTF=y"), "{line}");
}

#[privileged]
fn a_locked_down_kernel_is_named() {
    // This kernel has none: a made-up answer in a mount namespace of our own.
    let script = format!(
        "mount -t tmpfs none /sys/kernel/security && echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown && exec {TRACER} check"
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("lockdown=integrity"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
