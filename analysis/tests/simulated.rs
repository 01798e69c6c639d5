//! Series whose truth is known, and how often the verdict is wrong. The naive rule beside it, the slope of a line through
//! the logarithms of counts with their start-up, is what the rules are there to replace.
#![expect(clippy::print_stdout, reason = "the table of what was simulated")]

use gpuos_analysis::{
    axis::Axis,
    series::{Series, Work},
    verdict::{Scaling, effect, judge},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rand_distr::{Distribution as _, Normal, Poisson};

/// The levels of `study/phase1/plans/phase1.toml`, the fewest that a verdict takes.
const ITERATIONS: [f64; 7] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
const BYTES: [f64; 7] = [4096.0, 65_536.0, 1_048_576.0, 8_388_608.0, 33_554_432.0, 67_108_864.0, 268_435_456.0];
const BLOCKS: usize = 10;
/// Series of each kind under each noise.
const DRAWS: u64 = 100;

/// What disturbs counts.
#[derive(Clone, Copy, Debug)]
enum Noise {
    /// Nothing.
    None,
    /// Each count by itself, as a background of rare calls does.
    Poisson,
    /// What is left of the run before, and a little more of its own: one run after another, in the order of the plan.
    Drift,
    /// One call more or none.
    Coin,
    /// One run in ten, by hundreds of calls.
    Spikes,
    /// In proportion.
    Share,
}

const NOISES: [Noise; 6] = [Noise::None, Noise::Poisson, Noise::Drift, Noise::Coin, Noise::Spikes, Noise::Share];

/// `before`: what the run before was disturbed by.
fn disturb(noise: Noise, truth: f64, before: &mut f64, random: &mut SmallRng) -> f64 {
    let normal = |spread: f64, random: &mut SmallRng| Normal::new(0.0, spread).unwrap().sample(random);
    let disturbed = match noise {
        Noise::None => truth,
        Noise::Coin => truth + f64::from(u8::from(random.random_bool(0.5))),
        Noise::Poisson => truth + Poisson::new(6.0).unwrap().sample(random) - Poisson::new(6.0).unwrap().sample(random),
        Noise::Drift => {
            *before = 0.9 * *before + normal(2.0, random);
            truth + *before
        }
        Noise::Spikes => truth + if random.random_bool(0.1) { random.random_range(50.0..500.0) } else { 0.0 },
        Noise::Share => truth * (1.0 + normal(0.05, random)),
    };
    disturbed.round()
}

/// A kind of series: its name, its axis, its truth, and the words that are right. `Inconclusive` is never wrong.
type Case = (&'static str, Axis, fn(f64) -> f64, &'static [Scaling]);

const CASES: [Case; 34] = [
    ("nothing", Axis::Iterations, |_| 0.0, &[Scaling::Flat]),
    ("three at once", Axis::Iterations, |_| 3.0, &[Scaling::Flat]),
    ("400 at once", Axis::Iterations, |_| 400.0, &[Scaling::Step]),
    ("seven each", Axis::Iterations, |n| 7.0 * n, &[Scaling::Linear]),
    ("five, seven each", Axis::Iterations, |n| 5.0 + 7.0 * n, &[Scaling::Linear]),
    ("fifteen, fifteen each", Axis::Iterations, |n| 15.0 + 15.0 * n, &[Scaling::Linear]),
    ("a hundred, one each", Axis::Iterations, |n| 100.0 + n, &[Scaling::Linear]),
    ("forty and a root", Axis::Iterations, |n| 40.0 + 10.0 * n.sqrt(), &[Scaling::Sublinear]),
    ("a hundred and n to 1.5", Axis::Iterations, |n| 100.0 + 0.1 * n.powf(1.5), &[Scaling::Superlinear]),
    // Of the buffers that a pool holds: 14 calls for 1 to 64, so that ever fewer are made for each; linear in the end.
    ("a staircase", Axis::Iterations, |n| 14.0 * (n / 64.0).ceil(), &[Scaling::Linear, Scaling::Sublinear]),
    ("one in 16", Axis::Iterations, |n| (n / 16.0).floor(), &[Scaling::Linear]),
    ("a root", Axis::Iterations, |n| 10.0 * n.sqrt(), &[Scaling::Sublinear]),
    ("n to 1.5", Axis::Iterations, |n| 0.1 * n.powf(1.5), &[Scaling::Superlinear]),
    ("one step", Axis::Iterations, |n| if n < 100.0 { 0.0 } else { 250.0 }, &[Scaling::Step]),
    ("a step at the end", Axis::Iterations, |n| if n < 1000.0 { 0.0 } else { 250.0 }, &[Scaling::Step]),
    ("bytes, none", Axis::Bytes, |_| 1400.0, &[Scaling::Flat]),
    ("bytes, one step", Axis::Bytes, |b| if b < 3e7 { 1400.0 } else { 2000.0 }, &[Scaling::Step]),
    (
        "bytes, two steps",
        Axis::Bytes,
        |b| 100.0 + 500.0 * f64::from(u8::from(b > 5e4) + u8::from(b > 1e7)),
        &[Scaling::Step],
    ),
    ("bytes, ten a block", Axis::Bytes, |b| 20.0 + (b / 2_097_152.0).floor() * 10.0, &[Scaling::Linear]),
    // A thread that wakes up ten times a second, while a hundred copies take 10 ns a byte.
    ("bytes, a thread's", Axis::Bytes, |b| (10.0 * (0.01 + 1e-8 * b)).floor(), &[Scaling::Timed, Scaling::Flat]),
    ("bytes, a root", Axis::Bytes, |b| 50.0 + b.sqrt(), &[Scaling::Sublinear]),
    ("ten logarithms", Axis::Iterations, |n| 10.0 * n.log2(), &[Scaling::Sublinear]),
    ("a hundred logarithms", Axis::Iterations, |n| 100.0 * n.log2(), &[Scaling::Sublinear]),
    ("bytes, a logarithm", Axis::Bytes, |b| 200.0 + 40.0 * (b / 4096.0).log2(), &[Scaling::Sublinear]),
    // The buffers of a pool: as many as are used at once.
    ("saturation", Axis::Iterations, |n| 200.0 * (1.0 - (-n / 30.0).exp()), &[Scaling::Sublinear, Scaling::Step]),
    ("n log n", Axis::Iterations, |n| n * (n + 1.0).log2(), &[Scaling::Linear, Scaling::Superlinear]),
    ("a step and a slope", Axis::Iterations, |n| 7.0 * n + if n < 100.0 { 0.0 } else { 300.0 }, &[Scaling::Linear]),
    ("bytes, first step", Axis::Bytes, |b| if b < 5e3 { 1400.0 } else { 1500.0 }, &[Scaling::Step]),
    ("bytes, a fall", Axis::Bytes, |b| if b < 5e5 { 1596.0 } else { 1500.0 }, &[Scaling::Step]),
    // A thread that wakes up ten times a second, in counts of all threads: at 1 ms an iteration that is the tolerance.
    ("heartbeat, 0.5 ms", Axis::Iterations, |n| (n * 5e-3).floor(), &[Scaling::Flat]),
    ("heartbeat, 0.9 ms", Axis::Iterations, |n| (n * 9e-3).floor(), &[Scaling::Flat]),
    ("heartbeat, 1.1 ms", Axis::Iterations, |n| (n * 11e-3).floor(), &[Scaling::Linear, Scaling::Timed]),
    ("heartbeat, 3 ms", Axis::Iterations, |n| (n * 30e-3).floor(), &[Scaling::Linear, Scaling::Timed]),
    // Every second block on a machine whose runtime makes nine calls where the other makes seven.
    ("two hosts", Axis::Iterations, |n| 7.0 * n, &[Scaling::Linear]),
];

/// What an iteration takes, in seconds, beside its calls and bytes.
fn seconds_each(case: &Case) -> f64 {
    match case.0 {
        "heartbeat, 0.5 ms" => 0.5e-3,
        "heartbeat, 0.9 ms" => 0.9e-3,
        "heartbeat, 1.1 ms" => 1.1e-3,
        "heartbeat, 3 ms" => 3e-3,
        _ => 1e-4,
    }
}

/// Whether ten blocks of these levels can decide in principle: not where noise is larger than what the words are about, nor
/// where the levels do not tell one shape from another.
fn can_be_decided(case: &Case, noise: Noise) -> bool {
    const NOT_TOLD_APART: [&str; 8] = [
        "a step at the end",
        "forty and a root",
        "a hundred and n to 1.5",
        "saturation",
        "n log n",
        "a step and a slope",
        "heartbeat, 1.1 ms",
        // Quiet, its steps are too small beside the last one; with the weights that noise gives it is linear.
        "bytes, ten a block",
    ];
    let is_large_constant = case.1 == Axis::Bytes && (case.2)(4096.0) > 1000.0;
    match (case.0, noise) {
        (name, _) if NOT_TOLD_APART.contains(&name) => false,
        // One or two calls, below most noise.
        ("one in 16" | "a staircase" | "bytes, a thread's" | "heartbeat, 0.9 ms" | "heartbeat, 3 ms", noise) => {
            matches!(noise, Noise::None)
        }
        // Four of ten blocks or more with a spike move a median, and 5 % of 1,400 is more than the 2 % that are no change.
        ("nothing" | "three at once" | "heartbeat, 0.5 ms", Noise::Spikes) => false,
        (_, Noise::Spikes | Noise::Share) if is_large_constant => false,
        _ => true,
    }
}

fn series(case: &Case, noise: Noise, random: &mut SmallRng) -> Series {
    let levels = if case.1 == Axis::Iterations { ITERATIONS } else { BYTES };
    // What is subtracted is disturbed as all else is; noise in proportion to nothing is none. A block runs its cells in an order
    // of its own.
    let mut before = 0.0;
    let values = (0..BLOCKS)
        .map(|block| {
            let mut order: Vec<usize> = (0..=levels.len()).collect();
            order.sort_by_cached_key(|_| random.random::<u64>());
            let host = if case.0 == "two hosts" && block % 2 == 1 { 9.0 / 7.0 } else { 1.0 };
            let mut row = vec![0.0; levels.len() + 1];
            for place in order {
                let truth = levels.get(place).map_or(0.0, |level| host * (case.2)(*level));
                row[place] = disturb(noise, truth, &mut before, random);
            }
            let without_work = row.pop().unwrap();
            row.into_iter().map(|count| count - without_work).collect()
        })
        .collect();
    // Iterations take time, and calls and bytes do: none of the words may be lost to that.
    let work = levels.iter().map(|level| {
        let (iterations, bytes) = if case.1 == Axis::Iterations { (*level, 0.0) } else { (100.0, *level) };
        Work { seconds: seconds_each(case) * iterations + 1e-5 * (case.2)(*level) + 1e-8 * bytes, iterations }
    });
    Series::new(levels.to_vec(), values).unwrap().with_work(work.collect())
}

/// The word that the slope of a line through logarithms gives, start-up and all.
fn naive(series: &Series, start_up: f64) -> Scaling {
    let all: Vec<usize> = (0..series.blocks()).collect();
    let points: Vec<(f64, f64)> = series
        .levels()
        .iter()
        .zip(series.medians(&all))
        .map(|(level, value)| (level.ln(), (value + start_up).max(1.0).ln()))
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let up: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let down: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    match up / down {
        slope if slope < 0.15 => Scaling::Flat,
        slope if slope < 0.85 => Scaling::Sublinear,
        slope if slope <= 1.15 => Scaling::Linear,
        _ => Scaling::Superlinear,
    }
}

/// How often the verdicts on a kind of series are right, wrong and silent.
#[derive(Default)]
struct Tally {
    lines: String,
    wrong: u64,
    silent: u64,
    naively_wrong: u64,
    /// Of those that can be decided: how many there are, and how many were silent.
    decidable: u64,
    undecided: u64,
    /// What was said in vain.
    words: Vec<Scaling>,
}

fn tally(case: &Case) -> Tally {
    let mut random = SmallRng::seed_from_u64(1);
    let mut tally = Tally::default();
    for noise in NOISES {
        let (mut wrong, mut silent, mut naively_wrong) = (0, 0, 0);
        for _ in 0..DRAWS {
            let series = series(case, noise, &mut random);
            let verdict = judge(&series, case.1, effect(&series, case.1) <= 0.05);
            if verdict.scaling == Scaling::Inconclusive {
                silent += 1;
            } else if !case.3.contains(&verdict.scaling) {
                wrong += 1;
                tally.words.push(verdict.scaling);
            }
            naively_wrong += u64::from(!case.3.contains(&naive(&series, 700.0)));
        }
        let name = format!("{noise:?}");
        let share = |part: u64| 100.0 * part as f64 / DRAWS as f64;
        tally.lines += &format!(
            "{:<22}{name:>9}{:>8.1}%{:>8.1}%{:>11.1}%\n",
            case.0,
            share(wrong),
            share(silent),
            share(naively_wrong)
        );
        if can_be_decided(case, noise) {
            tally.decidable += DRAWS;
            tally.undecided += silent;
        }
        tally.wrong += wrong;
        tally.silent += silent;
        tally.naively_wrong += naively_wrong;
    }
    tally
}

#[test]
fn verdicts_are_hardly_ever_wrong() {
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = CASES.iter().map(|case| scope.spawn(|| tally(case))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{:<22}{:>9}{:>9}{:>9}{:>12}", "truth", "noise", "wrong", "silent", "naive wrong");
    tallies.iter().for_each(|tally| print!("{}", tally.lines));
    let of_case = DRAWS * NOISES.len() as u64;
    let of_all = of_case * CASES.len() as u64;
    let sum = |of: fn(&Tally) -> u64| 100.0 * tallies.iter().map(of).sum::<u64>() as f64 / of_all as f64;
    let (wrong, silent, naive) =
        (sum(|tally| tally.wrong), sum(|tally| tally.silent), sum(|tally| tally.naively_wrong));
    println!("of {of_all}: wrong {wrong:.2} %, inconclusive {silent:.1} %, naive wrong {naive:.1} %");
    for (case, tally) in CASES.iter().zip(&tallies) {
        let bad = &tally.words;
        assert!(tally.wrong * 100 <= of_case, "{}: {} of {of_case} wrong: {bad:?}", case.0, tally.wrong);
    }
    assert!(wrong <= 0.5, "{wrong} % wrong");
    let undecided = 100.0 * tallies.iter().map(|tally| tally.undecided).sum::<u64>() as f64
        / tallies.iter().map(|tally| tally.decidable).sum::<u64>() as f64;
    println!("of those that ten blocks can decide: inconclusive {undecided:.1} %");
    let page = include_str!("../../docs/simulation.md");
    for line in tallies.iter().flat_map(|tally| tally.lines.lines()) {
        assert!(page.contains(line), "docs/simulation.md does not have: {line}");
    }
    assert!(undecided <= 20.0, "{undecided} % of what can be decided is not");
}
