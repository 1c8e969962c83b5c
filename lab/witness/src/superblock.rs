//! What was decided when the areas were initialised; a copy in both places.

use std::io;

use crate::block::{self, Aligned, BLOCK};
use crate::layout::{Areas, Sizes};
use crate::pattern::{Pattern, Slots};
use crate::record::Place;

const MAGIC: u64 = u64::from_le_bytes(*b"WITSUPER");
const NAME: &str = "superblock";

/// Decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Tells this run's records from those of an earlier one.
    pub seed: u64,
    /// How records are spread.
    pub pattern: Pattern,
    /// Sizes of the areas.
    pub sizes: Sizes,
}

/// What is found where a superblock should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Zeros, or no file.
    Blank,
    /// Something else.
    Corrupt,
    /// A superblock.
    Whole(Superblock),
}

impl Superblock {
    /// The slots of one place; each has its own order of random slots.
    pub fn slots(&self, place: Place) -> Slots {
        let seed = self.seed.wrapping_add(place as u64);
        Slots {
            pattern: self.pattern,
            seed,
            count: self.sizes.slots(place),
        }
    }

    /// Writes one copy, durably.
    pub fn store(&self, areas: &Areas, place: Place) -> io::Result<()> {
        let mut block = Aligned::zeroed(BLOCK);
        let fields = [
            MAGIC,
            self.seed,
            self.pattern.code(),
            self.sizes.raw,
            self.sizes.file,
        ];
        for (at, field) in fields.into_iter().enumerate() {
            block::put(&mut block, at * 8, field);
        }
        block::seal(&mut block);
        areas.write_header(place, NAME, 0, &block)
    }

    /// Reads one copy.
    pub fn load(areas: &Areas, place: Place) -> io::Result<Copy> {
        let block = areas.read_header(place, NAME, 0)?;
        if block::is_blank(&block) {
            return Ok(Copy::Blank);
        }
        let [magic, seed, pattern, raw, file] = [0, 8, 16, 24, 32].map(|at| block::get(&block, at));
        match Pattern::from_code(pattern) {
            Some(pattern) if magic == MAGIC && block::is_sealed(&block) => {
                Ok(Copy::Whole(Superblock {
                    seed,
                    pattern,
                    sizes: Sizes { raw, file },
                }))
            }
            _ => Ok(Copy::Corrupt),
        }
    }
}
