//! The program as its users meet it, in the kernel: one module a topic.
#![expect(clippy::disallowed_methods, reason = "tests write in folders of their own")]

mod api;
mod attach;
mod bpf_log;
mod check;
mod decode;
mod device_rules;
mod errors;
mod exactness;
mod export;
mod files;
mod hostile;
mod inferred;
mod ioctl;
mod ioctl_tables;
mod job_classes;
mod jobs;
mod launch;
mod live;
mod memory;
mod no_btf;
mod phases;
mod pressures;
mod properties;
mod ranges;
mod readme;
mod record;
mod rights;
mod stacks;
mod strace;
mod support;
mod sweep;
mod syscalls;
mod tasks;
mod verifier;
mod workloads;
