//! One rule of the chunk states per test.

use super::*;
use crate::chunk::{BLOCK_SIZE, CHUNK_SIZE};

const CHUNK: u64 = CHUNK_SIZE as u64;
const BLOCK: u64 = BLOCK_SIZE as u64;

fn opened(chunks: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(Geometry::new(chunks * CHUNK));
    scheduler.opened([], false, |_| false);
    scheduler.start_copy();
    scheduler
}

/// Copies everything as data and acknowledges it.
fn copied(chunks: u64) -> Scheduler {
    let mut scheduler = opened(chunks);
    for id in take_all_reads(&mut scheduler) {
        assert!(scheduler.acknowledged(id));
    }
    assert!(scheduler.is_clean());
    scheduler
}

fn take_all_reads(scheduler: &mut Scheduler) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Some(work) = scheduler.take_background() {
        match work {
            Work::Explore { id, .. } => assert_eq!(scheduler.explored(id, &[]), []),
            Work::Read { id, .. } => ids.push(id),
            other => panic!("{other:?}"),
        }
    }
    ids
}

#[test]
fn zero_runs_travel_as_runs() {
    let mut scheduler = opened(100);
    let Some(Work::Explore {
        id,
        first: 0,
        count: 100,
    }) = scheduler.take_background()
    else {
        panic!()
    };
    let work = scheduler.explored(id, &[(0, 40), (41, 59)]);
    let [
        Work::Zero {
            first: 0,
            count: 40,
            ..
        },
        Work::Zero {
            first: 41,
            count: 59,
            ..
        },
    ] = work[..]
    else {
        panic!("{work:?}")
    };
    let Some(Work::Read { chunk: 40, .. }) = scheduler.take_background() else {
        panic!()
    };
    assert_eq!(scheduler.take_background(), None);
}

#[test]
fn a_write_to_a_pending_chunk_is_a_no_op() {
    let mut scheduler = opened(2);
    assert_eq!(scheduler.mark_dirty(0, 10), 0);
    assert!(scheduler.epoch_is_stable());
    assert_eq!(scheduler.take_foreground(), None);
}

#[test]
fn a_write_to_a_chunk_in_flight_is_requeued_on_acknowledgement() {
    let mut scheduler = opened(1);
    let ids = take_all_reads(&mut scheduler);
    assert_eq!(scheduler.mark_dirty(BLOCK, 1), BLOCK);
    assert_eq!(scheduler.take_foreground(), None);
    assert!(!scheduler.epoch_is_stable());
    scheduler.acknowledged(ids[0]);
    let pieces = scheduler.take_foreground().unwrap();
    assert_eq!((pieces[0].first_block, pieces[0].blocks), (1, 1));
    scheduler.acknowledged(pieces[0].id);
    assert!(scheduler.epoch_is_stable() && scheduler.is_clean());
}

#[test]
fn a_write_to_a_chunk_being_explored_is_not_lost() {
    let mut scheduler = opened(1);
    let Some(Work::Explore { id, .. }) = scheduler.take_background() else {
        panic!()
    };
    scheduler.mark_dirty(0, 1);
    let work = scheduler.explored(id, &[(0, 1)]);
    let Work::Zero { id, .. } = work[0] else {
        panic!()
    };
    scheduler.acknowledged(id);
    assert!(scheduler.foreground_waits());
}

#[test]
fn foreground_goes_before_background() {
    let mut scheduler = opened(3);
    let Some(Work::Explore { id, .. }) = scheduler.take_background() else {
        panic!()
    };
    scheduler.explored(id, &[]);
    let Some(Work::Read { id, .. }) = scheduler.take_background() else {
        panic!()
    };
    scheduler.acknowledged(id);
    scheduler.mark_dirty(0, 1);
    assert_eq!(scheduler.take_background(), None);
    assert!(scheduler.take_foreground().is_some());
    assert!(scheduler.take_background().is_some());
}

#[test]
fn separate_dirty_blocks_are_separate_pieces_of_one_chunk_in_flight() {
    let mut scheduler = copied(1);
    scheduler.mark_dirty(0, 1);
    scheduler.mark_dirty(5 * BLOCK, 2 * BLOCK);
    let pieces = scheduler.take_foreground().unwrap();
    assert_eq!(pieces.len(), 2);
    scheduler.acknowledged(pieces[1].id);
    assert!(!scheduler.is_clean());
    scheduler.mark_dirty(0, 1);
    assert_eq!(scheduler.take_foreground(), None, "still in flight");
    scheduler.acknowledged(pieces[0].id);
    assert!(scheduler.take_foreground().is_some());
}

#[test]
fn an_old_acknowledgement_means_nothing_after_a_reconnect() {
    let mut scheduler = opened(1);
    let ids = take_all_reads(&mut scheduler);
    scheduler.opened([(false, 1)], false, |_| false);
    assert!(!scheduler.acknowledged(ids[0]));
    assert!(!scheduler.is_clean());
}

#[test]
fn an_epoch_waits_for_a_chunk_that_the_destination_may_claim_in_an_older_version() {
    let mut scheduler = opened(1);
    let ids = take_all_reads(&mut scheduler);
    scheduler.mark_dirty(0, 1);
    scheduler.requeue(ids[0]);
    assert!(!scheduler.epoch_is_stable(), "a new engine would be told");
    scheduler.mark_dirty(BLOCK, 1);
    assert_eq!(scheduler.epoch_left(), 2 * BLOCK);
    let ids = take_all_reads(&mut scheduler);
    scheduler.acknowledged(ids[0]);
    assert!(scheduler.epoch_is_stable() && scheduler.is_clean());
}

#[test]
fn what_the_destination_says_of_an_earlier_copy_proves_nothing() {
    let mut scheduler = opened(1);
    let ids = take_all_reads(&mut scheduler);
    scheduler.mark_dirty(0, 1);
    scheduler.requeue(ids[0]);
    assert_eq!(take_all_reads(&mut scheduler).len(), 1);
    scheduler.opened([(true, 1)], false, |_| false);
    assert!(!scheduler.is_clean() && !scheduler.epoch_is_stable());
    let ids = take_all_reads(&mut scheduler);
    scheduler.acknowledged(ids[0]);
    assert!(scheduler.epoch_is_stable() && scheduler.is_clean());
}

#[test]
fn what_became_stable_before_the_link_was_lost_is_not_sent_again() {
    let mut scheduler = opened(2);
    let ids = take_all_reads(&mut scheduler);
    assert_eq!(ids.len(), 2);
    scheduler.mark_dirty(0, 1);
    scheduler.opened([(true, 1), (false, 1)], false, |_| false);
    assert_eq!(scheduler.background_left(), 1);
    assert!(scheduler.foreground_waits(), "dirty since it was read");
}

#[test]
fn what_the_destination_lost_is_sent_again() {
    let mut scheduler = copied(2);
    scheduler.opened([(true, 1), (false, 1)], false, |_| false);
    assert_eq!(take_all_reads(&mut scheduler).len(), 1);
}

#[test]
fn dirt_that_comes_before_the_first_connection_is_kept() {
    let mut scheduler = Scheduler::new(Geometry::new(2 * CHUNK));
    scheduler.mark_dirty(0, 2 * CHUNK);
    scheduler.opened([(true, 1), (false, 1)], false, |_| false);
    assert_eq!(scheduler.take_foreground().unwrap()[0].chunk, 0);
    assert_eq!(scheduler.take_foreground(), None, "chunk 1 is pending");
}

#[test]
fn comparison_sends_only_what_differs() {
    let mut scheduler = copied(20);
    scheduler.start_compare();
    assert!(scheduler.must_forget());
    scheduler.opened([(false, 20)], true, |_| false);
    assert!(!scheduler.must_forget());
    assert_eq!(scheduler.background_left(), 20);
    let Some(Work::Explore { id, .. }) = scheduler.take_hash() else {
        panic!()
    };
    assert_eq!(scheduler.explored(id, &[]), []);
    let Some(Work::Hash {
        id,
        count: 16,
        zero: false,
        ..
    }) = scheduler.take_hash()
    else {
        panic!()
    };
    let mut equal = [true; 16];
    equal[3] = false;
    let confirm = scheduler.hashed(id, &equal);
    let [
        Work::Confirm {
            id: a,
            first: 0,
            count: 3,
        },
        Work::Confirm {
            id: b,
            first: 4,
            count: 12,
        },
    ] = confirm[..]
    else {
        panic!("{confirm:?}")
    };
    scheduler.acknowledged(a);
    scheduler.acknowledged(b);
    let Some(Work::Read { chunk: 3, .. }) = scheduler.take_background() else {
        panic!()
    };
}

#[test]
fn verified_is_lost_when_a_later_write_is_sent() {
    let mut scheduler = copied(1);
    scheduler.start_verify(false, true);
    let Some(Work::Explore { id, .. }) = scheduler.take_hash() else {
        panic!()
    };
    scheduler.explored(id, &[]);
    let Some(Work::Hash { id, .. }) = scheduler.take_hash() else {
        panic!()
    };
    scheduler.hashed(id, &[true]);
    assert!(scheduler.is_verified());
    scheduler.mark_dirty(0, 1);
    let pieces = scheduler.take_foreground().unwrap();
    scheduler.acknowledged(pieces[0].id);
    assert!(scheduler.is_clean() && !scheduler.is_verified());
}

#[test]
fn a_chunk_that_differs_is_repaired_and_named() {
    let mut scheduler = copied(3);
    scheduler.start_verify(true, true);
    let Some(Work::Explore { id, .. }) = scheduler.take_hash() else {
        panic!()
    };
    scheduler.explored(id, &[]);
    let Some(Work::Hash { id, .. }) = scheduler.take_hash() else {
        panic!()
    };
    scheduler.hashed(id, &[true, false, true]);
    let (verify, left) = scheduler.verification();
    assert_eq!(
        (verify.differing, &verify.offsets[..], left),
        (1, &[CHUNK][..], 0)
    );
    let pieces = scheduler.take_foreground().unwrap();
    assert_eq!((pieces[0].chunk, pieces[0].blocks), (1, 8));
}

#[test]
fn a_tebibyte_costs_megabytes() {
    let mut scheduler = opened(1 << 21);
    let mut zeros = 0;
    while let Some(work) = scheduler.take_background() {
        let Work::Explore { id, first, count } = work else {
            panic!()
        };
        for work in scheduler.explored(id, &[(first, count)]) {
            let Work::Zero { id, .. } = work else {
                panic!()
            };
            zeros += 1;
            scheduler.acknowledged(id);
        }
    }
    assert_eq!(zeros, 1024);
    assert!(scheduler.is_clean());
}

/// Two chunks, loaded.
fn loaded() -> Scheduler {
    let mut scheduler = Scheduler::new(Geometry::new(2 * u64::from(CHUNK_SIZE)));
    scheduler.opened([], false, |_| false);
    scheduler.start_load();
    let Some(Work::Explore { id, .. }) = scheduler.take_background() else {
        panic!("nothing to explore")
    };
    scheduler.explored(id, &[]);
    while let Some(Work::Load { id, .. }) = scheduler.take_background() {
        assert!(scheduler.loaded(id));
    }
    scheduler
}

#[test]
fn what_is_loaded_is_copied_but_not_there() {
    let mut scheduler = loaded();
    assert_eq!(
        (scheduler.background_left(), scheduler.loaded_chunks()),
        (0, 2)
    );
    assert!(!scheduler.is_clean());
    scheduler.mark_dirty(0, 1);
    assert_eq!(
        scheduler.offered(0),
        Offered::Busy,
        "newer blocks are on their way"
    );
    let piece = scheduler.take_foreground().unwrap()[0];
    scheduler.acknowledged(piece.id);
    for chunk in 0..2 {
        let Offered::Take(id) = scheduler.offered(chunk) else {
            panic!("chunk {chunk} is not wanted")
        };
        assert_eq!(scheduler.offered(chunk), Offered::Busy);
        scheduler.acknowledged(id);
        assert_eq!(scheduler.offered(chunk), Offered::Unwanted);
    }
    assert!(scheduler.is_clean());
    assert_eq!(
        scheduler.take_released().into_iter().collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn what_is_forgotten_is_pending_again_and_what_is_on_its_way_a_little_later() {
    let mut scheduler = loaded();
    scheduler.mark_dirty(0, 1);
    let piece = scheduler.take_foreground().unwrap()[0];
    scheduler.forget_loaded(0..2);
    assert_eq!(scheduler.background_left(), 1);
    scheduler.acknowledged(piece.id);
    assert_eq!(
        (scheduler.background_left(), scheduler.loaded_chunks()),
        (2, 0)
    );
    scheduler.check_invariants().unwrap();
}

#[test]
fn without_a_device_that_takes_it_nothing_is_read() {
    let mut scheduler = Scheduler::new(Geometry::new(u64::from(CHUNK_SIZE)));
    scheduler.opened([], false, |_| false);
    scheduler.start_load();
    scheduler.set_room(false);
    let Some(Work::Explore { id, .. }) = scheduler.take_background() else {
        panic!("nothing to explore")
    };
    scheduler.explored(id, &[]);
    assert_eq!(scheduler.take_background(), None);
    assert!(scheduler.wants_device());
    scheduler.set_room(true);
    let Some(Work::Load { id, chunk: 0 }) = scheduler.take_background() else {
        panic!("nothing to load")
    };
    scheduler.not_loaded(id, true);
    scheduler.set_room(false);
    let read = scheduler.take_background();
    assert!(
        matches!(read, Some(Work::Read { chunk: 0, .. })),
        "in doubt, so by the link: {read:?}"
    );
}
