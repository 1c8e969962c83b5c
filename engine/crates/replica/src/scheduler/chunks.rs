//! The chunk table: three bytes per chunk (6 MiB for a VDISK of 1 TiB) and its counters.

use crate::chunk::{BLOCK_SIZE, Geometry};

/// Where a chunk is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Unknown = 0,
    Pending = 1,
    Unchecked = 2,
    InFlight = 3,
    Clean = 4,
}

const PHASES: [Phase; 5] = [
    Phase::Unknown,
    Phase::Pending,
    Phase::Unchecked,
    Phase::InFlight,
    Phase::Clean,
];
const PHASE_BITS: u8 = 0b0000_0111;
/// The endpoint said that the chunk is not (all) zero: read it without asking again.
const ALLOCATED: u8 = 0b0000_1000;
/// Verification is asked for.
const WANTED: u8 = 0b0001_0000;
/// Found equal, and not sent since.
const VERIFIED: u8 = 0b0010_0000;
/// To be sent (again), but the destination may claim an older version of it.
const OUTDATED: u8 = 0b0100_0000;
/// On a transport device, and not unloaded yet as far as we know.
const LOADED: u8 = 0b1000_0000;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Chunks {
    flags: Vec<u8>,
    dirty: Vec<u8>,
    epoch: Vec<u8>,
    counts: [u32; 5],
    allocated_pending: u32,
    wanted: u32,
    verified: u32,
    loaded: u32,
    epoch_chunks: u32,
    epoch_blocks: u64,
}

impl Chunks {
    pub(super) fn new(geometry: Geometry) -> Self {
        let count = geometry.chunks() as usize;
        Chunks {
            flags: vec![Phase::Unknown as u8; count],
            dirty: vec![0; count],
            epoch: vec![0; count],
            counts: [count as u32, 0, 0, 0, 0],
            allocated_pending: 0,
            wanted: 0,
            verified: 0,
            loaded: 0,
            epoch_chunks: 0,
            epoch_blocks: 0,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.flags.len() as u32
    }

    pub(super) fn phase(&self, chunk: u32) -> Phase {
        PHASES[usize::from(self.flags[chunk as usize] & PHASE_BITS)]
    }

    /// Changes the phase; the ALLOCATED hint does not outlive a change.
    pub(super) fn set_phase(&mut self, chunk: u32, phase: Phase) {
        self.set_allocated(chunk, false);
        let before = self.phase(chunk);
        self.counts[before as usize] -= 1;
        self.counts[phase as usize] += 1;
        let flags = &mut self.flags[chunk as usize];
        *flags = (*flags & !PHASE_BITS) | phase as u8;
    }

    pub(super) fn count(&self, phase: Phase) -> u32 {
        self.counts[phase as usize]
    }

    pub(super) fn allocated(&self, chunk: u32) -> bool {
        self.flags[chunk as usize] & ALLOCATED != 0
    }

    pub(super) fn set_allocated(&mut self, chunk: u32, on: bool) {
        let pending = self.phase(chunk) == Phase::Pending;
        self.set_flag(chunk, ALLOCATED, on, |table| {
            pending.then_some(&mut table.allocated_pending)
        });
    }

    /// Pending chunks about whose allocation nothing is known.
    pub(super) fn unexplored(&self) -> u32 {
        self.count(Phase::Pending) - self.allocated_pending
    }

    /// Pending chunks known to hold data.
    pub(super) fn allocated_pending(&self) -> u32 {
        self.allocated_pending
    }

    pub(super) fn is_wanted(&self, chunk: u32) -> bool {
        self.flags[chunk as usize] & WANTED != 0
    }

    pub(super) fn set_wanted(&mut self, chunk: u32, on: bool) {
        self.set_flag(chunk, WANTED, on, |table| Some(&mut table.wanted));
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    pub(super) fn is_verified(&self, chunk: u32) -> bool {
        self.flags[chunk as usize] & VERIFIED != 0
    }

    pub(super) fn set_verified(&mut self, chunk: u32, on: bool) {
        self.set_flag(chunk, VERIFIED, on, |table| Some(&mut table.verified));
    }

    pub(super) fn verified(&self) -> u32 {
        self.verified
    }

    pub(super) fn is_outdated(&self, chunk: u32) -> bool {
        self.flags[chunk as usize] & OUTDATED != 0
    }

    pub(super) fn set_outdated(&mut self, chunk: u32, on: bool) {
        self.set_flag(chunk, OUTDATED, on, |_| None);
    }

    pub(super) fn is_loaded(&self, chunk: u32) -> bool {
        self.flags[chunk as usize] & LOADED != 0
    }

    pub(super) fn set_loaded(&mut self, chunk: u32, on: bool) {
        self.set_flag(chunk, LOADED, on, |table| Some(&mut table.loaded));
    }

    pub(super) fn loaded(&self) -> u32 {
        self.loaded
    }

    fn set_flag(
        &mut self,
        chunk: u32,
        flag: u8,
        on: bool,
        counter: impl FnOnce(&mut Self) -> Option<&mut u32>,
    ) {
        if (self.flags[chunk as usize] & flag != 0) == on {
            return;
        }
        self.flags[chunk as usize] ^= flag;
        if let Some(counter) = counter(self) {
            *counter = if on { *counter + 1 } else { *counter - 1 };
        }
    }

    pub(super) fn dirty(&self, chunk: u32) -> u8 {
        self.dirty[chunk as usize]
    }

    pub(super) fn add_dirty(&mut self, chunk: u32, mask: u8) {
        self.dirty[chunk as usize] |= mask;
    }

    pub(super) fn take_dirty(&mut self, chunk: u32) -> u8 {
        std::mem::take(&mut self.dirty[chunk as usize])
    }

    /// Drops what waits for the chunk, for good: background reads it anew. An epoch still waits for
    /// it if a new source engine would believe the destination's claim.
    pub(super) fn forget_dirty(&mut self, chunk: u32) {
        self.dirty[chunk as usize] = 0;
        if !self.is_outdated(chunk) {
            self.epoch_done(chunk);
        }
    }

    /// Counts blocks as part of the open epoch.
    pub(super) fn add_epoch(&mut self, chunk: u32, mask: u8) {
        let before = self.epoch[chunk as usize];
        let after = before | mask;
        self.epoch[chunk as usize] = after;
        self.epoch_chunks += u32::from(before == 0 && after != 0);
        self.epoch_blocks += u64::from((after & !before).count_ones());
    }

    /// Nothing of the open epoch waits in this chunk any more.
    pub(super) fn epoch_done(&mut self, chunk: u32) {
        let mask = std::mem::take(&mut self.epoch[chunk as usize]);
        self.epoch_chunks -= u32::from(mask != 0);
        self.epoch_blocks -= u64::from(mask.count_ones());
    }

    /// Chunks of the open epoch that are not stable yet.
    pub(super) fn epoch_chunks(&self) -> u32 {
        self.epoch_chunks
    }

    /// Bytes of the open epoch that are not stable yet, in whole blocks.
    pub(super) fn epoch_bytes(&self) -> u64 {
        self.epoch_blocks * u64::from(BLOCK_SIZE)
    }

    /// The first chunk at or after `from`, going round once, that satisfies `test`.
    pub(super) fn find(&self, from: u32, test: impl Fn(&Self, u32) -> bool) -> Option<u32> {
        let from = if from < self.len() { from } else { 0 };
        (from..self.len())
            .chain(0..from)
            .find(|chunk| test(self, *chunk))
    }

    /// How many chunks from `first` on satisfy `test`, at most `limit`.
    pub(super) fn run(&self, first: u32, limit: u32, test: impl Fn(&Self, u32) -> bool) -> u32 {
        let end = self.len().min(first.saturating_add(limit));
        (first..end).take_while(|chunk| test(self, *chunk)).count() as u32
    }
}
