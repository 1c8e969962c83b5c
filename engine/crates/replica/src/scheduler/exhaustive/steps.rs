//! The steps that the scheduler takes part in: taking, reading, arriving, answering.

use super::Limits;
use super::sabotage::Sabotage;
use super::world::{Item, Stage, World};
use crate::chunk::BLOCK_SIZE;
use crate::scheduler::Offered;

impl World {
    pub(super) fn read_extent(&mut self, limits: &Limits) {
        let Some(sealed) = &mut self.sealed else {
            return;
        };
        let block = sealed.unread.trailing_zeros();
        sealed.unread &= sealed.unread - 1;
        let (chunk, index) = limits.blocks[block as usize];
        let size = u64::from(BLOCK_SIZE);
        let offset = limits.geometry().offset(chunk) + u64::from(index) * size;
        limits.mark_dirty(&mut self.scheduler, chunk, offset, size);
    }

    pub(super) fn take_foreground(&mut self, limits: &Limits) {
        for piece in self.scheduler.take_foreground().unwrap_or_default() {
            let run = piece.first_block..piece.first_block + piece.blocks;
            let blocks = limits.mask(|chunk, block| chunk == piece.chunk && run.contains(&block));
            let whole = limits
                .geometry()
                .piece(piece.chunk, piece.first_block, piece.blocks)
                .1
                == limits.geometry().length(piece.chunk);
            self.items.push(Item {
                stage: Stage::ToRead,
                first: piece.chunk,
                count: 1,
                blocks,
                claims: whole,
                loads: false,
                contents: Default::default(),
                id: piece.id,
            });
            if limits.is(Sabotage::EpochEndsWhenTaken) {
                self.scheduler.chunks.epoch_done(piece.chunk);
            }
        }
    }

    /// Reads the live VDISK.
    pub(super) fn read(&mut self, index: usize, zeros: u8, limits: &Limits) {
        let source = self.source;
        let item = &mut self.items[index];
        item.stage = match item.stage {
            Stage::ToExplore => {
                let first = item.first;
                item.blocks =
                    limits.mask(|chunk, _| chunk >= first && zeros & (1 << (chunk - first)) != 0);
                Stage::Explored(zeros)
            }
            Stage::ToHash => Stage::Hashed,
            _ if item.loads => Stage::Loading,
            _ => Stage::OnTheWire,
        };
        for (block, content) in source.into_iter().enumerate() {
            if item.blocks & (1 << block) != 0 {
                item.contents[block] = content;
            }
        }
    }

    pub(super) fn answer(&mut self, index: usize, limits: &Limits) {
        let item = self.items.remove(index);
        match item.stage {
            Stage::Explored(zeros) => {
                let zero = (0..item.count).filter(|chunk| zeros & (1 << chunk) != 0);
                let zero: Vec<_> = zero.map(|chunk| (item.first + chunk, 1)).collect();
                for work in self.scheduler.explored(item.id, &zero) {
                    self.take(Some(work), limits);
                    self.fill(item.contents);
                }
            }
            _ => {
                let chunks = item.first..item.first + item.count;
                let equal: Vec<bool> = chunks
                    .map(|chunk| self.is_equal(&item, chunk, limits))
                    .collect();
                for work in self.scheduler.hashed(item.id, &equal) {
                    self.take(Some(work), limits);
                }
            }
        }
    }

    /// The newest item carries what was found when its zeros were looked for.
    fn fill(&mut self, contents: super::world::Contents) {
        if let Some(item) = self.items.last_mut() {
            for (block, content) in contents.into_iter().enumerate() {
                if item.blocks & (1 << block) != 0 {
                    item.contents[block] = content;
                }
            }
        }
    }

    fn is_equal(&self, item: &Item, chunk: u32, limits: &Limits) -> bool {
        let blocks = limits.blocks_of(chunk, 1);
        (0..limits.blocks.len())
            .filter(|block| blocks & (1 << block) != 0)
            .all(|block| item.contents[block] == self.cache[block])
    }

    pub(super) fn arrive(&mut self, index: usize, limits: &Limits) {
        let item = &mut self.items[index];
        item.stage = Stage::Landed;
        for block in 0..limits.blocks.len() {
            if item.blocks & (1 << block) != 0 {
                self.cache[block] = item.contents[block];
            }
        }
        item.contents = Default::default();
        if limits.is(Sabotage::AcknowledgedOnArrival) {
            item.stage = Stage::Stable;
        }
        if item.claims && limits.is(Sabotage::JournalBeforeData) {
            self.claims |= chunks_of(item);
        }
    }

    pub(super) fn sync(&mut self) {
        self.medium = self.cache;
        for item in &mut self.items {
            if item.stage == Stage::Landed {
                item.stage = Stage::Stable;
                if item.claims {
                    self.claims |= chunks_of(item);
                }
            }
        }
    }

    pub(super) fn loaded(&mut self, index: usize, limits: &Limits) {
        let item = self.items.remove(index);
        if !self.scheduler.loaded(item.id) {
            return;
        }
        for block in 0..limits.blocks.len() {
            if item.blocks & (1 << block) != 0 {
                self.device[block] = item.contents[block];
            }
        }
        if !limits.is(Sabotage::NewerThanAnOlderLoad) {
            self.newer &= !item.blocks;
        }
        self.noted |= chunks_of(&item);
        match self.told {
            true => self.trusted |= chunks_of(&item),
            false => self.trusted &= !chunks_of(&item),
        }
    }

    pub(super) fn offer(&mut self, chunk: u32, limits: &Limits) {
        let busy = self.scheduler.chunks.dirty(chunk) != 0;
        let id = match self.scheduler.offered(chunk) {
            Offered::Take(id) => id,
            _ if busy && limits.is(Sabotage::UnloadedWhileBusy) => u64::MAX,
            _ => return,
        };
        self.items.push(Item {
            stage: Stage::OnTheWire,
            first: chunk,
            count: 1,
            blocks: limits.blocks_of(chunk, 1) & !self.newer,
            claims: true,
            loads: false,
            contents: self.device,
            id,
        });
    }

    /// The source notes what is newer than on the device; it may die before it does more.
    pub(super) fn note_newer(&mut self, index: usize, limits: &Limits) {
        let item = &self.items[index];
        if self.scheduler.newer_than_device(item.id).is_some()
            && !limits.is(Sabotage::NewerBlocksForgotten)
        {
            self.newer |= item.blocks;
        }
    }

    pub(super) fn acknowledge(&mut self, index: usize, limits: &Limits) {
        self.note_newer(index, limits);
        let item = self.items.remove(index);
        if limits.is(Sabotage::DirtDroppedOnAcknowledgement) && item.claims {
            self.scheduler.chunks.take_dirty(item.first);
        }
        self.scheduler.acknowledged(item.id);
    }

    /// The destination finishes or drops what is left of the older session, then says what it has.
    pub(super) fn open_vdisk(&mut self, limits: &Limits) {
        if self.items.iter().any(|item| item.stage == Stage::Landed) {
            self.sync();
        }
        self.items
            .retain(|item| item.loads || item.stage == Stage::OnTheWire);
        self.told = true;
        let forget = self.scheduler.must_forget();
        if forget {
            self.claims = 0;
        }
        let runs: Vec<_> = (0..limits.geometry().chunks())
            .map(|chunk| (self.claims & (1 << chunk) != 0, 1))
            .collect();
        let trusted = self.trusted;
        limits.opened(&mut self.scheduler, runs, forget, |chunk| {
            trusted & (1 << chunk) == 0
        });
        self.up = true;
    }

    /// The pieces of one connection are given back; those that had landed stay landed.
    pub(super) fn connection_dies(&mut self, lost: u8, limits: &Limits) {
        let mut gone = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            // Questions are asked again on another connection.
            let question = matches!(item.stage, Stage::ToHash | Stage::Hashed);
            if item.loads {
                continue;
            }
            if lost & (1 << index) != 0 || question {
                gone.push(item.id);
            }
        }
        for id in &gone {
            limits.give_back(&mut self.scheduler, *id);
        }
        self.items
            .retain(|item| item.loads || item.stage == Stage::Landed || !gone.contains(&item.id));
    }
}

fn chunks_of(item: &Item) -> u8 {
    (item.first..item.first + item.count).fold(0, |mask, chunk| mask | 1 << chunk)
}
