//! Jobs on threads of the CPU: states, waits, polls, memory, failures.

mod c;
mod cuda;
mod ends;
mod hip;
mod memory;
mod opencl;
mod servers;
mod states;
mod support;
