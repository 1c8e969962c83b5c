//! What can go wrong in a state of the small world, and what it leads to.

use super::Limits;
use super::sabotage::Sabotage;
use super::world::{Stage, World};
use crate::scheduler::{Kind, Scheduler};

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A read failed here, or a piece arrived damaged.
    Fails(u8),
    /// These sent items (a mask) were on a connection that died; the destination has said that
    /// nothing more of it will be written.
    ConnectionDies(u8),
    SessionEnds,
    SourceEngineDies,
    DestinationEngineDies,
    /// Of what was not synced these blocks (a mask) are on the medium nevertheless.
    DestinationLosesPower(u8),
    /// The journal is found damaged when the destination's engine starts again.
    JournalIsVoid,
    /// The destination's VDISK is made anew; its journal is as well.
    DestinationIsMadeAnew,
    PowerCycle,
    /// The epoch's bitmap cannot be read to its end, or Drover is started again.
    EpochIsMergedBack,
    /// The device is lost; what was on it goes over the link.
    DeviceIsForgotten,
    /// The destination's medium changes a block that nobody wrote.
    Rots(u8),
}

impl World {
    /// Everything that can go wrong now.
    pub(super) fn troubles(&self, limits: &Limits) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let sent = self.items.iter().enumerate();
        let sent = sent.filter(|(_, item)| {
            let open = self.scheduler.open.get(&item.id);
            let by_link = open.is_some_and(|open| !matches!(open.kind, Kind::Unload { .. }));
            item.is_sent() && by_link
        });
        let sent = sent.fold(0u8, |mask, (index, _)| mask | 1 << index);
        for kind in limits.kinds {
            match kind {
                Trouble::Fails(_) => {
                    let fails = (0..self.items.len()).filter(|index| {
                        !matches!(self.items[*index].stage, Stage::Landed | Stage::Stable)
                            && self.scheduler.is_open(self.items[*index].id)
                    });
                    troubles.extend(fails.map(|index| Trouble::Fails(index as u8)));
                }
                Trouble::ConnectionDies(_) if self.up => {
                    let subsets = (1..=sent).filter(|subset| subset & !sent == 0);
                    troubles.extend(subsets.map(Trouble::ConnectionDies));
                }
                Trouble::SessionEnds if self.up => troubles.push(Trouble::SessionEnds),
                Trouble::DestinationLosesPower(_) => {
                    let unsynced = (0..limits.blocks.len())
                        .filter(|block| self.cache[*block] != self.medium[*block])
                        .fold(0u8, |mask, block| mask | 1 << block);
                    let subsets = (0..=unsynced).filter(|subset| subset & !unsynced == 0);
                    troubles.extend(subsets.map(Trouble::DestinationLosesPower));
                }
                Trouble::PowerCycle if self.captured && !self.stopped => troubles.push(*kind),
                Trouble::EpochIsMergedBack if self.sealed.is_some() => troubles.push(*kind),
                Trouble::DeviceIsForgotten if self.noted != 0 => troubles.push(*kind),
                Trouble::Rots(_) if self.may_rot() => {
                    troubles.extend((0..limits.blocks.len() as u8).map(Trouble::Rots));
                }
                Trouble::SourceEngineDies
                | Trouble::DestinationEngineDies
                | Trouble::JournalIsVoid => troubles.push(*kind),
                // Not when all is done, and the VM could be started there.
                Trouble::DestinationIsMadeAnew if self.scheduler.loaded_chunks() > 0 => {
                    troubles.push(*kind);
                }
                _ => {}
            }
        }
        troubles
    }

    /// What rots after it was verified is beyond any check.
    fn may_rot(&self) -> bool {
        self.scheduler.verified_chunks() == 0
            && !self.items.iter().any(|item| item.stage == Stage::Hashed)
    }

    pub(super) fn suffer(&mut self, trouble: Trouble, limits: &Limits) {
        match trouble {
            Trouble::Fails(item) => {
                let item = self.items.remove(usize::from(item));
                match item.loads {
                    true => self.scheduler.not_loaded(item.id, false),
                    false => self.scheduler.requeue(item.id),
                }
            }
            Trouble::ConnectionDies(lost) => self.connection_dies(lost, limits),
            Trouble::SessionEnds => self.end_session_unless(limits.is(Sabotage::OldSessionLands)),
            Trouble::SourceEngineDies => self.source_engine_dies(limits),
            Trouble::DestinationEngineDies => self.lose_destination(),
            Trouble::DestinationLosesPower(lucky) => {
                for block in 0..limits.blocks.len() {
                    if lucky & (1 << block) != 0 {
                        self.medium[block] = self.cache[block];
                    }
                }
                self.cache = self.medium;
                self.lose_destination();
            }
            Trouble::JournalIsVoid => {
                (self.claims, self.trusted, self.told) = (0, 0, false);
                self.lose_destination();
            }
            Trouble::DestinationIsMadeAnew => {
                (self.claims, self.trusted, self.told) = (0, 0, false);
                for block in 0..limits.blocks.len() {
                    let nothing = self.fresh(block);
                    (self.cache[block], self.medium[block]) = (nothing, nothing);
                }
                self.lose_destination();
            }
            Trouble::PowerCycle => {
                // A write under way may or may not have reached the disk: what is there counts.
                (self.captured, self.writing, self.bitmap, self.sealed) = (false, 0, 0, None);
            }
            Trouble::EpochIsMergedBack => {
                self.bitmap |= self.sealed.take().map_or(0, |sealed| sealed.bits);
            }
            Trouble::DeviceIsForgotten => {
                self.noted = 0;
                self.scheduler.forget_loaded(0..limits.geometry().chunks());
                self.scheduler.start_copy();
            }
            Trouble::Rots(block) => {
                let block = usize::from(block);
                let rotten = self.fresh(block);
                (self.cache[block], self.medium[block]) = (rotten, rotten);
            }
        }
    }

    fn lose_destination(&mut self) {
        self.end_session();
        self.items.retain(|item| item.loads);
    }

    pub(super) fn end_session(&mut self) {
        self.end_session_unless(false);
    }

    /// What has landed will be made stable unless the destination dies first; the rest is dropped.
    fn end_session_unless(&mut self, keeps_the_wire: bool) {
        self.up = false;
        self.items.retain(|item| {
            item.loads
                || item.stage == Stage::Landed
                || keeps_the_wire && item.stage == Stage::OnTheWire
        });
    }

    fn source_engine_dies(&mut self, limits: &Limits) {
        self.end_session();
        self.items.retain(|item| !item.loads);
        let loading = self.scheduler.is_loading();
        self.scheduler = Scheduler::new(limits.geometry());
        if self.compare {
            self.scheduler.start_compare();
        } else if loading {
            self.scheduler.start_load();
        } else {
            self.scheduler.start_copy();
        }
        for chunk in (0..limits.geometry().chunks()).filter(|chunk| self.noted & (1 << chunk) != 0)
        {
            self.scheduler.was_loaded(chunk);
        }
        self.told = false;
        let bits = self.sealed.take().map_or(0, |sealed| sealed.bits);
        if !limits.is(Sabotage::MergeDropped) {
            self.bitmap |= bits;
        }
    }
}
