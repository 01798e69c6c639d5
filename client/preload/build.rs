//! Nothing of the library of jobs is exported with this one: a program may have its own.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    // A program that asks for another library must not be given this one.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libgpuos_job_preload.so");
    println!("cargo::rerun-if-changed=build.rs");
}
