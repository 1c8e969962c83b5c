//! Foreground replication: the dirty blocks of chunks that the destination already holds.

use super::chunks::Phase;
use super::{Kind, MAX_OPEN_WORK, Piece, Scheduler};
use crate::chunk::mask_runs;

impl Scheduler {
    /// All dirty blocks of the next chunk that has some, as contiguous pieces.
    pub fn take_foreground(&mut self) -> Option<Vec<Piece>> {
        if self.open.len() >= MAX_OPEN_WORK {
            return None;
        }
        let chunk = self.foreground.pop_front()?;
        let mask = self.chunks.take_dirty(chunk);
        debug_assert!(mask != 0 && self.chunks.phase(chunk) == Phase::Clean);
        self.chunks.set_phase(chunk, Phase::InFlight);
        self.chunks.set_verified(chunk, false);
        let mut pieces = Vec::new();
        for (first_block, blocks) in mask_runs(mask) {
            let piece_mask = (((1u16 << blocks) - 1) << first_block) as u8;
            let id = self.record(Kind::Foreground { mask: piece_mask }, chunk, 1);
            pieces.push(Piece {
                id,
                chunk,
                first_block,
                blocks,
            });
        }
        self.pieces.insert(chunk, pieces.len() as u8);
        Some(pieces)
    }

    /// Whether dirty blocks wait to be taken.
    pub fn foreground_waits(&self) -> bool {
        !self.foreground.is_empty()
    }
}
