//! `LD_PRELOAD=libgpuos_job_preload.so CMD`: an unmodified program that uses CUDA or HIP waits through jobs. What a thread launches in a
//! stream between two waits is a job; its class is the NVTX range it was in, or a fingerprint of what it launched; its wait sleeps
//! until shortly before the end. What is not understood passes through untouched, and is counted.
//!
//! A program gets the functions of [`calls`], [`captures`] and [`memory`] in place of the driver's by [`symbols`] and [`forms`], or by
//! [`linked`];
//! [`runtimes`] has those of the runtimes that this library calls itself. [`program`] knows what the program does, [`fingerprint`] what it launched,
//! [`ranges`] where, [`waits`] makes jobs of its waits, [`counts`] counts.
//!
//! `GPUOS_JOBS` says what is done: `identity` (jobs are seen, waits are the runtime's own), `wait` (waits sleep), `arena` (freed memory
//! is kept), several with commas; `off` passes everything through. Without it: `identity,wait`. `GPUOS_JOBS_STATS=1` prints what was
//! counted when the program ends.

mod calls;
mod captures;
mod counts;
mod fingerprint;
mod forms;
mod linked;
mod memory;
mod program;
mod ranges;
mod runtimes;
mod symbols;
mod waits;
