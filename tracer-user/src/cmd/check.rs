//! `gpuos-trace check`: whether this machine can be traced, and what each missing piece costs.

use std::{fs, path::Path, process::ExitCode, time::Instant};

use comfy_table::{Table, presets};
use gpuos_host::{diagnostics, environment, proc_text, screen};
use serde::Serialize;

use crate::{
    cli::CheckArgs,
    probe::{self, Settings, Tracer},
};

/// How a finding bears on `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// `run` works; something else does not.
    Limited,
    /// `run` does not work with BPF.
    Missing,
    /// Neither good nor bad.
    Info,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    /// What it costs and what to do; empty when all is well.
    advice: String,
}

#[derive(Serialize)]
struct Report<'a> {
    ready: bool,
    findings: &'a [Finding],
}

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let findings = findings();
    let ready = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    let by_ptrace = findings.iter().any(|finding| finding.what == "ptrace" && finding.verdict == Verdict::Ok);
    let text = if args.json {
        serde_json::to_string_pretty(&Report { ready, findings: &findings }).unwrap_or_default() + "\n"
    } else {
        table(&findings)
    };
    if let Err(error) = screen::print(&text) {
        diagnostics::report(&super::explain(&error.into()));
        return ExitCode::from(super::TRACER_FAILED);
    }
    if !args.json {
        diagnostics::report(match (ready, by_ptrace) {
            (true, _) => "`gpuos-trace run` works here",
            (false, true) => "`gpuos-trace run` works here by ptrace only, as strace does; see `missing` above",
            (false, false) => "`gpuos-trace run` does not work here yet; see `missing` above",
        });
    }
    ExitCode::from(u8::from(!ready))
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "what", "found", "advice"]).force_no_tty();
    for finding in findings {
        let sign = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Limited => "limited",
            Verdict::Missing => "missing",
            Verdict::Info => "",
        };
        table.add_row([sign, finding.what, &finding.found, &finding.advice]);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn read(path: &str) -> Option<String> {
    Some(proc_text::read(path).ok()?.trim().to_owned())
}

fn finding(what: &'static str, found: impl Into<String>, verdict: Verdict, advice: impl Into<String>) -> Finding {
    let advice = if verdict == Verdict::Ok { String::new() } else { advice.into() };
    Finding { what, found: found.into(), verdict, advice }
}

fn findings() -> Vec<Finding> {
    let mut all = vec![kernel(), btf(), capabilities(), lockdown(), memlock()];
    let sysctl = |what, path: &str, advice| match read(path) {
        Some(value) => finding(what, value, Verdict::Info, advice),
        None => finding(what, "not there", Verdict::Info, ""),
    };
    all.push(sysctl(
        "unprivileged_bpf_disabled",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "no matter: the tracer needs CAP_BPF anyway",
    ));
    all.push(sysctl("perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid", "no matter with CAP_PERFMON"));
    all.push(loading());
    all.push(without_bpf());
    all.push(call_tracepoints());
    all.push(driver_hooks());
    all.push(library_functions());
    all.extend(gpus());
    all.extend(runtimes());
    all
}

fn driver_hooks() -> Finding {
    let names: Vec<&str> = probe::driver_hooks().iter().map(|hook| hook.function).collect();
    let found = match (probe::has_kprobes(), names.is_empty()) {
        (false, _) => "no kprobes in this kernel".to_owned(),
        (true, true) => "no driver with a function to watch".to_owned(),
        (true, false) => names.join(", "),
    };
    let verdict = if names.is_empty() { Verdict::Info } else { Verdict::Ok };
    finding("driver hooks", found, verdict, "`--driver-hooks` cannot split calls into driver and rest")
}

fn library_functions() -> Finding {
    let (found, verdict) = match probe::api_functions(true) {
        _ if !probe::has_uprobes() => ("Linux 6.6 and uprobes are needed".to_owned(), Verdict::Info),
        Err((path, error)) => (format!("{}: {error}", path.display()), Verdict::Info),
        Ok(functions) if functions.is_empty() => ("no library with a function to watch".to_owned(), Verdict::Info),
        Ok(functions) => {
            let mut libraries: Vec<_> = functions.iter().map(|one| one.library.display().to_string()).collect();
            libraries.dedup();
            (format!("{} in {}", functions.len(), libraries.join(", ")), Verdict::Ok)
        }
    };
    finding(
        "library functions",
        found,
        verdict,
        "`--api` cannot tell which call of a GPU library makes which system calls",
    )
}

fn kernel() -> Finding {
    let release = environment::kernel_release();
    if environment::is_gvisor() {
        return finding(
            "kernel",
            format!("gVisor, which calls itself Linux {release}"),
            Verdict::Missing,
            "it has no BPF, and what it does itself on the host is not seen from inside: trace `runsc` on the host for that",
        );
    }
    let (verdict, advice) = match environment::kernel_version() {
        (0..=4, _) | (5, 0..=9) => (Verdict::Limited, "older than 5.10, the oldest kernel that was tried"),
        (5, 10..=14) => (Verdict::Limited, "tasks are followed by number: from outside of containers, as root"),
        (7.., _) => (
            Verdict::Limited,
            "tasks are followed by number, where this is root outside of a container; else events can be missed, and the number is shown",
        ),
        _ => (Verdict::Ok, ""),
    };
    finding("kernel", release, verdict, advice)
}

fn btf() -> Finding {
    match probe::kernel_btf::KernelBtf::of_running_kernel() {
        Ok(_) => finding("type information (BTF)", probe::kernel_btf::VMLINUX, Verdict::Ok, ""),
        Err(error) => finding(
            "type information (BTF)",
            probe::error::chain(&error),
            Verdict::Limited,
            "as root outside of containers only; devices are known by the paths that programs open, what processes use is not; a kernel built with CONFIG_DEBUG_INFO_BTF=y has no such limits",
        ),
    }
}

/// Bits of `CapEff`: `CAP_SYS_ADMIN`, `CAP_PERFMON`, `CAP_BPF` of `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_SYS_ADMIN", 21), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

fn capabilities() -> Finding {
    let status = read("/proc/self/status").unwrap_or_default();
    let mask = proc_text::capabilities(&status).unwrap_or(0);
    let held: Vec<&str> = CAPABILITIES.iter().filter(|(_, bit)| mask >> bit & 1 == 1).map(|(name, _)| *name).collect();
    let enough = held.contains(&"CAP_SYS_ADMIN") || held.len() == 2;
    let found =
        if held.is_empty() { "none of CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN".to_owned() } else { held.join(", ") };
    if probe::is_in_user_namespace() {
        return finding(
            "capabilities",
            format!("{found}, of a user namespace"),
            Verdict::Missing,
            "those of a user namespace do not count for BPF: run it outside of the rootless container",
        );
    }
    finding(
        "capabilities",
        found,
        if enough { Verdict::Ok } else { Verdict::Missing },
        "CAP_BPF and CAP_PERFMON are needed: use sudo, or setcap cap_bpf,cap_perfmon=ep on the program, which belongs to a group and has mode 0750 then",
    )
}

fn lockdown() -> Finding {
    match read("/sys/kernel/security/lockdown") {
        None => finding("kernel lockdown", "not built in", Verdict::Ok, ""),
        Some(text) => {
            let mode = proc_text::lockdown_mode(&text).unwrap_or("none").to_owned();
            let verdict = if mode == "confidentiality" { Verdict::Missing } else { Verdict::Ok };
            finding(
                "kernel lockdown",
                mode,
                verdict,
                "confidentiality mode forbids reading kernel memory; boot with lockdown=integrity or none",
            )
        }
    }
}

fn memlock() -> Finding {
    let limits = read("/proc/self/limits").unwrap_or_default();
    let found = proc_text::locked_memory(&limits).unwrap_or("unknown").to_owned();
    finding("locked memory limit", found, Verdict::Info, "no matter since Linux 5.11, which counts BPF maps by cgroup")
}

/// The proof: everything is loaded and attached, then taken away again.
fn loading() -> Finding {
    let start = Instant::now();
    match Tracer::start(&Settings::default()).and_then(|mut tracer| tracer.detach(true)) {
        Ok(_) => {
            finding("loading and attaching", format!("works, {} ms", start.elapsed().as_millis()), Verdict::Ok, "")
        }
        Err(error) => {
            let text = error.to_string();
            let (reason, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
            finding("loading and attaching", reason, Verdict::Missing, hint)
        }
    }
}

fn without_bpf() -> Finding {
    match crate::ptrace::may_trace() {
        Ok(()) => finding("ptrace", "works", Verdict::Ok, ""),
        Err(errno) => finding(
            "ptrace",
            format!("not permitted: {}", errno.desc()),
            Verdict::Limited,
            "`--backend ptrace` does not work; kernel.yama.ptrace_scope=3 forbids it to everybody, the seccomp filter of a container may (`--cap-add SYS_PTRACE`)",
        ),
    }
}

fn call_tracepoints() -> Finding {
    if probe::has_call_tracepoints() {
        finding("tracepoints of single calls", "work", Verdict::Ok, "")
    } else {
        finding(
            "tracepoints of single calls",
            "not accessible",
            Verdict::Limited,
            "`-e` with few calls is as costly as without; root can use them",
        )
    }
}

fn gpus() -> Vec<Finding> {
    let count = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
    let mut all = Vec::new();
    // The driver is asked: libcuda makes /dev/nvidiactl by itself.
    if let Some(version) = read("/proc/driver/nvidia/version") {
        let line = version.lines().next().unwrap_or_default().to_owned();
        all.push(finding(
            "NVIDIA driver",
            format!("{line}, {} GPUs", count("/proc/driver/nvidia/gpus")),
            Verdict::Info,
            "",
        ));
    }
    if Path::new("/dev/kfd").exists() {
        all.push(finding(
            "AMD compute driver",
            format!("/dev/kfd, {} topology nodes", count("/sys/class/kfd/kfd/topology/nodes")),
            Verdict::Info,
            "",
        ));
    }
    let render = fs::read_dir("/dev/dri").map_or(0, |entries| {
        entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("renderD")).count()
    });
    if render != 0 {
        all.push(finding("DRM render nodes", render.to_string(), Verdict::Info, ""));
    }
    if all.is_empty() {
        all.push(finding("GPU", "none found", Verdict::Info, "system calls are traced all the same"));
    }
    all
}

fn runtimes() -> Vec<Finding> {
    let known = [
        ("CUDA driver API", &["libcuda.so.1"][..]),
        ("HIP", &["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"]),
        ("OpenCL", &["libOpenCL.so.1"]),
        ("Vulkan", &["libvulkan.so.1"]),
    ];
    let cache = environment::linker_cache();
    let found = |names: &[&str]| names.iter().find_map(|name| proc_text::library_path(&cache, name));
    known
        .iter()
        .map(|(what, names)| match found(names) {
            Some(path) => finding(what, path, Verdict::Info, ""),
            None => finding(what, format!("no {}", names[0]), Verdict::Info, ""),
        })
        .collect()
}
