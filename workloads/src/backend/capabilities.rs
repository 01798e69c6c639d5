//! What can be asked of a backend, and refusing what cannot before anything is opened.

use serde::Serialize;

use super::BackendError;
use crate::workload::{Memory, Model, Wait, Workload};

/// What can be asked of a backend.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Capabilities {
    pub(crate) waits: &'static [Wait],
    /// Kinds of memory that kernels can reach.
    pub(crate) memory: &'static [Memory],
    /// Locked memory of the host as the other end of copies.
    pub(crate) pinned_copies: bool,
    pub(crate) streams: bool,
    pub(crate) graphs: bool,
    /// Whether a kernel can tell the time.
    pub(crate) durations: bool,
    /// Whether what its own pool keeps can be set.
    pub(crate) pool_thresholds: bool,
}

impl Capabilities {
    /// Of a runtime without choices.
    pub(super) const PLAIN: Self = Self {
        waits: &[Wait::Default],
        memory: &[Memory::Device],
        pinned_copies: false,
        streams: false,
        graphs: false,
        durations: false,
        pool_thresholds: false,
    };

    /// Of CUDA and HIP.
    #[cfg(any(feature = "cuda", feature = "hip"))]
    pub(super) const ALL: Self = Self {
        waits: &[Wait::Default, Wait::Spin, Wait::Yield, Wait::Block],
        memory: &[Memory::Device, Memory::Pinned, Memory::Managed, Memory::AsyncPool],
        pinned_copies: true,
        streams: true,
        graphs: true,
        durations: true,
        pool_thresholds: false,
    };

    /// The first thing in the workload that the backend cannot do.
    pub(super) fn refuse(&self, backend: &'static str, workload: &Workload) -> Result<(), BackendError> {
        let refuse = |what: String, can: &str| Err(BackendError::Unsupported { backend, what, can: can.to_owned() });
        if !self.waits.contains(&workload.setup.wait) {
            return refuse(
                format!("`--wait {}`", name(workload.setup.wait)),
                &format!("it waits as: {}", names(self.waits)),
            );
        }
        if workload.model == Model::Copy {
            match workload.memory {
                Memory::Pageable => {}
                Memory::Pinned if self.pinned_copies => {}
                memory @ (Memory::Pinned | Memory::Device | Memory::Managed | Memory::AsyncPool) => {
                    let can = if self.pinned_copies { "pageable, pinned" } else { "pageable" };
                    let can = format!("its kinds of memory for copies: {can}");
                    return refuse(format!("`copy --memory {}`", name(memory)), &can);
                }
            }
        } else if !self.memory.contains(&workload.memory) {
            let can = format!("its kinds of memory: {}", names(self.memory));
            return refuse(format!("`--memory {}`", name(workload.memory)), &can);
        }
        for (asked, can, option) in [
            (workload.setup.streams > 1, self.streams, "--streams"),
            (workload.graph, self.graphs, "--graph"),
            (workload.duration_us > 0, self.durations, "--duration-us"),
            (workload.setup.pool_threshold.is_some(), self.pool_thresholds, "--pool-threshold"),
        ] {
            if asked && !can {
                return refuse(format!("`{option}`"), "`bench --list` shows which backend can");
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "values are words of the command line, one byte each")]
pub(super) fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The names of options' values, as on the command line.
pub(crate) fn names<V: clap::ValueEnum>(values: &[V]) -> String {
    values.iter().cloned().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backend_cannot_do_is_said_before_it_is_opened() {
        let refused = |change: fn(&mut Workload)| {
            let mut workload = Workload::new(Model::Kernel, 4096, 1, 0);
            change(&mut workload);
            Capabilities::PLAIN.refuse("plain", &workload).err().map(|error| error.to_string())
        };
        let said = |change| refused(change).unwrap();
        let wait = said(|workload| workload.setup.wait = Wait::Spin);
        assert_eq!(wait, "plain cannot do `--wait spin`\nhint: it waits as: default");
        let memory = said(|workload| workload.memory = Memory::AsyncPool);
        assert_eq!(memory, "plain cannot do `--memory async-pool`\nhint: its kinds of memory: device");
        assert!(said(|workload| workload.graph = true).contains("`--graph`"));
        assert!(said(|workload| workload.setup.streams = 2).contains("`--streams`"));
        assert!(said(|workload| workload.duration_us = 1).contains("`--duration-us`"));
        assert!(said(|workload| workload.setup.pool_threshold = Some(0)).contains("`--pool-threshold`"));
        let copy = said(|workload| {
            workload.model = Model::Copy;
            workload.memory = Memory::Pinned;
        });
        assert!(copy.contains("`copy --memory pinned`"), "{copy}");
        assert_eq!(refused(|_| {}), None);
    }
}
