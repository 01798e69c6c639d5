//! What a program does with a job, from its begin to its end.

use std::sync::Arc;

use crate::{
    arena::Memory,
    backend::{Stream, Token},
    class::{Class, Graph},
    clock::now,
    context::Context,
    error::{Error, Result, Status},
    identity,
    state::{Event, State},
    table,
};

pub use crate::wait::wait;

/// A job.
#[derive(Debug)]
pub struct Job {
    pub(crate) state: State,
    pub(crate) context: Arc<Context>,
    pub(crate) class: Arc<Class>,
    pub(crate) stream: Stream,
    pub(crate) memory: Memory,
    /// From submission until it arrived. Of a job that failed it may still be written: until then the memory is the device's.
    pub(crate) token: Option<Token>,
    pub(crate) error: Option<Error>,
    pub(crate) submitted: u64,
    /// When its token was queued behind its work.
    pub(crate) queued: u64,
    /// The thread that did.
    pub(crate) submitter: u32,
    pub(crate) known: u64,
    /// A wait or a poll has told the program.
    pub(crate) is_reported: bool,
    recording: Recording,
}

/// Whether what a job does is recorded for the class.
#[derive(Debug)]
enum Recording {
    /// It is done as it is issued.
    No,
    /// Its stream records what it issues.
    Records,
    /// It issues nothing: what the class has recorded is submitted.
    Replays(Arc<Graph>),
}

impl Job {
    fn moved(&mut self, event: Event) -> Result<()> {
        self.state = self.state.after(event)?;
        Ok(())
    }

    /// Why it failed.
    pub(crate) fn why(&self) -> Error {
        self.error.clone().unwrap_or_else(|| Error::new(Status::Failed, "no reason is known"))
    }
}

/// What is known of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Where it stands.
    pub state: State,
    /// When it was submitted, `CLOCK_MONOTONIC` nanoseconds; 0 before.
    pub submitted: u64,
    /// When its end was known; 0 before.
    pub known: u64,
}

/// Begins a job of a class: what the calling thread issues in the stream from now on belongs to it.
///
/// # Errors
/// [`Status::TooMany`].
pub fn begin(context: &Arc<Context>, class: &Arc<Class>, stream: Stream) -> Result<u64> {
    if context.is_closed() {
        return Err(Error::new(Status::Stale, "the context is closed"));
    }
    let mut job = Job {
        state: State::New,
        context: Arc::clone(context),
        class: Arc::clone(class),
        stream,
        memory: Memory::default(),
        token: None,
        error: None,
        submitted: 0,
        queued: 0,
        submitter: 0,
        known: 0,
        is_reported: false,
        recording: Recording::No,
    };
    job.moved(Event::Begin)?;
    let handle = table::insert(job)?;
    class.count(|stats| stats.begun += 1);
    identity::begun(class.number, handle);
    Ok(handle)
}

/// Memory that the job has until it is ended.
///
/// # Errors
/// As [`Arena::alloc`](crate::arena::Arena::alloc); [`Status::State`] unless the job is open.
pub fn alloc(handle: u64, bytes: usize, alignment: usize) -> Result<u64> {
    table::with(handle, |job| {
        if job.state != State::Open {
            return Err(Error::new(Status::State, format!("the job is {}", job.state.name())));
        }
        job.class.arena.alloc(&*job.context.backend, &mut job.memory, handle, bytes, alignment)
    })
}

/// Records what the job issues, for all jobs of its class that ask for it, too. True: that was done before, and the job issues
/// nothing.
///
/// # Errors
/// [`Status::Unsupported`]: what is issued is done as it comes. What the runtime says.
pub fn record(handle: u64) -> Result<bool> {
    table::with(handle, |job| {
        if job.state != State::Open || !matches!(job.recording, Recording::No) {
            return Err(Error::new(Status::State, format!("the job is {}", job.state.name())));
        }
        if let Some(graph) = job.class.graph() {
            job.recording = Recording::Replays(graph);
            return Ok(true);
        }
        let begun = job.context.backend.begin_recording(job.stream);
        job.class.count(|stats| stats.unrecorded += u64::from(begun.is_err()));
        begun?;
        job.recording = Recording::Records;
        Ok(false)
    })
}

/// Queues the completion token behind all that the job has issued. It can be waited for from now on.
///
/// # Errors
/// What the runtime says; the job has failed then.
pub fn submit(handle: u64) -> Result<()> {
    submit_since(handle, u64::MAX)
}

/// As [`submit`], for one whose work was issued from this time of [`now`] on, without the library's knowledge: how long it takes
/// counts from then.
///
/// # Errors
/// As [`submit`].
pub fn submit_since(handle: u64, since: u64) -> Result<()> {
    let submitted = table::with(handle, |job| {
        job.state.after(Event::Submit)?;
        let queued = queue(job);
        match queued {
            Ok(token) => {
                job.moved(Event::Submit)?;
                let now = now();
                (job.submitted, job.queued, job.submitter) = (now.min(since), now, identity::this_thread());
                job.token = Some(token.clone());
                job.context.add(handle, job, token);
                Ok(job.submitted)
            }
            Err(error) => {
                job.moved(Event::Error)?;
                job.error = Some(error.clone());
                job.class.count(|stats| stats.failed += 1);
                Err(error)
            }
        }
    });
    // A job that is submitted, or was refused, has nothing more to issue.
    if !is_open(handle) {
        identity::issued(handle, *submitted.as_ref().unwrap_or(&0));
    }
    submitted.map(drop)
}

/// Whether a job was begun and neither submitted nor given up.
pub(crate) fn is_open(handle: u64) -> bool {
    table::with(handle, |job| Ok(job.state == State::Open)).unwrap_or(false)
}

fn queue(job: &mut Job) -> Result<Token> {
    let backend = &*job.context.backend;
    match &job.recording {
        Recording::No => {}
        Recording::Records => {
            let ended = backend.end_recording(job.stream);
            job.class.count(|stats| stats.unrecorded += u64::from(ended.is_err()));
            let graph = Graph::new(&job.context, ended?);
            backend.launch_recorded(job.stream, graph.number)?;
            job.class.keep_graph(&graph, &mut job.memory);
            // One that another was faster with goes when this job does.
            job.recording = Recording::Replays(graph);
        }
        Recording::Replays(graph) => backend.launch_recorded(job.stream, graph.number)?,
    }
    let token = job.context.token()?;
    backend.queue_token(job.stream, &token)?;
    Ok(token)
}

/// Gives a job up that is open; of one that is submitted it returns the context, which has to.
fn cancel_open(handle: u64, error: impl Fn() -> Error) -> Result<Option<Arc<Context>>> {
    table::with(handle, |job| {
        job.state.after(Event::Cancel)?;
        if job.state == State::Open {
            if matches!(job.recording, Recording::Records) {
                job.context.backend.end_recording(job.stream).map(|graph| job.context.backend.forget(graph)).ok();
            }
            job.moved(Event::Cancel)?;
            job.error = Some(error());
            job.class.count(|stats| stats.failed += 1);
        }
        Ok((job.state == State::Submitted).then(|| Arc::clone(&job.context)))
    })
}

/// Gives a job up. What it has submitted goes on, and its memory is not used again before that is over.
///
/// # Errors
/// [`Status::State`] where its end is known already.
pub fn cancel(handle: u64) -> Result<()> {
    let error = || Error::new(Status::Cancelled, "by the program");
    let cancelled = cancel_open(handle, error);
    identity::issued(handle, 0);
    let context = cancelled?;
    match context {
        Some(context) if !context.fail(handle, error()) => {
            Err(Error::new(Status::State, "the job's end became known meanwhile"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Ends a job whose end is known: its memory goes back, its handle is stale.
///
/// # Errors
/// [`Status::State`] before.
pub fn end(handle: u64) -> Result<()> {
    let job = table::remove(handle, |job| job.moved(Event::End))?;
    job.context.forget(handle);
    if job.memory.is_empty() {
        return settle(job);
    }
    let class = Arc::clone(&job.class);
    identity::has_had(class.number, class.arena.stats().high_water);
    // What the runtime is asked for the sake of its memory is for its class.
    class.enter();
    let settled = settle(job);
    identity::leave();
    settled
}

/// Gives token and memory of an ended job back, as soon as the device is done with them.
fn settle(mut job: Job) -> Result<()> {
    let (context, class) = (Arc::clone(&job.context), Arc::clone(&job.class));
    // What it issued before it failed may still use its memory: a token says when that is over.
    if job.token.is_none() && job.submitted == 0 && !job.memory.is_empty() {
        let queued = context.token().and_then(|token| context.backend.queue_token(job.stream, &token).map(|()| token));
        match queued {
            Ok(token) => job.token = Some(token),
            Err(error) if error.ends_a_stream() => {}
            // It is not known when the device is done with it: no other job gets it.
            Err(_) => return Ok(()),
        }
    }
    let is_dead = job.error.as_ref().is_some_and(Error::ends_a_stream);
    match job.token.take() {
        // Nothing is written any more, and the token never comes.
        Some(token) if is_dead && !token.has_arrived() => class.arena.give_back(&*context.backend, &mut job.memory),
        // The device may still write to it.
        Some(token) if !token.has_arrived() => {
            context.keep_until(token, class, job.memory);
            Ok(())
        }
        token => {
            if let Some(token) = token {
                context.return_token(token);
            }
            class.arena.give_back(&*context.backend, &mut job.memory)
        }
    }
}

/// What is known of a job.
///
/// # Errors
/// [`Status::Stale`].
pub fn info(handle: u64) -> Result<JobInfo> {
    table::with(handle, |job| Ok(JobInfo { state: job.state, submitted: job.submitted, known: job.known }))
}

/// Why a job failed; `None` where it has not.
///
/// # Errors
/// [`Status::Stale`].
pub fn error(handle: u64) -> Result<Option<Error>> {
    table::with(handle, |job| Ok((job.state == State::Failed).then(|| job.why())))
}
