//! Error rates of the outcomes of interventions, on simulated runs whose truth is known.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rand_distr::{Distribution as _, Normal, Poisson};

use super::{Outcome, judge};
use crate::{
    counted::{Counted, Runs},
    dataset::{Count, RunRow, Thread},
    intervention::tests::PLAN,
    plan::Plan,
};
use gpuos_model::Role;

const BLOCKS: u32 = 14;
const DRAWS: u64 = 20;
/// A unit of work takes so long, in seconds, while a runtime's thread wakes up ten times a second.
const UNIT: f64 = 1e-3;

#[derive(Clone, Copy, Debug)]
enum Noise {
    None,
    Poisson,
    /// From run to run, in the order of a block.
    Drift,
    /// One call more or none.
    Coin,
    /// One run in ten, by hundreds of calls.
    Spikes,
    /// In proportion.
    Share,
    /// Of the runtime's thread, counted with all threads.
    Heartbeat,
}

const NOISES: [Noise; 7] =
    [Noise::None, Noise::Poisson, Noise::Drift, Noise::Coin, Noise::Spikes, Noise::Share, Noise::Heartbeat];

/// A truth: its name, calls of a unit at a dose (waits, memory), what must not be said, and what should be.
type Truth = (&'static str, fn(f64) -> (f64, f64), &'static [Outcome], Outcome);

const TRUTHS: [Truth; 6] = [
    ("inverse", |k| (6.0 / k, 2.0), &[Outcome::Refuted, Outcome::Void], Outcome::Confirmed),
    ("inverse, no placebo", |k| (6.0 / k, 0.0), &[Outcome::Refuted, Outcome::Void], Outcome::Confirmed),
    ("constant", |_| (6.0, 2.0), &[Outcome::Confirmed, Outcome::DirectionOnly, Outcome::Void], Outcome::Refuted),
    ("saturating", |k| (6.0 / k.min(4.0), 2.0), &[Outcome::Confirmed, Outcome::Void], Outcome::Refuted),
    ("half as strong", |k| (3.0 + 3.0 / k, 2.0), &[Outcome::Confirmed, Outcome::Void], Outcome::Refuted),
    (
        "a placebo that drifts",
        |k| (6.0 / k, 2.0 + 0.1 * (k - 1.0)),
        &[Outcome::Confirmed, Outcome::Refuted],
        Outcome::Void,
    ),
];

fn of(truth: &Truth, noise: Noise, seed: u64) -> Outcome {
    let threads = if matches!(noise, Noise::Heartbeat) { "threads = \"all\"\noption =" } else { "option =" };
    let text = PLAN.replace("blocks = 11", &format!("blocks = {BLOCKS}")).replace("option =", threads);
    let plan = Plan::parse(&text).unwrap();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut runs = Runs::default();
    let mut before = [0.0; 2];
    for block in 2..=BLOCKS {
        for cell in plan.block(block) {
            let k: f64 = cell.options.rsplit(' ').next().unwrap().parse().unwrap();
            let units = cell.iters as f64;
            let (waits, memory) = (truth.1)(k);
            let mut row = |place: usize, thread, role, calls: f64| {
                let normal = |spread: f64, random: &mut SmallRng| Normal::new(0.0, spread).unwrap().sample(random);
                let calls = calls * units + 20.0;
                let disturbed = match noise {
                    Noise::None | Noise::Heartbeat => calls,
                    Noise::Poisson => calls + Poisson::new(6.0).unwrap().sample(&mut random) - 6.0,
                    Noise::Coin => calls + f64::from(u8::from(random.random_bool(0.5))),
                    Noise::Spikes => {
                        calls + if random.random_bool(0.1) { random.random_range(50.0..500.0) } else { 0.0 }
                    }
                    Noise::Share => calls * (1.0 + normal(0.05, &mut random)),
                    Noise::Drift => {
                        before[place] = 0.9 * before[place] + normal(2.0, &mut random);
                        calls + before[place]
                    }
                };
                let calls = disturbed.round().max(0.0) as u64;
                Count { phase: "work", thread, role, category: "x", syscall: "", device: "", ioctl: "", calls }
            };
            let mut rows = vec![
                row(0, Thread::Caller, Role::Synchronization, waits),
                row(1, Thread::Caller, Role::Memory, memory),
            ];
            if matches!(noise, Noise::Heartbeat) {
                let polls = Count { thread: Thread::Other, calls: (units * UNIT * 10.0) as u64, ..rows[0] };
                rows.push(polls);
            }
            let run = RunRow { traced_wall_ns: (units * UNIT * 1e9) as u64, ..RunRow::default() };
            runs.used.insert((cell, block), Counted { run, ..Counted::of(rows) });
        }
    }
    judge::find(&plan.interventions, &runs, BLOCKS).remove(0).outcome
}

#[test]
#[expect(clippy::print_stdout, reason = "the table of what was simulated")]
fn what_is_said_of_known_truths_is_hardly_ever_wrong() {
    let (mut wrong, mut told, mut all) = (0, 0, 0);
    for (place, truth) in (0..).zip(&TRUTHS) {
        for (other, noise) in (0..).zip(NOISES) {
            let outcomes: Vec<Outcome> =
                (0..DRAWS).map(|draw| of(truth, noise, place << 32 | other << 16 | draw)).collect();
            let is_wrong = outcomes.iter().filter(|outcome| truth.2.contains(outcome)).count();
            let is_told = outcomes.iter().filter(|outcome| **outcome == truth.3).count();
            println!("{:<24}{noise:<10?} wrong {is_wrong:>3}  told {is_told:>3} of {DRAWS}", truth.0);
            (wrong, told, all) = (wrong + is_wrong, told + is_told, all + outcomes.len());
        }
    }
    println!("wrong {wrong}, told {told} of {all}");
    assert!(wrong as f64 <= 0.005 * all as f64, "{wrong} of {all} are wrong");
    assert!(told as f64 >= 0.6 * all as f64, "{told} of {all} are told");
}
