//! A choice of so many among chunks whose number is known only at the end, all with the same probability, in the
//! memory of the chosen ones: Li's algorithm L, which skips over what it does not take.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(super) struct Reservoir {
    chosen: Vec<u32>,
    most: usize,
    offered: u64,
    /// Number of the offer that is taken next, once the reservoir is full.
    next: u64,
    weight: f64,
    dice: StdRng,
}

impl Reservoir {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        let mut reservoir = Reservoir {
            chosen: Vec::with_capacity(most),
            most,
            offered: 0,
            next: most as u64,
            weight: 1.0,
            dice: StdRng::seed_from_u64(seed),
        };
        reservoir.skip();
        reservoir
    }

    fn skip(&mut self) {
        // Never 0, of which there is no logarithm.
        let mut dice = || 1.0 - self.dice.random::<f64>();
        self.weight *= (dice().ln() / self.most as f64).exp();
        let gap = (dice().ln() / (-self.weight).ln_1p()).floor();
        self.next = self.next.saturating_add(gap as u64);
    }

    /// Chunks `first..first + count` may be chosen.
    pub(super) fn offer(&mut self, first: u32, count: u32) {
        let begin = self.offered;
        let end = begin + u64::from(count);
        self.offered = end;
        let filling = ((self.most as u64).min(end)).saturating_sub(begin) as u32;
        self.chosen.extend(first..first + filling);
        while self.most > 0 && self.next < end {
            let chunk = first + (self.next - begin) as u32;
            let place = self.dice.random_range(0..self.most);
            self.chosen[place] = chunk;
            self.next = self.next.saturating_add(1);
            self.skip();
        }
    }

    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    /// In order.
    pub(super) fn into_chosen(mut self) -> Vec<u32> {
        self.chosen.sort_unstable();
        self.chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_many_as_there_are_and_none_twice(
            most in 1..200usize,
            seed: u64,
            runs in proptest::collection::vec((0..50u32, 0..300u32), 0..20),
        ) {
            let mut reservoir = Reservoir::new(most, seed);
            let (mut position, mut all) = (0, Vec::new());
            for (gap, count) in runs {
                position += gap;
                reservoir.offer(position, count);
                all.extend(position..position + count);
                position += count;
            }
            prop_assert_eq!(reservoir.offered(), all.len() as u64);
            let mut chosen = reservoir.into_chosen();
            prop_assert_eq!(chosen.len(), most.min(all.len()));
            prop_assert!(chosen.iter().all(|chunk| all.binary_search(chunk).is_ok()));
            chosen.dedup();
            prop_assert_eq!(chosen.len(), most.min(all.len()));
        }
    }

    #[test]
    fn each_has_the_same_chance() {
        let mut taken = [0u32; 1000];
        for seed in 0..2000 {
            let mut reservoir = Reservoir::new(100, seed);
            reservoir.offer(0, 400);
            reservoir.offer(400, 600);
            for chunk in reservoir.into_chosen() {
                taken[chunk as usize] += 1;
            }
        }
        // 200 expected of each; the tenths of the range within 4 standard deviations of 20,000.
        for part in taken.chunks(100) {
            let sum: u32 = part.iter().sum();
            assert!(sum.abs_diff(20_000) < 4 * 135, "{sum}");
        }
        assert!(
            taken.iter().all(|count| (130..270).contains(count)),
            "{taken:?}"
        );
    }
}
