//! `gpuos_job.h`, from the C interface of `client/jobs`.

use anyhow::{Context as _, Result, bail};
use cbindgen::{Builder, Config, Language, RenameRule, Style};

use crate::process::root;

/// What a program reads first.
const HEADER: &str = "/* Jobs: GPU work that a program names, waits for, bounds the memory of, and accounts for. client/jobs/SPEC.md says what a job
 * is, client/jobs/README.md how a server uses it. Made by `cargo xtask gen`. SPDX: MIT OR Apache-2.0 */";

/// Where the types are that the interface has in common with the crate, and their names in C.
const TYPES: [(&str, &str, &str); 4] = [
    ("error.rs", "Status", "gpuos_job_status"),
    ("state.rs", "State", "gpuos_job_state"),
    ("class.rs", "Unknown", "gpuos_job_unknown"),
    ("backend/mod.rs", "Runtime", "gpuos_job_runtime"),
];

/// Its text.
pub(super) fn header() -> Result<String> {
    let source = root().join("client/jobs/src");
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        cpp_compat: true,
        include_guard: Some("GPUOS_JOB_H".to_owned()),
        header: Some(HEADER.to_owned()),
        documentation_style: cbindgen::DocumentationStyle::C99,
        line_length: 110,
        usize_is_size_t: true,
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h"].map(str::to_owned).into(),
        ..Config::default()
    };
    config.enumeration.rename_variants = RenameRule::QualifiedScreamingSnakeCase;
    config.export.rename = TYPES.map(|(_, name, renamed)| (name.to_owned(), renamed.to_owned())).into();
    config.export.include = TYPES.map(|(_, name, _)| name.to_owned()).into();
    config.export.exclude = EXCLUDED.map(str::to_owned).into();
    let mut builder = Builder::new().with_config(config);
    for (file, ..) in TYPES {
        builder = builder.with_src(source.join(file));
    }
    let bindings = builder.with_src(source.join("abi.rs")).generate().context("cbindgen")?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text)?;
    if !text.contains("gpuos_job_submit(") {
        bail!("cbindgen found no function in {}", source.display());
    }
    Ok(text)
}

/// Constants of the crate that are none of the interface.
const EXCLUDED: [&str; 4] = ["TOKENS", "PAGE", "POISON", "ArenaStats"];
