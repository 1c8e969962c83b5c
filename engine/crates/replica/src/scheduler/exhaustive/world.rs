//! One state of the small world: a guest's VDISK and its bitmaps, the real scheduler, what is on
//! its way, and a destination with a cache, a medium and a journal.

use super::{Limits, MAX_BLOCKS};
use crate::chunk::{BLOCK_SIZE, CHUNK_SIZE, Geometry};
use crate::scheduler::{Kind, Scheduler};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Stands for the bytes of a block; only equality means anything.
pub(super) type Content = u8;
pub(super) type Contents = [Content; MAX_BLOCKS];

/// How far a piece of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// The endpoint is to be asked which chunks are zero.
    ToExplore,
    /// It has answered: these chunks (a mask) were zero then.
    Explored(u8),
    ToRead,
    ToHash,
    /// The source has read what it hashes; the destination has not answered.
    Hashed,
    OnTheWire,
    /// Read, on its way to a transport device.
    Loading,
    /// The destination has written it, not stable yet.
    Landed,
    /// Stable, and the acknowledgement is under way.
    Stable,
}

/// A piece of work from the moment it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) stage: Stage,
    pub(super) first: u32,
    pub(super) count: u32,
    /// Blocks that are read or written for it, as a mask over the model's blocks.
    pub(super) blocks: u8,
    /// Whether the journal claims its chunks when it is stable.
    pub(super) claims: bool,
    /// To a transport device.
    pub(super) loads: bool,
    /// What was read of `blocks`, until it has arrived.
    pub(super) contents: Contents,
    pub(super) id: u64,
}

impl Item {
    fn has_contents(&self) -> bool {
        matches!(
            self.stage,
            Stage::Explored(_) | Stage::Hashed | Stage::OnTheWire | Stage::Loading
        )
    }

    pub(super) fn is_sent(&self) -> bool {
        matches!(self.stage, Stage::OnTheWire | Stage::Landed | Stage::Stable)
    }
}

/// An epoch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sealed {
    pub(super) bits: u8,
    /// Bits that the engine has not read yet.
    pub(super) unread: u8,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) scheduler: Scheduler,
    /// What the guest's VDISK holds now; half of a write while that is under way.
    pub(super) source: Contents,
    pub(super) writing: u8,
    pub(super) bitmap: u8,
    pub(super) sealed: Option<Sealed>,
    /// Bitmaps exist; not so between a power cycle and Drover's noticing it.
    pub(super) captured: bool,
    /// Drover remembers that a comparison is not finished.
    pub(super) compare: bool,
    pub(super) stopped: bool,
    pub(super) up: bool,
    pub(super) items: Vec<Item>,
    /// What the destination reads back.
    pub(super) cache: Contents,
    /// What survives a power cut there.
    pub(super) medium: Contents,
    /// Chunks that the journal claims, as a mask.
    pub(super) claims: u8,
    /// Blocks that the source has noted as newer than what a device has, as a mask.
    pub(super) newer: u8,
    /// What a transport device has.
    pub(super) device: Contents,
    /// Chunks that the source has noted as loaded, as a mask.
    pub(super) noted: u8,
    /// Those of them that were noted since the destination last lost its journal.
    pub(super) trusted: u8,
    /// The source has been told since.
    pub(super) told: bool,
    pub(super) writes_left: u8,
    pub(super) troubles_left: u8,
    pub(super) verifies_left: u8,
}

impl World {
    /// The guest has written before the first bitmap, and the destination holds something old.
    pub(super) fn new(limits: &Limits) -> Self {
        let mut source = [0; MAX_BLOCKS];
        source[..limits.blocks.len()].fill(1);
        let mut scheduler = Scheduler::new(limits.geometry());
        match limits.device {
            true => scheduler.start_load(),
            false => scheduler.start_copy(),
        }
        World {
            scheduler,
            source,
            writing: 0,
            bitmap: 0,
            sealed: None,
            captured: true,
            compare: false,
            stopped: false,
            up: false,
            items: Vec::new(),
            cache: [0; MAX_BLOCKS],
            medium: [0; MAX_BLOCKS],
            claims: 0,
            newer: 0,
            device: [0; MAX_BLOCKS],
            noted: 0,
            trusted: 0,
            told: false,
            writes_left: limits.writes,
            troubles_left: limits.troubles,
            verifies_left: limits.verifies,
        }
    }

    /// Brings equal worlds to equal values: items in order, contents numbered by age.
    pub(super) fn normalise(&mut self, limits: &Limits) {
        // An acknowledgement that nobody waits for changes nothing.
        let Self {
            scheduler, items, ..
        } = self;
        items.retain(|item| item.stage != Stage::Stable || scheduler.is_open(item.id));
        if limits.sabotage.is_none() {
            // Nobody asks for that of a chunk that is not noted.
            let noted = self.noted;
            self.newer &= limits.mask(|chunk, _| noted & (1 << chunk) != 0);
        }
        for block in 0..limits.blocks.len() {
            // Nobody asks what a device has of a chunk that is not noted.
            if self.noted & (1 << limits.blocks[block].0) == 0 {
                self.device[block] = self.source[block];
            }
            let mut used = 0u32;
            self.each_content(block, |content| used |= 1 << *content);
            self.each_content(block, |content| {
                *content = (used & ((1 << *content) - 1)).count_ones() as Content;
            });
        }
        let Self {
            scheduler, items, ..
        } = self;
        items.sort_unstable();
        // Landed twice and given up twice is as good as once.
        items.dedup_by(|one, other| {
            let given_up = !scheduler.is_open(one.id) && !scheduler.is_open(other.id);
            given_up
                && Item {
                    id: other.id,
                    ..*one
                } == *other
        });
    }

    fn each_content(&mut self, block: usize, mut act: impl FnMut(&mut Content)) {
        act(&mut self.source[block]);
        act(&mut self.cache[block]);
        act(&mut self.medium[block]);
        act(&mut self.device[block]);
        for item in &mut self.items {
            if item.blocks & (1 << block) != 0 && item.has_contents() {
                act(&mut item.contents[block]);
            }
        }
    }

    /// A content that is nowhere yet.
    pub(super) fn fresh(&mut self, block: usize) -> Content {
        let mut highest = 0;
        self.each_content(block, |content| highest = highest.max(*content));
        highest + 1
    }

    /// Ids are numbers without meaning; which of them are still waited for is all that counts.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut bytes = Bytes(Vec::with_capacity(160));
        self.hash_scheduler(&mut bytes);
        (self.source, self.cache, self.medium, self.claims).hash(&mut bytes);
        (self.newer, self.device, self.noted, self.trusted, self.told).hash(&mut bytes);
        (self.writing, self.bitmap, self.sealed).hash(&mut bytes);
        (self.captured, self.compare, self.stopped, self.up).hash(&mut bytes);
        (self.writes_left, self.troubles_left, self.verifies_left).hash(&mut bytes);
        for item in &self.items {
            (item.stage, item.first, item.count, item.blocks, item.claims).hash(&mut bytes);
            (item.contents, item.loads, self.scheduler.is_open(item.id)).hash(&mut bytes);
        }
        let hash = blake3::hash(&bytes.0);
        let (half, _) = hash.as_bytes().split_at(16);
        half.iter()
            .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }

    /// All of the scheduler but its figures for the status.
    fn hash_scheduler(&self, bytes: &mut Bytes) {
        let Scheduler {
            chunks,
            open,
            known,
            background_on,
            loading,
            comparing,
            exploring,
            background_cursor,
            allocated,
            foreground,
            pieces,
            hash_cursor,
            hash_idle,
            verify,
            doomed,
            released,
            room: _,
            geometry: _,
            next_id: _,
        } = &self.scheduler;
        chunks.hash(bytes);
        let mut open: Vec<_> = open
            .values()
            .map(|open| (kind_number(open.kind), open.first, open.count))
            .collect();
        open.sort_unstable();
        open.hash(bytes);
        (known, background_on, loading, comparing, exploring).hash(bytes);
        let mut doomed: Vec<_> = doomed.iter().collect();
        doomed.sort_unstable();
        doomed.hash(bytes);
        released.hash(bytes);
        (background_cursor, hash_cursor, hash_idle, verify.repair).hash(bytes);
        allocated.hash(bytes);
        foreground.hash(bytes);
        let mut pieces: Vec<_> = pieces.iter().collect();
        pieces.sort_unstable();
        pieces.hash(bytes);
    }
}

fn kind_number(kind: Kind) -> (u8, u8) {
    match kind {
        Kind::Explore(purpose) => (0, purpose.map_or(0, |purpose| 1 + purpose as u8)),
        Kind::Background => (1, 0),
        Kind::Foreground { mask } => (2, mask),
        Kind::Hash(purpose) => (3, purpose as u8),
        Kind::Confirm => (4, 0),
        Kind::Load { compare } => (5, u8::from(compare)),
        Kind::Unload { compare } => (6, u8::from(compare)),
    }
}

/// A hasher that keeps every byte, so that states are told apart exactly.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the bytes themselves are wanted")
    }
}

impl Limits {
    pub(super) fn geometry(&self) -> Geometry {
        let (chunk, block) = self.blocks[self.blocks.len() - 1];
        let end =
            u64::from(chunk) * u64::from(CHUNK_SIZE) + u64::from(block + 1) * u64::from(BLOCK_SIZE);
        Geometry::new(end)
    }

    /// The model's blocks that lie in these chunks, as a mask.
    pub(super) fn blocks_of(&self, first: u32, count: u32) -> u8 {
        self.mask(|chunk, _| (first..first + count).contains(&chunk))
    }

    pub(super) fn mask(&self, test: impl Fn(u32, u32) -> bool) -> u8 {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter(|(_, (chunk, block))| test(*chunk, *block))
            .fold(0, |mask, (index, _)| mask | 1 << index)
    }
}

impl fmt::Display for World {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = &self.scheduler.chunks;
        for chunk in 0..chunks.len() {
            write!(out, "{:?}", chunks.phase(chunk))?;
            if chunks.is_loaded(chunk) {
                write!(out, "+loaded")?;
            }
            if chunks.dirty(chunk) != 0 {
                write!(out, "+dirty {:b}", chunks.dirty(chunk))?;
            }
            write!(out, " ")?;
        }
        let Self {
            source,
            medium,
            cache,
            claims,
            ..
        } = self;
        write!(
            out,
            "| source {source:?} cache {cache:?} medium {medium:?} claims {claims:b} "
        )?;
        let Self {
            newer,
            device,
            noted,
            trusted,
            ..
        } = self;
        write!(
            out,
            "| newer {newer:b} device {device:?} noted {noted:b} trusted {trusted:b} "
        )?;
        write!(out, "| bitmap {:b}", self.bitmap)?;
        if let Some(Sealed { bits, unread }) = self.sealed {
            write!(out, " sealed {bits:b} unread {unread:b}")?;
        }
        if !self.up {
            write!(out, " | link down")?;
        }
        for item in &self.items {
            let Item {
                stage,
                first,
                count,
                blocks,
                contents,
                ..
            } = item;
            let known = if self.scheduler.is_open(item.id) {
                ""
            } else {
                " (given up)"
            };
            write!(
                out,
                " | {stage:?} {first}+{count} {blocks:b}={contents:?}{known}"
            )?;
        }
        Ok(())
    }
}
