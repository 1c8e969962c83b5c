//! The whole conversation as a model: a guest that writes, a wire that reorders, a destination
//! that crashes, in any order. In the end the destination must equal the source.
//!
//! Every block of the model disks holds the version of the write that made it, so a test can tell
//! not only that two disks differ but which of them is older.

mod model;

use crate::chunk::CHUNK_SIZE;
use crate::scheduler::Scheduler;
use model::Model;
use proptest::prelude::*;

impl Model {
    /// The link ends; the destination finishes what had arrived, with or without saying so.
    fn lose_link(&mut self, sync: bool) {
        self.to_read.clear();
        self.pieces_to_read.clear();
        self.wire.clear();
        if sync {
            self.sync();
        }
        self.unsynced.clear();
        self.acks.clear();
        self.reopen();
    }

    fn reopen(&mut self) {
        let forget = self.scheduler.must_forget();
        if forget {
            self.stable.fill(false);
        }
        let runs: Vec<_> = self.stable.iter().map(|stable| (*stable, 1)).collect();
        self.scheduler.opened(runs, forget, |_| false);
        self.try_to_acknowledge_epoch();
    }

    /// The destination's host loses power: unsynced blocks are old or new, one by one.
    fn destination_crashes(&mut self, luck: usize) {
        for block in 0..self.medium.len() {
            if (luck >> (block % 16)) & 1 == 1 {
                self.medium[block] = self.destination[block];
            }
        }
        self.destination = self.medium.clone();
        self.unsynced.clear();
        self.lose_link(false);
    }

    /// The source engine dies: its epoch is merged back into the bitmap.
    fn source_crashes(&mut self, pick: usize) {
        let comparing = self.scheduler.must_forget();
        let background = self.scheduler.background_on();
        self.scheduler = Scheduler::new(self.geometry);
        match (comparing, background) {
            (true, _) => self.scheduler.start_compare(),
            (false, true) => self.scheduler.start_copy(),
            (false, false) => {}
        }
        for (block, _) in self.sealed.take().unwrap_or_default() {
            self.bitmap.insert(block);
        }
        self.undelivered.clear();
        // Epochs may come before the link is up again.
        if pick.is_multiple_of(2) {
            self.seal();
            self.deliver_extent();
        }
        self.lose_link(pick % 4 < 2);
    }

    fn step(&mut self, choice: u32) {
        let pick = (choice >> 8) as usize;
        match choice % 100 {
            0..=11 => self.guest_writes(
                pick % self.source.len(),
                1 + pick % 3,
                pick.is_multiple_of(7),
            ),
            12..=13 => self.guest_writes(pick % self.source.len(), 20, pick.is_multiple_of(2)),
            14..=19 => self.seal(),
            20..=29 => self.deliver_extent(),
            30..=49 => self.take(pick),
            50..=59 => self.read(pick),
            60..=65 => self.read_piece(pick),
            66..=79 => self.deliver(pick),
            80..=84 => self.sync(),
            85..=91 => self.acknowledge(pick),
            92..=93 => self.fail(pick),
            94..=95 => self.lose_link(pick.is_multiple_of(2)),
            96 => self.destination_crashes(pick),
            97 => self.source_crashes(pick),
            98 => self
                .scheduler
                .start_verify(pick.is_multiple_of(2), pick % 4 < 3),
            _ if !pick.is_multiple_of(3) => self.scheduler.start_copy(),
            _ => {
                self.scheduler.start_compare();
                self.lose_link(pick.is_multiple_of(2));
            }
        }
        self.scheduler.check_invariants().unwrap();
    }

    /// Everything works from now on, until nothing is left to do.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(
                round < 10_000,
                "does not come to rest: {:?}",
                self.scheduler
            );
            (0..3).for_each(|which| self.take(which));
            while !self.to_read.is_empty() {
                self.read(0);
            }
            while !self.pieces_to_read.is_empty() {
                self.read_piece(0);
            }
            while !self.wire.is_empty() {
                self.deliver(0);
            }
            self.sync();
            while !self.acks.is_empty() {
                self.acknowledge(0);
            }
            while !self.undelivered.is_empty() {
                self.deliver_extent();
            }
            self.try_to_acknowledge_epoch();
            let resting = self.to_read.is_empty() && self.scheduler.open_work() == 0;
            let (_, unverified) = self.scheduler.verification();
            if resting && self.scheduler.is_clean() && unverified == 0 && self.sealed.is_none() {
                return;
            }
        }
    }

    fn assert_equal(&self) {
        for block in 0..self.source.len() {
            let (source, medium) = (self.source[block], self.medium[block]);
            let equal = source == medium || (source.1 && medium.1);
            assert!(
                equal,
                "block {block}: source {source:?}, destination {medium:?}"
            );
        }
    }
}

fn run(size: u64, choices: &[u32]) {
    let mut model = Model::new(size);
    choices.iter().for_each(|choice| model.step(*choice));
    model.scheduler.start_copy();
    if model.scheduler.must_forget() || choices.is_empty() || !model.scheduler.is_clean() {
        model.lose_link(true);
    }
    model.drain();
    model.seal();
    model.drain();
    model.assert_equal();
    model.scheduler.start_verify(true, true);
    model.drain();
    assert!(
        model.scheduler.is_verified(),
        "{:?}",
        model.scheduler.verification()
    );
}

/// How many random schedules are tried; more with `DROVER_SCHEDULES=100000`.
fn schedules() -> u32 {
    let wish = std::env::var("DROVER_SCHEDULES").ok();
    wish.and_then(|wish| wish.parse().ok()).unwrap_or(3_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(schedules()))]

    #[test]
    fn whatever_happens_the_destination_equals_the_source(
        chunks in 1..9u64,
        tail in 0..3u64,
        choices in proptest::collection::vec(any::<u32>(), 0..400),
    ) {
        run(chunks * u64::from(CHUNK_SIZE) + tail * 50_000, &choices);
    }
}
