//! Which chunks are stable, as a run-length bitmap.

use crate::limits::MAX_RUNS;

/// Run lengths that alternate between "not stable" and "stable", beginning with "not stable"
/// (the first run may be 0 long, no other is).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StableRuns(Vec<u32>);

impl StableRuns {
    /// Collects runs from one flag per chunk, in order.
    pub fn from_flags(flags: impl IntoIterator<Item = bool>) -> Self {
        let mut runs = StableRuns::default();
        for flag in flags {
            runs.push(flag, 1);
        }
        runs
    }

    /// Appends `count` chunks that are all stable or all not.
    pub fn push(&mut self, stable: bool, count: u32) {
        if count == 0 {
            return;
        }
        if self.0.is_empty() {
            self.0.push(0);
        }
        // An odd number of runs ends in a "not stable" one.
        let last_is_stable = self.0.len().is_multiple_of(2);
        if last_is_stable == stable {
            if let Some(last) = self.0.last_mut() {
                *last += count;
            }
        } else {
            self.0.push(count);
        }
    }

    /// The runs as (stable, count of chunks), empty ones left out.
    pub fn iter(&self) -> impl Iterator<Item = (bool, u32)> + '_ {
        let numbered = self.0.iter().enumerate();
        numbered
            .map(|(index, count)| (index % 2 == 1, *count))
            .filter(|(_, count)| *count > 0)
    }

    /// How many chunks the runs cover.
    pub fn chunks(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Cuts into pieces that each fit one message, with the first chunk of each.
    pub fn pieces(&self) -> Vec<(u32, StableRuns)> {
        let mut pieces = vec![(0, StableRuns::default())];
        let mut chunk = 0;
        for (stable, count) in self.iter() {
            if pieces
                .last()
                .is_some_and(|(_, runs)| runs.0.len() + 2 > MAX_RUNS)
            {
                pieces.push((chunk, StableRuns::default()));
            }
            if let Some((_, runs)) = pieces.last_mut() {
                runs.push(stable, count);
            }
            chunk += count;
        }
        pieces
    }

    pub(crate) fn raw(&self) -> &[u32] {
        &self.0
    }

    pub(crate) fn from_raw(raw: Vec<u32>) -> Option<Self> {
        let total = raw.iter().map(|count| u64::from(*count)).sum::<u64>();
        let has_empty = raw.iter().skip(1).any(|count| *count == 0);
        (total <= u64::from(u32::MAX) && !has_empty && raw != [0]).then_some(StableRuns(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn flags_survive(flags in proptest::collection::vec(any::<bool>(), 0..200)) {
            let runs = StableRuns::from_flags(flags.iter().copied());
            let mut back = Vec::new();
            for (stable, count) in runs.iter() {
                back.extend(std::iter::repeat_n(stable, count as usize));
            }
            prop_assert_eq!(&back, &flags);
            prop_assert_eq!(runs.chunks(), flags.len() as u64);
        }
    }

    #[test]
    fn many_runs_are_cut_into_messages() {
        let runs = StableRuns::from_flags((0..200_000).map(|index| index % 2 == 0));
        let pieces = runs.pieces();
        assert!(pieces.len() > 2);
        let mut expected_first = 0;
        for (first, piece) in pieces {
            assert_eq!(first, expected_first);
            assert!(piece.raw().len() <= MAX_RUNS);
            expected_first += piece.chunks() as u32;
        }
        assert_eq!(expected_first, 200_000);
    }
}
