//! Names of system calls, of devices and of the commands of GPU drivers; which kind of kernel service each is, and what it
//! does for GPU work.
//!
//! Numbers come from the kernel side; what is not in a table stays a number.

pub mod api;
pub mod arguments;
pub mod call;
mod decoded;
pub mod devices;
pub mod driver_rules;
pub mod fields;
pub mod ioctls;
mod kfd;
pub mod nvidia;
pub mod roles;
pub mod similar;
pub mod syscalls;
mod tables;
pub mod version;

pub use decoded::{Decoded, parts};
