//! A thread waits for a job: asleep until shortly before its end, then looking.

use std::sync::Arc;

use crate::{
    backend::{Stream, Token},
    class::{Class, Seen, Unknown},
    clock::{now, sleep_until},
    context::{Context, LEAST_SLEEP},
    error::{Error, Result, Status},
    state::State,
    table,
};

/// Naps begin with this, nanoseconds, and become twice as long each time.
const NAP: u64 = 10_000;
/// None is longer.
const LONGEST_NAP: u64 = 1_000_000;
/// After so many naps the runtime waits.
const NAPS: u32 = 12;

struct Waiter {
    handle: u64,
    context: Arc<Context>,
    class: Arc<Class>,
    token: Token,
    stream: Stream,
    /// When to give up waiting.
    end: u64,
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
        Ok(Some(Waiter { handle, context, class, token, stream: job.stream, end }))
    })?;
    if let Some(waiter) = waiter {
        waiter.wait()?;
    }
    // Who took it out of flight says at once what became of it.
    loop {
        if Context::outcome(handle)?.is_some() {
            return Ok(());
        }
        std::hint::spin_loop();
    }
}

impl Waiter {
    fn wait(&self) -> Result<()> {
        if self.has_ended(Seen::Found) {
            return Ok(());
        }
        let Some(look) = self.context.look(self.handle) else { return Ok(()) };
        let blocks = self.class.options.unknown == Unknown::Block;
        let nap = match look.wake {
            Some(wake) if !(look.is_wide && blocks) => {
                if let Part::Known = self.sleep(wake)? {
                    return Ok(());
                }
                look.nap
            }
            _ if blocks && self.end == u64::MAX => {
                self.block();
                return Ok(());
            }
            // Nothing is known, and the runtime's wait has no timeout.
            _ if blocks => now(),
            _ => look.nap,
        };
        if let Part::Known = self.spin(nap)? {
            return Ok(());
        }
        self.nap()
    }

    /// Whether the token has come, or somebody else has seen the end.
    fn has_ended(&self, seen: Seen) -> bool {
        if self.token.has_arrived() {
            self.context.finish(self.handle, now(), seen);
            return true;
        }
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

    /// Looks all the time until `until`, and no longer than the runtime is not asked.
    fn spin(&self, until: u64) -> Result<Part> {
        const LOOKS: u32 = 64;
        let until = until.min(now() + self.class.watchdog());
        loop {
            for _ in 0..LOOKS {
                if self.token.has_arrived() {
                    self.context.finish(self.handle, now(), Seen::Ending);
                    return Ok(Part::Known);
                }
                std::hint::spin_loop();
            }
            let now = now();
            self.check_time(now)?;
            if self.context.look(self.handle).is_none() {
                return Ok(Part::Known);
            }
            if now >= until {
                return Ok(Part::GoOn);
            }
        }
    }

    /// It takes longer than any before: sleeps that become longer, then the runtime's wait.
    fn nap(&self) -> Result<()> {
        let mut asked = now();
        let mut length = NAP;
        for number in 0_u32.. {
            if number >= NAPS && self.end == u64::MAX {
                self.block();
                return Ok(());
            }
            let before = now();
            sleep_until((before + length).min(self.end));
            self.class.count(|stats| stats.naps += 1);
            if self.has_ended(if length == NAP { Seen::Ending } else { Seen::Blocked }) {
                return Ok(());
            }
            let now = now();
            self.check_time(now)?;
            if self.context.look(self.handle).is_none() {
                return Ok(());
            }
            if now - asked > self.class.watchdog() {
                asked = now;
                if self.context.ask(self.handle, self.stream, &self.token) {
                    return Ok(());
                }
            }
            length = (length * 2).min(LONGEST_NAP);
        }
        Ok(())
    }

    /// Waits in the runtime.
    fn block(&self) {
        self.class.count(|stats| stats.blocks += 1);
        if let Err(error) = self.context.backend.block(self.stream) {
            self.context.fail(self.handle, error);
            return;
        }
        if !self.has_ended(Seen::Blocked) {
            // All that was queued is done: the token is on its way, or never comes.
            self.context.ask(self.handle, self.stream, &self.token);
        }
    }
}
