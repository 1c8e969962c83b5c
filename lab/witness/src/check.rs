//! Reads everything again and judges it.

use std::io;

use crate::layout::Areas;
use crate::ledger::{self, Entry};
use crate::oracle::{Loss, Moment, Survey, Verdict, judge};
use crate::record::{Place, decode};
use crate::superblock::{Copy, Superblock};

/// What a check found.
pub enum Outcome {
    /// Nothing was ever written.
    New,
    /// All is there.
    Good(State),
    /// Something is missing: what of the headers, and which records.
    Failed(Vec<String>, Vec<Loss>),
}

/// Where to go on.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// As found.
    pub superblock: Superblock,
    /// The newest entry.
    pub ledger: Entry,
    /// The highest record that is durable in both places.
    pub highest: u64,
}

/// The check at a start. `announced`: what the caller knows to have been announced.
pub fn at_start(areas: &mut Areas, announced: u64) -> io::Result<Outcome> {
    let copies = [
        Superblock::load(areas, Place::Raw)?,
        Superblock::load(areas, Place::File)?,
    ];
    let superblock = match copies {
        [Copy::Whole(raw), Copy::Whole(file)] if raw == file => raw,
        [Copy::Blank, Copy::Blank] if announced == 0 => return Ok(Outcome::New),
        // The files are initialised first, the device last: this is an initialisation cut short.
        [Copy::Blank, Copy::Whole(file)] if announced == 0 && untouched(areas, &file)? => {
            return Ok(Outcome::New);
        }
        [Copy::Whole(raw), Copy::Whole(file)]
            if announced == 0 && untouched(areas, &raw)? && untouched(areas, &file)? =>
        {
            return Ok(Outcome::New);
        }
        copies => {
            return Ok(Outcome::Failed(
                superblock_losses(copies, announced),
                Vec::new(),
            ));
        }
    };
    if superblock.sizes != areas.sizes() {
        let text = format!(
            "the areas were initialised with {:?} bytes; give these",
            superblock.sizes
        );
        return Err(io::Error::other(text));
    }
    after_crash(areas, superblock, announced)
}

/// The areas are initialised; what of the records?
fn after_crash(areas: &mut Areas, superblock: Superblock, announced: u64) -> io::Result<Outcome> {
    let raw = Entry::load(areas, Place::Raw, superblock.seed)?;
    let file = Entry::load(areas, Place::File, superblock.seed)?;
    let newest = raw
        .into_iter()
        .chain(file)
        .max_by_key(|entry| entry.sequence);
    let newest = newest.unwrap_or(Entry {
        sequence: 0,
        highest: 0,
    });
    let mut headers = Vec::new();
    if !ledger::agree(raw, file) {
        headers.push(format!(
            "record={} slot=- where=ledger found={raw:?} expected={file:?}",
            newest.highest
        ));
    }
    let survey = survey(areas, superblock.seed)?;
    let judge = |durable| judge_survey(&superblock, &survey, durable, Moment::AfterCrash);
    let mut verdict = judge(newest.highest);
    if verdict.highest < announced {
        let found = verdict.highest;
        headers.push(format!(
            "record={announced} slot=- where=announced found={found} expected={announced}"
        ));
        verdict = judge(announced);
    }
    let Verdict { highest, losses } = verdict;
    match headers.is_empty() && losses.is_empty() {
        true => Ok(Outcome::Good(State {
            superblock,
            ledger: newest,
            highest,
        })),
        false => Ok(Outcome::Failed(headers, losses)),
    }
}

/// The check between two records: all up to `written` must be there, exactly.
pub fn at_rest(areas: &mut Areas, superblock: &Superblock, written: u64) -> io::Result<Vec<Loss>> {
    let survey = survey(areas, superblock.seed)?;
    Ok(judge_survey(superblock, &survey, written, Moment::AtRest).losses)
}

fn survey(areas: &mut Areas, seed: u64) -> io::Result<Survey> {
    let mut read = |place| areas.survey(place, |slot, block| decode(block, seed, place, slot));
    Ok(Survey {
        raw: read(Place::Raw)?,
        file: read(Place::File)?,
    })
}

fn judge_survey(superblock: &Superblock, survey: &Survey, durable: u64, moment: Moment) -> Verdict {
    let [raw, file] = [Place::Raw, Place::File].map(|place| superblock.slots(place));
    judge(raw, file, survey, durable, moment)
}

/// Whether no record of this superblock was ever written down.
fn untouched(areas: &Areas, superblock: &Superblock) -> io::Result<bool> {
    let entries = [Place::Raw, Place::File].map(|place| Entry::load(areas, place, superblock.seed));
    for entry in entries {
        if entry?.is_some_and(|entry| entry.highest > 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn superblock_losses(copies: [Copy; 2], announced: u64) -> Vec<String> {
    let lost = |(copy, place): (Copy, Place)| match copy {
        Copy::Blank => Some((place, "nothing")),
        Copy::Corrupt => Some((place, "corrupt")),
        Copy::Whole(_) => None,
    };
    let mut losses: Vec<(Place, &str)> = copies
        .into_iter()
        .zip([Place::Raw, Place::File])
        .filter_map(lost)
        .collect();
    if losses.is_empty() {
        losses.push((Place::Raw, "another"));
    }
    let line = |(place, found)| {
        format!(
            "record={announced} slot=superblock where={place} found={found} expected=superblock"
        )
    };
    losses.into_iter().map(line).collect()
}
