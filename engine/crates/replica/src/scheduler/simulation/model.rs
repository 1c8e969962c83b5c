//! The model: a guest's disk, a wire, a destination with a medium and a journal.

use crate::chunk::{BLOCK_SIZE, BLOCKS, Geometry};
use crate::scheduler::{Piece, Scheduler, Work};
use std::collections::BTreeSet;

/// Version of a write and whether it wrote zeros.
pub(super) type Block = (u32, bool);

#[derive(Debug, Clone)]
pub(super) enum OnTheWire {
    /// Blocks from a position.
    Data {
        id: u64,
        first_block: usize,
        blocks: Vec<Block>,
    },
    Confirm {
        id: u64,
        first: u32,
        count: u32,
    },
    /// The source's side of a comparison.
    Hash {
        id: u64,
        first: u32,
        source: Vec<Vec<Block>>,
    },
}

pub(super) struct Model {
    pub(super) scheduler: Scheduler,
    pub(super) geometry: Geometry,
    pub(super) version: u32,
    pub(super) source: Vec<Block>,
    /// What the destination would read back now.
    pub(super) destination: Vec<Block>,
    /// What survives a crash of the destination's host.
    pub(super) medium: Vec<Block>,
    pub(super) stable: Vec<bool>,
    /// Written or confirmed since the last sync: ids with the chunks they make stable.
    pub(super) unsynced: Vec<(u64, Vec<u32>)>,
    pub(super) to_read: Vec<Work>,
    pub(super) pieces_to_read: Vec<Piece>,
    pub(super) wire: Vec<OnTheWire>,
    pub(super) acks: Vec<u64>,
    pub(super) bitmap: BTreeSet<usize>,
    /// The open epoch: blocks with the version they had when it was sealed.
    pub(super) sealed: Option<Vec<(usize, u32)>>,
    pub(super) undelivered: Vec<usize>,
}

impl Model {
    pub(super) fn new(size: u64) -> Self {
        let geometry = Geometry::new(size);
        let blocks = size.div_ceil(u64::from(BLOCK_SIZE)) as usize;
        let mut model = Model {
            scheduler: Scheduler::new(geometry),
            geometry,
            version: 0,
            source: vec![(0, true); blocks],
            destination: vec![(0, true); blocks],
            medium: vec![(0, true); blocks],
            stable: vec![false; geometry.chunks() as usize],
            unsynced: Vec::new(),
            to_read: Vec::new(),
            pieces_to_read: Vec::new(),
            wire: Vec::new(),
            acks: Vec::new(),
            bitmap: BTreeSet::new(),
            sealed: None,
            undelivered: Vec::new(),
        };
        // Before the first bitmap the guest has written, and the destination holds something old.
        for block in 0..blocks {
            model.version += 1;
            model.source[block] = (model.version, block % 5 == 0);
            model.destination[block] = (u32::MAX, false);
        }
        model.medium = model.destination.clone();
        model
    }

    pub(super) fn guest_writes(&mut self, at: usize, length: usize, zero: bool) {
        for block in at..(at + length).min(self.source.len()) {
            self.version += 1;
            self.source[block] = (self.version, zero);
            self.bitmap.insert(block);
        }
    }

    pub(super) fn seal(&mut self) {
        if self.sealed.is_none() {
            let blocks = std::mem::take(&mut self.bitmap);
            self.undelivered = blocks.iter().copied().collect();
            self.sealed = Some(
                blocks
                    .into_iter()
                    .map(|block| (block, self.source[block].0))
                    .collect(),
            );
        }
    }

    pub(super) fn deliver_extent(&mut self) {
        if let Some(block) = self.undelivered.pop() {
            let size = u64::from(BLOCK_SIZE);
            self.scheduler.mark_dirty(block as u64 * size + 5, 100);
        }
        self.try_to_acknowledge_epoch();
    }

    /// An acknowledged epoch must be on the medium, or in a chunk that the journal does not claim:
    /// even if the source engine dies now, that chunk will be read again.
    pub(super) fn try_to_acknowledge_epoch(&mut self) {
        if self.sealed.is_none()
            || !self.undelivered.is_empty()
            || !self.scheduler.epoch_is_stable()
        {
            return;
        }
        for (block, version) in self.sealed.take().unwrap_or_default() {
            let chunk = (block as u32) / BLOCKS;
            let unclaimed = !self.stable[chunk as usize];
            let landed = self.medium[block].0;
            assert!(
                unclaimed || (landed >= version && landed != u32::MAX),
                "epoch acknowledged, but block {block} is {landed} and should be {version}"
            );
        }
    }

    pub(super) fn take(&mut self, which: usize) {
        match which % 3 {
            0 => self.to_read.extend(self.scheduler.take_background()),
            1 => self.to_read.extend(self.scheduler.take_hash()),
            _ => self
                .pieces_to_read
                .extend(self.scheduler.take_foreground().unwrap_or_default()),
        }
    }

    pub(super) fn blocks_of(&self, first: u32, count: u32) -> std::ops::Range<usize> {
        let end = ((first + count) * BLOCKS) as usize;
        (first * BLOCKS) as usize..end.min(self.source.len())
    }

    pub(super) fn read_piece(&mut self, pick: usize) {
        if self.pieces_to_read.is_empty() {
            return;
        }
        let piece = self
            .pieces_to_read
            .swap_remove(pick % self.pieces_to_read.len());
        let first = (piece.chunk * BLOCKS + piece.first_block) as usize;
        let blocks = self.source[first..first + piece.blocks as usize].to_vec();
        self.wire.push(OnTheWire::Data {
            id: piece.id,
            first_block: first,
            blocks,
        });
    }

    pub(super) fn read(&mut self, pick: usize) {
        if self.to_read.is_empty() {
            return;
        }
        match self.to_read.swap_remove(pick % self.to_read.len()) {
            Work::Explore { id, first, count } => {
                let zero: Vec<_> = (first..first + count)
                    .filter(|chunk| {
                        self.source[self.blocks_of(*chunk, 1)]
                            .iter()
                            .all(|block| block.1)
                    })
                    .map(|chunk| (chunk, 1))
                    .collect();
                for work in self.scheduler.explored(id, &zero) {
                    match work {
                        // What the guest writes from now on is dirty.
                        Work::Zero { id, first, count } => self.send(id, first, count),
                        Work::Hash {
                            id, first, count, ..
                        } => self.hash(id, first, count),
                        other => unreachable!("{other:?} does not follow from an exploration"),
                    }
                }
            }
            Work::Zero { .. } => unreachable!("sent at once"),
            Work::Load { .. } => unreachable!("there are no devices"),
            Work::Read { id, chunk } => self.send(id, chunk, 1),
            Work::Hash {
                id, first, count, ..
            } => self.hash(id, first, count),
            Work::Confirm { id, first, count } => {
                self.wire.push(OnTheWire::Confirm { id, first, count })
            }
        }
    }

    pub(super) fn hash(&mut self, id: u64, first: u32, count: u32) {
        let of_chunk = |chunk| self.source[self.blocks_of(chunk, 1)].to_vec();
        let source = (first..first + count).map(of_chunk).collect();
        self.wire.push(OnTheWire::Hash { id, first, source });
    }

    pub(super) fn send(&mut self, id: u64, first: u32, count: u32) {
        let range = self.blocks_of(first, count);
        let blocks = self.source[range.clone()].to_vec();
        self.wire.push(OnTheWire::Data {
            id,
            first_block: range.start,
            blocks,
        });
    }

    pub(super) fn deliver(&mut self, pick: usize) {
        if self.wire.is_empty() {
            return;
        }
        match self.wire.swap_remove(pick % self.wire.len()) {
            OnTheWire::Data {
                id,
                first_block,
                blocks,
            } => {
                let chunks = self.whole_chunks(first_block, blocks.len());
                self.destination[first_block..first_block + blocks.len()].copy_from_slice(&blocks);
                self.unsynced.push((id, chunks));
            }
            OnTheWire::Confirm { id, first, count } => {
                self.unsynced.push((id, (first..first + count).collect()));
            }
            OnTheWire::Hash { id, first, source } => {
                // Zeros are equal whatever write made them.
                let content = |blocks: &[Block]| -> Vec<u32> {
                    blocks
                        .iter()
                        .map(|(version, zero)| if *zero { 0 } else { *version })
                        .collect()
                };
                for (chunk, source) in (first..).zip(&source) {
                    for (block, source) in self.blocks_of(chunk, 1).zip(source) {
                        self.age_zero(block, *source);
                    }
                }
                let equal: Vec<bool> = (first..)
                    .zip(&source)
                    .map(|(chunk, source)| {
                        content(source) == content(&self.destination[self.blocks_of(chunk, 1)])
                    })
                    .collect();
                self.to_read.extend(self.scheduler.hashed(id, &equal));
            }
        }
    }

    /// Zeros that are there already are as good as those of a later write.
    pub(super) fn age_zero(&mut self, block: usize, (version, zero): Block) {
        for disk in [&mut self.destination, &mut self.medium] {
            if zero && disk[block].1 {
                disk[block].0 = version.max(disk[block].0);
            }
        }
    }

    pub(super) fn whole_chunks(&self, first_block: usize, blocks: usize) -> Vec<u32> {
        let end = first_block + blocks;
        (0..self.geometry.chunks())
            .filter(|chunk| {
                let range = self.blocks_of(*chunk, 1);
                first_block <= range.start && range.end <= end
            })
            .collect()
    }

    pub(super) fn sync(&mut self) {
        self.medium = self.destination.clone();
        for (id, chunks) in std::mem::take(&mut self.unsynced) {
            for chunk in chunks {
                self.stable[chunk as usize] = true;
            }
            self.acks.push(id);
        }
    }

    pub(super) fn acknowledge(&mut self, pick: usize) {
        if !self.acks.is_empty() {
            let id = self.acks.swap_remove(pick % self.acks.len());
            self.scheduler.acknowledged(id);
        }
        self.try_to_acknowledge_epoch();
    }

    /// Something fails on its way: a read error, or a payload with a wrong hash.
    pub(super) fn fail(&mut self, pick: usize) {
        if pick.is_multiple_of(2) && !self.pieces_to_read.is_empty() {
            let piece = self
                .pieces_to_read
                .swap_remove(pick % self.pieces_to_read.len());
            return self.scheduler.requeue(piece.id);
        }
        if self.to_read.is_empty() {
            return;
        }
        match self.to_read.swap_remove(pick % self.to_read.len()) {
            Work::Explore { id, .. }
            | Work::Read { id, .. }
            | Work::Load { id, .. }
            | Work::Zero { id, .. }
            | Work::Hash { id, .. }
            | Work::Confirm { id, .. } => self.scheduler.requeue(id),
        }
    }
}
