//! The source side: reads the VDISKs of one VM and sends what the destination does not hold.
//!
//! File by file this mirrors the destination side where the two converse: `link` dials where it
//! listens there, `session` asks what `session` there answers.

mod attachment;
mod background;
mod differing;
mod epoch;
mod foreground;
mod hashing;
mod limits;
mod link;
mod outbox;
mod reading;
mod session;
mod slots;
mod status;
mod unreadable;
mod vdisk;
mod window;

pub use epoch::{EpochRefused, EpochState};
pub use limits::Limit;
pub use link::SourceLink;
pub use reading::OnReadError;
pub use status::{LinkStatus as SourceLinkStatus, VdiskStatus as SourceVdiskStatus};
pub use vdisk::{Mode, Vdisk as SourceVdisk};

use crate::endpoint::EndpointSpec;
use crate::pacing::Pacing;
use crate::trouble::{Trouble, TroubleCode};
use drover_link::connection::Traffic;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vdisk::Vdisk;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that a source engine holds.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held while VDISKs are made known or forgotten, so that no two requests open the same one.
    registry: tokio::sync::Mutex<()>,
    vdisks: Mutex<BTreeMap<String, Arc<Vdisk>>>,
    /// Bumped when the set of VDISKs or their wish to be opened changes.
    attention: watch::Sender<u64>,
    link: watch::Sender<Option<Arc<SourceLink>>>,
    /// How many a session shall have.
    connections: watch::Sender<u16>,
    link_state: Mutex<status::LinkState>,
    pacing: Pacing,
    traffic: Arc<Traffic>,
    stopping: CancellationToken,
    /// Never used twice, so that nothing of an older session can be taken for news of this one.
    next_handle: AtomicU32,
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// A source without link and VDISKs. Must be called inside a tokio runtime.
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            registry: tokio::sync::Mutex::default(),
            vdisks: Mutex::default(),
            attention: watch::Sender::new(0),
            link: watch::Sender::new(None),
            connections: watch::Sender::new(0),
            link_state: Mutex::new(status::LinkState::new()),
            pacing: Pacing::default(),
            traffic: Arc::default(),
            stopping: CancellationToken::new(),
            next_handle: AtomicU32::new(1),
        });
        tokio::spawn(link::keep_connected(shared.clone()));
        Source { shared }
    }

    /// Makes a VDISK known and opens its endpoint; another endpoint replaces the older one, and
    /// another wish for what cannot be read the older wish.
    pub async fn put_vdisk(
        &self,
        name: &str,
        size: u64,
        spec: EndpointSpec,
        on_read_error: OnReadError,
    ) -> Result<Arc<Vdisk>, Trouble> {
        let _alone = self.shared.registry.lock().await;
        let known = self.vdisk(name);
        if let Some(known) = known {
            if known.geometry().size() != size {
                let text = format!(
                    "VDISK {name} has {} bytes here, not {size}; DELETE it first",
                    known.geometry().size()
                );
                return Err(Trouble::new(TroubleCode::SizeMismatch, text));
            }
            known.put_endpoint(spec).await?;
            lock(&known.state).on_read_error = on_read_error;
            return Ok(known);
        }
        let vdisk = Arc::new(Vdisk::open(name, size, spec).await?);
        lock(&vdisk.state).on_read_error = on_read_error;
        lock(&self.shared.vdisks).insert(name.to_owned(), vdisk.clone());
        self.shared.call_attention();
        Ok(vdisk)
    }

    /// Forgets a VDISK. False if unknown.
    pub fn delete_vdisk(&self, name: &str) -> bool {
        let Some(vdisk) = lock(&self.shared.vdisks).remove(name) else {
            return false;
        };
        vdisk.detach();
        true
    }

    /// Begins copying or comparing.
    pub fn start_background(&self, vdisk: &Arc<Vdisk>, mode: Mode) {
        vdisk.start_background(mode);
        self.shared.call_attention();
    }

    /// Leaves "held" and goes on.
    pub async fn retry(&self, vdisk: &Arc<Vdisk>) -> Result<(), Trouble> {
        vdisk.retry().await?;
        self.shared.call_attention();
        Ok(())
    }

    /// Token buckets of this engine.
    pub fn pacing(&self) -> &Pacing {
        &self.shared.pacing
    }

    /// The VDISK of a name.
    pub fn vdisk(&self, name: &str) -> Option<Arc<Vdisk>> {
        lock(&self.shared.vdisks).get(name).cloned()
    }

    /// All VDISKs by name.
    pub fn vdisks(&self) -> Vec<(String, Arc<Vdisk>)> {
        let vdisks = lock(&self.shared.vdisks);
        vdisks
            .iter()
            .map(|(name, vdisk)| (name.clone(), vdisk.clone()))
            .collect()
    }

    /// Ends the session for good.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }
}

impl Shared {
    fn call_attention(&self) {
        self.attention.send_modify(|count| *count += 1);
    }
}
