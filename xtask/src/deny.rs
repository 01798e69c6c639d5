//! Licences, sources and advisories of everything that is linked, by cargo-deny and `deny.toml`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo, find_program},
    setup,
};

/// What cargo-deny says when the advisories cannot be had, which is not what it says of one that applies.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// Exit status of `timeout` when it had to end the command.
const TIMED_OUT: i32 = 124;

pub(crate) fn run() -> Result<()> {
    if find_program("cargo-deny").is_none() {
        setup::deny()?;
    }
    process::run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
    // A network that says nothing must not hold this up.
    let output = Command::new("timeout")
        .arg("120")
        .arg(cargo().get_program())
        .args(["deny", "check", "advisories"])
        .output()
        .context("cannot start `timeout`")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("advisories ok");
    } else if output.status.code() == Some(TIMED_OUT) || text.contains(NO_DATABASE) {
        println!("advisories NOT CHECKED: their database cannot be fetched");
    } else {
        bail!("{text}");
    }
    Ok(())
}
