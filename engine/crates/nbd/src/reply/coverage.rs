//! Which bytes of a read have arrived.

use std::ops::Range;

use super::{Violation, violation};

/// Most separate pieces that may be open at once. Servers answer in order, so one is usual.
const MAX_FRAGMENTS: usize = 4096;

/// Ranges relative to the request, in order, without neighbours that touch.
#[derive(Debug)]
pub(crate) struct Coverage {
    length: u32,
    pieces: Vec<Range<u32>>,
}

impl Coverage {
    pub(crate) fn new(length: u32) -> Coverage {
        Coverage {
            length,
            pieces: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// `range` must lie inside the request and not be empty.
    pub(crate) fn add(&mut self, range: Range<u32>) -> Result<(), Violation> {
        let at = self
            .pieces
            .partition_point(|piece| piece.end <= range.start);
        if self
            .pieces
            .get(at)
            .is_some_and(|next| next.start < range.end)
        {
            return violation!(
                "bytes {}..{} of a read were sent twice",
                range.start,
                range.end
            );
        }
        let joins_left = at > 0 && self.pieces[at - 1].end == range.start;
        let joins_right = self
            .pieces
            .get(at)
            .is_some_and(|next| next.start == range.end);
        match (joins_left, joins_right) {
            (true, true) => {
                self.pieces[at - 1].end = self.pieces[at].end;
                self.pieces.remove(at);
            }
            (true, false) => self.pieces[at - 1].end = range.end,
            (false, true) => self.pieces[at].start = range.start,
            (false, false) if self.pieces.len() >= MAX_FRAGMENTS => {
                return violation!("a read was answered in more than {MAX_FRAGMENTS} fragments");
            }
            (false, false) => self.pieces.insert(at, range),
        }
        Ok(())
    }

    pub(crate) fn check_full(&self) -> Result<(), Violation> {
        match self.pieces.as_slice() {
            [all] if *all == (0..self.length) => Ok(()),
            pieces => {
                let got: u64 = pieces
                    .iter()
                    .map(|piece| u64::from(piece.end - piece.start))
                    .sum();
                violation!("a read of {} bytes was answered with {got}", self.length)
            }
        }
    }
}
