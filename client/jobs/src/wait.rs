//! A thread waits for a job: asleep until shortly before its end, then looking.

use std::{cell::Cell, sync::Arc};

use crate::{
    backend::{Stream, Token},
    class::{Class, Seen, Unknown},
    clock::{now, sleep_until},
    context::{Context, LEAST_SLEEP},
    error::{Error, Result, Status},
    identity,
    state::State,
    table,
};

/// No nap is shorter, nanoseconds.
const NAP: u64 = 10_000;
/// None is longer.
const LONGEST_NAP: u64 = 1_000_000;
/// A nap is this part of the time since the first.
const SHARE: u64 = 50;
/// The number of naps after which the runtime waits.
const NAPS: u32 = 64;

struct Waiter {
    handle: u64,
    context: Arc<Context>,
    class: Arc<Class>,
    token: Token,
    stream: Stream,
    /// When it was submitted.
    since: u64,
    /// When to give up waiting.
    end: u64,
    /// How many jobs the runtime had failed when the wait began.
    failures: u32,
    /// When a look last found that it had not ended.
    looked: Cell<u64>,
}

/// How a part of waiting ended.
enum Part {
    /// The end of the job is known: ask for its outcome.
    Known,
    /// Not yet.
    GoOn,
}

/// Waits until a job's end is known, `timeout` nanoseconds at most (`None`: as long as it takes).
///
/// # Errors
/// [`Status::Timeout`]; why the job failed; [`Status::State`] for one that was not submitted.
pub fn wait(handle: u64, timeout: Option<u64>) -> Result<()> {
    let waiter = table::with(handle, |job| {
        let token = match (job.state, &job.token) {
            (State::Submitted, Some(token)) => token.clone(),
            _ => return Ok(None),
        };
        let end = timeout.map_or(u64::MAX, |timeout| now().saturating_add(timeout));
        let (context, class) = (Arc::clone(&job.context), Arc::clone(&job.class));
        let (failures, since, stream) = (context.failures(), job.submitted, job.stream);
        // It cannot have come before.
        let looked = Cell::new(job.queued);
        Ok(Some(Waiter { handle, context, class, token, stream, since, end, failures, looked }))
    })?;
    let Some(waiter) = waiter else { return Context::outcome(handle).map(drop) };
    let _waiting = identity::waits(waiter.class.number, now());
    let waited = waiter.wait();
    // Another thread may have seen it end meanwhile; the one that took it out of flight says at once what became of it.
    loop {
        match (Context::outcome(handle)?, &waited) {
            (Some(()), _) => return Ok(()),
            (None, Err(error)) if waiter.context.look(handle).is_some() => return Err(error.clone()),
            (None, _) => std::hint::spin_loop(),
        }
    }
}

impl Waiter {
    /// Until the job is in flight no more.
    fn wait(&self) -> Result<()> {
        if self.has_ended(Seen::Found) {
            return Ok(());
        }
        // Once something has failed, the runtime is asked before it is waited for.
        if self.failures > 0 && self.context.ask(self.handle, self.stream, &self.token) {
            return Ok(());
        }
        let Some(look) = self.context.look(self.handle) else { return Ok(()) };
        let blocks = self.class.options.unknown == Unknown::Block;
        let part = match look.wake {
            Some(wake) if !(look.is_wide && blocks) => match self.sleep(wake)? {
                Part::Known => Part::Known,
                Part::GoOn => self.spin(look.nap)?,
            },
            // The runtime's wait has no timeout, and ends with the stream.
            _ if blocks && self.end == u64::MAX && look.is_last => self.block(),
            _ if blocks => Part::GoOn,
            _ => self.spin(look.nap)?,
        };
        match part {
            Part::Known => Ok(()),
            Part::GoOn => self.nap(),
        }
    }

    /// Asks the runtime, where it has failed another job since.
    fn is_known_to_have_failed(&self) -> bool {
        self.context.failures() != self.failures && self.context.ask(self.handle, self.stream, &self.token)
    }

    /// Whether the token has come.
    fn has_ended(&self, seen: Seen) -> bool {
        let now = now();
        if self.token.has_arrived() {
            self.context.finish(self.handle, now, seen, self.looked.get());
            return true;
        }
        self.looked.set(now);
        false
    }

    fn check_time(&self, now: u64) -> Result<()> {
        if now < self.end {
            return Ok(());
        }
        Err(Error::new(Status::Timeout, format!("job {:#x} is still submitted", self.handle)))
    }

    /// Sleeps to the time when it is likely to end.
    fn sleep(&self, wake: u64) -> Result<Part> {
        if wake <= now() + LEAST_SLEEP {
            return Ok(Part::GoOn);
        }
        sleep_until(wake.min(self.end));
        let woke = now();
        if wake <= self.end {
            self.class.slept(wake, woke);
        }
        if self.has_ended(Seen::Late) {
            return Ok(Part::Known);
        }
        self.check_time(woke)?;
        Ok(Part::GoOn)
    }

    /// Looks all the time until `until`, and no longer than the watchdog's time.
    fn spin(&self, until: u64) -> Result<Part> {
        const LOOKS: u32 = 64;
        let until = until.min(now().saturating_add(self.class.watchdog()));
        loop {
            for _ in 0..LOOKS {
                if self.token.has_arrived() {
                    self.context.finish(self.handle, now(), Seen::Ending, self.looked.get());
                    return Ok(Part::Known);
                }
                std::hint::spin_loop();
            }
            let now = now();
            self.looked.set(now);
            self.check_time(now)?;
            if self.context.look(self.handle).is_none() || self.is_known_to_have_failed() {
                return Ok(Part::Known);
            }
            if now >= until {
                return Ok(Part::GoOn);
            }
        }
    }

    /// It takes longer than any before, or nothing is known: sleeps that become longer with the time it takes, then the runtime's
    /// wait.
    fn nap(&self) -> Result<()> {
        let (began, mut asked) = (now(), now());
        // The runtime's wait is for all of the stream: who looks all the time wants to know of this job.
        let mut may_block = self.class.options.unknown == Unknown::Block;
        for number in 0_u32.. {
            let before = now();
            let length = ((before - began) / SHARE).clamp(NAP, LONGEST_NAP);
            if number >= NAPS
                && self.end == u64::MAX
                && may_block
                && self.context.look(self.handle).is_some_and(|look| look.is_last)
            {
                if let Part::Known = self.block() {
                    return Ok(());
                }
                may_block = false;
            }
            sleep_until((before + length).min(self.end));
            self.class.count(|stats| stats.naps += 1);
            let now = now();
            let is_exact = now - before <= (now - self.since) / SHARE;
            if self.has_ended(if is_exact { Seen::Ending } else { Seen::Blocked }) {
                return Ok(());
            }
            self.check_time(now)?;
            if self.context.look(self.handle).is_none() || self.is_known_to_have_failed() {
                return Ok(());
            }
            if now - asked > self.class.watchdog() {
                asked = now;
                if self.context.ask(self.handle, self.stream, &self.token) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits in the runtime.
    fn block(&self) -> Part {
        self.class.count(|stats| stats.blocks += 1);
        let blocked = self.context.backend.block(self.stream, &self.token);
        if self.has_ended(Seen::Blocked) {
            return Part::Known;
        }
        match blocked {
            // A capture has begun: nothing may be asked.
            Err(error) if error.status == Status::Capturing => Part::GoOn,
            Err(error) => {
                self.context.fail(self.handle, error);
                Part::Known
            }
            // All that was queued is done: the token is on its way, or never comes.
            Ok(()) if self.context.ask(self.handle, self.stream, &self.token) => Part::Known,
            Ok(()) => Part::GoOn,
        }
    }
}
