//! The states of jobs against a model of them: any order of what a program may call gives what the specification says.

use gpuos_job::{
    class::ClassOptions,
    error::Status,
    job,
    state::{Event, State},
};
use proptest::prelude::*;

use crate::support::{Gate, TestStream, context};

/// What a program, or a device, does to one of a few jobs.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Alloc(usize),
    Submit(usize),
    /// The device does the work of the job that is first in its stream.
    Work(usize),
    WaitShortly(usize),
    Poll,
    Cancel(usize),
    End(usize),
    Info(usize),
}

const JOBS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let job = 0..JOBS;
    prop_oneof![
        3 => Just(Step::Begin),
        1 => job.clone().prop_map(Step::Alloc),
        3 => job.clone().prop_map(Step::Submit),
        3 => job.clone().prop_map(Step::Work),
        2 => job.clone().prop_map(Step::WaitShortly),
        2 => Just(Step::Poll),
        1 => job.clone().prop_map(Step::Cancel),
        2 => job.clone().prop_map(Step::End),
        1 => job.prop_map(Step::Info),
    ]
}

/// What the specification says of a job.
struct Model {
    handle: u64,
    state: State,
    /// Its work on the device is done; the token has come, or does so at once.
    worked: bool,
    cancelled: bool,
    reported: bool,
    gate: Gate,
    stream: TestStream,
}

impl Model {
    /// What a look at the token makes of it.
    fn looked(&mut self) {
        if self.state == State::Submitted && self.worked {
            self.state = State::Done;
        }
    }

    /// The code of an event that is not possible.
    fn refused(&self, event: Event) -> Option<Status> {
        self.state.after(event).err().map(|error| error.status)
    }
}

/// The device has written the token: from then on the model's `worked` is what a look finds.
fn settle(model: &Model) {
    gpuos_job::backend::host::synchronize(model.stream.0).unwrap();
}

fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let (context, class) = context(ClassOptions { bytes: 1 << 12, ..ClassOptions::default() }, false);
    let mut jobs: Vec<Model> = Vec::new();
    for step in steps {
        match *step {
            Step::Begin if jobs.len() < JOBS => {
                let (gate, stream) = (Gate::default(), TestStream::new());
                stream.gated(&gate, 0);
                let handle = job::begin(&context, &class, stream.0).unwrap();
                jobs.push(Model {
                    handle,
                    state: State::Open,
                    worked: false,
                    cancelled: false,
                    reported: false,
                    gate,
                    stream,
                });
            }
            Step::Begin => {}
            Step::Poll => {
                let told = context.poll(JOBS);
                for model in &mut jobs {
                    model.looked();
                    // A cancelled job that was submitted is told, too; a wait tells as well as a poll.
                    let ended = matches!(model.state, State::Done) || (model.state == State::Failed && model.cancelled);
                    let is_due = ended && !model.reported;
                    prop_assert_eq!(told.contains(&model.handle), is_due, "{:?}", model.state);
                    model.reported |= is_due;
                }
            }
            Step::Alloc(place)
            | Step::Submit(place)
            | Step::Work(place)
            | Step::WaitShortly(place)
            | Step::Cancel(place)
            | Step::End(place)
            | Step::Info(place) => {
                if let Some(model) = jobs.get_mut(place) {
                    of_job(*step, model)?;
                }
            }
        }
        jobs.retain(|model| model.state != State::Ended);
    }
    for model in &mut jobs {
        if !model.worked {
            model.gate.open();
        }
    }
    Ok(())
}

fn of_job(step: Step, model: &mut Model) -> Result<(), TestCaseError> {
    let status = |result: Result<(), gpuos_job::error::Error>| result.err().map(|error| error.status);
    match step {
        Step::Alloc(_) => {
            let found = job::alloc(model.handle, 64, 0).map(drop);
            prop_assert_eq!(found.is_ok(), model.state == State::Open);
        }
        Step::Submit(_) => {
            prop_assert_eq!(status(job::submit(model.handle)), model.refused(Event::Submit));
            if model.state == State::Open {
                model.state = State::Submitted;
                if model.worked {
                    settle(model);
                }
            }
        }
        Step::Work(_) => {
            if !std::mem::replace(&mut model.worked, true) {
                model.gate.open();
                settle(model);
            }
        }
        Step::WaitShortly(_) => {
            model.looked();
            let expected = match model.state {
                State::Done => None,
                State::Failed => Some(Status::Cancelled),
                State::Submitted => Some(Status::Timeout),
                State::New | State::Open | State::Ended => Some(Status::State),
            };
            prop_assert_eq!(status(job::wait(model.handle, Some(1))), expected);
            model.reported |= matches!(model.state, State::Done | State::Failed);
        }
        Step::Cancel(_) => {
            let was_submitted = model.state == State::Submitted;
            let expected = model.refused(Event::Cancel);
            prop_assert_eq!(status(job::cancel(model.handle)), expected);
            if expected.is_none() {
                model.state = State::Failed;
                // Of one that was never submitted nobody waits to hear.
                model.cancelled = was_submitted;
            }
        }
        Step::End(_) => {
            // Nobody has looked: it is still submitted.
            prop_assert_eq!(status(job::end(model.handle)), model.refused(Event::End));
            if model.refused(Event::End).is_none() {
                model.state = State::Ended;
                prop_assert_eq!(status(job::wait(model.handle, None)), Some(Status::Stale));
                if !model.worked {
                    model.gate.open();
                }
            }
        }
        Step::Info(_) => prop_assert_eq!(job::info(model.handle).unwrap().state, model.state),
        Step::Begin | Step::Poll => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn jobs_are_what_the_specification_says(steps in proptest::collection::vec(step(), 1..40)) {
        check(&steps)?;
    }
}

#[test]
fn every_state_says_what_may_follow() {
    let allowed: Vec<(State, Event)> = State::ALL
        .into_iter()
        .flat_map(|state| {
            [Event::Begin, Event::Submit, Event::Token, Event::Error, Event::Cancel, Event::End]
                .map(|event| (state, event))
        })
        .filter(|(state, event)| state.after(*event).is_ok())
        .collect();
    let expected = [
        (State::New, Event::Begin),
        (State::Open, Event::Submit),
        (State::Open, Event::Error),
        (State::Open, Event::Cancel),
        (State::Submitted, Event::Token),
        (State::Submitted, Event::Error),
        (State::Submitted, Event::Cancel),
        (State::Done, Event::End),
        (State::Failed, Event::End),
    ];
    assert_eq!(allowed, expected);
    assert_eq!(State::Ended.after(Event::End).unwrap_err().status, Status::Stale);
}
