//! A run file as Parquet, and the tables that `show` prints of it. Apart from the other formats, because
//! polars believes the lengths that it reads and asks for memory that nobody has.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"PAR1") {
        gpuos_trace_fuzz::show(bytes);
    }
});
