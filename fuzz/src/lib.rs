//! What several targets share.

use gpuos_trace::sink::{
    self,
    table::{Look, Order, View, render},
};

/// What a terminal would obey must not come through from a file that anybody may have written.
fn assert_printable(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

/// Reads a run file and prints its tables in every way, as `show` does.
pub fn show(bytes: &[u8]) {
    let run = match sink::from_bytes(bytes.to_vec(), "file") {
        Ok(run) => run,
        Err(error) => return assert_printable(&error.to_string()),
    };
    for (top, order, width) in [(usize::MAX, Order::Calls, usize::MAX), (1, Order::Total, 80), (3, Order::Max, 1)] {
        match render(&run, View { top, order }, Look { width, color: false }) {
            Ok(text) => assert_printable(&text),
            Err(error) => assert_printable(&error.to_string()),
        }
    }
    let _ = render(&run, View { top: 20, order: Order::Errors }, Look { width: 100, color: true });
}
