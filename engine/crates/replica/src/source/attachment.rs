//! A VDISK as opened in the session of the moment, under one handle.

use super::lock;
use super::outbox::Outbox;
use super::vdisk::{State, Vdisk};
use crate::conversation::LostData;
use crate::trouble::TroubleCode;
use drover_link::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The VDISK in the session of the moment.
pub(super) struct Attachment {
    pub(super) outbox: Outbox,
    pub(super) cancel: CancellationToken,
    pub(super) opened: bool,
    forgot: bool,
    /// Pieces of VdiskOpened received so far, by their first chunks; they come in any order.
    pieces: BTreeMap<u32, Vec<(bool, u32)>>,
    /// Chunks of the pieces.
    covered: u64,
}

impl Vdisk {
    /// Whether a session has to open the VDISK (again), and whether the destination shall forget.
    pub(super) fn wants_opening(&self) -> Option<bool> {
        let state = lock(&self.state);
        let unknown = state
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.code == TroubleCode::UnknownVdisk);
        let held = state.trouble.is_some() && !unknown;
        let wants = state.attachment.is_none() || state.reopen;
        (wants && !held).then(|| state.scheduler.must_forget())
    }

    /// The destination does not know the VDISK; it is asked again from time to time.
    pub(super) fn is_unknown(&self) -> bool {
        let state = lock(&self.state);
        state
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.code == TroubleCode::UnknownVdisk)
    }

    /// An OpenVdisk is on its way; what belongs to the older handle is over.
    pub(super) fn attach(&self, outbox: Outbox, cancel: CancellationToken, forgot: bool) {
        let mut state = lock(&self.state);
        state.cancel_attachment();
        // A comparison that was asked for just now needs an opening that forgets.
        state.reopen = state.scheduler.must_forget() && !forgot;
        state.attachment = Some(Attachment {
            outbox,
            cancel,
            opened: false,
            forgot,
            pieces: BTreeMap::new(),
            covered: 0,
        });
    }

    pub(super) fn detach(&self) {
        let mut state = lock(&self.state);
        if let Some(attachment) = &state.attachment {
            let handle = attachment.outbox.handle();
            attachment.outbox.say(Message::CloseVdisk { handle });
        }
        state.cancel_attachment();
    }

    pub(super) fn resume(&self, handle: u32) {
        let mut state = lock(&self.state);
        if state.handle() == Some(handle) {
            state.trouble = None;
            state.reopen = true;
        }
    }

    /// The destination takes more.
    pub(super) fn window(&self, handle: u32, limit: u64) {
        let state = lock(&self.state);
        if let Some(attachment) = &state.attachment
            && state.handle() == Some(handle)
        {
            attachment.outbox.window.raise(limit);
        }
    }

    /// A piece went down with its connection: it is read and sent again.
    pub(super) fn lost(&self, data: LostData) {
        let mut state = lock(&self.state);
        let State {
            attachment,
            scheduler,
            sent,
            ..
        } = &mut *state;
        let Some(attachment) = attachment
            .as_ref()
            .filter(|attachment| attachment.outbox.handle() == data.handle)
        else {
            return;
        };
        attachment.outbox.window.give_back(data.cost);
        scheduler.requeue(data.id);
        sent.resent_bytes += u64::from(data.raw_length);
        drop(state);
        self.wake();
    }

    /// A piece of the destination's chunk states. When it was the last one missing, returns what
    /// the tasks of the attachment need.
    pub(super) fn opened(
        self: &Arc<Self>,
        handle: u32,
        first: u32,
        runs: impl Iterator<Item = (bool, u32)>,
        incarnation: u64,
    ) -> Result<Option<(Outbox, CancellationToken)>, String> {
        let loads = lock(&self.loads);
        let mut state = lock(&self.state);
        let State {
            attachment,
            scheduler,
            sent,
            trouble,
            ..
        } = &mut *state;
        let Some(attachment) = attachment
            .as_mut()
            .filter(|attachment| attachment.outbox.handle() == handle)
        else {
            return Ok(None);
        };
        let runs: Vec<_> = runs.collect();
        let count: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        let chunks = u64::from(self.geometry().chunks());
        attachment.covered += count;
        let twice = attachment.pieces.insert(first, runs).is_some();
        if attachment.opened || twice || attachment.covered > chunks {
            return Err(format!("chunk states of {} overlap", self.name()));
        }
        if attachment.covered < chunks {
            return Ok(None);
        }
        let pieces = std::mem::take(&mut attachment.pieces);
        let mut next = 0;
        for (first, runs) in &pieces {
            if *first != next {
                return Err(format!("chunk states of {} overlap", self.name()));
            }
            next += runs.iter().map(|(_, count)| *count).sum::<u32>();
        }
        attachment.opened = true;
        sent.resent_bytes +=
            scheduler.opened(pieces.into_values().flatten(), attachment.forgot, |chunk| {
                !loads.trusts(chunk, incarnation)
            });
        if trouble
            .as_ref()
            .is_some_and(|trouble| trouble.code == TroubleCode::UnknownVdisk)
        {
            *trouble = None;
        }
        let parts = (attachment.outbox.clone(), attachment.cancel.clone());
        state.incarnation = Some(incarnation);
        state.replies.clear();
        state.root_asked = false;
        state.after_progress();
        let released = state.scheduler.has_released();
        drop((state, loads));
        self.wake();
        if released {
            self.drop_notes();
        }
        Ok(Some(parts))
    }
}
