//! The journal after every kind of crash and damage.

use super::*;
use crate::chunk::CHUNK_SIZE;
use proptest::collection::vec;
use proptest::prelude::*;

const CHUNKS: u32 = 40;

pub(super) fn subject() -> Subject {
    let geometry = Geometry::new(u64::from(CHUNKS) * u64::from(CHUNK_SIZE) - 1000);
    Subject {
        name: "vda".into(),
        geometry,
        medium: 7,
    }
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        3 => (0..CHUNKS, 0..3u32).prop_map(|(first, count)| Record::Stable { first, count }),
        1 => (0..CHUNKS, 1..10u32).prop_map(|(first, count)| Record::Stable { first, count }),
        1 => (0..CHUNKS, 1..10u32).prop_map(|(first, count)| Record::Forget { first, count }),
        2 => (0..CHUNKS, any::<u8>()).prop_map(|(chunk, mask)| Record::Newer { chunk, mask }),
    ]
}

/// All that a journal says.
pub(super) fn of_journal(journal: &Journal) -> Vec<(bool, u8)> {
    let one = |chunk| (journal.is_stable(chunk), journal.newer(chunk));
    (0..CHUNKS).map(one).collect()
}

pub(super) fn of_records<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<(bool, u8)> {
    let mut claims = Claims::new(subject().geometry);
    records.into_iter().for_each(|record| claims.apply(record));
    let one = |chunk| (claims.is_stable(chunk), claims.newer(chunk));
    (0..CHUNKS).map(one).collect()
}

pub(super) fn stable(chunk: u32) -> Record {
    Record::Stable {
        first: chunk,
        count: 1,
    }
}

/// Appends the batches; returns the file and where each append ended. One that says nothing new
/// ends where the one before it does.
fn written(path: &Path, batches: &[Vec<Record>]) -> (Vec<u8>, Vec<usize>) {
    let mut journal = Journal::create(path, subject()).unwrap();
    let mut ends = vec![journal.length() as usize];
    for batch in batches {
        journal.append(batch, 1).unwrap();
        ends.push(journal.length() as usize);
    }
    (std::fs::read(path).unwrap(), ends)
}

fn reopened(path: &Path, raw: &[u8]) -> (Journal, Found) {
    std::fs::write(path, raw).unwrap();
    Journal::open(path, subject()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cut_at_any_byte_it_holds_every_whole_append(batches in vec(vec(record(), 1..6), 1..6), garbage in vec(any::<u8>(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vda.journal");
        let (raw, ends) = written(&path, &batches);
        for cut in ends[0]..=raw.len() {
            let mut torn = raw[..cut].to_vec();
            torn.extend_from_slice(&garbage);
            // Garbage that happens to be what was cut off is none.
            if let (Some(first), Some(lost)) = (torn.get_mut(cut), raw.get(cut)) {
                *first = !lost;
            }
            let (journal, found) = reopened(&path, &torn);
            prop_assert!(matches!(found, Found::Journal { .. }), "{:?}", found);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            prop_assert_eq!(of_journal(&journal), of_records(batches[..whole].iter().flatten()));
        }
    }

    #[test]
    fn one_changed_byte_never_makes_a_false_claim(batches in vec(vec(record(), 1..6), 1..6), at in any::<usize>(), flip in 1..255u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vda.journal");
        let (mut raw, ends) = written(&path, &batches);
        let at = at % raw.len();
        raw[at] ^= flip;
        let (journal, found) = reopened(&path, &raw);
        let before_last = ends.iter().rposition(|end| *end < raw.len()).unwrap_or(0);
        if at >= ends[before_last] && at >= ends[0] {
            prop_assert_eq!(of_journal(&journal), of_records(batches[..before_last].iter().flatten()));
        } else {
            prop_assert!(matches!(found, Found::Void(_)));
            prop_assert_eq!(of_journal(&journal), of_records([]));
        }
    }

    #[test]
    fn it_goes_on_after_a_torn_end(first in vec(record(), 1..9), second in vec(record(), 1..9), cut in 1..40usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vda.journal");
        let (raw, _) = written(&path, &[first.clone(), vec![Record::Forget { first: 0, count: CHUNKS }]]);
        let (mut journal, _) = reopened(&path, &raw[..raw.len() - cut]);
        journal.append(&second, 2).unwrap();
        drop(journal);
        let (journal, found) = Journal::open(&path, subject()).unwrap();
        prop_assert_eq!(found, Found::Journal { torn: 0 });
        prop_assert_eq!(of_journal(&journal), of_records(first.iter().chain(&second)));
    }

    #[test]
    fn rewriting_changes_no_claim(batch in vec(record(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vda.journal");
        let mut journal = Journal::create(&path, subject()).unwrap();
        journal.append(&batch, 1).unwrap();
        journal.rewrite(1).unwrap();
        drop(journal);
        let (journal, _) = Journal::open(&path, subject()).unwrap();
        prop_assert_eq!(of_journal(&journal), of_records(&batch));
    }
}

#[test]
fn an_append_of_several_frames_torn_in_its_first_is_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let many: Vec<_> = (0..40_000)
        .map(|index| Record::Forget {
            first: 5 + index % 30,
            count: 1,
        })
        .collect();
    assert!(many.len() > FRAME_RECORDS);
    let (mut raw, ends) = written(&path, &[vec![Record::Stable { first: 0, count: 5 }], many]);
    raw[ends[1] + 100] ^= 1;
    let (journal, found) = reopened(&path, &raw);
    assert!(
        matches!(found, Found::Journal { torn } if torn > 0),
        "{found:?}"
    );
    assert_eq!(journal.stable_chunks(), 5);
}

#[test]
fn neighbours_join_and_what_is_claimed_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let batches = [
        vec![stable(7), stable(4), stable(6), stable(5)],
        vec![],
        vec![stable(6), Record::Stable { first: 4, count: 3 }],
        vec![stable(CHUNKS), Record::Stable { first: 9, count: 0 }],
        vec![stable(7), stable(8), stable(5), stable(20)],
    ];
    let (raw, ends) = written(&path, &batches);
    let one = ends[1] - ends[0];
    assert_eq!(ends[1..], [ends[1], ends[1], ends[1], ends[1], raw.len()]);
    assert_eq!(raw.len() - ends[4], one + Record::BYTES, "7 and 8, 20");
    let (journal, _) = reopened(&path, &raw);
    assert_eq!(of_journal(&journal), of_records(batches.iter().flatten()));
}

#[test]
fn a_claim_dropped_and_made_anew_in_one_batch_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let forget = Record::Forget { first: 0, count: 9 };
    let batches = [vec![stable(1)], vec![stable(2), forget, stable(1)]];
    let (raw, _) = written(&path, &batches);
    let (journal, _) = reopened(&path, &raw);
    assert_eq!(of_journal(&journal), of_records(&[stable(1)]));
}

#[test]
fn a_deleted_file_comes_back_with_the_next_append_whatever_that_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let mut journal = Journal::create(&path, subject()).unwrap();
    journal.append(&[stable(3)], 1).unwrap();
    std::fs::remove_file(&path).unwrap();
    journal.append(&[stable(3)], 1).unwrap();
    let (journal, found) = Journal::open(&path, subject()).unwrap();
    assert_eq!(found, Found::Journal { torn: 0 });
    assert_eq!(of_journal(&journal), of_records(&[stable(3)]));
}

#[test]
fn the_longest_it_may_grow_is_as_documented() {
    let geometry = Geometry::new(1 << 40);
    let mut claims = Claims::new(geometry);
    for first in (0..geometry.chunks()).step_by(2) {
        claims.apply(&Record::Stable { first, count: 1 });
        claims.apply(&Record::Newer {
            chunk: first + 1,
            mask: 1,
        });
    }
    let (rewritten, _) = encode(&encode_header(&subject(), 1), &claims, 1);
    let longest = 2 * rewritten.len() as u64 + SLACK;
    assert!(longest < (38 << 20), "{longest}");
}

#[test]
fn opening_it_often_does_not_let_it_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    drop(Journal::create(&path, subject()).unwrap());
    let many: Vec<_> = (0..40_000)
        .flat_map(|_| [stable(0), Record::Forget { first: 0, count: 1 }])
        .collect();
    for _ in 0..8 {
        let (mut journal, _) = Journal::open(&path, subject()).unwrap();
        journal.append(&many, 1).unwrap();
        assert!(journal.length() < 2 * SLACK, "{}", journal.length());
    }
}

#[test]
fn it_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let mut journal = Journal::create(&path, subject()).unwrap();
    let batch: Vec<_> = (0..500)
        .flat_map(|_| [stable(0), Record::Forget { first: 0, count: 1 }])
        .collect();
    for _ in 0..300 {
        journal.append(&batch, 1).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() < 2 * SLACK);
}

#[test]
fn another_medium_makes_it_void() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let mut journal = Journal::create(&path, subject()).unwrap();
    journal
        .append(&[Record::Stable { first: 0, count: 5 }], 1)
        .unwrap();
    let other = Subject {
        medium: 8,
        ..subject()
    };
    let (journal, found) = Journal::open(&path, other).unwrap();
    assert_eq!(found, Found::Void("it belongs to another medium".into()));
    assert_eq!(journal.stable_chunks(), 0);
}

#[test]
fn another_format_version_makes_it_void() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let (mut raw, _) = written(&path, &[vec![stable(1)]]);
    raw[8..12].copy_from_slice(&1u32.to_le_bytes());
    let check = blake3::hash(&raw[..HEADER_BYTES - 16]);
    raw[HEADER_BYTES - 16..HEADER_BYTES].copy_from_slice(&check.as_bytes()[..16]);
    let (journal, found) = reopened(&path, &raw);
    let why = "it belongs to another format version".into();
    assert_eq!(found, Found::Void(why));
    assert_eq!(journal.stable_chunks(), 0);
}
