//! What a thread has launched in each stream since it waited last: how much, and a fingerprint of it.

use std::cell::RefCell;

use gpuos_job::clock;

use crate::ranges::Range;

/// Streams of a thread that are told apart; what is launched in further ones is not understood.
const STREAMS: usize = 16;

/// What was launched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launched {
    pub(crate) stream: u64,
    pub(crate) fingerprint: u64,
    pub(crate) launches: u64,
    /// When the first was.
    pub(crate) since: u64,
    /// In which range that was.
    pub(crate) range: Option<Range>,
}

#[derive(Default)]
struct Streams {
    launched: Vec<Launched>,
    /// There were more than are told apart.
    is_incomplete: bool,
}

thread_local!(static STREAMS_OF_THREAD: RefCell<Streams> = RefCell::default());

/// FNV-1a, over words.
const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0100_0000_01b3)
}

/// The beginning of a fingerprint.
const START: u64 = 0xcbf2_9ce4_8422_2325;

/// A launch of a function, or of a graph.
pub(crate) fn launched(stream: u64, what: u64) {
    // A thread that ends launches nothing that it waits for.
    STREAMS_OF_THREAD
        .try_with(|streams| {
            let mut streams = streams.borrow_mut();
            let place = streams.launched.iter().position(|one| one.stream == stream);
            let place = match place {
                Some(place) => place,
                None if streams.launched.len() < STREAMS => {
                    let range = Range::innermost();
                    let fingerprint =
                        range.iter().flat_map(Range::bytes).fold(START, |hash, byte| mix(hash, u64::from(*byte)));
                    let since = clock::now();
                    streams.launched.push(Launched { stream, fingerprint, launches: 0, since, range });
                    streams.launched.len() - 1
                }
                None => {
                    streams.is_incomplete = true;
                    return;
                }
            };
            let one = &mut streams.launched[place];
            one.fingerprint = mix(one.fingerprint, what);
            one.launches += 1;
        })
        .ok();
}

/// What was launched in a stream since the last wait for it; it begins anew.
pub(crate) fn take(stream: u64) -> Option<Launched> {
    let taken = STREAMS_OF_THREAD.try_with(|streams| {
        let mut streams = streams.borrow_mut();
        let place = streams.launched.iter().position(|one| one.stream == stream)?;
        Some(streams.launched.swap_remove(place))
    });
    taken.ok().flatten()
}

/// What was launched in a stream since the last wait for it.
pub(crate) fn look(stream: u64) -> Option<Launched> {
    let found = STREAMS_OF_THREAD
        .try_with(|streams| streams.borrow().launched.iter().find(|one| one.stream == stream).copied());
    found.ok().flatten()
}

/// What was launched in all streams since the last wait; it begins anew. `None` where not all of it is known.
pub(crate) fn take_all() -> Option<Vec<Launched>> {
    let taken = STREAMS_OF_THREAD.try_with(|streams| std::mem::take(&mut *streams.borrow_mut()));
    taken.ok().filter(|streams| !streams.is_incomplete).map(|streams| streams.launched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_launched_in_another_order_or_stream_is_something_else() {
        let of = |launches: &[(u64, u64)]| {
            launches.iter().for_each(|(stream, what)| launched(*stream, *what));
            let taken = take_all().unwrap().into_iter();
            taken.map(|one| Launched { since: 0, ..one }).collect::<Vec<_>>()
        };
        let one = of(&[(1, 10), (1, 20)]);
        assert_eq!(one, of(&[(1, 10), (1, 20)]));
        assert_ne!(one, of(&[(1, 20), (1, 10)]));
        assert_ne!(one[0].fingerprint, of(&[(1, 10)])[0].fingerprint);
        // What goes on in another stream does not change it.
        let both = of(&[(1, 10), (2, 30), (1, 20)]);
        assert_eq!((both.len(), both[0]), (2, one[0]));
        launched(1, 10);
        assert_eq!(look(1).unwrap().launches, 1);
        assert_eq!((take(1).unwrap().launches, take(1), take(2)), (1, None, None));
    }

    #[test]
    fn more_streams_than_are_told_apart_are_not_understood() {
        (0..20).for_each(|stream| launched(stream, 1));
        assert_eq!(take_all(), None);
        assert_eq!(take_all(), Some(Vec::new()));
    }
}
