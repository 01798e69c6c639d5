//! Programs that make a known number of calls, for the tests: `known_calls WHAT N`.
//!
//! Calls are made with `syscall(2)` directly, so that no library adds or saves one.
#![expect(clippy::disallowed_methods, reason = "a test program")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    clippy::print_stdout,
    reason = "a test program makes its calls plainly, and says what it did"
)]

use std::{env, ffi::CString, io, thread, time::Duration};

fn call(number: libc::c_long) -> libc::c_long {
    // SAFETY: the calls used here take no pointer.
    unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) }
}

/// The result does not matter, the call does.
fn drop_result(_: libc::c_long) {}

fn getppid(times: u64) {
    for _ in 0..times {
        call(libc::SYS_getppid);
    }
}

fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child ends in `_exit` and uses only what `child` does.
    unsafe {
        match libc::fork() {
            0 => {
                child();
                libc::_exit(0)
            }
            pid => pid,
        }
    }
}

/// A child with a number of our choice, as far as nobody has it; the calls are those of [`fork`].
fn fork_as(pid: libc::pid_t, child: impl FnOnce()) -> io::Result<libc::pid_t> {
    // `struct clone_args` of the kernel's `sched.h`; words that are left out are zero.
    let mut arguments = [0_u64; 10];
    arguments[4] = libc::SIGCHLD as u64;
    arguments[8] = &raw const pid as u64;
    arguments[9] = 1;
    // SAFETY: the structure and the number outlive the call; the child ends in `_exit` and uses only what `child` does.
    unsafe {
        match libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                child();
                libc::_exit(0)
            }
            pid => Ok(pid as libc::pid_t),
        }
    }
}

fn one_number() {
    let largest = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse::<libc::pid_t>().unwrap();
    for number in (301..largest).rev().take(1000) {
        let Ok(first) = fork_as(number, || getppid(10)) else { continue };
        wait(first);
        thread::sleep(Duration::from_millis(5));
        if let Ok(second) = fork_as(number, || (0..20).for_each(|_| drop_result(call(libc::SYS_getuid)))) {
            wait(second);
            return;
        }
    }
    panic!("no number was free twice");
}

fn wait(pid: libc::pid_t) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Each of `width` children calls `getppid` three times and has as many children, to `depth`.
fn tree(depth: u64, width: u64) {
    if depth == 0 {
        return;
    }
    let children: Vec<_> = (0..width)
        .map(|_| {
            fork(|| {
                getppid(3);
                tree(depth - 1, width);
            })
        })
        .collect();
    children.into_iter().for_each(wait);
}

/// Threads that start threads, each calling `getppid` twice.
fn nested_threads(depth: u64) {
    getppid(2);
    if depth > 0 {
        thread::spawn(move || nested_threads(depth - 1)).join().unwrap();
    }
}

fn exec_self(arguments: &[&str]) -> ! {
    let this = CString::new(env::current_exe().unwrap().into_os_string().into_encoded_bytes()).unwrap();
    let mut words = vec![this.clone()];
    words.extend(arguments.iter().map(|word| CString::new(*word).unwrap()));
    let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: a NUL-terminated list of NUL-terminated words.
    unsafe { libc::execv(this.as_ptr(), pointers.as_ptr()) };
    panic!("execv: {}", io::Error::last_os_error());
}

/// `clone` with shared memory but its own process, as `posix_spawn` does.
fn vforks(times: u64) {
    let this = CString::new("/bin/true").unwrap();
    for _ in 0..times {
        #[expect(deprecated, reason = "the very call that is to be followed")]
        // SAFETY: the child only executes.
        unsafe {
            let pid = libc::vfork();
            if pid == 0 {
                libc::execv(this.as_ptr(), [this.as_ptr(), std::ptr::null()].as_ptr());
                libc::_exit(1);
            }
            wait(pid);
        }
    }
}

/// `getppid` through the 32-bit entry, whose number 64 is another call in the 64-bit table.
#[cfg(target_arch = "x86_64")]
fn compat_getppid(times: u64) {
    for _ in 0..times {
        // SAFETY: the call takes no argument; the 32-bit entry keeps the other registers but r8 to r11.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("rax") 64_u64 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        };
    }
}

/// Sleeps that a timer's signal interrupts, which the kernel restarts by itself.
fn interrupted_sleeps(times: u64) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: plain data and valid pointers; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        for _ in 0..times {
            let timer = libc::itimerval {
                it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
                it_value: libc::timeval { tv_sec: 0, tv_usec: 3000 },
            };
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
            libc::syscall(
                libc::SYS_nanosleep,
                &libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 },
                std::ptr::null_mut::<libc::timespec>(),
            );
        }
    }
}

/// From here on seccomp refuses `getppid` before the kernel's entry tracepoint.
fn refuse_getppid() {
    refuse(0, libc::SYS_getppid as u32);
}

/// Likewise every 32-bit call (`AUDIT_ARCH_I386`).
#[cfg(target_arch = "x86_64")]
fn refuse_compat() {
    refuse(4, 0x4000_0003);
}

/// Seccomp refuses calls with this `value` at this offset of `struct seccomp_data`.
fn refuse(offset: u32, value: u32) {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut filter = [
        statement(0x20, offset), // load
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: value },
        statement(0x06, 0x0005_0000 | libc::EPERM as u32), // SECCOMP_RET_ERRNO
        statement(0x06, 0x7fff_0000),                      // SECCOMP_RET_ALLOW
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, 2, &program), 0, "{}", io::Error::last_os_error());
    }
}

/// A process that outlives the one that started it. Nobody who reads what this program writes waits for it.
fn daemon(times: u64, sleeps: Duration) {
    let middle = fork(|| {
        fork(|| {
            for fd in 0..3 {
                // SAFETY: nothing of this process uses them.
                unsafe { libc::close(fd) };
            }
            thread::sleep(sleeps);
            getppid(times);
        });
    });
    wait(middle);
}

/// For so many seconds, short processes with short threads, eight at a time. Prints how many processes
/// there were; each has three threads and makes five calls of `getppid`.
fn churn(seconds: u64) {
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let mut processes = 0_u64;
    while std::time::Instant::now() < end {
        let children: Vec<_> = (0..8)
            .map(|_| {
                fork(|| {
                    let threads: Vec<_> = (0..2).map(|_| thread::spawn(|| getppid(1))).collect();
                    getppid(3);
                    threads.into_iter().for_each(|thread| thread.join().unwrap());
                })
            })
            .collect();
        children.into_iter().for_each(wait);
        processes += 8;
    }
    println!("{processes}");
}

/// A program that a property test makes up, and the log that it keeps itself: a file of three counters
/// that every process maps. One letter an action: `p` calls `getppid`; `f(…)` forks a child that does what
/// is in the brackets and is waited for, `F(…)` one that is not; `t(…)` and `T(…)` likewise for a thread,
/// which is waited for at the end of the list at the latest, so that the log stays true; `x(…)` executes this
/// program again to do it, which ends the list; `e` ends the process at once.
mod script {
    use super::{call, exec_self, fork, wait};
    use std::{
        fs::OpenOptions,
        os::fd::AsRawFd as _,
        sync::atomic::{AtomicU64, Ordering::SeqCst},
        thread,
    };

    /// Calls, processes, threads.
    pub(super) type Log = [AtomicU64; 3];

    pub(super) fn log(path: &str) -> &'static Log {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        // SAFETY: the file has the size of the log, and the mapping is never removed.
        unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let page = libc::mmap(std::ptr::null_mut(), size_of::<Log>(), prot, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(page, libc::MAP_FAILED);
            &*page.cast::<Log>()
        }
    }

    /// What is inside the brackets that begin at `at`, and where it goes on after them.
    fn brackets(text: &str, at: usize) -> (&str, usize) {
        let mut depth = 0;
        for (index, letter) in text[at..].char_indices() {
            depth += match letter {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            if depth == 0 {
                return (&text[at + 1..at + index], at + index + 1);
            }
        }
        panic!("no closing bracket in {text}");
    }

    pub(super) fn run(text: &str, path: &str, log: &'static Log) {
        let mut at = 0;
        let mut threads: Vec<thread::JoinHandle<()>> = Vec::new();
        while let Some(letter) = text[at..].chars().next() {
            at += 1;
            if matches!(letter, 'e' | 'x') {
                threads.drain(..).for_each(|thread| thread.join().unwrap());
            }
            match letter {
                'p' => {
                    call(libc::SYS_getppid);
                    log[0].fetch_add(1, SeqCst);
                }
                'e' => {
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(0) }
                }
                letter => {
                    let (inside, next) = brackets(text, at);
                    at = next;
                    match letter {
                        'f' | 'F' => {
                            log[1].fetch_add(1, SeqCst);
                            let pid = fork(|| run(inside, path, log));
                            if letter == 'f' {
                                wait(pid);
                            }
                        }
                        't' | 'T' => {
                            log[2].fetch_add(1, SeqCst);
                            let (inside, path) = (inside.to_owned(), path.to_owned());
                            let thread = thread::spawn(move || run(&inside, &path, log));
                            threads.push(thread);
                            if letter == 't' {
                                threads.drain(..).for_each(|thread| thread.join().unwrap());
                            }
                        }
                        'x' => exec_self(&["script", inside, path]),
                        other => panic!("no such action: {other}"),
                    }
                }
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Reads numbers from standard input. For each, all threads and one child process call `getppid` so often.
fn on_demand(threads: u64) {
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(threads as usize + 1));
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    for _ in 0..threads {
        let (barrier, calls) = (barrier.clone(), calls.clone());
        thread::spawn(move || {
            loop {
                barrier.wait();
                getppid(calls.load(std::sync::atomic::Ordering::SeqCst));
                barrier.wait();
            }
        });
    }
    println!("done");
    for line in io::stdin().lines() {
        let times = line.unwrap().parse().unwrap();
        calls.store(times, std::sync::atomic::Ordering::SeqCst);
        barrier.wait();
        getppid(times);
        wait(fork(|| getppid(times)));
        barrier.wait();
        println!("done");
    }
}

#[expect(clippy::too_many_lines, reason = "one list of all the programs")]
fn main() {
    let arguments: Vec<String> = env::args().collect();
    let number = |at: usize| arguments.get(at).map_or(0, |word| word.parse::<u64>().unwrap());
    if let [_, what, text, path] = arguments.as_slice()
        && what == "script"
    {
        script::run(text, path, script::log(path));
        return;
    }
    let times = number(2);
    match arguments.get(1).map(String::as_str).unwrap_or_default() {
        "getppid" => getppid(times),
        "ioctl" => {
            let null = std::fs::File::open("/dev/null").unwrap();
            for _ in 0..times {
                // SAFETY: the device knows no request and touches no memory.
                unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&null), 0x5401, 0) };
            }
        }
        "mmap" => {
            for _ in 0..times {
                // SAFETY: a new mapping, removed at once.
                unsafe {
                    let page = libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_READ,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    );
                    libc::munmap(page, 4096);
                }
            }
        }
        // Threads that call at the same time.
        "threads" => {
            let threads: Vec<_> = (0..number(3)).map(|_| thread::spawn(move || getppid(times))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        "nested-threads" => nested_threads(times),
        // Short processes, one after the other.
        "forks" => (0..times).for_each(|_| wait(fork(|| getppid(3)))),
        // Short processes, many at a time.
        "tree" => tree(times, number(3)),
        "exec-chain" => {
            getppid(5);
            if times > 0 {
                exec_self(&["exec-chain", &(times - 1).to_string()]);
            }
        }
        // Beside idle threads one executes this again and again, and takes the leader's number each time.
        "exec-race" if times > 0 => {
            (0..20).for_each(|_| {
                drop(thread::spawn(|| {
                    loop {
                        thread::park();
                    }
                }));
            });
            drop(thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(2));
                exec_self(&["exec-race", &(times - 1).to_string()]);
            }));
            loop {
                thread::park();
            }
        }
        "exec-race" => {}
        // A thread that is not the leader executes: it takes the leader's number.
        "exec-from-thread" => thread::spawn(|| {
            getppid(2);
            exec_self(&["getppid", "5"]);
        })
        .join()
        .unwrap(),
        // Likewise one that has made no call before that is looked at.
        "exec-from-silent-thread" => {
            getppid(3);
            drop(thread::spawn(|| exec_self(&["getppid", "5"])));
            loop {
                thread::park();
            }
        }
        // Many threads, of which the last executes another program after so many milliseconds.
        "exec-of-another" => {
            (1..times).for_each(|_| {
                drop(thread::spawn(|| {
                    loop {
                        thread::park();
                    }
                }));
            });
            let (delay, program) = (number(3), arguments[4].clone());
            drop(thread::spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                let program = CString::new(program).unwrap();
                let words = [program.as_ptr(), c"0.3".as_ptr(), std::ptr::null()];
                // SAFETY: a NUL-terminated list of NUL-terminated words.
                unsafe { libc::execv(program.as_ptr(), words.as_ptr()) };
            }));
            loop {
                thread::park();
            }
        }
        // Two processes, one after the other, with the same number.
        "one-number" => one_number(),
        "vfork" => vforks(times),
        "on-demand" => on_demand(times),
        "churn" => churn(times),
        #[cfg(target_arch = "x86_64")]
        "compat" => compat_getppid(times),
        // A number that no kernel has.
        "unusual" => (0..times).for_each(|_| drop_result(call(5000))),
        "interrupted" => interrupted_sleeps(times),
        "refused" => {
            refuse_getppid();
            getppid(times);
        }
        // The first call that is seen of each child may be one that seccomp answers.
        "refused-children" => {
            refuse_getppid();
            (0..times).for_each(|_| wait(fork(|| getppid(5))));
        }
        // A successful one loses its name on the way.
        "execveat" => {
            if times > 0 {
                let arguments = [c"known_calls".as_ptr(), c"getppid".as_ptr(), c"2".as_ptr(), std::ptr::null()];
                let nothing = [std::ptr::null::<libc::c_char>()];
                // SAFETY: valid strings and lists; it returns only when it fails.
                unsafe {
                    let at = libc::AT_FDCWD;
                    libc::syscall(
                        libc::SYS_execveat,
                        at,
                        c"/proc/self/exe".as_ptr(),
                        arguments.as_ptr(),
                        nothing.as_ptr(),
                        0,
                    );
                }
            }
        }
        // Milliseconds that it sleeps before its calls.
        "daemon" => daemon(times, Duration::from_millis(number(3).max(200))),
        // Numbers that no kernel has, below and above the end of `slot_by_syscall`.
        "many-numbers" => {
            for number in 480..480 + times as libc::c_long {
                (0..3).for_each(|_| drop_result(call(number)));
            }
        }
        #[cfg(target_arch = "x86_64")]
        "refused-compat" => {
            refuse_compat();
            compat_getppid(times);
        }
        // The leader ends, then another thread ends the process.
        "leader-leaves-first" => {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                // SAFETY: it ends the process.
                unsafe { libc::_exit(times as i32) }
            });
            // SAFETY: it ends this thread only.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        // The last call is still running when the process ends.
        "in-flight" => {
            thread::spawn(|| {
                // SAFETY: it waits for a signal that never comes.
                unsafe { libc::syscall(libc::SYS_pause) };
            });
            thread::sleep(Duration::from_millis(50));
        }
        "io-uring" => {
            let mut parameters = [0_u8; 120];
            // SAFETY: the kernel fills at most the 120 bytes of `struct io_uring_params`.
            unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
        }
        "abort" => std::process::abort(),
        other => panic!("no such program: {other}"),
    }
}
