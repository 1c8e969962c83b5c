//! Journal files: any bytes, good files that were damaged, and good frames around bad records.

use crate::folder;
use arbitrary::{Arbitrary, Result, Unstructured};
use drover_replica::chunk::{CHUNK_SIZE, Geometry};
use drover_replica::journal::{Found, Journal, Record, Subject};
use std::path::Path;

const CHUNKS: u32 = 40;
const HEADER: usize = 128;

/// What a journal says: per chunk whether it is stable, and which blocks of it are newer.
type Claims = Vec<(bool, u8)>;

/// The first byte says how the file is made of the rest.
pub(crate) fn file(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let folder = folder::fresh();
    let path = folder.path().join("vda.journal");
    // Bytes that end before a plan is complete are no plan.
    let _ = match kind % 3 {
        0 => {
            std::fs::write(&path, rest).expect("writing the file");
            opened(&path);
            Ok(())
        }
        1 => damaged(&path, &mut Unstructured::new(rest)),
        _ => forged(&path, &mut Unstructured::new(rest)),
    };
}

fn subject() -> Subject {
    Subject {
        name: "vda".into(),
        geometry: Geometry::new(u64::from(CHUNKS) * u64::from(CHUNK_SIZE) - 1000),
        medium: 7,
    }
}

fn claims(journal: &Journal) -> Claims {
    let one = |chunk| (journal.is_stable(chunk), journal.newer(chunk));
    (0..CHUNKS).map(one).collect()
}

/// Opens the file and demands that what it came to agrees with itself and stays.
fn opened(path: &Path) -> (Claims, Found) {
    let (mut journal, found) = Journal::open(path, subject()).expect("opening the journal");
    let claimed = claims(&journal);
    let stable = claimed.iter().filter(|(stable, _)| *stable).count();
    assert_eq!(journal.stable_chunks() as usize, stable);
    let length = std::fs::metadata(path).expect("the file").len();
    assert_eq!(journal.length(), length);
    let (again, clean) = Journal::open(path, subject()).expect("opening the journal again");
    assert_eq!(clean, Found::Journal { torn: 0 });
    assert_eq!(claims(&again), claimed);
    drop(again);
    // Whichever of the two is new is written.
    let (first, count) = (CHUNKS - 1, 1);
    let last = match journal.is_stable(first) {
        true => Record::Forget { first, count },
        false => Record::Stable { first, count },
    };
    journal.append(&[last], 1).expect("appending");
    let (again, _) = Journal::open(path, subject()).expect("opening it a third time");
    assert_eq!(claims(&again), claims(&journal));
    assert_ne!(again.is_stable(first), claimed[first as usize].0);
    (claimed, found)
}

fn record(plan: &mut Unstructured) -> Result<Record> {
    let first = u32::from(u8::arbitrary(plan)?) % (CHUNKS + 4);
    let count = u32::from(u8::arbitrary(plan)?) % 12;
    Ok(match u8::arbitrary(plan)? % 6 {
        0 | 1 => Record::Forget { first, count },
        2 => Record::Newer {
            chunk: first,
            mask: u8::arbitrary(plan)?,
        },
        _ => Record::Stable { first, count },
    })
}

/// A good file, changed: it must come to what one of its appends had made of it, or to nothing.
fn damaged(path: &Path, plan: &mut Unstructured) -> Result<()> {
    let mut journal = Journal::create(path, subject()).expect("making a journal");
    let mut legal = vec![claims(&journal)];
    for _ in 0..u8::arbitrary(plan)? % 8 {
        let records: Vec<Record> = (0..1 + u8::arbitrary(plan)? % 5)
            .map(|_| record(plan))
            .collect::<Result<_>>()?;
        journal.append(&records, 1).expect("appending");
        legal.push(claims(&journal));
    }
    let mut raw = std::fs::read(path).expect("reading the journal");
    for _ in 0..1 + u8::arbitrary(plan)? % 4 {
        damage(&mut raw, plan)?;
    }
    std::fs::write(path, raw).expect("writing the damaged journal");
    let (claimed, found) = opened(path);
    if matches!(found, Found::Void(_)) {
        assert_eq!(claimed, legal[0], "a journal not believed claims something");
    }
    assert!(legal.contains(&claimed), "no append had led to {claimed:?}");
    Ok(())
}

fn damage(raw: &mut Vec<u8>, plan: &mut Unstructured) -> Result<()> {
    if raw.is_empty() {
        return Ok(());
    }
    let at = usize::from(u16::arbitrary(plan)?) % raw.len();
    let to = (at + 1 + usize::from(u16::arbitrary(plan)?) % 400).min(raw.len());
    match u8::arbitrary(plan)? % 5 {
        0 => raw.truncate(at),
        1 => raw[at] ^= u8::arbitrary(plan)?,
        2 => drop(raw.drain(at..to)),
        3 => {
            let again = raw[at..to].to_vec();
            raw.extend(again);
        }
        _ => {
            let garbage = vec![u8::arbitrary(plan)?; to - at];
            raw.splice(at..at, garbage);
        }
    }
    Ok(())
}

/// Frames whose checks are right and whose content is anything.
fn forged(path: &Path, plan: &mut Unstructured) -> Result<()> {
    drop(Journal::create(path, subject()).expect("making a journal"));
    let mut raw = std::fs::read(path).expect("reading the journal");
    raw.truncate(HEADER);
    let mut sequence = 0u64;
    while !plan.is_empty() {
        sequence = match u8::arbitrary(plan)? {
            0 => u64::arbitrary(plan)?,
            1 => u64::from(u8::arbitrary(plan)?),
            _ => sequence.wrapping_add(1),
        };
        let synced = match u8::arbitrary(plan)? {
            0 => u64::arbitrary(plan)?,
            few => u64::from(few) % 16,
        };
        let length = (usize::from(u8::arbitrary(plan)?)).min(plan.len());
        frame(&mut raw, sequence, synced, plan.bytes(length)?);
    }
    std::fs::write(path, raw).expect("writing the forged journal");
    opened(path);
    Ok(())
}

/// A frame as `replica/src/journal.rs` describes it.
fn frame(out: &mut Vec<u8>, sequence: u64, synced: u64, body: &[u8]) {
    let mut fixed = b"DJB2".to_vec();
    fixed.extend((body.len() as u32).to_le_bytes());
    for number in [sequence, synced, 1] {
        fixed.extend(number.to_le_bytes());
    }
    let check = blake3::hash(&[&fixed[..], body].concat());
    out.extend(fixed);
    out.extend(&check.as_bytes()[..16]);
    out.extend(body);
}
