//! What ranges become: a thread's own phases, and those of the process.

use std::{
    cell::RefCell,
    ffi::c_char,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

thread_local! {
    /// Ranges that this thread has pushed, the innermost last.
    static PUSHED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
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
    static HAS_TOLD: AtomicBool = AtomicBool::new(false);
    if !HAS_TOLD.swap(true, Ordering::Relaxed) {
        tell_jobs();
    }
    let label = without_numbers(label);
    gpuos_phase::thread_begin(label);
    let around = PUSHED.try_with(|pushed| {
        let mut pushed = pushed.borrow_mut();
        pushed.push(label.to_owned());
        pushed.len() - 1
    });
    around.map_or(0, |around| i32::try_from(around).unwrap_or(i32::MAX))
}

/// Ends the innermost; returns how many are left, −1 when there was none.
pub(crate) fn pop() -> i32 {
    let left = PUSHED.try_with(|pushed| {
        let mut pushed = pushed.borrow_mut();
        pushed.pop().map(|_| pushed.len())
    });
    let Ok(Some(left)) = left else { return -1 };
    gpuos_phase::thread_end();
    i32::try_from(left).unwrap_or(i32::MAX)
}

/// The innermost range that the calling thread has pushed, for other libraries in the process: copies its label, `size` bytes at
/// most, and returns how many it copied; 0 where there is none.
///
/// # Safety
/// `to` has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpuos_nvtx_range(to: *mut c_char, size: usize) -> usize {
    let copied = PUSHED.try_with(|pushed| {
        let pushed = pushed.borrow();
        let label = pushed.last().map_or("", String::as_str);
        let label = &label[..label.floor_char_boundary(size)];
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(label.as_ptr(), to.cast(), label.len()) };
        label.len()
    });
    copied.unwrap_or_default()
}

/// Tells the library that makes jobs of launches, where that is preloaded, where to ask for ranges.
fn tell_jobs() {
    type Tell = extern "C" fn(unsafe extern "C" fn(*mut c_char, usize) -> usize);
    // SAFETY: a name that is closed by a 0.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"gpuos_job_preload_ranges".as_ptr()) };
    if !found.is_null() {
        // SAFETY: it has this type.
        let tell: Tell = unsafe { std::mem::transmute(found) };
        tell(gpuos_nvtx_range);
    }
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
    fn the_innermost_range_is_told() {
        let told = |size| {
            let mut label = [0_u8; 8];
            // SAFETY: there is room for as many.
            let length = unsafe { gpuos_nvtx_range(label.as_mut_ptr().cast(), size) };
            String::from_utf8_lossy(&label[..length]).into_owned()
        };
        assert_eq!((told(8), pop()), (String::new(), -1));
        assert_eq!((push("step"), push("späteres, op_id = 7")), (0, 1));
        // No letter is cut.
        assert_eq!((told(8), told(3), pop(), told(8)), ("spätere".into(), "sp".into(), 1, "step".into()));
        assert_eq!((pop(), told(8)), (0, String::new()));
    }

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
