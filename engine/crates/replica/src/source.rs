//! The source side: reads the VDISKs of one VM and sends what the destination does not hold.
//!
//! File by file this mirrors the destination side where the two converse: `link` dials where it
//! listens there, `session` asks what `session` there answers.

mod attachment;
mod background;
mod devices;
mod differing;
mod epoch;
mod foreground;
mod hashing;
mod limits;
mod link;
mod loading;
mod loads;
mod outbox;
mod reading;
mod session;
mod slots;
mod status;
mod unreadable;
mod vdisk;
mod window;

pub use epoch::{Dirty, EpochRefused, EpochState, MOST_EXTENTS};
pub use limits::Limit;
pub use link::SourceLink;
pub use reading::OnReadError;
pub use status::{LinkStatus as SourceLinkStatus, VdiskStatus as SourceVdiskStatus};
pub use vdisk::{Mode, Vdisk as SourceVdisk};

use crate::carrier::DeviceStatus;
use crate::endpoint::EndpointSpec;
pub(crate) use crate::lock;
use crate::pacing::Pacing;
use crate::trouble::{Trouble, TroubleCode};
use device::{DeviceId, DeviceKey};
use drover_link::connection::Traffic;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vdisk::Vdisk;

/// Everything that a source engine holds.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
}

struct Shared {
    /// Notes of what is on transport devices.
    notes: PathBuf,
    devices: devices::Devices,
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

impl Source {
    /// A source without link and VDISKs, whose notes of what is on transport devices are in the
    /// folder `state`. Must be called inside a tokio runtime.
    pub fn new(state: &Path) -> Self {
        let shared = Arc::new(Shared {
            notes: state.to_owned(),
            devices: devices::Devices::default(),
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
        let vdisk = Arc::new(Vdisk::open(name, size, spec, &self.shared.notes).await?);
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

    /// Opens a transport device for loading; `packs` is its folder of packs. Blocks.
    pub fn open_device(
        &self,
        id: DeviceId,
        packs: &Path,
        key: DeviceKey,
    ) -> std::io::Result<DeviceStatus> {
        let status = self.shared.devices.open(id, packs, key)?;
        for vdisk in lock(&self.shared.vdisks).values() {
            vdisk.wake();
        }
        Ok(status)
    }

    /// Finishes what was handed over to a device and closes it. False if it is not open. Blocks.
    pub fn close_device(&self, id: DeviceId) -> bool {
        self.shared.devices.close(id)
    }

    /// Devices that are open for loading, by number.
    pub fn devices(&self) -> BTreeMap<String, DeviceStatus> {
        self.shared.devices.status()
    }

    /// What is on this device is pending again. Returns how many chunks. Blocks.
    pub fn forget_device(&self, id: DeviceId) -> Result<usize, Trouble> {
        let vdisks: Vec<_> = lock(&self.shared.vdisks).values().cloned().collect();
        vdisks.iter().map(|vdisk| vdisk.forget_device(id)).sum()
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
