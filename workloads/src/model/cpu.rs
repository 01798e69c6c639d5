//! `cpu`: the increments as a loop on the CPU, without any runtime.

use super::{ModelError, Outcome, Work, check, timed, zeroed};
use crate::plan::Plan;

struct Increments<'a> {
    array: &'a mut [u32],
    operations: u32,
    amount: u32,
}

impl Work for Increments<'_> {
    fn issue(&mut self, _: u64) -> Result<(), ModelError> {
        for _ in 0..self.operations {
            for word in &mut *self.array {
                *word = word.wrapping_add(self.amount);
            }
            std::hint::black_box(&mut *self.array);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), ModelError> {
        Ok(())
    }
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome, ModelError> {
    let mut array = zeroed(plan.bytes / 4)?;
    let mut work = Increments { array: &mut array, operations: plan.operations(), amount: plan.share() };
    let outcome = timed(plan, &mut work)?;
    let expected = (plan.warmup + plan.iters).wrapping_mul(plan.batch.into()) as u32;
    check(&array, |_| expected)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Model;

    #[test]
    fn too_much_memory_is_refused_politely() {
        let error = run(&Plan::new(Model::Cpu, usize::MAX / 2, 1, 0)).unwrap_err();
        assert!(matches!(error, ModelError::NoMemory(_)));
    }

    proptest! {
        #[test]
        fn the_cpu_counts_every_increment(
            bytes in 0_usize..5000, iters in 0_u64..20, warmup in 0_u64..5, batch in 1_u32..4, fused: bool,
        ) {
            let outcome = run(&Plan { batch, fused, ..Plan::new(Model::Cpu, bytes, iters, warmup) }).unwrap();
            prop_assert_eq!(outcome.latencies.percentiles().is_some(), iters > 0);
        }
    }
}
