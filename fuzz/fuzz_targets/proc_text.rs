//! Text of `/proc` and `/sys`. A zero byte begins the next file where a parser wants several.

#![no_main]

use gpuos_decode::{devices::Devices, version};
use gpuos_host::proc_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut files = text.splitn(3, '\0');
    let mut next = || files.next().unwrap_or_default();
    let (status, stat, schedstat) = (next(), next(), next());
    let _ = proc_text::usage(status, stat, schedstat);
    let _ = Devices::from_text(status, stat).drivers();
    for file in [status, stat] {
        let _ = version::in_driver_text(file);
        for key in ["", "model name", "MemTotal"] {
            let _ = proc_text::field(file, key);
        }
        let _ = proc_text::memory_bytes(file);
        for clock in ["monotonic", "boottime"] {
            let _ = proc_text::namespace_offset(file, clock);
        }
        for number in [0, 3, 14, usize::MAX] {
            let _ = proc_text::stat_field(file, number);
        }
        let _ = proc_text::state(file);
        let _ = proc_text::user_and_system_ns(file);
        let _ = proc_text::version(file);
        let _ = proc_text::capabilities(file);
        let _ = proc_text::locked_memory(file);
        let _ = proc_text::lockdown_mode(file);
        let _ = proc_text::library_path(file, "libcuda.so.1");
    }
});
