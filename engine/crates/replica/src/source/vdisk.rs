//! One VDISK at the source: scheduler, endpoint, and what stops it.

use super::attachment::Attachment;
use super::differing::Differing;
use super::epoch::Epoch;
use super::limits::Limits;
use super::loading::open_loads;
use super::loads::Loads;
use super::lock;
use super::reading::OnReadError;
use super::status::Sent;
use super::unreadable::Unreadable;
use crate::chunk::{Geometry, Hash, MAX_VDISK};
use crate::disk_time::DiskTime;
use crate::endpoint::{Access, Endpoint, EndpointSpec};
use crate::hash_table::HashTable;
use crate::scheduler::Scheduler;
use crate::trouble::{Trouble, TroubleCode};
use drover_link::Message;
use drover_link::message::FaultCode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What background replication does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Send what the destination's journal does not claim.
    Copy,
    /// Hash at both ends, send what differs.
    Compare,
    /// As copy, but to transport devices.
    Load,
}

/// A VDISK that is replicated.
pub struct Vdisk {
    name: String,
    /// What a transport device shall say besides of whom the VDISK is.
    label: Mutex<String>,
    geometry: Geometry,
    endpoint: Mutex<Arc<Endpoint>>,
    /// Locked before `state`, and not by async tasks: it waits for a disk.
    pub(super) loads: Mutex<Loads>,
    pub(super) seen_on_devices: Mutex<BTreeMap<String, u64>>,
    pub(super) disk: DiskTime,
    pub(super) limits: Limits,
    pub(super) state: Mutex<State>,
    /// Bumped whenever there may be new work.
    changed: watch::Sender<u64>,
}

/// What changes together, under one lock that is never held over a wait.
pub(super) struct State {
    pub(super) scheduler: Scheduler,
    /// Of the destination's journal.
    pub(super) incarnation: Option<u64>,
    spec: EndpointSpec,
    pub(super) trouble: Option<Trouble>,
    pub(super) on_read_error: OnReadError,
    pub(super) unreadable: Unreadable,
    /// Number of the attempt; "retry" begins the next one.
    pub(super) attempt: u64,
    /// The trouble is at the destination: to go on, the VDISK must be opened anew there.
    pub(super) reopen: bool,
    pub(super) mode: Option<Mode>,
    pub(super) epoch: Option<Epoch>,
    pub(super) sent: Sent,
    pub(super) attachment: Option<Attachment>,
    pub(super) replies: HashMap<u64, oneshot::Sender<Vec<(u32, Hash)>>>,
    pub(super) differing: Differing,
    /// Our own hashes of chunks that were found equal.
    pub(super) hashes: HashTable,
    pub(super) root_asked: bool,
    pub(super) root: Option<(Hash, Hash)>,
}

impl Vdisk {
    pub(super) async fn open(
        name: &str,
        size: u64,
        spec: EndpointSpec,
        notes: &Path,
    ) -> Result<Self, Trouble> {
        if size == 0 || size > MAX_VDISK {
            let text = format!("a VDISK must have 1 to {MAX_VDISK} bytes, not {size}");
            return Err(Trouble::new(TroubleCode::SizeMismatch, text));
        }
        let geometry = Geometry::new(size);
        let endpoint = Endpoint::open(&spec, size, Access::Read).await?;
        let loads = open_loads(notes, name, geometry).await?;
        let mut scheduler = Scheduler::new(geometry);
        loads.chunks().for_each(|chunk| scheduler.was_loaded(chunk));
        let state = State {
            scheduler,
            incarnation: None,
            spec,
            trouble: None,
            on_read_error: OnReadError::default(),
            unreadable: Unreadable::default(),
            attempt: 0,
            reopen: false,
            mode: None,
            epoch: None,
            sent: Sent::default(),
            attachment: None,
            replies: HashMap::new(),
            differing: Differing::default(),
            hashes: HashTable::new(geometry.chunks()),
            root_asked: false,
            root: None,
        };
        Ok(Vdisk {
            name: name.to_owned(),
            label: Mutex::default(),
            geometry,
            endpoint: Mutex::new(Arc::new(endpoint)),
            loads: Mutex::new(loads),
            seen_on_devices: Mutex::default(),
            disk: DiskTime::default(),
            limits: Limits::default(),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a transport device shall say besides of whom the VDISK is.
    pub fn set_label(&self, label: String) {
        *lock(&self.label) = label;
    }

    pub(super) fn label(&self) -> String {
        lock(&self.label).clone()
    }

    /// Its size and chunks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        lock(&self.endpoint).clone()
    }

    /// Tells the tasks that there may be something to do.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Uses another endpoint from now on (the VM was started again, for example). Leaves "held"
    /// if it was the endpoint that had stopped the VDISK.
    pub(super) async fn put_endpoint(&self, spec: EndpointSpec) -> Result<(), Trouble> {
        let gone = {
            let state = lock(&self.state);
            let gone = state.trouble.as_ref().is_some_and(must_open_again);
            if state.spec == spec && !gone {
                return Ok(());
            }
            gone
        };
        let endpoint = Endpoint::open(&spec, self.geometry.size(), Access::Read).await?;
        *lock(&self.endpoint) = Arc::new(endpoint);
        let mut state = lock(&self.state);
        state.spec = spec;
        if gone && !state.reopen {
            state.trouble = None;
            state.attempt += 1;
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Number of the attempt that work taken now belongs to.
    pub(super) fn attempt(&self) -> u64 {
        lock(&self.state).attempt
    }

    pub(super) fn start_background(&self, mode: Mode) {
        let mut state = lock(&self.state);
        let running = match mode {
            Mode::Copy | Mode::Load => {
                state.scheduler.background_left() > 0 || state.scheduler.must_forget()
            }
            // Whoever asks again may have lost bitmaps since: what was compared before proves nothing.
            Mode::Compare => state.scheduler.must_forget(),
        };
        if state.mode == Some(mode) && running {
            return;
        }
        state.mode = Some(mode);
        match mode {
            Mode::Copy => state.scheduler.start_copy(),
            Mode::Compare => state.scheduler.start_compare(),
            Mode::Load => state.scheduler.start_load(),
        }
        if state.scheduler.must_forget() {
            state.reopen = true;
        }
        drop(state);
        self.wake();
    }

    /// Hashes chunks at both ends again.
    pub fn start_verify(&self, all: bool, repair: bool) {
        let mut state = lock(&self.state);
        state.scheduler.start_verify(all, repair);
        state.after_progress();
        drop(state);
        self.wake();
    }

    pub(super) async fn retry(&self) -> Result<(), Trouble> {
        let (gone, spec) = {
            let state = lock(&self.state);
            let Some(trouble) = &state.trouble else {
                return Ok(());
            };
            (must_open_again(trouble), state.spec.clone())
        };
        let local = !lock(&self.state).reopen;
        if local && gone {
            let endpoint = Endpoint::open(&spec, self.geometry.size(), Access::Read).await?;
            *lock(&self.endpoint) = Arc::new(endpoint);
        }
        let mut state = lock(&self.state);
        state.trouble = None;
        state.attempt += 1;
        drop(state);
        self.wake();
        Ok(())
    }

    /// Work failed at this end: it is taken back, and nothing more is done until "retry". Work of
    /// an earlier attempt is only taken back; its failure is what that "retry" was for.
    pub(super) fn fail(&self, attempt: u64, id: u64, trouble: Trouble) {
        let mut state = lock(&self.state);
        state.scheduler.requeue(id);
        if attempt == state.attempt {
            state.hold(&self.name, trouble);
        }
        drop(state);
        self.wake();
    }

    /// The destination reports a fault of the VDISK or of one piece.
    pub(super) fn fault(&self, handle: u32, id: u64, code: FaultCode, trouble: Trouble) {
        let mut state = lock(&self.state);
        if state.handle() != Some(handle) {
            return;
        }
        if code == FaultCode::Corrupt && id != 0 {
            if !state.scheduler.is_unloading(id) {
                tracing::warn!(vdisk = self.name, "sending again: {trouble}");
                state.sent.resent_bytes += u64::from(crate::chunk::CHUNK_SIZE);
            }
            state.scheduler.requeue(id);
        } else {
            state.reopen = true;
            state.hold(&self.name, trouble);
        }
        drop(state);
        self.wake();
    }

    pub(super) fn acknowledged(self: &Arc<Self>, handle: u32, ids: &[u64]) {
        let mut state = lock(&self.state);
        if state.handle() != Some(handle) {
            return;
        }
        let mut newer = Vec::new();
        for id in ids {
            match state.scheduler.newer_than_device(*id) {
                Some((chunk, mask)) => newer.push((*id, chunk, mask)),
                None => {
                    state.scheduler.acknowledged(*id);
                }
            }
        }
        state.after_progress();
        let released = state.scheduler.has_released();
        drop(state);
        self.wake();
        if released {
            self.drop_notes();
        }
        if !newer.is_empty() {
            // It goes on by itself.
            drop(self.acknowledge_newer(handle, newer));
        }
    }

    pub(super) fn hash_reply(&self, request: u64, runs: Vec<(u32, Hash)>) {
        let waiting = lock(&self.state).replies.remove(&request);
        if let Some(waiting) = waiting {
            // Nobody waits any more if the session ended meanwhile.
            let _ = waiting.send(runs);
        }
    }

    pub(super) fn root_reply(&self, root: Option<Hash>) {
        let mut state = lock(&self.state);
        state.root_asked = false;
        if !state.scheduler.is_verified() {
            return;
        }
        match (state.hashes.root(), root) {
            (Some(source), Some(destination)) => state.root = Some((source, destination)),
            // The destination was restarted and has lost what it re-read.
            _ => state.scheduler.forget_verified(),
        }
    }
}

/// Whether the endpoint itself is what stopped the VDISK.
fn must_open_again(trouble: &Trouble) -> bool {
    matches!(
        trouble.code,
        TroubleCode::EndpointGone | TroubleCode::SizeMismatch
    )
}

impl State {
    pub(super) fn handle(&self) -> Option<u32> {
        self.attachment
            .as_ref()
            .map(|attachment| attachment.outbox.handle())
    }

    /// Whether a task of the attachment that `cancel` ends may take work. One that was held up
    /// while its attachment was replaced would take it to where nobody sends it.
    pub(super) fn may_take(&self, cancel: &CancellationToken) -> bool {
        self.trouble.is_none() && !cancel.is_cancelled()
    }

    pub(super) fn hold(&mut self, name: &str, trouble: Trouble) {
        // The first one is the cause of the others.
        if self.trouble.is_none() {
            tracing::warn!(vdisk = name, code = ?trouble.code, "held: {trouble}");
            self.trouble = Some(trouble);
        }
    }

    pub(super) fn cancel_attachment(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            attachment.cancel.cancel();
        }
        self.replies.clear();
        self.differing = Differing::default();
        self.root_asked = false;
    }

    /// Looks what has been completed: the epoch, the root.
    pub(super) fn after_progress(&mut self) {
        if let Some(epoch) = &mut self.epoch {
            epoch.look(self.scheduler.epoch_is_stable());
        }
        if !self.scheduler.is_verified() {
            self.root = None;
            return;
        }
        if self.root.is_none()
            && !self.root_asked
            && let Some(attachment) = self
                .attachment
                .as_ref()
                .filter(|attachment| attachment.opened)
        {
            let handle = attachment.outbox.handle();
            attachment.outbox.say(Message::RootRequest { handle });
            self.root_asked = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_comparison_asked_for_again_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vdisk.raw");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let spec = EndpointSpec::File {
            path,
            create: false,
        };
        let vdisk = Vdisk::open("vda", 1 << 20, spec, folder.path())
            .await
            .unwrap();
        vdisk.start_background(Mode::Compare);
        lock(&vdisk.state).scheduler.opened([], true, |_| false);
        assert!(!lock(&vdisk.state).scheduler.must_forget(), "it goes on");
        vdisk.start_background(Mode::Compare);
        let state = lock(&vdisk.state);
        assert!(state.scheduler.must_forget() && state.reopen);
    }
}
