//! Tells the program which target it was built for: cargo names a runner by target.

fn main() {
    println!("cargo:rustc-env=XTASK_TARGET={}", std::env::var("TARGET").expect("cargo sets TARGET"));
    println!("cargo:rerun-if-changed=build.rs");
}
