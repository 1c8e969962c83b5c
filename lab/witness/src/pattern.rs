//! Which slot a record goes to: a pure function of its number, so that the newest record of each
//! slot can be computed again from the highest number alone.

use clap::ValueEnum;

/// How records are spread over the slots of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// One slot after the other, round and round.
    Append,
    /// Any slot.
    Random,
    /// Nine of ten records go to one of a hundred slots.
    RewriteHot,
    /// No records.
    Idle,
}

impl Pattern {
    const ALL: [Pattern; 4] = [
        Pattern::Append,
        Pattern::Random,
        Pattern::RewriteHot,
        Pattern::Idle,
    ];

    /// Its number in a superblock.
    pub fn code(self) -> u64 {
        self as u64
    }

    /// The pattern of a superblock.
    pub fn from_code(code: u64) -> Option<Pattern> {
        Pattern::ALL
            .into_iter()
            .find(|pattern| pattern.code() == code)
    }
}

/// The slots of one area.
#[derive(Debug, Clone, Copy)]
pub struct Slots {
    /// How they are chosen.
    pub pattern: Pattern,
    /// Makes this run's random choices.
    pub seed: u64,
    /// How many there are, at least one.
    pub count: u64,
}

impl Slots {
    /// The slot of record `number`; numbers begin at 1.
    pub fn of(&self, number: u64) -> u64 {
        let random = scramble(self.seed ^ scramble(number));
        match self.pattern {
            Pattern::Append | Pattern::Idle => (number - 1) % self.count,
            Pattern::Random => below(random, self.count),
            Pattern::RewriteHot => {
                let hot = (self.count / 100).max(1);
                let place = scramble(random);
                match random % 10 {
                    0 if hot < self.count => hot + below(place, self.count - hot),
                    _ => below(place, hot),
                }
            }
        }
    }

    /// For each slot the newest of the records 1 to `highest`, 0 if there is none.
    pub fn newest(&self, highest: u64) -> Vec<u64> {
        let mut newest = vec![0; self.count as usize];
        // Append overwrites all older ones in its last round.
        let first = match self.pattern {
            Pattern::Append | Pattern::Idle => highest.saturating_sub(self.count) + 1,
            _ => 1,
        };
        for number in first..=highest {
            newest[self.of(number) as usize] = number;
        }
        newest
    }
}

/// SplitMix64's finisher: every bit of the input changes half of the output's.
pub fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number below `limit`, evenly.
fn below(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns() -> impl Strategy<Value = Pattern> {
        proptest::sample::select(Pattern::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_slot_is_inside_the_area(pattern in patterns(), seed: u64, count in 1u64..1 << 40, number in 1u64..) {
            let slots = Slots { pattern, seed, count };
            prop_assert!(slots.of(number) < count);
        }

        #[test]
        fn the_newest_is_the_last_that_went_there(pattern in patterns(), seed: u64, count in 1u64..50, highest in 0u64..200) {
            let slots = Slots { pattern, seed, count };
            let newest = slots.newest(highest);
            for slot in 0..count {
                let last = (1..=highest).rev().find(|number| slots.of(*number) == slot).unwrap_or(0);
                prop_assert_eq!(newest[slot as usize], last);
            }
        }
    }

    #[test]
    fn nine_of_ten_rewrites_are_hot() {
        let slots = Slots {
            pattern: Pattern::RewriteHot,
            seed: 5,
            count: 10_000,
        };
        let hot = (1..=100_000)
            .filter(|number| slots.of(*number) < 100)
            .count();
        assert!((89_500..90_500).contains(&hot), "{hot}");
    }

    #[test]
    fn random_reaches_every_slot() {
        let slots = Slots {
            pattern: Pattern::Random,
            seed: 5,
            count: 100,
        };
        assert!(slots.newest(2000).iter().all(|number| *number > 0));
    }
}
