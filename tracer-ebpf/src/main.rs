//! The programs that run in the kernel. One file per topic; this one lists every program.
//! All but `call_*`, `point_*` (perf's tracepoints) and those of `floor.rs` are BTF tracepoints.
//!
//! | program     | tracepoint           | file          |
//! |-------------|----------------------|---------------|
//! | `sys_enter` | `sys_enter`          | `syscalls.rs` |
//! | `sys_exit`  | `sys_exit`           | `syscalls.rs` |
//! | `call_enter` | `syscalls/sys_enter_NAME` | `syscalls.rs` |
//! | `call_exit` | `syscalls/sys_exit_NAME` | `syscalls.rs` |
//! | the same two | `raw_syscalls/sys_enter`, `sys_exit`, with tasks by number | `syscalls.rs` |
//! | `floor_*`, `clock_*`, `storage_*` | `sys_enter`, `sys_exit` (raw) | `floor.rs` |
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
mod api;
#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod descriptors;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod floor;
#[cfg(target_arch = "bpf")]
mod followed;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod inferred;
#[cfg(target_arch = "bpf")]
mod ioctl;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod log;
#[cfg(target_arch = "bpf")]
mod losses;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod phases;
#[cfg(target_arch = "bpf")]
mod rows;
#[cfg(target_arch = "bpf")]
mod sched;
#[cfg(target_arch = "bpf")]
mod stacks;
#[cfg(target_arch = "bpf")]
mod syscalls;
#[cfg(target_arch = "bpf")]
mod tasks;

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
