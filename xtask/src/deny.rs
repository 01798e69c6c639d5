//! Licences, sources and advisories of everything that is linked, by cargo-deny and `deny.toml`.

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo, find_program},
    setup,
};

/// What cargo-deny says when the advisories cannot be had, which is not what it says of one that applies.
const NO_DATABASE: &str = "failed to fetch advisory database";

pub(crate) fn run() -> Result<()> {
    if find_program("cargo-deny").is_none() {
        setup::deny()?;
    }
    process::run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
    let output = cargo().args(["deny", "check", "advisories"]).output().context("cannot start cargo-deny")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("advisories ok");
    } else if text.contains(NO_DATABASE) {
        println!("advisories NOT CHECKED: their database cannot be fetched");
    } else {
        bail!("{text}");
    }
    Ok(())
}
