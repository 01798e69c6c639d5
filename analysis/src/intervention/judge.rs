//! What came of an intervention: each dose against its base within the blocks, an interval by the bootstrap, a sign-flip test
//! of whether anything moved, corrected by Holm for all that is asked of an intervention at once.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde::Serialize;

use super::{Dose, Expected, Intervention, Shape, Threads, Where};
use crate::{
    counted::{CallKind, Counted, Runs},
    plan::Cell,
    resample::{Interval, median, median_interval},
    verdict::{FLAT_CALLS, FLAT_CALLS_PER_ITERATION, FLAT_SHARE, LEAST_BLOCKS, holm, noise_floor},
};

/// What came of a prediction, a dose or a whole intervention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The 95 % interval lies inside what was predicted, at every dose, and placebos stay.
    Confirmed,
    /// It moves as predicted, and how far is not settled.
    DirectionOnly,
    /// The 95 % interval lies outside at a dose.
    Refuted,
    /// Neither.
    Unresolved,
    /// A placebo moved: something else changed, and nothing follows.
    Void,
}

impl Outcome {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::DirectionOnly => "direction only",
            Self::Refuted => "refuted",
            Self::Unresolved => "unresolved",
            Self::Void => "void",
        }
    }
}

/// Whether a placebo stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceboOutcome {
    /// Equivalence is shown at every dose.
    Stays,
    /// It makes no call at the base nor at any dose, so that it could not have moved but by appearing.
    NotExercised,
    /// A dose moves it beyond what counts.
    Moved,
    /// Neither is shown.
    Undecided,
}

impl PlaceboOutcome {
    /// Whether it does not stand against what else is shown.
    const fn is_no_doubt(self) -> bool {
        matches!(self, Self::Stays | Self::NotExercised)
    }
}

/// An intervention, with what came of it.
#[derive(Debug, Serialize)]
pub struct InterventionFindings {
    /// As in the plan.
    pub plan: Intervention,
    /// The base, as arguments of `bench`.
    pub base: String,
    /// Blocks that have every cell of it.
    pub blocks: usize,
    /// Kinds that are predicted.
    pub kinds: Vec<KindFinding>,
    /// Placebos, and whether they stayed.
    pub placebos: Vec<(KindFinding, PlaceboOutcome)>,
    /// How long an iteration takes without the tracer, nanoseconds, by dose: the median of the blocks' medians.
    pub latency: Vec<(Dose, f64)>,
    /// What follows.
    pub outcome: Outcome,
    /// Too few blocks for a verdict: what is there is a pilot.
    pub is_pilot: bool,
}

impl InterventionFindings {
    /// What follows for the mechanism, in words.
    pub fn mechanism(&self) -> &'static str {
        let all_stay = self.placebos.iter().all(|(_, outcome)| outcome.is_no_doubt());
        match (self.outcome, self.plan.rules_out) {
            (Outcome::Confirmed, false) => "confirmed",
            (Outcome::Confirmed, true) => "ruled out",
            // It moves as predicted, and not by as much: something else is there as well.
            (Outcome::Refuted, false) if self.kinds.iter().any(|kind| kind.moves_as_predicted) => "not alone",
            // Nothing moves at any dose, which is shown and not only not seen.
            (Outcome::Refuted, false) if all_stay && self.kinds.iter().all(|kind| kind.stays) => "ruled out",
            (Outcome::Refuted | Outcome::DirectionOnly | Outcome::Unresolved | Outcome::Void, _) => "open",
        }
    }
}

/// A kind of call along the doses.
#[derive(Debug, Serialize)]
pub struct KindFinding {
    /// Of what.
    pub kind: CallKind,
    /// What was predicted; of a placebo that it is constant.
    pub shape: Shape,
    /// Calls of a unit at the base: the median of the blocks.
    pub base: f64,
    /// By which it differs from itself, for a unit.
    pub noise: f64,
    /// Every dose but the base.
    pub doses: Vec<DoseFinding>,
    /// Whether a dose moves it in the direction that is predicted.
    pub moves_as_predicted: bool,
    /// Whether it is shown to be as at the base at every dose.
    pub stays: bool,
    /// What follows.
    pub outcome: Outcome,
}

/// A kind of call at a dose.
#[derive(Debug, Serialize)]
pub struct DoseFinding {
    /// Which.
    pub dose: Dose,
    /// Calls of a unit: the median of the blocks, and its 95 % interval.
    pub calls: f64,
    /// See `calls`.
    pub interval: Interval,
    /// Between which calls of a unit the prediction puts it, at the base's median.
    pub predicted: Interval,
    /// Whether a difference from the base is shown, corrected for all that is asked.
    pub is_moved: bool,
    /// Whether equivalence to the base is shown.
    pub stays: bool,
    /// What follows.
    pub outcome: Outcome,
}

/// A kind at a dose, before it is judged: what each block has, for a unit.
struct Draft {
    kind: usize,
    dose: Dose,
    base: Vec<f64>,
    value: Vec<f64>,
    probability: f64,
}

/// What came of every intervention of a plan.
pub(crate) fn find(plans: &[Intervention], runs: &Runs, blocks: u32) -> Vec<InterventionFindings> {
    plans.iter().map(|plan| judge(plan, runs, blocks)).collect()
}

fn judge(plan: &Intervention, runs: &Runs, blocks: u32) -> InterventionFindings {
    let cells: Vec<Cell> = plan.doses.iter().map(|dose| plan.cell(dose)).collect();
    let whole: Vec<u32> =
        (2..=blocks).filter(|block| plan.cells().iter().all(|cell| runs.get(cell, *block).is_some())).collect();
    let calls = |cell: &Cell, block: u32, kind: &CallKind| {
        let phase = phase_of(plan, kind);
        let of = |cell: &Cell| runs.get(cell, block).map_or(0.0, |run| counted(plan, run, kind));
        match phase {
            Where::Work => (of(cell) - of(&cell.without_work())) / units(plan),
            Where::StartUp => of(cell),
        }
    };
    let of_cell =
        |cell: &Cell, kind: &CallKind| -> Vec<f64> { whole.iter().map(|block| calls(cell, *block, kind)).collect() };
    let twin = Cell { twin: true, ..cells[0].clone() };
    let constant = |kind: &CallKind| {
        let tolerance = tolerance(phase_of(plan, kind), median(&mut of_cell(&cells[0], kind).clone()));
        Expected { kind: kind.clone(), shape: Shape::Constant, interval: [-tolerance, tolerance] }
    };
    let is_empty = whole.is_empty();
    let placebos: Vec<Expected> = if is_empty { Vec::new() } else { plan.placebos.iter().map(constant).collect() };
    let asked: Vec<&Expected> = plan.predictions.iter().chain(&placebos).collect();
    let mut drafts = Vec::new();
    for (place, expected) in asked.iter().enumerate().filter(|_| !is_empty) {
        let base = of_cell(&cells[0], &expected.kind);
        for (dose, cell) in plan.doses.iter().zip(&cells).skip(1) {
            let value = of_cell(cell, &expected.kind);
            let differences: Vec<f64> = value.iter().zip(&base).map(|(value, base)| value - base).collect();
            let probability = sign_flip(&signed_ranks(&differences));
            drafts.push(Draft { kind: place, dose: dose.clone(), base: base.clone(), value, probability });
        }
    }
    let moved = holm(&drafts.iter().map(|draft| draft.probability).collect::<Vec<_>>());
    let noise = |kind: &CallKind| noise_floor(&of_cell(&cells[0], kind), &of_cell(&twin, kind)).unwrap_or_default();
    let mut kinds: Vec<KindFinding> = asked
        .iter()
        .enumerate()
        .map(|(place, expected)| {
            let noise = noise(&expected.kind);
            let of_kind = drafts.iter().zip(&moved).filter(|(draft, _)| draft.kind == place);
            let doses: Vec<DoseFinding> =
                of_kind.map(|(draft, is_moved)| at_dose(plan, expected, draft, *is_moved, noise)).collect();
            let base = if is_empty { 0.0 } else { median(&mut of_cell(&cells[0], &expected.kind)) };
            let is_towards = |dose: &DoseFinding| match expected.shape {
                Shape::Inverse | Shape::Zero => dose.calls < base,
                Shape::Proportional => dose.calls > base,
                Shape::Constant => false,
            };
            KindFinding {
                kind: expected.kind.clone(),
                shape: expected.shape,
                base,
                noise,
                moves_as_predicted: doses.iter().any(|dose| dose.is_moved && is_towards(dose)),
                stays: doses.iter().all(|dose| dose.stays),
                outcome: together(doses.iter().map(|dose| dose.outcome)),
                doses,
            }
        })
        .collect();
    let placebos: Vec<(KindFinding, PlaceboOutcome)> = kinds
        .split_off(plan.predictions.len())
        .into_iter()
        .map(|kind| {
            let is_nothing = kind.base == 0.0 && kind.doses.iter().all(|dose| dose.calls == 0.0);
            let outcome = match kind.outcome {
                Outcome::Confirmed if is_nothing => PlaceboOutcome::NotExercised,
                Outcome::Confirmed => PlaceboOutcome::Stays,
                // Beyond what counts, resolved, and beyond what the base differs from itself by.
                Outcome::Refuted => PlaceboOutcome::Moved,
                Outcome::DirectionOnly | Outcome::Unresolved | Outcome::Void => PlaceboOutcome::Undecided,
            };
            (kind, outcome)
        })
        .collect();
    let latency_of = |cell: &Cell| {
        let of_run = |block: &u32| runs.get(cell, *block).map_or(0.0, |run| run.run.bare_p50_ns as f64);
        median(&mut whole.iter().map(of_run).collect::<Vec<_>>())
    };
    let latency =
        if is_empty { Vec::new() } else { plan.doses.iter().cloned().zip(cells.iter().map(latency_of)).collect() };
    let is_pilot = whole.len() < LEAST_BLOCKS;
    let outcome = if is_pilot { Outcome::Unresolved } else { overall(&kinds, &placebos) };
    InterventionFindings {
        plan: plan.clone(),
        base: cells[0].arguments().join(" "),
        blocks: whole.len(),
        kinds,
        placebos,
        latency,
        outcome,
        is_pilot,
    }
}

/// Calls of a kind in a run, where and of whom the intervention counts them.
fn counted(plan: &Intervention, run: &Counted, kind: &CallKind) -> f64 {
    let of_others = |sums: &std::collections::BTreeMap<CallKind, f64>| match plan.threads {
        Threads::Caller => 0.0,
        Threads::All => sums.get(kind).copied().unwrap_or_default(),
    };
    match phase_of(plan, kind) {
        Where::Work => run.work(kind) + of_others(&run.others),
        // A runtime starts in whichever thread it likes.
        Where::StartUp => run.start_up.get(kind).copied().unwrap_or_default(),
    }
}

/// Where a kind is counted: a placebo, which nothing predicts, where the plan says so.
fn phase_of(plan: &Intervention, kind: &CallKind) -> Where {
    plan.placebo_phase.filter(|_| plan.placebos.contains(kind)).unwrap_or(plan.phase)
}

/// Units of work of every cell: the iterations of the base, whichever is held.
fn units(plan: &Intervention) -> f64 {
    plan.base.iters as f64
}

/// What is no change of calls a unit.
fn tolerance(phase: Where, base: f64) -> f64 {
    match phase {
        Where::Work => FLAT_CALLS_PER_ITERATION.max(FLAT_SHARE * base.abs()),
        Where::StartUp => FLAT_CALLS.max(FLAT_SHARE * base.abs()),
    }
}

fn at_dose(plan: &Intervention, expected: &Expected, draft: &Draft, is_moved: bool, noise: f64) -> DoseFinding {
    let factor = match (&draft.dose, expected.shape) {
        (Dose::Number(k), Shape::Inverse) => 1.0 / f64::from(*k),
        (Dose::Number(k), Shape::Proportional) => f64::from(*k),
        (_, Shape::Constant | Shape::Zero) | (Dose::Word(_), _) => 1.0,
    };
    let base = median(&mut draft.base.clone());
    let pairs = || draft.value.iter().zip(&draft.base);
    let [low, high] = expected.interval;
    // What is no change of calls a unit is none of a ratio either.
    let [low, high] = match expected.shape {
        Shape::Inverse | Shape::Proportional if base > 0.0 => {
            let least = FLAT_CALLS_PER_ITERATION / (base * factor);
            [low.min(1.0 - least), high.max(1.0 + least)]
        }
        Shape::Inverse | Shape::Proportional | Shape::Constant | Shape::Zero => [low, high],
    };
    // What is compared with the interval of the plan, block by block; nothing where the base makes no call to be divided.
    let compared: Option<Vec<f64>> = match expected.shape {
        Shape::Zero => Some(draft.value.clone()),
        Shape::Constant => Some(pairs().map(|(value, base)| value - base).collect()),
        Shape::Inverse | Shape::Proportional => {
            let ratios = pairs().filter(|(_, base)| **base > 0.0).map(|(value, base)| value / (base * factor));
            Some(ratios.collect::<Vec<_>>()).filter(|ratios| ratios.len() >= draft.base.len().min(LEAST_BLOCKS))
        }
    };
    let predicted = match expected.shape {
        Shape::Zero => Interval { low, high },
        Shape::Constant => Interval { low: base + low, high: base + high },
        Shape::Inverse | Shape::Proportional => Interval { low: base * factor * low, high: base * factor * high },
    };
    let (calls, interval) = median_interval(&draft.value, 0.95);
    let difference = median(&mut pairs().map(|(value, base)| value - base).collect::<Vec<_>>());
    // A change that counts is one beyond what the base differs from itself by.
    let is_moved = is_moved && difference.abs() > noise;
    let towards = match expected.shape {
        Shape::Inverse | Shape::Zero => difference < 0.0,
        Shape::Proportional => difference > 0.0,
        Shape::Constant => false,
    };
    let tolerance = tolerance(phase_of(plan, &expected.kind), base).max(noise);
    let differences: Vec<f64> = pairs().map(|(value, base)| value - base).collect();
    let as_at_the_base = median_interval(&differences, 0.95).1.is_inside(-tolerance, tolerance);
    // That nothing changes is shown where the base has nothing, either.
    let stays_none = expected.shape == Shape::Zero && plan.rules_out && as_at_the_base;
    let stays = expected.shape == Shape::Constant || stays_none;
    let outcome = match compared.map(|compared| median_interval(&compared, 0.95).1) {
        None => Outcome::Unresolved,
        // A prediction of change needs a change: where nothing was to be seen at the base, nothing is shown.
        Some(found) if found.is_inside(low, high) && (is_moved || stays) => Outcome::Confirmed,
        Some(found) if found.low > high || found.high < low => {
            let is_chance = expected.shape == Shape::Constant && !is_moved;
            if is_chance { Outcome::Unresolved } else { Outcome::Refuted }
        }
        Some(_) if is_moved && towards => Outcome::DirectionOnly,
        Some(_) => Outcome::Unresolved,
    };
    DoseFinding { dose: draft.dose.clone(), calls, interval, predicted, is_moved, stays: as_at_the_base, outcome }
}

/// One outcome for several: the worst of them.
fn together(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    const WORST_FIRST: [Outcome; 5] =
        [Outcome::Void, Outcome::Refuted, Outcome::Unresolved, Outcome::DirectionOnly, Outcome::Confirmed];
    let rank = |outcome: &Outcome| WORST_FIRST.iter().position(|other| other == outcome);
    outcomes.min_by_key(rank).unwrap_or(Outcome::Unresolved)
}

fn overall(kinds: &[KindFinding], placebos: &[(KindFinding, PlaceboOutcome)]) -> Outcome {
    if placebos.iter().any(|(_, outcome)| *outcome == PlaceboOutcome::Moved) {
        return Outcome::Void;
    }
    let outcome = together(kinds.iter().map(|kind| kind.outcome));
    let all_stay = placebos.iter().all(|(_, outcome)| outcome.is_no_doubt());
    // Nothing is confirmed beside a placebo that may have moved.
    if outcome == Outcome::Confirmed && !all_stay { Outcome::DirectionOnly } else { outcome }
}

/// The rank of each difference among all, by its size, with its sign: one run that is far off weighs no more than the others.
/// Equal ones share their ranks; what does not differ has none.
fn signed_ranks(differences: &[f64]) -> Vec<f64> {
    let rank = |one: f64| {
        let smaller = differences.iter().filter(|other| other.abs() < one.abs() && **other != 0.0).count() as f64;
        let equal = differences.iter().filter(|other| other.abs() == one.abs()).count() as f64;
        smaller + f64::midpoint(equal, 1.0)
    };
    differences.iter().map(|one| if *one == 0.0 { 0.0 } else { rank(*one) * one.signum() }).collect()
}

/// Blocks up to which every assignment of signs is looked at.
const MOST_EXACT: usize = 14;
/// Assignments that are drawn beyond.
const FLIPS: usize = 20_000;
/// Their seed.
const SEED: u64 = 0x6770_756f_7300_0003;

/// How often a sum as far from 0 comes when each difference is as likely to be its opposite (two-sided).
fn sign_flip(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let scale = differences.iter().map(|difference| difference.abs()).sum::<f64>();
    // Sums that are the same but for rounding are the same.
    let is_as_far = |sum: f64| sum.abs() >= observed - 1e-9 * scale;
    if observed <= 0.0 {
        return 1.0;
    }
    if differences.len() <= MOST_EXACT {
        let all = 1_usize << differences.len();
        let sum = |signs: usize| {
            let signed = differences.iter().enumerate();
            signed.map(|(place, one)| if signs >> place & 1 == 1 { -one } else { *one }).sum::<f64>()
        };
        return (0..all).filter(|signs| is_as_far(sum(*signs))).count() as f64 / all as f64;
    }
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut flipped = || differences.iter().map(|one| if random.random() { -one } else { *one }).sum::<f64>();
    let far = (0..FLIPS).filter(|_| is_as_far(flipped())).count();
    (far + 1) as f64 / (FLIPS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dataset::{Count, Thread},
        intervention::tests::PLAN,
        plan::Plan,
    };
    use gpuos_model::Role;

    /// What comes of the plan; `calls` gives those of a unit by dose and block, for waits and for memory.
    fn of(blocks: u32, calls: impl Fn(f64, u32) -> (f64, f64)) -> InterventionFindings {
        let plan = Plan::parse(&PLAN.replace("blocks = 11", &format!("blocks = {blocks}"))).unwrap();
        let mut runs = Runs::default();
        for block in 2..=blocks {
            for cell in plan.cells() {
                let k: f64 = cell.options.rsplit(' ').next().unwrap().parse().unwrap();
                let (waits, memory) = calls(k, block);
                let row = |role, calls: f64| Count {
                    phase: "work",
                    thread: Thread::Caller,
                    role,
                    category: "x",
                    syscall: "",
                    device: "",
                    ioctl: "",
                    calls: (calls * cell.iters as f64).round() as u64 + 3,
                };
                let rows = [row(Role::Synchronization, waits), row(Role::Memory, memory)];
                runs.used.insert((cell, block), Counted::of(rows));
            }
        }
        judge(&plan.interventions[0], &runs, blocks)
    }

    fn noise(k: f64, block: u32) -> f64 {
        f64::from((block * 7 + k as u32 * 3) % 5) - 2.0
    }

    #[test]
    fn an_inverse_is_confirmed_and_what_saturates_is_not() {
        assert_eq!(of(11, |k, _| (6.0 / k, 2.0)).outcome, Outcome::Confirmed);
        assert_eq!(of(11, |k, block| (6.0 / k + 0.01 * noise(k, block), 2.0)).outcome, Outcome::Confirmed);
        let constant = of(11, |_, _| (6.0, 2.0));
        assert_eq!((constant.outcome, constant.mechanism()), (Outcome::Refuted, "ruled out"));
        let half = of(11, |k, _| (3.0 + 3.0 / k, 2.0));
        assert_eq!((half.outcome, half.mechanism()), (Outcome::Refuted, "not alone"));
        assert_eq!(of(11, |k, _| (6.0 / k.min(4.0), 2.0)).outcome, Outcome::Refuted);
        // Wide noise: the direction is there.
        let wide = of(11, |k, block| (6.0 / k * (1.0 + 0.1 * noise(k, block)), 2.0));
        assert_eq!(wide.outcome, Outcome::DirectionOnly, "{wide:?}");
        // Nothing to divide.
        assert_eq!(of(11, |_, _| (0.0, 2.0)).outcome, Outcome::Unresolved);
    }

    #[test]
    fn a_placebo_that_moves_voids_it_and_one_that_may_have_moved_confirms_nothing() {
        assert_eq!(of(11, |k, _| (6.0 / k, 2.0 * k)).outcome, Outcome::Void);
        assert_eq!(of(11, |k, block| (6.0 / k, 2.0 + 0.2 * noise(k, block))).outcome, Outcome::DirectionOnly);
        assert_eq!(of(11, |k, _| (6.0 / k, 0.0)).outcome, Outcome::Confirmed);
    }

    #[test]
    fn nothing_that_stays_nothing_confirms_no_mechanism() {
        let of_zero = |line: &str| {
            let text = PLAN.replace("shape = \"inverse\"", "shape = \"zero\"").replace("[0.9, 1.1]", "[0.0, 0.01]");
            let plan = Plan::parse(&text.replace("option =", &format!("{line}\noption ="))).unwrap();
            let mut runs = Runs::default();
            for block in 2..=11 {
                runs.used.extend(plan.cells().into_iter().map(|cell| ((cell, block), Counted::default())));
            }
            let found = judge(&plan.interventions[0], &runs, 11);
            (found.outcome, found.mechanism())
        };
        assert_eq!(of_zero("rules_out = false"), (Outcome::Unresolved, "open"));
        assert_eq!(of_zero("rules_out = true"), (Outcome::Confirmed, "ruled out"));
    }

    #[test]
    fn fewer_than_ten_blocks_are_a_pilot() {
        let pilot = of(6, |k, _| (6.0 / k, 2.0));
        assert!(pilot.is_pilot && pilot.outcome == Outcome::Unresolved && pilot.blocks == 5);
        assert_eq!(pilot.kinds[0].doses[0].calls, 3.0);
    }

    #[test]
    fn ranks_are_those_of_scipy() {
        // scipy.stats.rankdata([1, 2, 2, 5]) is [1, 2.5, 2.5, 4].
        assert_eq!(signed_ranks(&[1.0, -2.0, 2.0, 0.0, 5.0]), [1.0, -2.5, 2.5, 0.0, 4.0]);
    }

    #[test]
    fn a_mechanism_is_ruled_out_by_what_is_shown_to_stay() {
        let with_spike = |k: f64, block: u32| (3.0 + 3.0 / k + if k > 8.0 && block == 5 { 12.0 } else { 0.0 }, 2.0);
        assert_eq!(of(11, with_spike).mechanism(), "not alone");
        // Back at the base at the last dose: the others moved.
        assert_eq!(of(11, |k, _| (if k > 8.0 { 6.0 } else { 6.0 / k }, 2.0)).mechanism(), "not alone");
        // A placebo that may have moved rules nothing out.
        assert_eq!(of(11, |_, block| (6.0, 2.0 + 0.2 * noise(1.0, block))).mechanism(), "ruled out");
        assert_eq!(of(11, |k, block| (6.0, 2.0 + 0.2 * noise(k, block))).mechanism(), "open");
        // A few calls at once, with the first unit, are within a hundredth of a call a unit.
        assert_eq!(of(11, |k, _| (6.0 / k + 1.0 / 160.0, 2.0)).outcome, Outcome::Confirmed);
    }

    #[test]
    fn a_placebo_is_counted_where_the_plan_says() {
        // Processes start k times, and each does the same work.
        let text = PLAN
            .replace("shape = \"inverse\"", "shape = \"proportional\"")
            .replace("option =", "phase = \"start-up\"\noption =");
        let outcome = |line: &str| {
            let plan = Plan::parse(&text.replace("option =", &format!("{line}\noption ="))).unwrap();
            let mut runs = Runs::default();
            for (block, cell) in (2..=11).flat_map(|block| plan.cells().into_iter().map(move |cell| (block, cell))) {
                let k: u64 = cell.options.rsplit(' ').next().unwrap().parse().unwrap();
                let row = |phase, role, calls| {
                    let (category, syscall, device, ioctl) = ("x", "", "", "");
                    Count { phase, thread: Thread::Caller, role, category, syscall, device, ioctl, calls }
                };
                let start = [Role::Synchronization, Role::Memory].map(|role| row("init", role, 100 * k));
                let work = row("work", Role::Memory, 7 * cell.iters);
                runs.used.insert((cell, block), Counted::of(start.into_iter().chain([work])));
            }
            judge(&plan.interventions[0], &runs, 11).outcome
        };
        assert_eq!(outcome(""), Outcome::Void);
        assert_eq!(outcome("placebo_phase = \"work\""), Outcome::Confirmed);
    }

    #[test]
    fn signs_are_flipped_as_by_hand() {
        // Of eight assignments two are as far: all as they are, and all turned.
        assert_eq!(sign_flip(&[1.0, 1.0, 1.0]), 0.25);
        assert_eq!(sign_flip(&[1.0, -1.0, 1.0]), 1.0);
        assert_eq!(sign_flip(&[0.0; 10]), 1.0);
        assert_eq!(sign_flip(&[2.0; 10]), 2.0 / 1024.0);
        assert!(sign_flip(&[1.0; 20]) < 0.001);
    }
}
