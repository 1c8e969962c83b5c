//! Ways to break the scheduler or those it relies on, to prove that the search notices.

use super::Limits;
use crate::scheduler::chunks::Phase;
use crate::scheduler::{Kind, Scheduler};

/// One defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Blocks written while their chunk was in flight are forgotten when it is acknowledged.
    DirtDroppedOnAcknowledgement,
    /// A write to a chunk in flight is taken for one to a pending chunk.
    WriteInFlightIsNoOp,
    /// A write to a chunk in flight is sent at once: two copies.
    TwoCopiesInFlight,
    /// Foreground pieces that were unanswered are forgotten when a new session begins.
    PiecesNotTakenBack,
    /// Whole chunks that were unanswered are believed to be stable when a new session begins.
    ChunksBelievedStable,
    /// The destination acknowledges before it syncs.
    AcknowledgedOnArrival,
    /// The journal is synced before the data.
    JournalBeforeData,
    /// An unacknowledged epoch is not merged back when the source's engine died.
    MergeDropped,
    /// The epoch is released when its bitmap has been read.
    ReleasedWhenRead,
    /// Blocks leave the epoch when they are sent, not when they are stable.
    EpochEndsWhenTaken,
    /// The hypervisor sets the bit when a write begins, not when it completes.
    BitWhenWriteBegins,
    /// What is on its way in one session lands in the next.
    OldSessionLands,
    /// After a connection's death a chunk that may have landed counts as if it had not.
    GivenBackAsUnsent,
    /// A second power cycle does not begin the comparison anew.
    RunningComparisonGoesOn,
    /// Nobody remembers which blocks are newer than a device.
    NewerBlocksForgotten,
    /// A device's copy of a chunk is written though newer blocks are on their way.
    UnloadedWhileBusy,
    /// A device is waited for though the destination has lost what is newer.
    LoadsTrusted,
    /// What was newer than an older load of a chunk counts as newer than a later one.
    NewerThanAnOlderLoad,
}

impl Sabotage {
    pub(super) const DEVICE: [Sabotage; 4] = [
        Sabotage::NewerBlocksForgotten,
        Sabotage::UnloadedWhileBusy,
        Sabotage::LoadsTrusted,
        Sabotage::NewerThanAnOlderLoad,
    ];

    pub(super) const ALL: [Sabotage; 14] = [
        Sabotage::DirtDroppedOnAcknowledgement,
        Sabotage::WriteInFlightIsNoOp,
        Sabotage::TwoCopiesInFlight,
        Sabotage::PiecesNotTakenBack,
        Sabotage::ChunksBelievedStable,
        Sabotage::AcknowledgedOnArrival,
        Sabotage::JournalBeforeData,
        Sabotage::MergeDropped,
        Sabotage::ReleasedWhenRead,
        Sabotage::EpochEndsWhenTaken,
        Sabotage::BitWhenWriteBegins,
        Sabotage::OldSessionLands,
        Sabotage::GivenBackAsUnsent,
        Sabotage::RunningComparisonGoesOn,
    ];
}

impl Limits {
    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub(super) fn mark_dirty(
        &self,
        scheduler: &mut Scheduler,
        chunk: u32,
        offset: u64,
        length: u64,
    ) {
        let in_flight = scheduler.chunks.phase(chunk) == Phase::InFlight;
        if in_flight && self.is(Sabotage::WriteInFlightIsNoOp) {
            return;
        }
        if in_flight && self.is(Sabotage::TwoCopiesInFlight) {
            scheduler.chunks.set_phase(chunk, Phase::Clean);
        }
        scheduler.mark_dirty(offset, length);
    }

    pub(super) fn opened(
        &self,
        scheduler: &mut Scheduler,
        mut runs: Vec<(bool, u32)>,
        forgot: bool,
        distrusted: impl Fn(u32) -> bool,
    ) {
        if self.is(Sabotage::PiecesNotTakenBack) {
            scheduler.open.retain(|_, open| {
                let foreground = matches!(open.kind, Kind::Foreground { .. });
                if foreground {
                    scheduler.chunks.set_phase(open.first, Phase::Clean);
                }
                !foreground
            });
        }
        if self.is(Sabotage::ChunksBelievedStable) {
            for open in scheduler
                .open
                .values()
                .filter(|open| open.kind == Kind::Background)
            {
                runs[open.first as usize].0 = true;
            }
        }
        scheduler.opened(runs, forgot, |chunk| {
            !self.is(Sabotage::LoadsTrusted) && distrusted(chunk)
        });
    }

    pub(super) fn give_back(&self, scheduler: &mut Scheduler, id: u64) {
        let open = scheduler.open.get(&id).copied();
        scheduler.requeue(id);
        if let Some(open) = open.filter(|_| self.is(Sabotage::GivenBackAsUnsent)) {
            for chunk in open.first..open.first + open.count {
                scheduler.chunks.set_outdated(chunk, false);
                if scheduler.chunks.phase(chunk) == Phase::Pending {
                    scheduler.chunks.epoch_done(chunk);
                }
            }
        }
    }
}
