//! `LD_PRELOAD=libgpuos_job_preload.so CMD`: an unmodified program that uses CUDA waits through jobs. What a thread launches in a
//! stream between two waits is a job; its class is a fingerprint of what it launched; its wait sleeps until shortly before the end.
//! What is not understood passes through untouched, and is counted.
//!
//! [`symbols`] and [`forms`] give the program the functions of [`calls`] in place of the driver's, [`fingerprint`] remembers what it launched,
//! [`waits`] makes jobs of its waits, [`counts`] counts. Each wait ends with the driver's own, so that results are never changed.
//!
//! `GPUOS_JOBS=off` passes everything through, `GPUOS_JOBS_STATS=1` prints what was counted when the program ends.

mod calls;
mod counts;
mod fingerprint;
mod forms;
mod symbols;
mod waits;
