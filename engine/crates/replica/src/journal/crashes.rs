//! The journal after a power cut at every step, with every subset of what was not synced where that
//! can be exhausted, with random ones beyond (after ALICE and CrashMonkey).

use super::tests::{of_journal, of_records, stable, subject};
use super::*;
use crate::powercut::mount::Mounted;
use crate::powercut::{Cuts, Disk, Image};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

const JOURNAL: &str = "vda.journal";

/// Undecided things of which all subsets are tried.
const EXHAUSTED: usize = 12;

/// Subsets tried where there are more.
const DRAWN: usize = 60;

/// What the journal was told, when, and when it had said that this is stable.
struct Told {
    records: Vec<Record>,
    begun: usize,
    done: Option<usize>,
}

/// What a cut may leave, by the sizes of torn writes.
fn images(cuts: &Cuts, random: &mut StdRng) -> Vec<Image> {
    let mut images = Vec::new();
    for sector in [512, 4096] {
        let mut undecided = 0;
        cuts.cut(sector, || {
            undecided += 1;
            false
        });
        if undecided <= EXHAUSTED {
            for subset in 0u32..1 << undecided {
                let mut bits = (0..undecided).map(|bit| subset & (1 << bit) != 0);
                images.push(cuts.cut(sector, || bits.next().unwrap()));
            }
        } else {
            for _ in 0..DRAWN {
                let share = [0.1, 0.5, 0.9][random.random_range(0..3)];
                images.push(cuts.cut(sector, || random.random_bool(share)));
            }
        }
    }
    images
}

/// Runs `work` on a journal of a mounted disk and cuts the power everywhere. Returns how many
/// states were looked at.
fn cut_everywhere(
    seed: u64,
    work: impl FnOnce(&Path, &mut dyn FnMut(&mut Journal, Vec<Record>)),
) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let disk = Arc::new(Disk::default());
    let mounted = Mounted::new(disk.clone());
    let path = mounted.path().join(JOURNAL);
    let mut told: Vec<Told> = Vec::new();
    work(&path, &mut |journal, records| {
        let begun = disk.steps();
        let done = journal.append(&records, 1).is_ok().then(|| disk.steps());
        told.push(Told {
            records,
            begun,
            done,
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let (base, steps) = disk.history();
    let mut cuts = Cuts::new(base);
    let mut looked_at = 0;
    for cut in 0..=steps.len() {
        for image in images(&cuts, &mut random) {
            check(folder.path(), &image, &told, cut, seed);
            looked_at += 1;
        }
        if let Some(step) = steps.get(cut) {
            cuts.advance(step);
        }
    }
    looked_at
}

/// After a cut the journal says what it had been told up to some point, and that is not before the
/// last that it had called stable.
fn check(folder: &Path, image: &Image, told: &[Told], cut: usize, seed: u64) {
    let stable = told
        .iter()
        .take_while(|told| told.done.is_some_and(|done| done <= cut))
        .count();
    let begun = told.iter().filter(|told| told.begun <= cut).count();
    let path = folder.join(JOURNAL);
    let found = match image.read(JOURNAL) {
        Some(raw) => {
            std::fs::write(&path, raw).unwrap();
            let (journal, found) = Journal::open(&path, subject()).unwrap();
            let never_made = stable == 0 && !matches!(found, Found::Journal { .. });
            assert!(
                never_made || matches!(found, Found::Journal { .. }),
                "seed {seed}, cut at {cut}: {found:?}"
            );
            of_journal(&journal)
        }
        None => of_records([]),
    };
    let legal = (stable..=begun).any(|count| {
        let records = told[..count].iter().flat_map(|told| &told.records);
        of_records(records) == found
    });
    assert!(
        legal,
        "seed {seed}, cut at {cut}: neither of appends {stable} to {begun}"
    );
}

#[test]
fn three_appends_in_every_state() {
    let looked_at = cut_everywhere(1, |path, append| {
        let mut journal = Journal::create(path, subject()).unwrap();
        append(&mut journal, vec![stable(1)]);
        append(&mut journal, vec![stable(4), stable(2)]);
        append(&mut journal, vec![Record::Forget { first: 0, count: 9 }]);
    });
    assert!(looked_at > 50, "{looked_at}");
}

#[test]
fn a_rewriting_between_appends_in_every_state() {
    cut_everywhere(2, |path, append| {
        let mut journal = Journal::create(path, subject()).unwrap();
        append(&mut journal, vec![stable(1), stable(2)]);
        journal.rewrite(1).unwrap();
        append(&mut journal, vec![stable(3)]);
    });
}

#[test]
fn a_process_that_ends_and_its_successor_in_every_state() {
    cut_everywhere(3, |path, append| {
        let mut journal = Journal::create(path, subject()).unwrap();
        append(&mut journal, vec![stable(1)]);
        drop(journal);
        let (mut journal, _) = Journal::open(path, subject()).unwrap();
        append(&mut journal, vec![stable(2)]);
    });
}

#[test]
fn a_process_killed_between_write_and_sync_leaves_no_false_promise() {
    // What its successor finds in the page cache need not be on the medium.
    cut_everywhere(4, |path, append| {
        let mut journal = Journal::create(path, subject()).unwrap();
        append(&mut journal, vec![stable(1)]);
        let mut frame = Vec::new();
        Frame::encode(&mut frame, 2, 1, 1, &[stable(1)]);
        journal.file.write_all(&frame).unwrap();
        drop(journal);
        let (mut journal, found) = Journal::open(path, subject()).unwrap();
        assert_eq!(found, Found::Journal { torn: 0 });
        append(&mut journal, vec![stable(2)]);
    });
}

#[test]
fn random_lives_with_rewritings() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        cut_everywhere(seed, |path, append| {
            let mut journal = Journal::create(path, subject()).unwrap();
            for _ in 0..12 {
                let records = (0..random.random_range(1..12))
                    .map(|_| {
                        let first = random.random_range(0..40);
                        match random.random_range(0..8) {
                            0 => Record::Stable { first, count: 3 },
                            1 => Record::Forget { first, count: 20 },
                            2 => Record::Newer {
                                chunk: first,
                                mask: 5,
                            },
                            _ => stable(first),
                        }
                    })
                    .collect();
                append(&mut journal, records);
                if random.random_bool(0.2) {
                    journal.rewrite(1).unwrap();
                }
                if random.random_bool(0.1) {
                    journal = Journal::open(path, subject()).unwrap().0;
                }
            }
        });
    }
}

/// Some by default; `DROVER_POWER_CUTS` sets how many, for long runs.
fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("DROVER_POWER_CUTS");
    let count = wanted.map_or(2, |count| count.parse().unwrap());
    let first = rand::random_range(0..1 << 40);
    println!("seeds from {first}");
    first..first + count
}
