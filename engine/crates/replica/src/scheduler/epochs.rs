//! Epochs: which dirty blocks belong to the one that is open, and when it is acknowledged.

use super::Scheduler;
use super::chunks::Phase;
use crate::chunk::BLOCK_SIZE;

impl Scheduler {
    /// The guest wrote `length` bytes at `offset` before the open epoch was sealed. Returns how
    /// many bytes (in whole blocks) have to travel because of it; 0 where background will read
    /// the chunk later anyway.
    pub fn mark_dirty(&mut self, offset: u64, length: u64) -> u64 {
        let end = offset.saturating_add(length).min(self.geometry.size());
        if offset >= end {
            return 0;
        }
        let last = self.geometry.chunk_at(end - 1);
        (self.geometry.chunk_at(offset)..=last)
            .map(|chunk| {
                let mask = self.geometry.blocks(chunk, offset, end);
                self.mark_blocks(chunk, mask, true)
            })
            .sum()
    }

    pub(super) fn mark_blocks(&mut self, chunk: u32, mask: u8, of_epoch: bool) -> u64 {
        let phase = self.chunks.phase(chunk);
        match phase {
            Phase::Pending | Phase::Unchecked => {
                if of_epoch && self.chunks.is_outdated(chunk) {
                    self.chunks.add_epoch(chunk, mask);
                }
                return 0;
            }
            Phase::Clean if self.chunks.dirty(chunk) == 0 && mask != 0 => {
                self.foreground.push_back(chunk);
            }
            Phase::Clean | Phase::InFlight | Phase::Unknown => {}
        }
        self.chunks.add_dirty(chunk, mask);
        if of_epoch {
            self.chunks.add_epoch(chunk, mask);
        }
        u64::from(mask.count_ones()) * u64::from(BLOCK_SIZE)
    }

    /// Bytes of the open epoch that are not stable at the destination yet, in whole blocks.
    pub fn epoch_left(&self) -> u64 {
        self.chunks.epoch_bytes()
    }

    /// Every extent marked so far is stable at the destination or lies in a pending chunk that the
    /// destination does not claim.
    pub fn epoch_is_stable(&self) -> bool {
        self.chunks.epoch_chunks() == 0
    }
}
