//! Gives the shared library its soname: what a program asks for when it is started. The number is that of the interface.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libgpuos_job.so.1");
    println!("cargo::rerun-if-changed=build.rs");
}
