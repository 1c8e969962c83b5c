//! Transport devices that are being loaded: which of them takes a chunk, and how they are doing.

mod packs;
mod writer;

use super::lock;
use super::vdisk::Vdisk;
use crate::budget::Share;
use crate::carrier::{DeviceStatus, hex};
use crate::chunk::{CHUNK_SIZE, Hash};
use crate::compression::{Choice, Compressor};
use bytes::Bytes;
use device::{DeviceId, DeviceKey};
use drover_link::Compression;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use writer::Writer;

/// Most blocks of which is remembered which device has them (256 GiB of different data, some 25 MiB
/// of memory); later ones may be stored on two devices.
const REMEMBERED: usize = 1 << 19;

/// More bytes than this in line are more than chance.
const BEHIND: u64 = 4 * CHUNK_SIZE as u64;

/// A chunk for a device.
pub(super) struct Job {
    pub(super) vdisk: Arc<Vdisk>,
    pub(super) id: u64,
    pub(super) chunk: u32,
    pub(super) raw_length: u32,
    /// None: nothing but zeros.
    pub(super) content: Option<Content>,
    /// Held until it is written.
    pub(super) _memory: Share,
}

/// What a block holds.
pub(super) struct Content {
    pub(super) hash: Hash,
    pub(super) compression: Compression,
    pub(super) payload: Bytes,
}

/// All devices of an engine.
#[derive(Default)]
pub(super) struct Devices {
    open: Mutex<BTreeMap<String, Arc<Device>>>,
    /// Which device has a block.
    remembered: Arc<Mutex<HashMap<Hash, DeviceId>>>,
}

/// A device that is open.
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) packs: PathBuf,
    pub(super) compressor: Compressor,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Its engine is gone.
    abandoned: AtomicBool,
    pub(super) waiting: AtomicU64,
    remembered: Arc<Mutex<HashMap<Hash, DeviceId>>>,
    pub(super) status: Mutex<DeviceStatus>,
}

impl Devices {
    /// Opens a device for loading; one that failed or is full is opened anew.
    pub(super) fn open(
        &self,
        id: DeviceId,
        packs: &Path,
        key: DeviceKey,
    ) -> std::io::Result<DeviceStatus> {
        let name = hex(&id.0);
        let mut open = lock(&self.open);
        if let Some(device) = open.get(&name).filter(|device| device.takes()) {
            return Ok(lock(&device.status).clone());
        }
        let free_bytes = writer::free_bytes(packs)?;
        let (jobs, taken) = mpsc::channel();
        let status = DeviceStatus {
            free_bytes,
            ..DeviceStatus::new(packs, "load")
        };
        let device = Arc::new(Device {
            id,
            packs: packs.to_owned(),
            compressor: Compressor::new(Choice::Auto),
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::default(),
            abandoned: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            remembered: self.remembered.clone(),
            status: Mutex::new(status.clone()),
        });
        let writer = Writer::new(device.clone(), key);
        let thread = std::thread::Builder::new().name("device".into());
        *lock(&device.writer) = Some(thread.spawn(move || writer.run(&taken))?);
        open.insert(name, device);
        Ok(status)
    }

    /// Stops loading; what was handed over before is written when this returns. False if it is not
    /// open.
    pub(super) fn close(&self, id: DeviceId) -> bool {
        let name = hex(&id.0);
        let Some(device) = lock(&self.open).get(&name).cloned() else {
            return false;
        };
        lock(&device.jobs).take();
        let writer = lock(&device.writer).take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            tracing::error!(device = name, "its writer failed");
        }
        lock(&self.open).remove(&name);
        true
    }

    /// Whether any device takes more.
    pub(super) fn have_room(&self) -> bool {
        lock(&self.open).values().any(|device| device.takes())
    }

    /// The device that a block goes to: the one that has it, else the one with the shortest line.
    pub(super) fn choose(&self, hash: Option<&Hash>) -> Option<Arc<Device>> {
        let open = lock(&self.open);
        let mut taking = open.values().filter(|device| device.takes());
        let mut remembered = lock(&self.remembered);
        let has = hash.and_then(|hash| remembered.get(hash).copied());
        if let Some(device) = taking.clone().find(|device| Some(device.id) == has) {
            return Some(device.clone());
        }
        let first = taking.next()?;
        let shorter = |best: &'_ Arc<Device>, other: &'_ Arc<Device>| {
            other.waiting.load(Ordering::Relaxed) < best.waiting.load(Ordering::Relaxed)
        };
        let device = taking.fold(first, |best, other| match shorter(best, other) {
            true => other,
            false => best,
        });
        if let Some(hash) = hash.filter(|_| remembered.len() < REMEMBERED) {
            remembered.insert(*hash, device.id);
        }
        Some(device.clone())
    }

    /// All that are open, by number.
    pub(super) fn status(&self) -> BTreeMap<String, DeviceStatus> {
        let open = lock(&self.open);
        let status = open
            .iter()
            .map(|(name, device)| (name.clone(), lock(&device.status).clone()));
        status.collect()
    }
}

impl Drop for Devices {
    /// Nothing is written for an engine that is not there any more.
    fn drop(&mut self) {
        for device in lock(&self.open).values() {
            device.abandoned.store(true, Ordering::Relaxed);
            lock(&device.jobs).take();
            let _ = lock(&device.writer).take().map(JoinHandle::join);
        }
    }
}

impl Device {
    fn takes(&self) -> bool {
        lock(&self.jobs).is_some()
    }

    /// Whether chunks stand in line for it.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > BEHIND
    }

    /// Hands a chunk over. One that is not taken is pending again.
    pub(super) fn put(&self, job: Job) {
        self.waiting
            .fetch_add(u64::from(job.raw_length), Ordering::Relaxed);
        let refused = match &*lock(&self.jobs) {
            Some(jobs) => jobs.send(job).err().map(|refused| refused.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            self.refuse(job);
        }
    }

    fn refuse(&self, job: Job) {
        self.waiting
            .fetch_sub(u64::from(job.raw_length), Ordering::Relaxed);
        job.vdisk.not_loaded(std::iter::once(job.id));
    }

    /// These blocks are on it.
    fn has(&self, hashes: impl Iterator<Item = Hash>) {
        let mut remembered = lock(&self.remembered);
        let room = REMEMBERED.saturating_sub(remembered.len());
        for hash in hashes.take(room) {
            remembered.entry(hash).or_insert(self.id);
        }
    }

    /// Takes no more.
    fn end(&self, state: &'static str, error: Option<String>) {
        lock(&self.jobs).take();
        let mut status = lock(&self.status);
        status.state = state;
        status.error = error;
    }
}
