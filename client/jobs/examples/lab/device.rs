//! What the lab launches on: CUDA, or threads of the host.

use std::{
    ffi::{c_int, c_uint, c_void},
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use gpuos_job::{
    backend::{Backend, Stream, cuda::Cuda, host},
    clock,
};
use libloading::Library;

/// Something with streams.
pub(crate) trait Device: Send + Sync {
    fn backend(&self) -> Box<dyn Backend>;
    fn stream(&self, number: usize) -> Stream;
    /// A kernel that takes so long.
    fn launch(&self, stream: usize, nanoseconds: u64);
    fn synchronize(&self, stream: usize);
    /// Tells when all before it is done.
    fn call_back(&self, stream: usize, wake: &Wake);
    /// The same, and which stream.
    fn call_back_for(&self, stream: usize, wake: &Wake);
}

/// A descriptor that callbacks make readable.
pub(crate) struct Wake(Arc<Shared>);

struct Shared {
    descriptor: OwnedFd,
    told: Mutex<Vec<usize>>,
}

impl Wake {
    pub(crate) fn new() -> Self {
        // SAFETY: makes a descriptor.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        assert!(descriptor >= 0, "eventfd");
        // SAFETY: it was just made.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Self(Arc::new(Shared { descriptor, told: Mutex::default() }))
    }

    /// What it was written, and 0 from then on.
    pub(crate) fn clear(&self) -> u64 {
        let mut count = 0_u64;
        // SAFETY: eight bytes of this frame.
        unsafe { libc::read(self.as_raw_fd(), (&raw mut count).cast(), 8) };
        count
    }

    pub(crate) fn wait(&self) {
        let mut poll = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure of this frame.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
    }

    pub(crate) fn told(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.told.lock().expect("no panic while it is held"))
    }

    fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn ring(&self, stream: Option<usize>) {
        if let Some(stream) = stream {
            self.0.told.lock().expect("no panic while it is held").push(stream);
        }
        let one = 1_u64;
        // SAFETY: eight bytes of this frame.
        unsafe { libc::write(self.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.0.descriptor.as_raw_fd()
    }
}

/// An event loop's sleep: until a descriptor is readable or a deadline is reached.
pub(crate) struct Sleeper(OwnedFd);

impl Sleeper {
    pub(crate) fn new(fd: RawFd) -> Self {
        // SAFETY: makes a descriptor.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "epoll_create1");
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: one structure of this frame.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        // SAFETY: it was just made.
        Self(unsafe { OwnedFd::from_raw_fd(epoll) })
    }

    /// False: the deadline is so near that a sleep is not worth its call.
    pub(crate) fn sleep(&self, deadline: Option<u64>) -> bool {
        const WORTH: u64 = 15_000;
        let after = deadline.map(|deadline| deadline.saturating_sub(clock::now()));
        if after.is_some_and(|after| after < WORTH) {
            return false;
        }
        let time = after.map(|after| libc::timespec { tv_sec: 0, tv_nsec: after.min(999_999_999) as i64 });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: structures of this frame; no signal mask.
        unsafe { libc::epoll_pwait2(self.0.as_raw_fd(), &raw mut event, 1, time, std::ptr::null()) };
        true
    }
}

/// A thread that computes on the CPU that this thread is on from now on.
pub(crate) fn neighbour(progress: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    fn pin(cpu: usize) {
        // SAFETY: a set of CPUs is plain words.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the CPU is one of this machine.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: of this thread.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    }
    // SAFETY: asks where this thread is.
    let cpu = unsafe { libc::sched_getcpu() }.unsigned_abs() as usize;
    pin(cpu);
    let (progress, stop) = (Arc::clone(progress), Arc::clone(stop));
    thread::spawn(move || {
        pin(cpu);
        while !stop.load(Ordering::Relaxed) {
            (0..1000).for_each(|number| {
                std::hint::black_box(number);
            });
            progress.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Threads of the CPU that sleep for as long as a kernel would take.
pub(crate) struct OnHost(Vec<Stream>);

impl OnHost {
    pub(crate) fn new(streams: usize) -> Self {
        Self((0..streams.max(1)).map(|_| host::open().expect("a stream")).collect())
    }
}

impl Device for OnHost {
    fn backend(&self) -> Box<dyn Backend> {
        Box::new(host::Host)
    }

    fn stream(&self, number: usize) -> Stream {
        self.0[number]
    }

    fn launch(&self, stream: usize, nanoseconds: u64) {
        let work = move || {
            clock::sleep_until(clock::now() + nanoseconds);
            0
        };
        host::launch(self.0[stream], Arc::new(work)).expect("a stream that works");
    }

    fn synchronize(&self, stream: usize) {
        host::synchronize(self.0[stream]).expect("a stream that works");
    }

    fn call_back(&self, stream: usize, wake: &Wake) {
        let wake = wake.handle();
        let work = move || {
            wake.ring(None);
            0
        };
        host::launch(self.0[stream], Arc::new(work)).expect("a stream that works");
    }

    fn call_back_for(&self, stream: usize, wake: &Wake) {
        let wake = wake.handle();
        let work = move || {
            wake.ring(Some(stream));
            0
        };
        host::launch(self.0[stream], Arc::new(work)).expect("a stream that works");
    }
}

/// A kernel that looks at the device's clock for as long as it is told.
const KERNEL: &[u8] = b".version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 ns)
{
.reg .u64 %start,%time,%passed,%wanted;
.reg .pred %goes_on;
ld.param.u64 %wanted,[ns];
mov.u64 %start,%globaltimer;
LOOK:
mov.u64 %time,%globaltimer;
sub.u64 %passed,%time,%start;
setp.lt.u64 %goes_on,%passed,%wanted;
@%goes_on bra LOOK;
ret;
}
\0";

type Handle = *mut c_void;

type Function = unsafe extern "C" fn(Handle);
type Launch = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut Handle,
    *mut Handle,
) -> c_int;

/// CUDA's driver API, in a context of its own. What is called for each job is looked up once.
pub(crate) struct OnCuda {
    kernel: usize,
    streams: Vec<Stream>,
    launch: Launch,
    synchronize: unsafe extern "C" fn(Handle) -> c_int,
    host_function: unsafe extern "C" fn(Handle, Function, Handle) -> c_int,
}

const SPIN: c_uint = 1;
const BLOCK: c_uint = 4;

/// A function of the driver.
///
/// # Safety
/// The type is that of `cuda.h`.
unsafe fn function<T: Copy>(library: &Library, name: &str) -> T {
    // SAFETY: as the caller promises.
    *unsafe { library.get::<T>(name) }.expect(name)
}

fn ok(code: c_int, what: &str) {
    assert_eq!(code, 0, "{what}");
}

macro_rules! call {
    ($library:expr, $name:literal, ($($type:ty),*), ($($value:expr),*)) => {{
        // SAFETY: the types are those of `cuda.h`.
        let function = unsafe { function::<unsafe extern "C" fn($($type),*) -> c_int>($library, $name) };
        // SAFETY: as CUDA wants it.
        ok(unsafe { function($($value),*) }, $name);
    }};
}

impl OnCuda {
    pub(crate) fn new(streams: usize, is_asleep: bool) -> Self {
        // SAFETY: the driver.
        let library = unsafe { Library::new("libcuda.so.1") }.expect("libcuda.so.1");
        // What is looked up below stays.
        let library: &'static Library = Box::leak(Box::new(library));
        let (mut device, mut context, mut module, mut kernel) =
            (0, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        call!(library, "cuInit", (c_uint), (0));
        call!(library, "cuDeviceGet", (*mut c_int, c_int), (&raw mut device, 0));
        let flags = if is_asleep { BLOCK } else { SPIN };
        call!(library, "cuCtxCreate_v2", (*mut Handle, c_uint, c_int), (&raw mut context, flags, device));
        call!(library, "cuModuleLoadData", (*mut Handle, *const u8), (&raw mut module, KERNEL.as_ptr()));
        let name = c"spin".as_ptr();
        call!(library, "cuModuleGetFunction", (*mut Handle, Handle, *const i8), (&raw mut kernel, module, name));
        let stream = || {
            const NON_BLOCKING: c_uint = 1;
            let mut stream = std::ptr::null_mut();
            call!(library, "cuStreamCreate", (*mut Handle, c_uint), (&raw mut stream, NON_BLOCKING));
            Stream(stream as u64)
        };
        let streams = (0..streams.max(1)).map(|_| stream()).collect();
        Self {
            kernel: kernel as usize,
            streams,
            // SAFETY: the type is that of `cuda.h`.
            launch: unsafe { function(library, "cuLaunchKernel") },
            // SAFETY: as above.
            synchronize: unsafe { function(library, "cuStreamSynchronize") },
            // SAFETY: as above.
            host_function: unsafe { function(library, "cuLaunchHostFunc") },
        }
    }

    fn tell(&self, stream: usize, wake: &Wake, number: Option<usize>) {
        let argument = Box::into_raw(Box::new((wake.handle(), number))).cast::<c_void>();
        // SAFETY: the function takes the argument once.
        ok(unsafe { (self.host_function)(self.streams[stream].0 as Handle, ring, argument) }, "cuLaunchHostFunc");
    }
}

unsafe extern "C" fn ring(argument: Handle) {
    // SAFETY: what `tell` gave away.
    let (wake, stream) = *unsafe { Box::from_raw(argument.cast::<(Wake, Option<usize>)>()) };
    wake.ring(stream);
}

impl Device for OnCuda {
    fn backend(&self) -> Box<dyn Backend> {
        Box::new(Cuda::load("libcuda.so.1").expect("CUDA"))
    }

    fn stream(&self, number: usize) -> Stream {
        self.streams[number]
    }

    fn launch(&self, stream: usize, nanoseconds: u64) {
        let mut parameter = nanoseconds;
        let mut parameters = [(&raw mut parameter).cast::<c_void>()];
        let (kernel, stream) = (self.kernel as Handle, self.streams[stream].0 as Handle);
        // SAFETY: the kernel has one parameter, which is copied.
        let code = unsafe {
            (self.launch)(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters.as_mut_ptr(), std::ptr::null_mut())
        };
        ok(code, "cuLaunchKernel");
    }

    fn synchronize(&self, stream: usize) {
        // SAFETY: a stream of this context.
        ok(unsafe { (self.synchronize)(self.streams[stream].0 as Handle) }, "cuStreamSynchronize");
    }

    fn call_back(&self, stream: usize, wake: &Wake) {
        self.tell(stream, wake, None);
    }

    fn call_back_for(&self, stream: usize, wake: &Wake) {
        self.tell(stream, wake, Some(stream));
    }
}
