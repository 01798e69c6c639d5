//! Type information as a kernel shows it, and the lookups that `run` makes in it.

#![no_main]

use gpuos_tracer::probe::kernel_btf::KernelBtf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = KernelBtf::parse(bytes.to_vec()) else { return };
    let _ = btf.id_of_typedef("number");
    for name in ["outer", "task_struct", "a"] {
        let Ok(structure) = btf.structure(name) else { continue };
        for path in ["a", "c", "inner.a", "inner.inner.c", "a.b.c", "thread_info.flags", ""] {
            let _ = structure.offset_of(path);
        }
    }
});
