//! What became of work that was handed out: done, or to be done again.

use super::chunks::Phase;
use super::{Kind, Open, Purpose, Scheduler};
use crate::chunk::BLOCK_SIZE;
use std::collections::HashMap;

impl Scheduler {
    /// The destination has made this stable. Unknown ids (requeued meanwhile) are ignored;
    /// returns whether the id was known.
    pub fn acknowledged(&mut self, id: u64) -> bool {
        let Some(open) = self.open.get(&id).copied() else {
            return false;
        };
        match open.kind {
            Kind::Background | Kind::Confirm => {
                for chunk in open.first..open.first + open.count {
                    let confirmed = open.kind == Kind::Confirm;
                    self.chunks.set_verified(chunk, confirmed);
                    if confirmed {
                        self.chunks.set_wanted(chunk, false);
                    }
                    self.settle(chunk, Phase::Clean);
                }
            }
            Kind::Foreground { mask } => {
                // The destination claims what was written as a whole.
                if mask == self.geometry.all_blocks(open.first) {
                    self.release(open.first);
                }
                self.piece_done(open.first);
            }
            Kind::Unload { compare } => {
                self.release(open.first);
                self.chunks.set_outdated(open.first, compare);
                self.settle(open.first, Self::after_load(compare));
            }
            // These are not sent under their id; a destination that acknowledges them is wrong.
            Kind::Explore(_) | Kind::Hash(_) | Kind::Load { .. } => return false,
        }
        self.open.remove(&id);
        true
    }

    /// The work could not be done, did not arrive intact, or nobody knows whether it arrived (nothing
    /// more of it will be written): it is to be taken again.
    pub fn requeue(&mut self, id: u64) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        if let Kind::Foreground { mask } = open.kind {
            let chunk = open.first;
            if mask == self.geometry.all_blocks(chunk) && self.chunks.is_loaded(chunk) {
                // The destination may claim it now, so it is not to be had from the device.
                self.release(chunk);
                self.pieces.remove(&chunk);
                self.chunks.set_outdated(chunk, true);
                self.settle_allocated(chunk);
                return;
            }
            self.chunks.add_dirty(chunk, mask);
            self.piece_done(open.first);
            return;
        }
        if open.kind == Kind::Explore(None) {
            self.exploring = false;
        }
        let may_be_stable = matches!(open.kind, Kind::Background | Kind::Confirm);
        for chunk in open.first..open.first + open.count {
            if may_be_stable {
                self.chunks.set_outdated(chunk, true);
            }
            match open.kind {
                Kind::Background | Kind::Load { compare: false } if open.count == 1 => {
                    self.settle_allocated(chunk)
                }
                _ => self.settle(chunk, Self::before(open.kind)),
            }
        }
    }

    fn piece_done(&mut self, chunk: u32) {
        let left = self.pieces.get(&chunk).copied().unwrap_or(1) - 1;
        if left > 0 {
            self.pieces.insert(chunk, left);
            return;
        }
        self.pieces.remove(&chunk);
        self.settle(chunk, Phase::Clean);
    }

    /// The phase that work of this kind was taken from.
    fn before(kind: Kind) -> Phase {
        match kind {
            Kind::Background | Kind::Explore(None) => Phase::Pending,
            Kind::Load { compare } => match compare {
                true => Phase::Unchecked,
                false => Phase::Pending,
            },
            Kind::Unload { compare } => Self::after_load(compare),
            Kind::Confirm
            | Kind::Explore(Some(Purpose::Compare))
            | Kind::Hash(Purpose::Compare) => Phase::Unchecked,
            Kind::Foreground { .. }
            | Kind::Explore(Some(Purpose::Verify))
            | Kind::Hash(Purpose::Verify) => Phase::Clean,
        }
    }

    /// Takes everything back that is unanswered, as if each were requeued, except that work which
    /// may have become stable without our knowing is left UNKNOWN for `opened` to decide. What is on
    /// its way to a device does not depend on the link.
    /// Returns the bytes of foreground pieces among it.
    pub(super) fn take_all_back(&mut self) -> u64 {
        let mut blocks = 0;
        self.exploring = false;
        self.pieces.clear();
        let open = std::mem::take(&mut self.open);
        let (kept, taken) = open
            .into_iter()
            .partition(|(_, open)| matches!(open.kind, Kind::Load { .. }));
        self.open = kept;
        let taken: HashMap<u64, Open> = taken;
        for Open { kind, first, count } in taken.into_values() {
            let may_be_stable = matches!(kind, Kind::Background | Kind::Confirm);
            for chunk in first..first + count {
                if let Kind::Foreground { mask } = kind {
                    self.chunks.add_dirty(chunk, mask);
                    blocks += u64::from(mask.count_ones());
                }
                // What the destination says of an outdated chunk may be about an earlier copy.
                let phase = if may_be_stable && !self.chunks.is_outdated(chunk) {
                    Phase::Unknown
                } else {
                    Self::before(kind)
                };
                self.chunks.set_phase(chunk, phase);
            }
        }
        blocks * u64::from(BLOCK_SIZE)
    }
}
