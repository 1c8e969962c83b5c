//! What of one VDISK travels next: a state per chunk, no I/O, no lock, no clock.
//!
//! ```text
//!            take_background / take_hash          acknowledged
//! PENDING ──────────────────────────► IN FLIGHT ──────────────► CLEAN
//! UNCHECKED ─────────────────────────►    ▲                       │ mark_dirty
//!    ▲  not stable at the destination     └──── take_foreground ◄─┘ (dirty blocks)
//!    └───────────────────────────────────────────────────────────┘
//! ```
//! * UNKNOWN: the destination has not said yet what it holds. PENDING: background will read and
//!   send it. UNCHECKED: background will hash it at both ends first. CLEAN: stable at the
//!   destination, except for its dirty blocks.
//! * There is never more than one copy of a block in flight, so nothing old can land on newer data.
//! * A chunk is IN FLIGHT from before its data (or its allocation) is read until the destination
//!   has made it stable. What an epoch marks dirty meanwhile is kept and becomes foreground work
//!   afterwards. What an epoch marks in a PENDING or UNCHECKED chunk needs nothing: it will be read
//!   later than the write that made it dirty.
//! * Not so if the chunk is OUTDATED: sent before, perhaps stable in that version, to be sent again.
//!   A new source engine would take the destination's claim for good, so epochs wait for it.
//! * A chunk may be LOADED besides: its content is on a transport device, and the destination does
//!   not claim it. It is then CLEAN as far as epochs are concerned: its dirty blocks are foreground
//!   work, and the destination keeps in mind that they are newer than the device. Nothing else is
//!   done with it until the destination offers what the device brings: then it is IN FLIGHT until
//!   that is stable.
//! * Everything handed out has an id. Ids are never reused, so an answer to work that was requeued
//!   meanwhile is recognised and ignored.

mod background;
mod chunks;
mod epochs;
#[cfg(test)]
mod exhaustive;
mod foreground;
mod hashing;
mod loading;
mod outcome;
mod reconcile;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use hashing::Purpose;
pub use loading::Offered;

use crate::chunk::Geometry;
use chunks::{Chunks, Phase};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// Most chunks whose allocation is asked for at once (1 GiB).
pub const EXPLORE_WINDOW: u32 = 2_048;

/// Most chunks hashed under one id when they have to be read (8 MiB).
pub const HASH_WINDOW: u32 = 16;

/// Most ids that may be unanswered at once; bounds memory while the destination is slow.
pub const MAX_OPEN_WORK: usize = 65_536;

/// Work for the source side to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Ask the endpoint which of these chunks are zero, then call [`Scheduler::explored`].
    Explore {
        /// Id of the work.
        id: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// Read the chunk, send it.
    Read {
        /// Id of the work.
        id: u64,
        /// The chunk.
        chunk: u32,
    },
    /// Read the chunk, write it to a transport device, then call [`Scheduler::loaded`].
    Load {
        /// Id of the work.
        id: u64,
        /// The chunk.
        chunk: u32,
    },
    /// Send zeros for these chunks.
    Zero {
        /// Id of the work.
        id: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// Hash at both ends, then call [`Scheduler::hashed`].
    Hash {
        /// Id of the work.
        id: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
        /// Known to be zero at the source; nothing needs to be read there.
        zero: bool,
    },
    /// Tell the destination that these chunks are equal.
    Confirm {
        /// Id of the work.
        id: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
}

/// A run of dirty blocks of one chunk to read and send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Id of the work.
    pub id: u64,
    /// The chunk.
    pub chunk: u32,
    /// First block within the chunk.
    pub first_block: u32,
    /// How many blocks.
    pub blocks: u32,
}

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Explore(Option<Purpose>),
    Background,
    Foreground {
        mask: u8,
    },
    Hash(Purpose),
    Confirm,
    /// On its way to a transport device. `compare`: a comparison was asked for meanwhile.
    Load {
        compare: bool,
    },
    /// On its way from a transport device. `compare`: to be compared afterwards.
    Unload {
        compare: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Open {
    kind: Kind,
    first: u32,
    count: u32,
}

/// The state of one VDISK at the source.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Scheduler {
    geometry: Geometry,
    chunks: Chunks,
    open: HashMap<u64, Open>,
    next_id: u64,
    /// The destination has said at least once what it holds.
    known: bool,
    background_on: bool,
    /// Background goes to transport devices.
    loading: bool,
    /// One of them takes more.
    room: bool,
    comparing: bool,
    exploring: bool,
    background_cursor: u32,
    allocated: VecDeque<(u32, u32)>,
    foreground: VecDeque<u32>,
    /// Unanswered pieces of chunks that are in flight as foreground.
    pieces: HashMap<u32, u8>,
    hash_cursor: u32,
    hash_idle: bool,
    verify: Verify,
    /// Chunks that a load claims though the destination has them, or they are to come another way.
    released: BTreeSet<u32>,
    /// Chunks in flight whose loads were forgotten.
    doomed: HashSet<u32>,
}

/// Progress of a verification.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verify {
    /// Asked for at least once.
    pub started: bool,
    /// Whether chunks that differ are sent again.
    pub repair: bool,
    /// Chunks to check in this run.
    pub total_chunks: u32,
    /// Bytes to check in this run.
    pub total_bytes: u64,
    /// Chunks that differed in this run.
    pub differing: u64,
    /// Offsets in bytes of the first 16 of them.
    pub offsets: Vec<u64>,
}

impl Scheduler {
    /// A VDISK of which nothing is known yet.
    pub fn new(geometry: Geometry) -> Self {
        Scheduler {
            geometry,
            chunks: Chunks::new(geometry),
            open: HashMap::new(),
            next_id: 1,
            known: false,
            background_on: false,
            loading: false,
            room: true,
            comparing: false,
            exploring: false,
            background_cursor: 0,
            allocated: VecDeque::new(),
            foreground: VecDeque::new(),
            pieces: HashMap::new(),
            hash_cursor: 0,
            hash_idle: false,
            verify: Verify::default(),
            released: BTreeSet::new(),
            doomed: HashSet::new(),
        }
    }

    /// Sizes of this VDISK.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many ids are unanswered.
    pub fn open_work(&self) -> usize {
        self.open.len()
    }

    /// Whether an id is still waiting for its answer.
    pub fn is_open(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    /// Everything is stable at the destination and nothing waits.
    pub fn is_clean(&self) -> bool {
        let all = self.chunks.count(Phase::Clean) == self.geometry.chunks();
        all && self.chunks.loaded() == 0 && self.foreground.is_empty()
    }

    /// Clean, and every chunk was found equal since it was last sent.
    pub fn is_verified(&self) -> bool {
        self.is_clean() && self.chunks.verified() == self.geometry.chunks()
    }

    /// How many chunks were found equal since they were last sent.
    pub fn verified_chunks(&self) -> u32 {
        self.chunks.verified()
    }

    /// Chunks that background replication has not brought to the destination or to a transport
    /// device yet.
    pub fn background_left(&self) -> u32 {
        self.geometry.chunks() - self.chunks.count(Phase::Clean) - self.in_flight_elsewhere()
    }

    /// Whether copy or compare was asked for.
    pub fn background_on(&self) -> bool {
        self.background_on
    }

    /// Chunks in flight as foreground, for verification or from a device; background is done with
    /// them.
    fn in_flight_elsewhere(&self) -> u32 {
        let others: u32 = self
            .open
            .values()
            .filter(|open| {
                matches!(
                    open.kind,
                    Kind::Hash(Purpose::Verify)
                        | Kind::Explore(Some(Purpose::Verify))
                        | Kind::Unload { compare: false }
                )
            })
            .map(|open| open.count)
            .sum();
        others + self.pieces.len() as u32
    }

    fn claim(&mut self, kind: Kind, first: u32, count: u32) -> u64 {
        for chunk in first..first + count {
            self.chunks.set_phase(chunk, Phase::InFlight);
        }
        self.record(kind, first, count)
    }

    fn record(&mut self, kind: Kind, first: u32, count: u32) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, Open { kind, first, count });
        id
    }

    /// Gives a chunk that was in flight its next phase. Dirty blocks of a clean chunk become
    /// foreground work; those of any other are forgotten, since background reads it anew.
    fn settle(&mut self, chunk: u32, phase: Phase) {
        let phase = self.unless_doomed(chunk, phase);
        self.chunks.set_phase(chunk, phase);
        if phase == Phase::Clean {
            self.chunks.set_outdated(chunk, false);
        }
        match phase {
            Phase::Clean if self.chunks.dirty(chunk) != 0 => self.foreground.push_back(chunk),
            Phase::Clean => self.chunks.epoch_done(chunk),
            Phase::Pending | Phase::Unchecked => self.chunks.forget_dirty(chunk),
            Phase::InFlight | Phase::Unknown => {}
        }
        if Self::purpose_of(&self.chunks, chunk).is_some() {
            self.hash_idle = false;
        }
    }

    /// Puts a chunk back whose background work could not be finished; it is known to hold data.
    fn settle_allocated(&mut self, chunk: u32) {
        self.settle(chunk, Phase::Pending);
        self.chunks.set_allocated(chunk, true);
        self.allocated.push_front((chunk, 1));
    }
}
