//! The journal that a killed recorder leaves behind: what `show` reads, and every format that is made of it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gpuos_trace_fuzz::journal(bytes));
