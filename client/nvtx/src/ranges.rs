//! What ranges become: a thread's own phases, and those of the process.

use std::{cell::Cell, sync::Mutex};

thread_local! {
    /// Ranges that this thread has pushed.
    static PUSHED: Cell<i32> = const { Cell::new(0) };
}

/// Ranges that were started and have not ended, the innermost last, and the last number that was given.
struct Started {
    open: Vec<(u64, String)>,
    last: u64,
}

static STARTED: Mutex<Started> = Mutex::new(Started { open: Vec::new(), last: 0 });

/// A label without the numbers that PyTorch's `emit_nvtx` gives every single call (`aten::conv2d, seq = 4, op_id = 17`):
/// with them each call would be a phase of its own.
fn without_numbers(label: &str) -> &str {
    let ends = [", seq = ", ", op_id = "].iter().filter_map(|word| label.find(word));
    ends.min().map_or(label, |end| &label[..end])
}

/// Begins a range of this thread; returns how many are around it.
pub(crate) fn push(label: &str) -> i32 {
    gpuos_phase::thread_begin(without_numbers(label));
    PUSHED.replace(PUSHED.get() + 1)
}

/// Ends the innermost; returns how many are left, −1 when there was none.
pub(crate) fn pop() -> i32 {
    if PUSHED.get() == 0 {
        return -1;
    }
    gpuos_phase::thread_end();
    PUSHED.set(PUSHED.get() - 1);
    PUSHED.get()
}

fn started() -> std::sync::MutexGuard<'static, Started> {
    STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Begins a range of the process; returns its number, which is never 0.
pub(crate) fn start(label: &str) -> u64 {
    let mut started = started();
    started.last += 1;
    let number = started.last;
    begin(&mut started, number, label);
    number
}

/// The same under a number that another library gave.
pub(crate) fn start_as(number: u64, label: &str) {
    begin(&mut started(), number, label);
}

fn begin(started: &mut Started, number: u64, label: &str) {
    gpuos_phase::begin(label);
    started.open.push((number, label.to_owned()));
}

/// Ends the range with this number. Phases lie inside each other and ranges need not: those that began after it end,
/// and begin again without it.
pub(crate) fn end(number: u64) {
    let mut started = started();
    let Some(place) = started.open.iter().rposition(|(open, _)| *open == number) else { return };
    for _ in place..started.open.len() {
        gpuos_phase::end();
    }
    started.open.remove(place);
    for (_, label) in &started.open[place..] {
        gpuos_phase::begin(label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_may_overlap() {
        let (a, b, c) = (start("a"), start("b"), start("c"));
        end(b);
        end(b);
        end(77);
        let open: Vec<u64> = started().open.iter().map(|(number, _)| *number).collect();
        assert_eq!(open, [a, c]);
        end(a);
        end(c);
        assert!(started().open.is_empty());
    }

    #[test]
    fn numbers_of_single_calls_are_left_out() {
        assert_eq!(without_numbers("aten::conv2d, op_id = 1"), "aten::conv2d");
        assert_eq!(
            without_numbers("autograd::AddBackward0, seq = 4, op_id = 17, sizes = [[2]]"),
            "autograd::AddBackward0"
        );
        assert_eq!(without_numbers("batch 1, step 2"), "batch 1, step 2");
    }

    #[test]
    fn pushes_have_levels() {
        assert_eq!((push("a"), push("b"), pop(), pop(), pop()), (0, 1, 1, 0, -1));
    }
}
