//! What must still be there, and whether it is: no disk, no clock.
//!
//! Records are written strictly one after the other, and each is durable on the device before it
//! goes to the files, and in the files before the next begins. So whatever is found tells that all
//! that came before it was durable:
//!
//! * record `r` on the device: all up to `r` there, and up to `r - 1` in the files;
//! * record `f` in the files: all up to `f` in both.
//!
//! What was announced was durable in both. Only the slot of the one record that may have been under
//! way at a crash may hold half of it.

use crate::pattern::Slots;
use crate::record::{Found, Place};

/// What the slots of both places hold.
pub struct Survey {
    /// By slot.
    pub raw: Vec<Found>,
    /// By slot.
    pub file: Vec<Found>,
}

/// One slot that does not hold what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// Number of the slot.
    pub slot: u64,
    /// What it holds.
    pub found: Found,
    /// The oldest record that it may hold.
    pub expected: u64,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The highest record that is, or must be, in both places with all before it.
    pub highest: u64,
    /// Empty if all is well.
    pub losses: Vec<Loss>,
}

/// Whether a record may have been under way when the survey was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After a start: the last run may have died at any point.
    AfterCrash,
    /// Between two records of this run.
    AtRest,
}

/// Judges a survey; all records up to `durable` are known to have been durable.
pub fn judge(raw: Slots, file: Slots, survey: &Survey, durable: u64, moment: Moment) -> Verdict {
    let (on_device, in_files) = (highest(&survey.raw), highest(&survey.file));
    let raw_floor = durable.max(in_files).max(on_device);
    let file_floor = durable.max(in_files).max(on_device.saturating_sub(1));
    let mut losses = missing(Place::Raw, raw, &survey.raw, raw_floor, moment);
    losses.extend(missing(Place::File, file, &survey.file, file_floor, moment));
    Verdict {
        highest: file_floor,
        losses,
    }
}

fn highest(slots: &[Found]) -> u64 {
    let number = |found: &Found| match found {
        Found::Record(number) => *number,
        _ => 0,
    };
    slots.iter().map(number).max().unwrap_or(0)
}

/// The slots of one place that lack what they must hold when all records up to `floor` are durable.
fn missing(place: Place, slots: Slots, found: &[Found], floor: u64, moment: Moment) -> Vec<Loss> {
    let under_way = (moment == Moment::AfterCrash).then(|| slots.of(floor + 1));
    let expected = slots.newest(floor);
    let pairs = found.iter().zip(expected).zip(0..);
    pairs
        .filter(|((found, expected), slot)| match found {
            Found::Record(number) => number < expected || slots.of(*number) != *slot,
            Found::Misplaced(_) => true,
            Found::Nothing => *expected > 0,
            Found::Corrupt => *expected > 0 && under_way != Some(*slot),
        })
        .map(|((found, expected), slot)| Loss {
            place,
            slot,
            found: *found,
            expected,
        })
        .collect()
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
