//! `bench --list`: every backend, whether it works here, from which library, its devices and what it can do.

use std::io;

use comfy_table::{ContentArrangement, Table, presets};

use crate::{
    backend::{self, Capabilities, Listed, names},
    report,
};

pub(crate) fn print(json: bool) -> io::Result<()> {
    let listed = backend::list();
    if json {
        return report::print(&serde_json::to_string(&listed)?);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["backend", "here", "devices", "can"]);
    for Listed { name, found, capabilities } in &listed {
        let can = capabilities.as_ref().map_or_else(String::new, can);
        match found {
            Ok(probe) => {
                let mut here = vec![probe.runtime.clone()];
                here.extend(probe.library.clone());
                let devices = probe.devices.iter().enumerate().map(|(number, device)| format!("{number}: {device}"));
                table.add_row([name.clone(), here.join("\n"), devices.collect::<Vec<_>>().join("\n"), can]);
            }
            Err(why) => {
                let reason = why.lines().next().unwrap_or_default();
                let reason = reason.strip_prefix(&format!("{name}: ")).unwrap_or(reason);
                table.add_row([name.clone(), format!("no: {reason}"), String::new(), can]);
            }
        }
    }
    report::print(&report::trimmed(&table))
}

fn can(capabilities: &Capabilities) -> String {
    let Capabilities { waits, memory, pinned_copies, streams, graphs, durations, pool_thresholds } = capabilities;
    let mut lines = vec![format!("memory: {}", names(memory)), format!("waits: {}", names(waits))];
    let also: Vec<_> = [
        (*pinned_copies, "pinned copies"),
        (*streams, "streams"),
        (*graphs, "graphs"),
        (*durations, "durations"),
        (*pool_thresholds, "pool thresholds"),
    ]
    .into_iter()
    .filter_map(|(can, what)| can.then_some(what))
    .collect();
    if !also.is_empty() {
        lines.push(also.join(", "));
    }
    lines.join("\n")
}
