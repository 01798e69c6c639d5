//! Gives the shared library its soname: what a program asks for when it is started. The number is that of the interface.

fn main() {
    // `rustc-cdylib-link-arg` would give it to the shared libraries of dependents, too.
    println!("cargo::rustc-link-arg=-Wl,-soname,libgpuos_job.so.1");
    println!("cargo::rerun-if-changed=build.rs");
}
