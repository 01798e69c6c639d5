//! The programs that run in the kernel, in three layers: `programs` are the entry points, `count` says what a call means and
//! where it is counted, `ground` has the maps, the state of threads and the kernel's structures. A layer uses those below it.
//!
//! All programs but `call_*`, `point_*` (perf's tracepoints) and those of `baseline.rs` are BTF tracepoints.
//!
//! | program     | tracepoint           | file          |
//! |-------------|----------------------|---------------|
//! | `sys_enter` | `sys_enter`          | `syscalls.rs` |
//! | `sys_exit`  | `sys_exit`           | `syscalls.rs` |
//! | `call_enter` | `syscalls/sys_enter_NAME` | `syscalls.rs` |
//! | `call_exit` | `syscalls/sys_exit_NAME` | `syscalls.rs` |
//! | the same two | `raw_syscalls/sys_enter`, `sys_exit`, with tasks by number | `syscalls.rs` |
//! | `empty_*`, `clock_*`, `storage_*` | `sys_enter`, `sys_exit` (raw) | `baseline.rs` |
//! | `count_exit` | `sys_exit`          | `syscalls.rs` |
//! | `task_fork` | `sched_process_fork` | `tasks.rs`    |
//! | `task_exec` | `sched_process_exec` | `tasks.rs`    |
//! | `task_exit` | `sched_process_exit` | `tasks.rs`    |
//! | `task_free` | `sched_process_free` | `tasks.rs`    |
//! | `nvidia_enter`, `nvidia_exit` and others | entry and return of a driver's function (kprobe) | `hooks.rs` |
//! | `api_enter`, `api_exit` | entry and return of a library's function (uprobe) | `api.rs` |
//! | `task_switch`, `task_fault` | `sched_switch`, `page_fault_user` | `sched.rs` |
//! | `point_switch`, `point_fault` | `sched/sched_switch`, `exceptions/page_fault_user`, likewise | `sched.rs` |
//! | `point_fork`, `point_exec`, `point_exit` | `sched/sched_process_*`, with tasks by number | `tasks.rs` |
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod count {
    //! What a call means and where it is counted.
    pub(crate) mod calls;
    pub(crate) mod emit;
    pub(crate) mod inferred;
    pub(crate) mod ioctl;
    pub(crate) mod jobs;
    pub(crate) mod phases;
    pub(crate) mod rows;
    pub(crate) mod stacks;
    pub(crate) mod tasks;
}
#[cfg(target_arch = "bpf")]
mod ground {
    //! What everything else stands on: maps, the state of threads, the kernel's structures.
    pub(crate) mod atomic;
    pub(crate) mod context;
    pub(crate) mod counters;
    pub(crate) mod credentials;
    pub(crate) mod fd;
    pub(crate) mod fd_table;
    pub(crate) mod kernel;
    pub(crate) mod log;
    pub(crate) mod maps;
    pub(crate) mod state;
}
#[cfg(target_arch = "bpf")]
mod programs {
    //! The entry points.
    mod api;
    mod baseline;
    mod hooks;
    mod sched;
    mod syscalls;
    mod tasks;
}

#[cfg(target_arch = "bpf")]
mod image {
    //! What the object says of itself.
    use gpuos_tracer_abi::ABI_VERSION;

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[unsafe(link_section = "gpuos.abi")]
    #[unsafe(no_mangle)]
    static GPUOS_ABI: [u8; 4] = ABI_VERSION.to_le_bytes();

    /// Set by `cargo xtask build-ebpf`.
    const FINGERPRINT: &[u8] = env!("GPUOS_BPF_FINGERPRINT").as_bytes();

    #[unsafe(link_section = "gpuos.source")]
    #[unsafe(no_mangle)]
    static GPUOS_SOURCE: [u8; 64] = {
        let mut text = [0; 64];
        let mut i = 0;
        while i < 64 {
            text[i] = FINGERPRINT[i];
            i += 1;
        }
        text
    };

    /// BPF programs cannot panic: the verifier refuses a program from which this can be reached.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel: build it with `cargo xtask build-ebpf`");
    std::process::exit(125);
}
