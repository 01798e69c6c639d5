//! A server in one thread: sockets and jobs in one tokio loop. A client sends a byte; it gets one back when the job that the byte
//! began has ended. On the host runtime a job sleeps for 1 ms. Its arguments: the path of a Unix socket, and after how many requests
//! it ends.
#![expect(clippy::print_stdout, reason = "an example")]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    sync::Arc,
};

use gpuos_job::{
    backend::host::{self, Host},
    class::ClassOptions,
    clock,
    context::Context,
    job,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, unix::AsyncFd},
    net::{UnixListener, UnixStream},
    sync::{Notify, oneshot},
};

/// The descriptor of a context, which closes it.
struct Jobs(RawFd);

impl AsRawFd for Jobs {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

type Waiting = Rc<RefCell<HashMap<u64, oneshot::Sender<()>>>>;

/// Tells those who wait for jobs, whenever some have ended.
async fn tell(context: Arc<Context>, waiting: Waiting) -> std::io::Result<()> {
    let fd = Jobs(context.fd().map_err(std::io::Error::other)?);
    // SAFETY: the descriptor is open for as long as the context, which this task has.
    let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
    loop {
        let mut ready = fd.readable().await?;
        let ended = context.poll(64);
        if ended.is_empty() {
            // The runtime is told of changes alone: only now may it wait for one.
            ready.clear_ready();
        }
        let has_told = !ended.is_empty();
        for job in ended {
            if let Some(waiter) = waiting.borrow_mut().remove(&job) {
                // Who waits may have gone.
                waiter.send(()).ok();
            }
        }
        if has_told {
            // Those who were told answer before the next look.
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let (Some(path), Some(requests)) = (words.get(1), words.get(2)) else {
        return Err("usage: server SOCKET REQUESTS".into());
    };
    let requests: u64 = requests.parse()?;
    let context = Context::new(Box::new(Host), false);
    let class = context.class(ClassOptions { label: "requests".to_owned(), ..ClassOptions::default() });
    let stream = host::open()?;
    let listener = UnixListener::bind(path)?;
    println!("ready");
    let tasks = tokio::task::LocalSet::new();
    let waiting = Waiting::default();
    let (served, done) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
    let serve = |mut client: UnixStream| {
        let (context, class, waiting) = (Arc::clone(&context), Arc::clone(&class), Rc::clone(&waiting));
        let (served, done) = (Rc::clone(&served), Rc::clone(&done));
        async move {
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                let (tell, told) = oneshot::channel();
                let work = || {
                    clock::sleep_until(clock::now() + 1_000_000);
                    0
                };
                let begun = job::begin(&context, &class, stream).and_then(|job| {
                    host::launch(stream, Arc::new(work))?;
                    waiting.borrow_mut().insert(job, tell);
                    job::submit(job).map(|()| job)
                });
                let Ok(job) = begun else { return };
                if told.await.is_err() || job::end(job).is_err() || client.write_all(b"d").await.is_err() {
                    return;
                }
                served.set(served.get() + 1);
                if served.get() >= requests {
                    done.notify_one();
                }
            }
        }
    };
    tasks
        .run_until(async {
            tokio::task::spawn_local(tell(Arc::clone(&context), Rc::clone(&waiting)));
            loop {
                tokio::select! {
                    client = listener.accept() => match client {
                        Ok((client, _)) => drop(tokio::task::spawn_local(serve(client))),
                        Err(_) => break,
                    },
                    () = done.notified() => break,
                }
            }
        })
        .await;
    println!("served {}", class.stats().done);
    Ok(())
}
