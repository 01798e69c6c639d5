//! `cpu`: the increments as a loop on the CPU, without any runtime.

use super::{Measured, ModelError, Work, check, timed, zeroed};
use crate::workload::Workload;

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

pub(crate) fn run(workload: &Workload) -> Result<Measured, ModelError> {
    let mut array = zeroed(workload.bytes / 4)?;
    let mut work = Increments { array: &mut array, operations: workload.operations(), amount: workload.share() };
    let measured = timed(workload, &mut work)?;
    let expected = (workload.warmup + workload.iters).wrapping_mul(workload.batch.into()) as u32;
    check(&array, |_| expected)?;
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::Model;

    #[test]
    fn too_much_memory_is_refused_politely() {
        let error = run(&Workload::new(Model::Cpu, usize::MAX / 2, 1, 0)).unwrap_err();
        assert!(matches!(error, ModelError::NoMemory(_)));
    }

    proptest! {
        #[test]
        fn the_cpu_counts_every_increment(
            bytes in 0_usize..5000, iters in 0_u64..20, warmup in 0_u64..5, batch in 1_u32..4, fused: bool,
        ) {
            let measured = run(&Workload { batch, fused, ..Workload::new(Model::Cpu, bytes, iters, warmup) }).unwrap();
            prop_assert_eq!(measured.latencies.percentiles().is_some(), iters > 0);
        }
    }
}
