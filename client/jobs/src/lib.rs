//! GPU work that a program can name, wait for, bound the memory of, and account for: a *job*. `SPEC.md` says what a job
//! is; [`abi`] is the C interface, [`job`] what it does. [`learn`] and [`class`] predict when a job ends, [`context`] holds
//! those in flight, [`wait`] and [`timer`] learn of their ends, [`arena`] keeps their memory, [`backend`] has the runtimes.

#[expect(non_camel_case_types, reason = "names of C")]
pub mod abi;
pub mod arena;
pub mod backend;
pub mod class;
pub mod clock;
pub mod context;
pub mod error;
pub mod identity;
pub mod job;
pub mod learn;
mod shared;
mod sized;
pub mod state;
mod table;
mod timer;
mod wait;
