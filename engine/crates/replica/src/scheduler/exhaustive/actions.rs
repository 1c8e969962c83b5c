//! What can happen next in a state of the small world, and what it leads to.

use super::sabotage::Sabotage;
use super::troubles::Trouble;
use super::world::{Item, Sealed, Stage, World};
use super::{Limits, properties};
use crate::scheduler::Work;
use crate::scheduler::chunks::Phase;

/// One step. Items are named by their place in the state before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    WriteBegins(u8),
    WriteEnds(u8),
    Seal,
    /// The engine reads the next dirty extent of the epoch.
    Extent,
    Release,
    TakeBackground,
    TakeHash,
    TakeForeground,
    /// Reads for an item; for an exploration, which of its chunks turn out to be zero.
    Read(u8, u8),
    /// The endpoint's or the destination's answer comes back.
    Answer(u8),
    Arrive(u8),
    Sync,
    Acknowledge(u8),
    OpenVdisk,
    /// What was read is on the device, and the source's note of it as well.
    Loaded(u8),
    /// The source notes that an acknowledged piece is newer than on the device, and no more yet.
    NoteNewer(u8),
    /// The device has come to the destination.
    Offer(u8),
    /// The source's notes of what need not be waited for any more are changed.
    DropNotes,
    StartVerify,
    StopGuest,
    /// Drover sees that the VM was power-cycled.
    Recapture,
    Trouble(Trouble),
}

impl World {
    /// Everything that can happen now.
    pub(super) fn actions(&self, limits: &Limits) -> Vec<Action> {
        let mut actions = Vec::new();
        self.guest_actions(limits, &mut actions);
        if self.up {
            self.takes(&mut actions);
        } else {
            actions.push(Action::OpenVdisk);
        }
        for (index, item) in self.items.iter().enumerate() {
            let index = index as u8;
            match item.stage {
                Stage::ToExplore => {
                    let zeros = 0..1 << item.count;
                    actions.extend(zeros.map(|zeros| Action::Read(index, zeros)));
                }
                Stage::ToRead | Stage::ToHash => actions.push(Action::Read(index, 0)),
                Stage::Explored(_) | Stage::Hashed => actions.push(Action::Answer(index)),
                Stage::OnTheWire => actions.push(Action::Arrive(index)),
                Stage::Loading => actions.push(Action::Loaded(index)),
                Stage::Landed => {}
                Stage::Stable => {
                    actions.push(Action::Acknowledge(index));
                    if self.scheduler.newer_than_device(item.id).is_some() {
                        actions.push(Action::NoteNewer(index));
                    }
                }
            }
        }
        if self.items.iter().any(|item| item.stage == Stage::Landed) {
            actions.push(Action::Sync);
        }
        if !self.scheduler.released.is_empty() {
            actions.push(Action::DropNotes);
        }
        let loaded = (0..limits.geometry().chunks()).filter(|chunk| {
            self.up
                && self.noted & !self.claims & (1 << chunk) != 0
                && self.scheduler.is_loaded(*chunk)
                && self.scheduler.chunks.phase(*chunk) != Phase::InFlight
        });
        actions.extend(loaded.map(|chunk| Action::Offer(chunk as u8)));
        if self.troubles_left > 0 {
            let troubles = self.troubles(limits).into_iter();
            actions.extend(troubles.map(Action::Trouble));
        }
        actions
    }

    /// Asking for work where there is none changes nothing.
    fn takes(&self, actions: &mut Vec<Action>) {
        let chunks = &self.scheduler.chunks;
        if self.scheduler.foreground_waits() {
            actions.push(Action::TakeForeground);
        } else if chunks.count(Phase::Pending) > 0 {
            actions.push(Action::TakeBackground);
        }
        if chunks.count(Phase::Unchecked) + chunks.wanted() > 0 && !self.scheduler.hash_idle {
            actions.push(Action::TakeHash);
        }
    }

    fn guest_actions(&self, limits: &Limits, actions: &mut Vec<Action>) {
        for block in 0..limits.blocks.len() as u8 {
            if self.writing & (1 << block) != 0 {
                actions.push(Action::WriteEnds(block));
            } else if !self.stopped && self.writes_left > 0 {
                actions.push(Action::WriteBegins(block));
            }
        }
        match self.sealed {
            None if self.captured && self.bitmap != 0 => actions.push(Action::Seal),
            Some(Sealed { unread: 1.., .. }) => actions.push(Action::Extent),
            Some(_)
                if self.scheduler.epoch_is_stable() || limits.is(Sabotage::ReleasedWhenRead) =>
            {
                actions.push(Action::Release);
            }
            _ => {}
        }
        if !self.captured {
            actions.push(Action::Recapture);
        }
        if !self.stopped && self.captured && self.writing == 0 {
            actions.push(Action::StopGuest);
        }
        let (_, wanted) = self.scheduler.verification();
        let proving = limits.verifies > 0 && properties::is_quiet(self) && wanted == 0;
        if self.verifies_left > 0 || proving && !self.scheduler.is_verified() {
            actions.push(Action::StartVerify);
        }
    }

    /// The state that a step leads to.
    pub(super) fn after(&self, action: Action, limits: &Limits) -> World {
        let mut world = self.clone();
        world.act(action, limits);
        world.notice_end_of_comparison();
        world.normalise(limits);
        world
    }

    fn act(&mut self, action: Action, limits: &Limits) {
        match action {
            Action::WriteBegins(block) => self.write_begins(block, limits),
            Action::WriteEnds(block) => self.write_ends(block, limits),
            Action::Seal => {
                let bits = std::mem::take(&mut self.bitmap);
                self.sealed = Some(Sealed { bits, unread: bits });
            }
            Action::Extent => self.read_extent(limits),
            Action::Release => self.sealed = None,
            Action::TakeBackground => {
                let work = self.scheduler.take_background();
                self.take(work, limits);
            }
            Action::TakeHash => {
                let work = self.scheduler.take_hash();
                self.take(work, limits);
            }
            Action::TakeForeground => self.take_foreground(limits),
            Action::Read(item, zeros) => self.read(usize::from(item), zeros, limits),
            Action::Answer(item) => self.answer(usize::from(item), limits),
            Action::Arrive(item) => self.arrive(usize::from(item), limits),
            Action::Sync => self.sync(),
            Action::NoteNewer(item) => self.note_newer(usize::from(item), limits),
            Action::Acknowledge(item) => self.acknowledge(usize::from(item), limits),
            Action::OpenVdisk => self.open_vdisk(limits),
            Action::Loaded(item) => self.loaded(usize::from(item), limits),
            Action::Offer(chunk) => self.offer(u32::from(chunk), limits),
            Action::DropNotes => {
                for chunk in self.scheduler.take_released() {
                    self.noted &= !(1 << chunk);
                }
            }
            Action::StartVerify => {
                self.verifies_left -= u8::from(!matches!(self.verifies_left, 0 | super::ANY));
                self.scheduler.start_verify(false, true);
            }
            Action::StopGuest => self.stopped = true,
            Action::Recapture => self.recapture(limits),
            Action::Trouble(trouble) => {
                self.troubles_left -= u8::from(self.troubles_left != super::ANY);
                self.suffer(trouble, limits);
            }
        }
    }

    fn write_begins(&mut self, block: u8, limits: &Limits) {
        self.writes_left -= u8::from(self.writes_left != super::ANY);
        self.writing |= 1 << block;
        self.source[usize::from(block)] = self.fresh(usize::from(block));
        if limits.is(Sabotage::BitWhenWriteBegins) && self.captured {
            self.bitmap |= 1 << block;
        }
    }

    fn write_ends(&mut self, block: u8, limits: &Limits) {
        self.writing &= !(1 << block);
        self.source[usize::from(block)] = self.fresh(usize::from(block));
        if self.captured && !limits.is(Sabotage::BitWhenWriteBegins) {
            self.bitmap |= 1 << block;
        }
    }

    /// As the replicator does: what is copied and compared needs no comparison any more.
    fn notice_end_of_comparison(&mut self) {
        let left = self.scheduler.background_left() > 0 || self.scheduler.must_forget();
        self.compare &= left || !self.captured;
    }

    /// Bitmaps record again, and what was missed meanwhile is found by hashes.
    fn recapture(&mut self, limits: &Limits) {
        let running = self.scheduler.background_left() > 0 && self.compare;
        self.captured = true;
        self.compare = true;
        if !(running && limits.is(Sabotage::RunningComparisonGoesOn)) {
            self.scheduler.start_compare();
        }
        if self.scheduler.must_forget() {
            self.end_session();
        }
    }

    pub(super) fn take(&mut self, work: Option<Work>, limits: &Limits) {
        let Some(work) = work else { return };
        let item = |stage, id, first, count| Item {
            stage,
            first,
            count,
            blocks: limits.blocks_of(first, count),
            claims: false,
            loads: false,
            contents: Default::default(),
            id,
        };
        self.items.push(match work {
            Work::Explore { id, first, count } => Item {
                blocks: 0,
                ..item(Stage::ToExplore, id, first, count)
            },
            Work::Read { id, chunk } => Item {
                claims: true,
                ..item(Stage::ToRead, id, chunk, 1)
            },
            Work::Load { id, chunk } => Item {
                loads: true,
                ..item(Stage::ToRead, id, chunk, 1)
            },
            Work::Zero { id, first, count } => Item {
                claims: true,
                ..item(Stage::OnTheWire, id, first, count)
            },
            Work::Hash {
                id,
                first,
                count,
                zero: false,
            } => item(Stage::ToHash, id, first, count),
            Work::Hash {
                id,
                first,
                count,
                zero: true,
            } => item(Stage::Hashed, id, first, count),
            Work::Confirm { id, first, count } => Item {
                claims: true,
                blocks: 0,
                ..item(Stage::OnTheWire, id, first, count)
            },
        });
    }
}
