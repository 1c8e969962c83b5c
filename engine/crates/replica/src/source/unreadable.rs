//! Places of a VDISK that could not be read and were sent as zeros.

use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Most places that are kept; a disk with more is not migrated piece by piece.
pub(super) const MOST: usize = 65_536;

/// Most places that the status names.
const SHOWN: usize = 64;

/// A set of byte ranges; neighbours are one.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Begin to end.
    extents: BTreeMap<u64, u64>,
}

/// Places that could not be read, in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UnreadableStatus {
    /// All together.
    pub bytes: u64,
    /// How many places there are.
    pub places: usize,
    /// The first 64 of them.
    pub first: Vec<Place>,
}

/// A place of a VDISK, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

impl Unreadable {
    /// `range` was read again; only `found` (inside it, in order) could not be read.
    pub(super) fn replace(&mut self, range: Range<u64>, found: &[Range<u64>]) {
        if self.extents.is_empty() && found.is_empty() {
            return;
        }
        self.remove(range);
        found.iter().for_each(|extent| self.insert(extent.clone()));
    }

    /// Whether any of `range` is listed.
    pub(super) fn touches(&self, range: Range<u64>) -> bool {
        let before = self.extents.range(..range.end).next_back();
        before.is_some_and(|(_, end)| *end > range.start)
    }

    fn remove(&mut self, range: Range<u64>) {
        let touching: Vec<_> = self
            .extents
            .range(..range.end)
            .rev()
            .take_while(|(_, end)| **end > range.start)
            .map(|(begin, end)| *begin..*end)
            .collect();
        for extent in touching {
            self.extents.remove(&extent.start);
            if extent.start < range.start {
                self.extents.insert(extent.start, range.start);
            }
            if extent.end > range.end {
                self.extents.insert(range.end, extent.end);
            }
        }
    }

    fn insert(&mut self, extent: Range<u64>) {
        let Range { mut start, mut end } = extent;
        if let Some((before, before_end)) = self.extents.range(..start).next_back()
            && *before_end == start
        {
            start = *before;
        }
        if let Some(after_end) = self.extents.remove(&end) {
            end = after_end;
        }
        self.extents.insert(start, end);
    }

    pub(super) fn is_full(&self) -> bool {
        self.extents.len() >= MOST
    }

    pub(super) fn status(&self) -> UnreadableStatus {
        let places = self.extents.iter().map(|(begin, end)| Place {
            offset: *begin,
            length: end - begin,
        });
        UnreadableStatus {
            bytes: places.clone().map(|place| place.length).sum(),
            places: self.extents.len(),
            first: places.take(SHOWN).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(steps in proptest::collection::vec((0..60u64, 1..20u64, any::<Option<(u64, u64)>>()), 1..30)) {
            let mut unreadable = Unreadable::default();
            let mut model = [false; 80];
            for (begin, length, bad) in steps {
                let range = begin..begin + length;
                let bad = bad.map(|(first, second)| {
                    let from = begin + first % length;
                    from..from + 1 + second % (begin + length - from)
                });
                unreadable.replace(range.clone(), bad.as_slice());
                for byte in range {
                    model[byte as usize] = bad.as_ref().is_some_and(|bad| bad.contains(&byte));
                }
                let runs: Vec<_> = model
                    .chunk_by(|a, b| a == b)
                    .scan(0, |at, run| {
                        let place = Place { offset: *at, length: run.len() as u64 };
                        *at += place.length;
                        Some((run[0], place))
                    })
                    .filter_map(|(bad, place)| bad.then_some(place))
                    .collect();
                let status = unreadable.status();
                prop_assert_eq!(status.places, runs.len());
                prop_assert_eq!(status.bytes, model.iter().filter(|bad| **bad).count() as u64);
                prop_assert_eq!(status.first, runs);
                for byte in 0..80 {
                    prop_assert_eq!(unreadable.touches(byte..byte + 1), model[byte as usize]);
                }
            }
        }
    }
}
