//! Which functions of drivers this kernel has, and attaching programs to them (kprobes through perf).

use std::fs;

use aya_obj::generated::perf_event_attr;
use gpuos_tracer_abi::hooks::HOOKS;

/// A function of a driver that this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverHook {
    /// Its index in [`HOOKS`].
    pub index: usize,
    /// Its name.
    pub function: &'static str,
}

/// Where perf tells of its source of kprobes.
const SOURCE: &str = "/sys/bus/event_source/devices/kprobe";

/// Whether this kernel has kprobes at all.
#[must_use]
pub fn has_kprobes() -> bool {
    fs::exists(format!("{SOURCE}/type")).unwrap_or(false)
}

/// The functions that can be watched now: those of drivers that are loaded. Empty where the kernel has no kprobes or
/// does not show its symbols.
#[must_use]
pub fn driver_hooks() -> Vec<DriverHook> {
    if !has_kprobes() {
        return Vec::new();
    }
    let symbols = fs::read("/proc/kallsyms").unwrap_or_default();
    in_symbols(&symbols)
}

/// From lines such as `ffffffffc0a3 t kfd_ioctl<TAB>[amdgpu]`.
fn in_symbols(symbols: &[u8]) -> Vec<DriverHook> {
    let wanted = || HOOKS.iter().flat_map(|hook| hook.functions);
    let mut found: Vec<&str> = Vec::new();
    for line in symbols.split(|&byte| byte == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace);
        let (Some(kind), Some(name)) = (words.nth(1), words.next()) else { continue };
        if matches!(kind, b"t" | b"T")
            && let Some(function) = wanted().find(|function| function.as_bytes() == name)
        {
            found.push(function);
        }
    }
    let hook = |(index, hook): (usize, &gpuos_tracer_abi::hooks::Hook)| {
        let function = hook.functions.iter().find(|function| found.contains(function))?;
        Some(DriverHook { index, function })
    };
    HOOKS.iter().enumerate().filter_map(hook).collect()
}

/// What perf must be told to watch the entry, or the return, of a function. `name` must outlive the opening of the event.
pub(super) fn event(name: &std::ffi::CStr, at_return: bool) -> Option<perf_event_attr> {
    let number = |file: &str| fs::read_to_string(format!("{SOURCE}/{file}")).ok();
    // SAFETY: plain data, for which zero is valid.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of_val(&attr) as u32;
    attr.type_ = number("type")?.trim().parse().ok()?;
    if at_return {
        // `config:0`.
        let bit: u32 = number("format/retprobe")?.trim().strip_prefix("config:")?.parse().ok()?;
        attr.config = 1_u64.checked_shl(bit)?;
    }
    attr.__bindgen_anon_3.kprobe_func = name.as_ptr() as u64;
    Some(attr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_functions_by_their_whole_name() {
        let symbols = b"ffffffff81000000 T _text\nffffffffc0a3d1e0 t kfd_ioctl\t[amdgpu]\nffffffffc0a3d2e0 t kfd_ioctl_svm\t[amdgpu]\n\
            ffffffffc0a3d3e0 d drm_ioctl\t[drm]\nffffffffc1a3d1e0 t nvidia_frontend_unlocked_ioctl\t[nvidia]\n\nbroken";
        let found: Vec<_> = in_symbols(symbols).iter().map(|hook| (hook.index, hook.function)).collect();
        assert_eq!(found, [(0, "nvidia_frontend_unlocked_ioctl"), (3, "kfd_ioctl")]);
    }
}
