//! One record: a number that proves itself.

use std::fmt;

use crate::block::{self, Aligned, BLOCK, SEALED};
use crate::pattern::{Pattern, scramble};

const MAGIC: u64 = u64::from_le_bytes(*b"WITNESS1");
const PAYLOAD: usize = 72;

/// One of the two places where every record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The device itself.
    Raw,
    /// Files in a folder.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Raw => "raw",
            Place::File => "file",
        })
    }
}

/// What is said of every record of one run of the program.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The run that initialised the areas.
    pub seed: u64,
    /// The pattern of that run.
    pub pattern: Pattern,
    /// The kernel's boot.
    pub boot: [u8; 16],
}

/// Writes record `number` into `block`. `monotonic`: nanoseconds since the boot.
pub fn encode(
    block: &mut Aligned,
    origin: &Origin,
    place: Place,
    slot: u64,
    number: u64,
    monotonic: u64,
) {
    let fields = [
        MAGIC,
        number,
        slot,
        place as u64,
        origin.pattern.code(),
        origin.seed,
        monotonic,
    ];
    for (at, field) in fields.into_iter().enumerate() {
        block::put(block, at * 8, field);
    }
    block[56..72].copy_from_slice(&origin.boot);
    for (at, word) in block[PAYLOAD..SEALED].chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&scramble(number.wrapping_mul(1021) ^ at as u64).to_le_bytes());
    }
    block::seal(block);
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Zeros.
    Nothing,
    /// No record of this run: noise, half a record, a flipped bit.
    Corrupt,
    /// A whole record that belongs elsewhere.
    Misplaced(u64),
    /// The record with this number.
    Record(u64),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => f.write_str("nothing"),
            Found::Corrupt => f.write_str("corrupt"),
            Found::Misplaced(number) => write!(f, "misplaced-{number}"),
            Found::Record(number) => write!(f, "{number}"),
        }
    }
}

/// Reads a slot.
pub fn decode(block: &[u8], seed: u64, place: Place, slot: u64) -> Found {
    if block::is_blank(block) {
        return Found::Nothing;
    }
    let whole = block.len() == BLOCK && block::is_sealed(block);
    let number = if whole { block::get(block, 8) } else { 0 };
    if number == 0 || block::get(block, 0) != MAGIC || block::get(block, 40) != seed {
        return Found::Corrupt;
    }
    match block::get(block, 16) == slot && block::get(block, 24) == place as u64 {
        true => Found::Record(number),
        false => Found::Misplaced(number),
    }
}
