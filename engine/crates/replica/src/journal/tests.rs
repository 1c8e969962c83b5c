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
        4 => (0..CHUNKS, any::<Option<[u8; 32]>>()).prop_map(|(chunk, hash)| Record::Stable { chunk, hash }),
        1 => (0..CHUNKS, 1..10u32).prop_map(|(first, count)| Record::Zero { first, count }),
        1 => (0..CHUNKS).prop_map(|chunk| Record::Touched { chunk }),
        1 => (0..CHUNKS, 1..10u32).prop_map(|(first, count)| Record::Forget { first, count }),
    ]
}

/// All that a journal says.
fn content(claims: impl Fn(u32) -> (bool, Option<Hash>)) -> Vec<(bool, Option<Hash>)> {
    (0..CHUNKS).map(claims).collect()
}

use crate::chunk::Hash;

pub(super) fn of_journal(journal: &Journal) -> Vec<(bool, Option<Hash>)> {
    content(|chunk| (journal.is_stable(chunk), journal.hashes().get(chunk)))
}

pub(super) fn of_records<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> Vec<(bool, Option<Hash>)> {
    let mut claims = Claims::new(subject().geometry);
    records.into_iter().for_each(|record| claims.apply(record));
    content(|chunk| (claims.is_stable(chunk), claims.hashes().get(chunk)))
}

/// Appends the batches; returns the file and where each append ended.
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
        let in_last_append = at >= ends[ends.len() - 2];
        if in_last_append {
            prop_assert_eq!(of_journal(&journal), of_records(batches[..batches.len() - 1].iter().flatten()));
        } else {
            prop_assert!(matches!(found, Found::Void(_)));
            prop_assert_eq!(of_journal(&journal), of_records([]));
        }
    }

    #[test]
    fn it_goes_on_after_a_torn_end(first in vec(record(), 1..9), second in vec(record(), 1..9), cut in 1..40usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vda.journal");
        let (raw, _) = written(&path, &[first.clone(), vec![Record::Touched { chunk: 0 }]]);
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
    let many: Vec<_> = (0..20_000)
        .map(|index| Record::Stable {
            chunk: index % CHUNKS,
            hash: Some([1; 32]),
        })
        .collect();
    let (mut raw, ends) = written(&path, &[vec![Record::Zero { first: 0, count: 5 }], many]);
    raw[ends[1] + 100] ^= 1;
    let (journal, found) = reopened(&path, &raw);
    assert!(
        matches!(found, Found::Journal { torn } if torn > 0),
        "{found:?}"
    );
    assert_eq!(journal.stable_chunks(), 5);
}

#[test]
fn it_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vda.journal");
    let mut journal = Journal::create(&path, subject()).unwrap();
    let batch: Vec<_> = (0..CHUNKS)
        .map(|chunk| Record::Stable {
            chunk,
            hash: Some([2; 32]),
        })
        .collect();
    for _ in 0..1000 {
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
        .append(&[Record::Zero { first: 0, count: 5 }], 1)
        .unwrap();
    let other = Subject {
        medium: 8,
        ..subject()
    };
    let (journal, found) = Journal::open(&path, other).unwrap();
    assert_eq!(found, Found::Void("it belongs to another medium".into()));
    assert_eq!(journal.stable_chunks(), 0);
}
