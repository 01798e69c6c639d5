//! Runs a command under a pair of programs that does next to nothing: `baseline nothing|clock|storage CMD
//! [ARGS]`. For `cargo xtask bench overhead`.

use std::{env, error::Error, ffi::OsString};

use gpuos_tracer::{
    probe::Baseline,
    session::{
        launch::{Command, SpawnOptions, Suspended},
        signals::{end_like, reap},
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let (what, command) = words.split_first().ok_or("baseline nothing|clock|storage CMD [ARGS]")?;
    let suspended = Suspended::spawn(&Command::find(command)?, &SpawnOptions::default())?;
    let baseline = Baseline::start(&what.to_string_lossy())?;
    baseline.mark(suspended.pidfd()?)?;
    let running = suspended.release()?;
    loop {
        if let Some((ended, _)) = reap(running.pid)? {
            end_like(ended);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
