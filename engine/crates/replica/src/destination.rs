//! The destination side: takes what one source sends, makes it stable, and says so.
//!
//! File by file this mirrors the source side where the two converse: `link` here listens where it
//! dials there, `session` answers what `session` there asks.

mod attachment;
mod batch;
mod door;
mod fence;
mod hashing;
mod link;
#[cfg(test)]
mod power_cuts;
mod reception;
mod session;
mod status;
mod unloading;
mod unpacking;
mod vdisk;
mod window;

pub use link::DestinationLink;
pub use status::{LinkStatus as DestinationLinkStatus, VdiskStatus as DestinationVdiskStatus};
pub use vdisk::Vdisk as DestinationVdisk;

use crate::carrier::{DeviceStatus, hex};
use crate::endpoint::EndpointSpec;
pub(crate) use crate::lock;
use crate::trouble::{Trouble, TroubleCode};
use device::{DeviceId, DeviceKey};
use drover_link::connection::Traffic;
use fence::Tokens;
use session::Session;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use unloading::Unloading;

/// Everything that a destination engine holds.
#[derive(Clone)]
pub struct Destination {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held while VDISKs are made known or forgotten, so that no two requests open the same one.
    registry: tokio::sync::Mutex<()>,
    state: PathBuf,
    tokens: Tokens,
    vdisks: Mutex<BTreeMap<String, Arc<Vdisk>>>,
    /// Transport devices that are being unloaded, or were, by number.
    devices: Mutex<BTreeMap<String, Unloading>>,
    /// Held while a session is replaced, ended or fenced, so that these never overlap.
    turnover: tokio::sync::Mutex<()>,
    session: Mutex<Option<Arc<Session>>>,
    link: Mutex<Option<link::Listening>>,
    link_state: Mutex<status::LinkState>,
    traffic: Arc<Traffic>,
}

use vdisk::Vdisk;

impl Destination {
    /// A destination whose journals and tokens are in the folder `state`.
    pub fn new(state: &Path) -> std::io::Result<Self> {
        let shared = Shared {
            registry: tokio::sync::Mutex::default(),
            state: state.to_owned(),
            tokens: Tokens::load(state)?,
            vdisks: Mutex::default(),
            devices: Mutex::default(),
            turnover: tokio::sync::Mutex::default(),
            session: Mutex::default(),
            link: Mutex::default(),
            link_state: Mutex::new(status::LinkState::new()),
            traffic: Arc::default(),
        };
        Ok(Destination {
            shared: Arc::new(shared),
        })
    }

    /// Makes a VDISK known: opens its endpoint and its journal. The same VDISK again changes
    /// nothing; another endpoint replaces the older one.
    pub async fn put_vdisk(
        &self,
        name: &str,
        size: u64,
        spec: EndpointSpec,
    ) -> Result<Arc<Vdisk>, Trouble> {
        let _alone = self.shared.registry.lock().await;
        let known = lock(&self.shared.vdisks).get(name).cloned();
        if let Some(known) = known {
            if known.geometry().size() != size {
                let text = format!(
                    "VDISK {name} has {} bytes here, not {size}; DELETE it first",
                    known.geometry().size()
                );
                return Err(Trouble::new(TroubleCode::SizeMismatch, text));
            }
            known.put_endpoint(spec).await?;
            return Ok(known);
        }
        let vdisk = Arc::new(Vdisk::open(name, size, spec, &self.shared.state).await?);
        lock(&self.shared.vdisks).insert(name.to_owned(), vdisk.clone());
        Ok(vdisk)
    }

    /// Forgets a VDISK; its endpoint is closed, its journal stays on disk. False if unknown.
    pub async fn delete_vdisk(&self, name: &str) -> bool {
        let _alone = self.shared.registry.lock().await;
        let Some(vdisk) = lock(&self.shared.vdisks).remove(name) else {
            return false;
        };
        let gone = Trouble::new(
            TroubleCode::UnknownVdisk,
            format!("VDISK {name} was deleted"),
        );
        vdisk.tell_source(&gone);
        vdisk.close(None).await;
        true
    }

    /// Begins to unload a transport device; `packs` is its folder of packs. One that is being
    /// unloaded goes on. Must be called inside a tokio runtime; it also blocks a little.
    pub fn unload_device(
        &self,
        id: DeviceId,
        packs: &Path,
        key: DeviceKey,
    ) -> std::io::Result<DeviceStatus> {
        let mut devices = lock(&self.shared.devices);
        if let Some(running) = devices.get(&hex(&id.0))
            && running.status().state == "running"
        {
            return Ok(running.status());
        }
        let unloading = Unloading::start(&self.shared, packs, id, key)?;
        let status = unloading.status();
        devices.insert(hex(&id.0), unloading);
        Ok(status)
    }

    /// Ends the unloading of a device. False if it is unknown.
    pub fn close_device(&self, id: DeviceId) -> bool {
        lock(&self.shared.devices).remove(&hex(&id.0)).is_some()
    }

    /// Devices by number.
    pub fn devices(&self) -> BTreeMap<String, DeviceStatus> {
        let devices = lock(&self.shared.devices);
        let status = devices
            .iter()
            .map(|(name, device)| (name.clone(), device.status()));
        status.collect()
    }

    /// Leaves "held": the source is told to open the VDISK again. False if unknown.
    pub fn retry(&self, name: &str) -> bool {
        let Some(vdisk) = lock(&self.shared.vdisks).get(name).cloned() else {
            return false;
        };
        vdisk.resume();
        true
    }

    /// After this returns nothing is ever written again by a source whose token is `token` or
    /// lower: its session is over, what had arrived is stable, all endpoints are closed.
    pub async fn fence(&self, token: u64) -> std::io::Result<()> {
        self.shared.tokens.fence(token)?;
        let _turn = self.shared.turnover.lock().await;
        let newer = lock(&self.shared.session)
            .as_ref()
            .is_some_and(|session| session.token > token);
        if newer {
            return Ok(());
        }
        self.shared.end_session("fenced").await;
        for vdisk in self.shared.all_vdisks() {
            let text = format!("fenced for tokens up to {token}");
            vdisk
                .close(Some(Trouble::new(TroubleCode::Fenced, text)))
                .await;
        }
        Ok(())
    }

    /// Ends the session and makes everything stable that had arrived.
    pub async fn stop(&self) {
        let listening = lock(&self.shared.link).take();
        drop(listening);
        let _turn = self.shared.turnover.lock().await;
        self.shared
            .end_session("the destination engine is stopping")
            .await;
    }

    /// All VDISKs by name.
    pub fn vdisks(&self) -> Vec<(String, Arc<Vdisk>)> {
        let vdisks = lock(&self.shared.vdisks);
        vdisks
            .iter()
            .map(|(name, vdisk)| (name.clone(), vdisk.clone()))
            .collect()
    }
}

impl Shared {
    fn all_vdisks(&self) -> Vec<Arc<Vdisk>> {
        lock(&self.vdisks).values().cloned().collect()
    }

    /// Ends the session and waits until each of its writes is finished or dropped. The caller
    /// holds `turnover`.
    async fn end_session(&self, why: &str) {
        let session = lock(&self.session).take();
        if let Some(session) = session {
            session.end(why).await;
        }
        for vdisk in self.all_vdisks() {
            vdisk.detach().await;
        }
    }
}
