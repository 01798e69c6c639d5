//! `docs/reference/roles.md`: which role and category each system call has, from `decode/data/syscalls.csv`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail};

use crate::process::root;

/// Roles, in the order of tables, and what each holds.
const ROLES: [(&str, &str); 6] = [
    ("memory", "allocating, mapping and freeing memory"),
    (
        "synchronization",
        "waiting for work, for other threads and processes, or for a descriptor: `poll` and `wait4` are waits",
    ),
    ("scheduling", "who runs where and when"),
    ("bookkeeping", "discovery, start-up, teardown, time, signals"),
    ("io", "files and network: not GPU work"),
    ("multiplexed", "`ioctl` on what is no GPU device: its commands are of too many kinds to have one role"),
];

/// Its text.
pub(super) fn reference() -> Result<String> {
    let data = root().join("decode/data/syscalls.csv");
    let mut reader = csv::Reader::from_path(&data).with_context(|| data.display().to_string())?;
    let heads = reader.headers()?.clone();
    let place = |name: &str| heads.iter().position(|head| head == name).with_context(|| format!("no column {name}"));
    let (name, category, role) = (place("name")?, place("category")?, place("role")?);
    let mut calls: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let of_role = calls.entry(record[role].to_owned()).or_default();
        of_role.entry(record[category].to_owned()).or_default().insert(record[name].to_owned());
    }
    if let Some(unknown) = calls.keys().find(|name| !ROLES.iter().any(|(known, _)| known == name)) {
        bail!("{}: the role `{unknown}` has no words here", data.display());
    }
    let mut text = "# Roles and categories\n\nWhich calls have which, on x86_64 and aarch64; `cargo xtask gen` writes this file. \
                    `--roles FILE` changes roles, `-e` takes roles, categories and calls. An `ioctl` on a GPU device has the \
                    role of its command, which may also be `submission`, giving work to a device: `gpuos-trace ioctls` lists them. \
                    A mapping of a doorbell is a submission, too. A call \
                    that the tables do not have is `unknown`.\n"
        .to_owned();
    for (role, says) in ROLES {
        let Some(categories) = calls.get(role) else { continue };
        write!(text, "\n## {role}\n\n{says}\n\n| category | calls |\n|---|---|\n")?;
        for (category, names) in categories {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            writeln!(text, "| {category} | {} |", names.join(", "))?;
        }
    }
    Ok(text)
}
