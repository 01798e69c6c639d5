//! `docs/reference/commands.md`: what `--help` says of every subcommand of `gpuos-trace` and `bench`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::process::{cargo, root};

/// Programs, the package that has each, and its features.
const PROGRAMS: [(&str, &str); 2] = [("gpuos-trace", "gpuos-trace"), ("bench", "gpuos-workloads")];

/// Its text.
pub(super) fn reference() -> Result<String> {
    let mut text = "# Commands\n\nWhat `--help` says; `cargo xtask gen` writes this file.\n\n\
                    Exit status of `gpuos-trace`: the command's own; 1 where a rule of `diff` does not hold; 125 when the tracer fails, \
                    126 when the command cannot be executed, 127 when it is not found.\n"
        .to_owned();
    for (program, package) in PROGRAMS {
        let all = help(package, &[])?;
        write!(text, "\n## {program}\n\n```text\n{}\n```\n", all.trim_end())?;
        for name in subcommands(&all) {
            let of_one = help(package, &[name])?;
            write!(text, "\n### {program} {name}\n\n```text\n{}\n```\n", of_one.trim_end())?;
        }
    }
    Ok(text)
}

fn help(package: &str, words: &[&str]) -> Result<String> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--"]).args(words).arg("--help").current_dir(root());
    // As wide as where there is no terminal.
    let output = command.env_remove("COLUMNS").output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("{package} {words:?} --help: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    // Lines of clap may end with blanks.
    Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

/// Names in the section `Commands:`.
fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_those_of_their_section() {
        let help = "Text\n\nUsage: x <COMMAND>\n\nCommands:\n  run     Does\n          more\n  attach  Other\n\nOptions:\n  -h, --help\n";
        assert_eq!(subcommands(help).collect::<Vec<_>>(), ["run", "attach"]);
        assert_eq!(subcommands("nothing").count(), 0);
    }
}
