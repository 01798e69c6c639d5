//! AMD's real runtime, ROCr, without a GPU: signals that really wait, through `libhsa-runtime64.so.1`, which must be
//! where the loader looks. Run in guests.
//!
//! `hsa_calls ROUNDS`: each round makes a signal, waits for it, and is woken by a thread that stores into it; then one
//! wait that times out. Names and types are those of `hsa.h`.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a test program makes its calls plainly, and says what it did"
)]

use std::{
    ffi::{CStr, c_void},
    thread,
    time::Duration,
};

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Signal(u64);

type Create = unsafe extern "C" fn(i64, u32, *const c_void, *mut Signal) -> i32;
type Wait = unsafe extern "C" fn(Signal, i32, i64, u64, i32) -> i64;
type Store = unsafe extern "C" fn(Signal, i64);

const LESS_THAN: i32 = 2;
const BLOCKED: i32 = 0;
/// ROCr spins for 200 µs before it asks the driver to wait.
const WHILE: Duration = Duration::from_millis(100);

fn main() {
    let rounds: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a number of rounds");
    // SAFETY: a valid name.
    let library = unsafe { libc::dlopen(c"libhsa-runtime64.so.1".as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "the library loads");
    let entry = |name: &CStr| {
        // SAFETY: the library is open and stays so.
        let entry = unsafe { libc::dlsym(library, name.as_ptr()) };
        assert!(!entry.is_null(), "the library has {name:?}");
        entry
    };
    // SAFETY: the types are those of the entry points in `hsa.h`.
    unsafe {
        let init: unsafe extern "C" fn() -> i32 = std::mem::transmute(entry(c"hsa_init"));
        let shut_down: unsafe extern "C" fn() -> i32 = std::mem::transmute(entry(c"hsa_shut_down"));
        let create: Create = std::mem::transmute(entry(c"hsa_signal_create"));
        let destroy: unsafe extern "C" fn(Signal) -> i32 = std::mem::transmute(entry(c"hsa_signal_destroy"));
        let store: Store = std::mem::transmute(entry(c"hsa_signal_store_screlease"));
        let wait: Wait = std::mem::transmute(entry(c"hsa_signal_wait_scacquire"));
        let initialized = init();
        assert_eq!(initialized, 0, "hsa_init: {initialized:#x}");
        for _ in 0..rounds {
            let mut signal = Signal::default();
            assert_eq!(create(1, 0, std::ptr::null(), &raw mut signal), 0);
            let setter = thread::spawn(move || {
                thread::sleep(WHILE);
                store(signal, 0);
            });
            assert_eq!(wait(signal, LESS_THAN, 1, u64::MAX, BLOCKED), 0, "it was set");
            setter.join().expect("the thread ends");
            assert_eq!(destroy(signal), 0);
        }
        let mut signal = Signal::default();
        assert_eq!(create(1, 0, std::ptr::null(), &raw mut signal), 0);
        // In ticks of 1 ns, as the driver of a machine without a GPU has them.
        assert_eq!(wait(signal, LESS_THAN, 1, 50_000_000, BLOCKED), 1, "nobody sets it");
        assert_eq!(destroy(signal), 0);
        assert_eq!(shut_down(), 0);
    }
}
