//! Runs a command under the empty pair of programs: `floor CMD [ARGS]`. For `cargo xtask bench overhead`.

use std::{env, process::Command};

fn main() {
    let _floor = gpuos_trace::bpf::Floor::start().unwrap_or_else(|error| panic!("{error}"));
    let mut words = env::args_os().skip(1);
    let status =
        Command::new(words.next().expect("floor CMD [ARGS]")).args(words).status().expect("the command starts");
    std::process::exit(status.code().unwrap_or(1));
}
