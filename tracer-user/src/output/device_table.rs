//! Calls on GPU devices by what they ask of the driver, over the run and by phase, and how many of them have names.

use gpuos_decode::nvidia::CLASS_NOT_KNOWN;
use gpuos_model::units::{count, duration, plural, printable};
use gpuos_runs::{
    columns::column,
    files::CodecError,
    group,
    run::{DriverFunction, Header, Run},
};

use super::{
    layout::{Measures, OF_DEVICES, OF_HOOKED_DEVICES, TerminalStyle, View, finish, group_table, left_out_line},
    phase_table::short_path,
};

/// What a call on a device asks of its driver: the columns `syscall`, `ioctl` and `detail` as one.
fn asked(call: String, command: String, detail: &str) -> String {
    let command = if command.is_empty() { call } else { command };
    if detail.is_empty() { command } else { format!("{command} {detail}") }
}

/// Calls on GPU devices by what they ask of the driver; `None` where there were none.
pub(super) fn device_table(run: &Run, view: View, style: TerminalStyle) -> Result<Option<String>, CodecError> {
    let calls = group::on_gpu(&run.calls)?;
    let by = [column::DEVICE, column::SYSCALL, column::COMMAND_NAME, column::DETAIL, column::ROLE, column::DECODED];
    let mut groups = group::group(&calls, &by)?;
    if groups.is_empty() {
        return Ok(None);
    }
    let mut coverage = Coverage::default();
    for group in &mut groups {
        let [device, call, command, detail, role, decoded] = std::array::from_fn(|at| group.key[at].clone());
        if call == "ioctl" {
            coverage.add(decoded == "yes", &detail, group.calls);
        }
        group.key = vec![device, asked(call, command, &detail), role];
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(view.order.key(group)), group.key.clone()));
    let total = group::summarize(&calls, &[])?;
    let left_out = groups.split_off(view.top.min(groups.len()));
    let names = ["device", "call", "role"];
    let measures = device_measures(&run.header);
    let mut table = group_table(&run.header, &groups, &names, &total, None, measures, style);
    let hooks: String = run.header.driver_functions.iter().map(hook_line).collect();
    let rest = left_out_line(&left_out, "more device call", "more device calls");
    Ok(Some(format!("{}{rest}\n{}{hooks}", finish(&mut table, style), coverage.line(&run.header))))
}

/// Calls on GPU devices by phase; `None` where there are none, or no phases.
pub(super) fn device_phase_table(run: &Run, view: View, style: TerminalStyle) -> Result<Option<String>, CodecError> {
    if run.header.phases.is_empty() {
        return Ok(None);
    }
    let calls = group::on_gpu(&run.calls)?;
    let by = [column::PHASE, column::DEVICE, column::SYSCALL, column::COMMAND_NAME, column::DETAIL, column::ROLE];
    let mut groups = group::group(&calls, &by)?;
    if groups.is_empty() {
        return Ok(None);
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(view.order.key(group)), group.key.clone()));
    for group in &mut groups {
        let [path, device, call, command, detail, role] = std::array::from_fn(|at| group.key[at].clone());
        let path = if path.is_empty() { "(none)".to_owned() } else { short_path(&printable(&path)) };
        group.key = vec![path, device, asked(call, command, &detail), role];
    }
    let total = group::summarize(&calls, &[])?;
    let left_out = groups.split_off(view.top.min(groups.len()));
    let names = ["phase", "device", "call", "role"];
    let mut table = group_table(&run.header, &groups, &names, &total, None, device_measures(&run.header), style);
    Ok(Some(finish(&mut table, style) + &left_out_line(&left_out, "more line", "more lines")))
}

fn device_measures(header: &Header) -> &'static Measures {
    if header.driver_functions.is_empty() { &OF_DEVICES } else { &OF_HOOKED_DEVICES }
}

/// A watched function of a driver.
fn hook_line(function: &DriverFunction) -> String {
    let outside = if function.outside == 0 {
        String::new()
    } else {
        format!(", {} outside of a system call", count(function.outside))
    };
    let missed = function.calls.saturating_sub(function.returns);
    let missed = if missed == 0 {
        String::new()
    } else {
        format!(
            ", {} still in it or missed by the kernel, whose time is not known",
            plural(missed, "return", "returns")
        )
    };
    let calls = plural(function.calls, "call", "calls");
    let time = duration(function.total_ns);
    format!("\ndriver function {}: {calls}{outside}, {time}{missed}", printable(&function.name))
}

/// How many ioctls on GPU devices the tables know.
#[derive(Default)]
struct Coverage {
    seen: u64,
    decoded: u64,
    opaque: u64,
    /// On objects that nobody saw made.
    unseen: u64,
}

impl Coverage {
    fn add(&mut self, decoded: bool, detail: &str, calls: u64) {
        self.seen = self.seen.saturating_add(calls);
        let kind = match detail {
            CLASS_NOT_KNOWN => &mut self.unseen,
            _ if detail.starts_with("opaque") => &mut self.opaque,
            _ if decoded => &mut self.decoded,
            _ => return,
        };
        *kind = kind.saturating_add(calls);
    }

    fn line(&self, header: &Header) -> String {
        let mut line =
            format!("{} of {} named", count(self.decoded), plural(self.seen, "ioctl on GPUs", "ioctls on GPUs"));
        if self.opaque != 0 {
            line += &format!(", {} opaque by design", count(self.opaque));
        }
        if self.unseen != 0 {
            line += &format!(", {} on objects that nobody saw made", count(self.unseen));
        }
        let known = self.decoded.saturating_add(self.opaque).saturating_add(self.unseen);
        let unknown = self.seen.saturating_sub(known);
        if unknown != 0 {
            line += &format!(", {} unknown to the tables", count(unknown));
        }
        if let Some(version) = &header.nvidia_driver {
            line += &format!(" (NVIDIA driver {})", printable(version));
        }
        line
    }
}
