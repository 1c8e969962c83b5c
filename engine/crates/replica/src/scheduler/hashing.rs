//! Comparison and verification: hash at both ends, act on what differs.

use super::chunks::{Chunks, Phase};
use super::{EXPLORE_WINDOW, HASH_WINDOW, Kind, MAX_OPEN_WORK, Scheduler, Verify, Work};

/// Why chunks are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Background replication onto a destination that may already hold some of the data.
    Compare,
    /// Proof that what was sent is there.
    Verify,
}

/// Offsets of differing chunks that are kept for the status.
const KEPT_OFFSETS: usize = 16;

impl Scheduler {
    /// Asks for the verification of all chunks, or of those not verified yet.
    pub fn start_verify(&mut self, all: bool, repair: bool) {
        for chunk in 0..self.chunks.len() {
            if all {
                self.chunks.set_verified(chunk, false);
            }
            self.chunks
                .set_wanted(chunk, !self.chunks.is_verified(chunk));
        }
        let total_bytes = (0..self.chunks.len())
            .filter(|chunk| self.chunks.is_wanted(*chunk))
            .map(|chunk| u64::from(self.geometry.length(chunk)))
            .sum();
        let total_chunks = self.chunks.wanted();
        self.verify = Verify {
            started: true,
            repair,
            total_chunks,
            total_bytes,
            ..Verify::default()
        };
        self.hash_idle = false;
    }

    /// Progress of the verification, and how many chunks are left in it.
    pub fn verification(&self) -> (&Verify, u32) {
        (&self.verify, self.chunks.wanted())
    }

    /// The destination lost the hashes that it had verified; so they must be checked again.
    pub fn forget_verified(&mut self) {
        for chunk in 0..self.chunks.len() {
            self.chunks.set_verified(chunk, false);
        }
    }

    pub(super) fn purpose_of(chunks: &Chunks, chunk: u32) -> Option<Purpose> {
        match chunks.phase(chunk) {
            // The destination does not have it yet.
            _ if chunks.is_loaded(chunk) => None,
            Phase::Unchecked => Some(Purpose::Compare),
            Phase::Clean if chunks.is_wanted(chunk) && chunks.dirty(chunk) == 0 => {
                Some(Purpose::Verify)
            }
            _ => None,
        }
    }

    /// The next chunks to explore or to hash at both ends.
    pub fn take_hash(&mut self) -> Option<Work> {
        if self.chunks.count(Phase::Unchecked) == 0 && self.chunks.wanted() == 0 {
            return None;
        }
        if self.hash_idle || self.open.len() >= MAX_OPEN_WORK {
            return None;
        }
        let comparing = self.background_on;
        let candidate = |chunks: &Chunks, chunk: u32| {
            Self::purpose_of(chunks, chunk).filter(|found| comparing || *found == Purpose::Verify)
        };
        let found = self.chunks.find(self.hash_cursor, |chunks, chunk| {
            candidate(chunks, chunk).is_some()
        });
        let Some(first) = found else {
            self.hash_idle = true;
            return None;
        };
        let purpose = candidate(&self.chunks, first)?;
        let read = self.chunks.allocated(first);
        let window = if read { HASH_WINDOW } else { EXPLORE_WINDOW };
        let count = self.chunks.run(first, window, |chunks, chunk| {
            candidate(chunks, chunk) == Some(purpose) && chunks.allocated(chunk) == read
        });
        // After an exploration come back to the chunks it found to hold data.
        self.hash_cursor = if read { first + count } else { first };
        if read {
            let id = self.claim(Kind::Hash(purpose), first, count);
            return Some(Work::Hash {
                id,
                first,
                count,
                zero: false,
            });
        }
        let id = self.claim(Kind::Explore(Some(purpose)), first, count);
        Some(Work::Explore { id, first, count })
    }

    /// Both ends have hashed: one flag per chunk, whether they are equal. Returns what to tell the
    /// destination.
    pub fn hashed(&mut self, id: u64, equal: &[bool]) -> Vec<Work> {
        let Some(open) = self.open.remove(&id) else {
            return Vec::new();
        };
        let Kind::Hash(purpose) = open.kind else {
            self.open.insert(id, open);
            return Vec::new();
        };
        debug_assert_eq!(equal.len(), open.count as usize);
        let mut confirm: Vec<(u32, u32)> = Vec::new();
        for (chunk, equal) in (open.first..open.first + open.count).zip(equal.iter().copied()) {
            match (purpose, equal) {
                (Purpose::Compare, true) => match confirm.last_mut() {
                    Some((first, count)) if *first + *count == chunk => *count += 1,
                    _ => confirm.push((chunk, 1)),
                },
                (Purpose::Compare, false) => self.settle_allocated(chunk),
                (Purpose::Verify, equal) => self.verified(chunk, equal),
            }
        }
        let confirm = confirm.into_iter();
        confirm
            .map(|(first, count)| {
                let id = self.record(Kind::Confirm, first, count);
                Work::Confirm { id, first, count }
            })
            .collect()
    }

    fn verified(&mut self, chunk: u32, equal: bool) {
        self.chunks.set_wanted(chunk, false);
        self.chunks.set_verified(chunk, equal);
        if !equal {
            self.verify.differing += 1;
            if self.verify.offsets.len() < KEPT_OFFSETS {
                self.verify.offsets.push(self.geometry.offset(chunk));
            }
            if self.verify.repair {
                self.chunks
                    .add_dirty(chunk, self.geometry.all_blocks(chunk));
            }
        }
        self.settle(chunk, Phase::Clean);
    }
}
