//! Runs a command under a pair of programs that does next to nothing: `floor nothing|clock|storage CMD
//! [ARGS]`. For `cargo xtask bench overhead`.

use std::{env, error::Error, ffi::OsString};

use gpuos_trace::{
    bpf::Floor,
    launch::{Command, Given, Suspended},
    signals::{end_like, reap},
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let (what, command) = words.split_first().ok_or("floor nothing|clock|storage CMD [ARGS]")?;
    let suspended = Suspended::spawn(&Command::find(command)?, &Given::default())?;
    let floor = Floor::start(&what.to_string_lossy())?;
    floor.mark(suspended.pidfd())?;
    let running = suspended.release()?;
    loop {
        if let Some((ended, _)) = reap(running.pid)? {
            end_like(ended);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
