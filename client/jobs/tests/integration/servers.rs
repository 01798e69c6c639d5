//! The example servers, each with clients: sockets and jobs in one loop of epoll, asyncio and tokio.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use crate::c::{FOLDER, built_with, library, run};

const CLIENTS: usize = 4;
const REQUESTS: usize = 25;

/// Runs a server, and asks it from several clients at once.
fn serves(server: &mut Command) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut server = server.arg(&socket).arg((CLIENTS * REQUESTS).to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = UnixStream::connect(&socket).unwrap();
                let mut byte = [0];
                for _ in 0..REQUESTS {
                    stream.write_all(b"r").unwrap();
                    stream.read_exact(&mut byte).unwrap();
                    assert_eq!(&byte, b"d");
                }
            });
        }
    });
    assert_eq!(said.next().unwrap().unwrap(), format!("served {}", CLIENTS * REQUESTS));
    assert!(server.wait().unwrap().success());
}

#[test]
fn epoll_sleeps_to_the_deadline_of_jobs() {
    let (folder, _) = library();
    let program = folder.path().join("server");
    run(built_with("cc", "-std=c11", &folder, &program)
        .arg(Path::new(FOLDER).join("examples/server.c"))
        .arg("-lgpuos_job"));
    serves(Command::new(program).env("LD_LIBRARY_PATH", folder.path()));
}

#[test]
fn asyncio_awaits_jobs() {
    let (folder, _) = library();
    serves(
        Command::new("/usr/bin/python3")
            .arg(Path::new(FOLDER).join("examples/server.py"))
            .env("PYTHONPATH", Path::new(FOLDER).join("python"))
            .env("GPUOS_JOB_LIBRARY", folder.path().join("libgpuos_job.so.1")),
    );
}

#[test]
fn tokio_hears_of_jobs_by_their_descriptor() {
    let server = std::env::current_exe().unwrap().with_file_name("../examples/server");
    serves(&mut Command::new(server));
}
