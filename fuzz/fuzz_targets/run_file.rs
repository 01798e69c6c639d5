//! A run file as JSON or CSV, and the tables that `show` prints of it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if !bytes.starts_with(b"PAR1") {
        gpuos_trace_fuzz::show(bytes);
    }
});
