//! A runtime's context, with all jobs that are in flight: who looks for their ends, and when to look next.

use std::{
    collections::VecDeque,
    os::fd::RawFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::{
    arena::Memory,
    backend::{Backend, Stream, Token},
    class::{Class, ClassOptions, Plan, Seen},
    clock::now,
    error::{Error, Result, Status},
    identity::{self, Ended},
    job::Job,
    learn::Oversleep,
    state::{Event, State},
    table,
    timer::Timer,
};

/// A sleep that is shorter is not worth its call, nanoseconds.
pub(crate) const LEAST_SLEEP: u64 = 15_000;
/// Between two looks that are this close nothing is missed, nanoseconds.
const CLOSE: u64 = 5_000;
/// A time that is over: what is armed for it is readable at once.
const AT_ONCE: u64 = 1;
/// How long [`Context::poll`] looks by itself before it returns to the program's loop, nanoseconds.
const LOOK: u64 = 50_000;

/// A context.
pub struct Context {
    /// The runtime.
    pub backend: Box<dyn Backend>,
    debug: bool,
    flight: Mutex<Flight>,
    classes: Mutex<Vec<Weak<Class>>>,
    timer: OnceLock<Timer>,
    /// How many jobs the runtime has failed: whoever waits for another asks at once.
    failures: AtomicU32,
    is_closed: AtomicBool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("backend", &self.backend.name()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Flight {
    /// In the order of their submission.
    jobs: Vec<InFlight>,
    /// Known, and not yet told to a poll.
    completed: VecDeque<u64>,
    /// Of jobs that were given up: the device may still write.
    given_up: Vec<GivenUp>,
    tokens: Vec<Token>,
    oversleep: Oversleep,
    /// The program has a loop that sleeps for several jobs.
    is_loop: bool,
    /// Until when the program's loop was told to sleep.
    told: Option<u64>,
    /// Until when the timer is armed; it may be in the past.
    armed: Option<u64>,
    /// The runtime reported an error: all are to be asked for.
    is_suspect: bool,
}

struct GivenUp {
    token: Token,
    class: Arc<Class>,
    memory: Memory,
}

/// A job whose token has not been seen.
struct InFlight {
    handle: u64,
    token: Token,
    stream: Stream,
    class: Arc<Class>,
    /// When it could start: at its submission, or when the job before it in the stream ended. `None` behind another.
    started: Option<u64>,
    /// When to look, from then on.
    plan: Option<Plan>,
    /// When a look last found that it had not ended.
    looked: u64,
    /// When the runtime was asked last.
    asked: u64,
}

impl InFlight {
    /// When to look next.
    fn next_look(&self, now: u64) -> Option<u64> {
        let started = self.started?;
        let Some(plan) = self.plan else {
            // Nothing is known: late by an eighth at most.
            return Some(now + (now.saturating_sub(started) / 8).clamp(2_000, 1_000_000));
        };
        let (wake, nap) = (started + plan.wake, started + plan.nap);
        Some(match now {
            _ if now < wake => wake,
            _ if now < nap => now,
            _ => now + ((now - nap) / 4).clamp(CLOSE, 1_000_000),
        })
    }

    /// How its end became known to a look at all jobs.
    fn seen(&self, now: u64) -> Seen {
        let Some(started) = self.started else { return Seen::Found };
        if now - self.looked.min(now) <= CLOSE.max(now.saturating_sub(started) / 50) {
            return Seen::Ending;
        }
        match self.plan.map(|plan| started + plan.wake) {
            // The sleep was for this one, and too long.
            Some(wake) if self.looked < wake && now >= wake => Seen::Late,
            _ => Seen::Blocked,
        }
    }

    /// It takes so much longer than ever that the runtime is to be asked.
    fn is_overdue(&self, now: u64) -> bool {
        let longest = self.plan.map_or(0, |plan| plan.nap);
        let since = self.asked.max(self.started.unwrap_or(now) + longest);
        now.saturating_sub(since) > self.class.watchdog()
    }
}

/// When to look for a job that a thread waits for.
pub(crate) struct Look {
    /// Nothing that this context knows of is behind it in its stream.
    pub(crate) is_last: bool,
    /// Absolute; `None` where nothing is known of this or of one before it in its stream.
    pub(crate) wake: Option<u64>,
    /// Absolute.
    pub(crate) nap: u64,
    pub(crate) is_wide: bool,
}

/// What became of a job, as the system is told.
fn ended(job: &Job, looked: u64) -> Ended {
    Ended {
        class: job.class.number,
        submitter: job.submitter,
        submitted: job.submitted,
        known: job.known,
        looked: looked.max(job.queued),
        has_failed: job.state == State::Failed,
    }
}

impl Context {
    /// On a runtime. `debug`: memory of ended jobs is poisoned, and checked before it is used again.
    pub fn new(backend: Box<dyn Backend>, debug: bool) -> Arc<Self> {
        table::notice_forks();
        Arc::new(Self {
            backend,
            debug,
            flight: Mutex::default(),
            classes: Mutex::default(),
            timer: OnceLock::new(),
            failures: AtomicU32::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    /// A class of its jobs.
    pub fn class(&self, options: ClassOptions) -> Arc<Class> {
        let class = Arc::new(Class::new(options, self.debug));
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        classes.retain(|class| class.strong_count() > 0);
        classes.push(Arc::downgrade(&class));
        class
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that waits for a value it never had.
    pub(crate) fn token(&self) -> Result<Token> {
        let mut flight = self.flight();
        if flight.tokens.is_empty() {
            flight.tokens = Token::of_page(self.backend.tokens()?);
        }
        let mut token = flight.tokens.pop().ok_or_else(|| Error::new(Status::Internal, "a page without tokens"))?;
        token.next();
        Ok(token)
    }

    pub(crate) fn return_token(&self, token: Token) {
        self.flight().tokens.push(token);
    }

    /// Memory of a job that was given up, until its token comes.
    pub(crate) fn keep_until(&self, token: Token, class: Arc<Class>, memory: Memory) {
        self.flight().given_up.push(GivenUp { token, class, memory });
        self.reap();
    }

    /// A job is ended: no poll tells of it.
    pub(crate) fn forget(&self, handle: u64) {
        self.flight().completed.retain(|other| *other != handle);
    }

    /// How many jobs the runtime has failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Adds a job whose token is queued.
    pub(crate) fn add(&self, handle: u64, job: &Job, token: Token) {
        let mut flight = self.flight();
        if !flight.given_up.is_empty() {
            drop(flight);
            self.reap();
            flight = self.flight();
        }
        let is_behind = flight.jobs.iter().any(|other| other.stream == job.stream);
        let started = (!is_behind).then_some(job.submitted);
        let plan = job.class.plan(Self::of_loop(&flight));
        let class = Arc::clone(&job.class);
        let entry = InFlight { handle, token, stream: job.stream, class, started, plan, looked: 0, asked: 0 };
        let due = entry.next_look(job.queued);
        flight.jobs.push(entry);
        if let Some(due) = due {
            self.arm_earlier(&mut flight, due);
        }
    }

    /// Arms the timer, where the program has the descriptor and it is not armed for an earlier time.
    fn arm_earlier(&self, flight: &mut Flight, at: u64) {
        if let Some(timer) = self.timer.get()
            && flight.armed.is_none_or(|armed| at < armed)
        {
            timer.arm(Some(at));
            flight.armed = Some(at);
        }
    }

    /// What is learnt of sleeping by whoever sleeps for several jobs.
    fn of_loop(flight: &Flight) -> Option<&Oversleep> {
        flight.is_loop.then_some(&flight.oversleep)
    }

    /// Takes a job out of flight; the one behind it in its stream can start.
    fn take(&self, handle: u64, now: u64) -> Option<InFlight> {
        let mut flight = self.flight();
        let place = flight.jobs.iter().position(|job| job.handle == handle)?;
        let taken = flight.jobs.remove(place);
        if taken.started.is_some() {
            let plan = |class: &Class| class.plan(Self::of_loop(&flight));
            let next = flight.jobs.iter().position(|job| job.stream == taken.stream);
            if let Some(next) = next {
                let plan = plan(&flight.jobs[next].class);
                let next = &mut flight.jobs[next];
                (next.started, next.plan) = (Some(now), plan);
                // A loop that sleeps for the one before has to look for this one.
                if let Some(due) = next.next_look(now) {
                    self.arm_earlier(&mut flight, due);
                }
            }
        }
        Some(taken)
    }

    /// A job's token has come; `looked`: when a look last found that it had not. False: another thread saw it first.
    pub(crate) fn finish(&self, handle: u64, now: u64, seen: Seen, looked: u64) -> bool {
        let Some(taken) = self.take(handle, now) else { return false };
        // Of one whose beginning is not known nothing is learnt.
        let duration = taken.started.map(|started| now.saturating_sub(started));
        taken.class.took(duration.unwrap_or_default(), if duration.is_some() { seen } else { Seen::Found });
        let looked = looked.max(taken.looked);
        // One that never came may come late.
        if taken.token.has_arrived() {
            self.return_token(taken.token);
        }
        let moved = table::with(handle, |job| {
            job.state = job.state.after(Event::Token)?;
            (job.known, job.token) = (now, None);
            identity::ended(&ended(job, looked));
            Ok(())
        });
        debug_assert!(moved.is_ok(), "a job in flight is submitted: {moved:?}");
        true
    }

    /// A job has failed. False: its end is known already.
    pub(crate) fn fail(&self, handle: u64, error: Error) -> bool {
        let now = now();
        let Some(taken) = self.take(handle, now) else { return false };
        taken.class.count(|stats| stats.failed += 1);
        let is_runtime = error.status != Status::Cancelled;
        self.failures.fetch_add(u32::from(is_runtime), Ordering::AcqRel);
        let label = &taken.class.options.label;
        let what = if label.is_empty() { error.what } else { format!("{label}: {}", error.what) };
        let error = Error { what, ..error };
        let moved = table::with(handle, |job| {
            job.state = job.state.after(Event::Error)?;
            job.known = now;
            job.error = Some(error);
            identity::ended(&ended(job, now));
            Ok(())
        });
        debug_assert!(moved.is_ok(), "a job in flight is submitted: {moved:?}");
        let mut flight = self.flight();
        flight.is_suspect |= is_runtime;
        flight.completed.push_back(handle);
        self.arm_earlier(&mut flight, AT_ONCE);
        true
    }

    /// When to look for a job; `None` once it is no longer in flight.
    pub(crate) fn look(&self, handle: u64) -> Option<Look> {
        let flight = self.flight();
        let job = flight.jobs.iter().find(|job| job.handle == handle)?;
        // Those before it in its stream take what they are likely to take.
        let mut start = Some(0);
        for before in
            flight.jobs.iter().take_while(|job| job.handle != handle).filter(|other| other.stream == job.stream)
        {
            start = start.zip(before.plan).map(|(start, plan)| before.started.unwrap_or(start) + plan.wake);
        }
        let start = job.started.or(start);
        let plan = job.plan.zip(start);
        let is_last =
            flight.jobs.iter().rfind(|other| other.stream == job.stream).is_some_and(|last| last.handle == handle);
        Some(Look {
            is_last,
            wake: plan.map(|(plan, start)| start + plan.wake),
            nap: plan.map_or(u64::MAX, |(plan, start)| start + plan.nap),
            is_wide: job.plan.is_some_and(|plan| plan.is_wide),
        })
    }

    /// Looks at every token once: how many jobs have ended, and when to look next (`None`: nothing is in flight).
    pub(crate) fn scan(&self, now: u64) -> (usize, Option<u64>) {
        let mut flight = self.flight();
        let is_suspect = std::mem::take(&mut flight.is_suspect);
        let mut arrived = Vec::new();
        let mut overdue = Vec::new();
        let mut next: Option<u64> = None;
        for job in &mut flight.jobs {
            if job.token.has_arrived() {
                arrived.push((job.handle, job.seen(now)));
                continue;
            }
            job.looked = now;
            if is_suspect || job.is_overdue(now) {
                job.asked = now;
                overdue.push((job.handle, job.stream, job.token.clone()));
            }
            if let Some(look) = job.next_look(now) {
                next = Some(next.map_or(look, |next| next.min(look)));
            }
        }
        let is_reaping = !flight.given_up.is_empty();
        drop(flight);
        if is_reaping {
            self.reap();
        }
        let mut ended = 0;
        for (handle, seen) in arrived {
            if self.finish(handle, now, seen, 0) {
                self.flight().completed.push_back(handle);
                ended += 1;
            }
        }
        for (handle, stream, token) in overdue {
            ended += usize::from(self.ask(handle, stream, &token));
        }
        (ended, next)
    }

    /// Asks the runtime what became of a job whose token does not come. True: it has ended.
    pub(crate) fn ask(&self, handle: u64, stream: Stream, token: &Token) -> bool {
        let answer = self.backend.is_idle(stream);
        // Its own work was done, whatever became of what is behind it; or all is done, and the token came meanwhile or never will.
        if token.has_arrived() || matches!(answer, Ok(true)) {
            let ended = self.finish(handle, now(), Seen::Blocked, 0);
            if ended {
                self.flight().completed.push_back(handle);
            }
            return ended;
        }
        answer.is_err_and(|error| self.fail(handle, error))
    }

    /// Memory of jobs that were given up and whose work is over goes back.
    fn reap(&self) {
        let mut flight = self.flight();
        let (over, still) = std::mem::take(&mut flight.given_up).into_iter().partition(|one| one.token.has_arrived());
        flight.given_up = still;
        let over: Vec<GivenUp> = over;
        flight.tokens.extend(over.iter().map(|one| one.token.clone()));
        drop(flight);
        for mut one in over {
            // Of a debugging context alone, which finds it again at the next use.
            one.class.arena.give_back(&*self.backend, &mut one.memory).ok();
        }
    }

    /// When a loop should look again, `CLOCK_MONOTONIC` nanoseconds; `None` while nothing is in flight.
    pub fn next_deadline(&self) -> Option<u64> {
        let now = now();
        let mut flight = self.flight();
        flight.is_loop = true;
        if !flight.completed.is_empty() || (flight.is_suspect && !flight.jobs.is_empty()) {
            return Some(now);
        }
        let next = flight.jobs.iter().filter_map(|job| job.next_look(now)).min();
        flight.told = next.filter(|next| *next > now);
        next
    }

    /// Jobs whose end is known and was not told yet, `most` at most. Looks for some microseconds where one is due, and arms the
    /// descriptor for the next.
    pub fn poll(&self, most: usize) -> Vec<u64> {
        let began = now();
        {
            let mut flight = self.flight();
            let armed = flight.armed.filter(|_| self.timer.get().is_some());
            if let Some(told) = flight.told.take().or(armed)
                && began >= told
                && told > AT_ONCE
            {
                flight.oversleep.add(told, began);
            }
        }
        let told = loop {
            let now = now();
            let (_, next) = self.scan(now);
            let told = self.tell(most);
            let is_near = next.is_some_and(|next| next < now + LEAST_SLEEP);
            if !told.is_empty() || !is_near || now > began + LOOK {
                break told;
            }
            std::hint::spin_loop();
        };
        self.arm_next(!told.is_empty());
        told
    }

    /// Arms the timer for what is left: at once where there is more to tell.
    fn arm_next(&self, has_told: bool) {
        let Some(timer) = self.timer.get() else { return };
        let now = now();
        let mut flight = self.flight();
        let next = flight.jobs.iter().filter_map(|job| job.next_look(now)).min();
        // After a failure all others are asked at once.
        let is_asked = flight.is_suspect && !flight.jobs.is_empty();
        let at = if flight.completed.is_empty() && !is_asked { next } else { Some(AT_ONCE) };
        let is_due = at.is_some_and(|at| at <= now);
        // What is due is no sleep that something could be learnt from.
        let at = if is_due { Some(AT_ONCE) } else { at };
        if has_told && is_due && flight.armed.is_some_and(|armed| armed <= now) {
            // It is readable as it is, and the loop is not done: that saves a call for each job of several that end together.
            flight.armed = Some(AT_ONCE);
            return;
        }
        // Loops that are told of changes alone hear of more only when it is armed again.
        if at != flight.armed || at == Some(AT_ONCE) {
            timer.arm(at);
            flight.armed = at;
        }
    }

    fn tell(&self, most: usize) -> Vec<u64> {
        let mut told = Vec::new();
        while told.len() < most {
            let next = self.flight().completed.pop_front();
            let Some(handle) = next else { break };
            // A wait has told the program, or it was ended since.
            let is_new = table::with(handle, |job| Ok(!std::mem::replace(&mut job.is_reported, true)));
            if is_new.unwrap_or_default() {
                told.push(handle);
            }
        }
        told
    }

    /// A descriptor that is readable when [`Context::poll`] should be called.
    ///
    /// # Errors
    /// There is no descriptor.
    pub fn fd(&self) -> Result<RawFd> {
        if self.timer.get().is_none() {
            self.flight().is_loop = true;
            // Another thread may be first: its descriptor stays.
            self.timer.set(Timer::new()?).ok();
            self.arm_next(false);
        }
        self.timer.get().map(Timer::fd).ok_or_else(|| Error::new(Status::Internal, "no descriptor"))
    }

    /// Closes it: its classes begin no more jobs.
    ///
    /// # Errors
    /// [`Status::State`] while jobs are in flight.
    pub fn close(&self) -> Result<()> {
        self.reap();
        let flying = self.flight().jobs.len();
        if flying > 0 {
            return Err(Error::new(Status::State, format!("{flying} jobs are in flight")));
        }
        self.is_closed.store(true, Ordering::Release);
        Ok(())
    }

    /// The job that has an address, or had it last: its handle, and whether it has it still.
    ///
    /// # Errors
    /// [`Status::Invalid`]: none had.
    pub fn owner(&self, address: u64) -> Result<(u64, bool)> {
        if let Some(handle) = table::find(|job| std::ptr::eq(&raw const *job.context, self) && job.memory.has(address))
        {
            return Ok((handle, true));
        }
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = classes.iter().filter_map(Weak::upgrade).find_map(|class| class.arena.ended(address));
        ended
            .map(|handle| (handle, false))
            .ok_or_else(|| Error::new(Status::Invalid, format!("no job of this context had {address:#x}")))
    }

    /// How a job ended, of which the program is told now; `None` while it is submitted.
    pub(crate) fn outcome(handle: u64) -> Result<Option<()>> {
        table::with(handle, |job| match job.state {
            State::Done => {
                job.is_reported = true;
                Ok(Some(()))
            }
            State::Failed => {
                job.is_reported = true;
                Err(job.why())
            }
            State::Submitted => Ok(None),
            state @ (State::New | State::Open | State::Ended) => {
                Err(Error::new(Status::State, format!("the job is {}", state.name())))
            }
        })
    }
}
