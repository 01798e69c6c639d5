//! `gpuos-trace ioctls`: lists and searches the built-in tables of driver commands.

use anyhow::{Result, bail};
use comfy_table::{ContentArrangement, Table as Grid, presets};
use gpuos_decode::{
    ioctls::{self, Command, Table},
    nvidia,
    similar::similar,
    version::Version,
};
use gpuos_host::screen;
use serde::Serialize;

use crate::cli::IoctlsArgs;

/// A command as JSON.
#[derive(Serialize)]
struct CommandRow {
    table: &'static str,
    driver: &'static str,
    number: u32,
    name: &'static str,
    role: &'static str,
    purpose: &'static str,
    first: &'static str,
    last: &'static str,
    meaning: &'static str,
}

pub(super) fn ioctls(args: &IoctlsArgs) -> Result<()> {
    let tables = chosen(args)?;
    // A version that no source was read of is like the newest before it that was.
    let version = args.driver.as_ref().map(|version| version.newest_known(versions()));
    if args.words.is_empty() && args.table.is_none() && !args.json {
        return Ok(screen::print(&overview(&tables, version.as_ref()))?);
    }
    let found: Vec<(&Table, &Command)> = tables
        .into_iter()
        .flat_map(|table| table.commands.iter().map(move |command| (table, command)))
        .filter(|(table, command)| is_in(command, version.as_ref(), table) && matches(table, command, &args.words))
        .collect();
    if args.json {
        let rows: Vec<CommandRow> = found.iter().map(|(table, command)| row(table, command)).collect();
        return Ok(screen::print(&(serde_json::to_string_pretty(&rows)? + "\n"))?);
    }
    if found.is_empty() {
        let version = args.driver.as_ref().map_or_else(String::new, |version| format!(" in driver {version}"));
        let words = args.words.join(" ");
        let control = number(&words).filter(|id| id >> 16 != 0).map_or_else(String::new, |id| {
            format!("; as a control command of NVIDIA's driver it is {}", nvidia::control_name(id))
        });
        bail!(
            "no command matches `{words}`{version}{control}\nhint: words are looked for in names, numbers (0x2a, 42, 0xc020462a) and meanings; `gpuos-trace ioctls` lists the tables"
        );
    }
    Ok(screen::print(&listing(&found))?)
}

/// The tables that the arguments name.
fn chosen(args: &IoctlsArgs) -> Result<Vec<&'static Table>> {
    let Some(name) = &args.table else { return Ok(ioctls::TABLES.iter().collect()) };
    let found: Vec<&Table> = ioctls::TABLES.iter().filter(|table| table.name == name).collect();
    if found.is_empty() {
        let near = similar(name, ioctls::TABLES.iter().map(|table| table.name));
        let hint = if near.is_empty() {
            ioctls::TABLES.map(|table| table.name).join(", ")
        } else {
            format!("did you mean `{}`?", near.join("`, `"))
        };
        bail!("there is no table `{name}`\nhint: {hint}");
    }
    Ok(found)
}

/// Every version that the tables of NVIDIA's driver name.
fn versions() -> impl Iterator<Item = &'static str> {
    let of_nvidia = ioctls::TABLES.iter().filter(|table| table.name.starts_with("nvidia"));
    of_nvidia.flat_map(|table| table.commands).flat_map(|command| [command.first, command.last])
}

/// Whether a version of NVIDIA's driver has the command; other drivers' are in every version.
fn is_in(command: &Command, version: Option<&Version>, table: &Table) -> bool {
    version.is_none_or(|version| !table.name.starts_with("nvidia") || version.in_branch(command.first, command.last))
}

/// A word that is a number, decimal or `0x…`.
fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Every word must be in the name, the meaning or the role, or be the number: that of the table or that of the `ioctl`.
fn matches(table: &Table, command: &Command, words: &[String]) -> bool {
    let of_type = match table.name {
        "nvidia" => Some(u32::from(b'F')),
        "kfd" => Some(u32::from(b'K')),
        _ => None,
    };
    words.iter().all(|word| {
        let word = word.to_lowercase();
        let is_number = number(&word).is_some_and(|number| {
            number == command.number
                || (number == command.full && number != 0)
                || (of_type == Some(number >> 8 & 0xff) && number & 0xff == command.number)
        });
        is_number
            || [command.name, command.meaning, command.purpose, command.role.name(), command.driver]
                .iter()
                .any(|text| text.to_lowercase().contains(&word))
    })
}

fn row(table: &Table, command: &Command) -> CommandRow {
    CommandRow {
        table: table.name,
        driver: command.driver,
        number: command.number,
        name: command.name,
        role: command.role.name(),
        purpose: command.purpose,
        first: command.first,
        last: command.last,
        meaning: command.meaning,
    }
}

fn grid(heads: &[&str]) -> Grid {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(heads);
    grid.force_no_tty();
    grid
}

fn lines(grid: &Grid) -> String {
    grid.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn overview(tables: &[&Table], version: Option<&Version>) -> String {
    let mut grid = grid(&["table", "commands", "by"]);
    for table in tables {
        let commands = table.commands.iter().filter(|command| is_in(command, version, table)).count();
        grid.add_row([table.name, &commands.to_string(), table.about]);
    }
    lines(&grid)
        + "\n`gpuos-trace ioctls WORD` searches them all, `--table NAME` lists one, `--driver VERSION` keeps what that version of NVIDIA's driver has\n"
}

fn listing(found: &[(&Table, &Command)]) -> String {
    let mut grid = grid(&["table", "number", "name", "role", "purpose", "versions", "meaning"]);
    for (table, command) in found {
        let versions = match (command.first, command.last) {
            (first, "") => first.to_owned(),
            (first, last) if first == last => first.to_owned(),
            (first, last) => format!("{first} to {last}"),
        };
        let driver = if command.driver.is_empty() { table.name } else { command.driver };
        grid.add_row([
            driver,
            &format!("{:#x}", if command.full == 0 { command.number } else { command.full }),
            command.name,
            command.role.name(),
            command.purpose,
            &versions,
            command.meaning,
        ]);
    }
    lines(&grid)
}
