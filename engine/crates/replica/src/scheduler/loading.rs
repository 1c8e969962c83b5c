//! Transport devices: what is on one counts as copied until the destination offers it.

use super::chunks::Phase;
use super::{Kind, MAX_OPEN_WORK, Scheduler};
use std::collections::{BTreeSet, HashSet};

/// What becomes of a chunk that a transport device brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It may be written; the id is acknowledged when it is stable.
    Take(u64),
    /// It is being written in another way; later.
    Busy,
    /// It is not waited for.
    Unwanted,
}

impl Scheduler {
    /// As [`Scheduler::start_copy`], but to transport devices. Zeros, and chunks of which the
    /// destination may claim an older version, go over the link as ever.
    pub fn start_load(&mut self) {
        self.background_on = true;
        self.loading = true;
    }

    /// Whether background goes to transport devices.
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// A load of an earlier engine claims this chunk. To be said before the first
    /// [`Scheduler::opened`].
    pub fn was_loaded(&mut self, chunk: u32) {
        debug_assert!(!self.known);
        self.chunks.set_loaded(chunk, true);
    }

    /// How many chunks wait on transport devices.
    pub fn loaded_chunks(&self) -> u32 {
        self.chunks.loaded()
    }

    /// Whether this chunk waits on a transport device.
    pub fn is_loaded(&self, chunk: u32) -> bool {
        self.chunks.is_loaded(chunk)
    }

    /// The chunk is on a transport device for good, and so is our note of that; no note of an older
    /// load names it any more. Unknown ids are ignored; returns whether the id was known.
    pub fn loaded(&mut self, id: u64) -> bool {
        let Some(open) = self.open.get(&id).copied() else {
            return false;
        };
        let Kind::Load { compare } = open.kind else {
            return false;
        };
        self.open.remove(&id);
        self.released.remove(&open.first);
        self.chunks.set_loaded(open.first, true);
        self.chunks.set_verified(open.first, false);
        self.settle(open.first, Self::after_load(compare));
        true
    }

    /// The chunk could not be loaded. `in_doubt`: our note may say that it was, and a new engine
    /// would believe that; so it goes over the link, and epochs wait for it.
    pub fn not_loaded(&mut self, id: u64, in_doubt: bool) {
        let Some(open) = self.open.get(&id).copied() else {
            return;
        };
        let Kind::Load { compare } = open.kind else {
            return;
        };
        self.open.remove(&id);
        if in_doubt {
            self.chunks.set_outdated(open.first, true);
        }
        match compare {
            true => self.settle(open.first, Phase::Unchecked),
            false => self.settle_allocated(open.first),
        }
    }

    /// The destination offers a chunk that a device has brought and that our note says is on it.
    pub fn offered(&mut self, chunk: u32) -> Offered {
        if chunk >= self.chunks.len() || !self.chunks.is_loaded(chunk) {
            return Offered::Unwanted;
        }
        let compare = match self.chunks.phase(chunk) {
            Phase::Clean if self.chunks.dirty(chunk) == 0 => false,
            Phase::Unchecked => true,
            _ => return Offered::Busy,
        };
        if self.open.len() >= MAX_OPEN_WORK {
            return Offered::Busy;
        }
        Offered::Take(self.claim(Kind::Unload { compare }, chunk, 1))
    }

    /// Whether this id is of a chunk that a device has brought.
    pub fn is_unloading(&self, id: u64) -> bool {
        let open = self.open.get(&id);
        open.is_some_and(|open| matches!(open.kind, Kind::Unload { .. }))
    }

    /// If this id is of a foreground piece of a chunk that is on a device: the chunk and the piece's
    /// blocks. Before it is acknowledged it must be noted that these are newer than on the device.
    pub fn newer_than_device(&self, id: u64) -> Option<(u32, u8)> {
        let open = self.open.get(&id)?;
        match open.kind {
            Kind::Foreground { mask } if self.chunks.is_loaded(open.first) => {
                Some((open.first, mask))
            }
            _ => None,
        }
    }

    /// What these chunks have on devices is not to be waited for: they come another way, those in
    /// flight as soon as they have arrived. Our notes must have been changed durably before.
    pub fn forget_loaded(&mut self, chunks: impl IntoIterator<Item = u32>) {
        let mut unqueued = HashSet::new();
        for chunk in chunks {
            match self.chunks.phase(chunk) {
                _ if !self.chunks.is_loaded(chunk) => continue,
                Phase::InFlight => {
                    self.doomed.insert(chunk);
                    continue;
                }
                Phase::Clean => {
                    if self.chunks.dirty(chunk) != 0 {
                        unqueued.insert(chunk);
                    }
                    self.chunks.set_loaded(chunk, false);
                    self.settle(chunk, Phase::Pending);
                }
                Phase::Unchecked | Phase::Unknown | Phase::Pending => {
                    self.chunks.set_loaded(chunk, false);
                    self.hash_idle = false;
                }
            }
        }
        self.foreground.retain(|chunk| !unqueued.contains(chunk));
    }

    /// The phase that a chunk gets whose time in flight is over: what was to be forgotten meanwhile
    /// is not at the destination as a whole.
    pub(super) fn unless_doomed(&mut self, chunk: u32, phase: Phase) -> Phase {
        if self.doomed.is_empty() || !self.doomed.remove(&chunk) || !self.chunks.is_loaded(chunk) {
            return phase;
        }
        self.chunks.set_loaded(chunk, false);
        match phase {
            Phase::Clean => Phase::Pending,
            other => other,
        }
    }

    /// Whether [`Scheduler::take_released`] would return any.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Whether a device takes more; while none does, chunks for devices stay PENDING.
    pub fn set_room(&mut self, room: bool) {
        self.room = room;
    }

    /// Whether chunks wait for a device that takes them.
    pub fn wants_device(&self) -> bool {
        self.loading && !self.room && self.chunks.count(Phase::Pending) > 0
    }

    /// Chunks since the last call whose loads need not be remembered any more.
    pub fn take_released(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.released)
    }

    /// The chunk is at the destination, or not to be had from a device.
    pub(super) fn release(&mut self, chunk: u32) {
        if self.chunks.is_loaded(chunk) {
            self.chunks.set_loaded(chunk, false);
            self.released.insert(chunk);
        }
    }

    pub(super) fn after_load(compare: bool) -> Phase {
        match compare {
            true => Phase::Unchecked,
            false => Phase::Clean,
        }
    }
}
