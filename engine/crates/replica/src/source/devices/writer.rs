//! Writes to one transport device: a thread that appends to packs, syncs them, and notes what is safe.

use super::packs::{Packs, Stop};
use super::{Device, Job};
use crate::carrier::hex;
use crate::chunk::CHUNK_SIZE;
use crate::source::loads::LoadId;
use crate::source::lock;
use crate::source::vdisk::Vdisk;
use device::{Block, DeviceKey, Entry, Place};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Synced after so many bytes …
const SYNC_BYTES: u64 = 256 << 20;
/// … or so long after the first …
const SYNC_TIME: Duration = Duration::from_secs(2);
/// … or so long after the last, because there may be no more.
const IDLE_TIME: Duration = Duration::from_millis(100);

/// Left free on the file system, in bytes.
const RESERVE: u64 = 16 << 20;

/// The file system is asked how much is free after so many bytes.
const ASK_BYTES: u64 = 64 << 20;

/// A VDISK as this opening of the device knows it.
struct Known {
    vdisk: Arc<Vdisk>,
    load: LoadId,
    number: u32,
    /// The pack that has its description, and those of the packs after it not.
    described_in: Option<u32>,
    /// Written and not synced: (id of the work, chunk).
    unsynced: Vec<(u64, u32)>,
    /// Chunks that were ever written in this load, a bit each: two copies of one could not be told
    /// apart, so the next one begins another load.
    written: Vec<u64>,
}

impl Known {
    fn has(&self, chunk: u32) -> bool {
        self.written[chunk as usize / 64] & (1 << (chunk % 64)) != 0
    }

    fn note_written(&mut self, chunk: u32) {
        self.written[chunk as usize / 64] |= 1 << (chunk % 64);
    }

    fn description(&self) -> Entry {
        let vdisk = &self.vdisk;
        let description = serde_json::json!({
            "load": hex(&self.load),
            "migration": vdisk.label(),
            "vdisk": vdisk.name(),
            "size": vdisk.geometry().size(),
            "chunk_size": CHUNK_SIZE,
        });
        Entry::Vdisk {
            number: self.number,
            description: description.to_string().into(),
        }
    }
}

pub(super) struct Writer {
    device: Arc<Device>,
    packs: Packs,
    vdisks: HashMap<String, Known>,
    next_number: u32,
    unsynced: u64,
    begun: Option<Instant>,
    free: u64,
    since_asked: u64,
}

impl Writer {
    pub(super) fn new(device: Arc<Device>, key: DeviceKey) -> Self {
        let free = lock(&device.status).free_bytes;
        Writer {
            packs: Packs::new(device.clone(), key),
            device,
            vdisks: HashMap::new(),
            next_number: 0,
            unsynced: 0,
            begun: None,
            free,
            since_asked: 0,
        }
    }

    /// Until the device is closed, full, or gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let outcome = self.work(jobs);
        let (state, error) = match outcome.and_then(|()| self.finish_pack()) {
            Ok(()) => ("closed", None),
            Err(Stop::Full) => match self.finish_pack() {
                Ok(()) | Err(Stop::Full) => ("full", None),
                Err(Stop::Failed(why)) => ("full", Some(why)),
            },
            Err(Stop::Failed(why)) => ("failed", Some(why)),
        };
        if let Some(why) = &error {
            tracing::warn!(
                device = hex(&self.device.id.0),
                "not written any more: {why}"
            );
        }
        self.device.end(state, error);
        for known in self.vdisks.values_mut() {
            let ids = std::mem::take(&mut known.unsynced);
            known.vdisk.not_loaded(ids.into_iter().map(|(id, _)| id));
        }
        // Nobody hands over any more; what was handed over before is refused.
        while let Ok(job) = jobs.try_recv() {
            self.device.refuse(job);
        }
        for known in self.vdisks.values() {
            known.vdisk.wake();
        }
    }

    fn work(&mut self, jobs: &Receiver<Job>) -> Result<(), Stop> {
        while !self.device.abandoned.load(Ordering::Relaxed) {
            let patience = match self.begun {
                Some(begun) => IDLE_TIME.min(SYNC_TIME.saturating_sub(begun.elapsed())),
                None => Duration::from_secs(3600),
            };
            match jobs.recv_timeout(patience) {
                Ok(job) => {
                    let length = u64::from(job.raw_length);
                    let written = self.write(&job);
                    match written {
                        Ok(()) => self.device.waiting.fetch_sub(length, Ordering::Relaxed),
                        Err(stop) => {
                            self.device.refuse(job);
                            return Err(stop);
                        }
                    };
                    let late = self.begun.is_some_and(|begun| begun.elapsed() >= SYNC_TIME);
                    if self.unsynced >= SYNC_BYTES || late {
                        self.sync()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                Err(RecvTimeoutError::Disconnected)
                    if self.device.abandoned.load(Ordering::Relaxed) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
        Err(Stop::Failed("its engine has ended".into()))
    }

    fn write(&mut self, job: &Job) -> Result<(), Stop> {
        self.ask_for_room(u64::from(job.raw_length))?;
        // With it comes what others have stored.
        self.packs.number()?;
        let number = self.number_of(&job.vdisk, job.chunk)?;
        if let Some(known) = self.vdisks.get_mut(job.vdisk.name()) {
            // Also if writing it fails: some of it may be there.
            known.note_written(job.chunk);
        }
        let before = self.packs.position();
        let entry = self.entry(job, number);
        self.append(&job.vdisk, &entry)?;
        let written = self.packs.position().saturating_sub(before);
        self.unsynced += written;
        self.since_asked += written;
        self.begun.get_or_insert_with(Instant::now);
        if let Some(known) = self.vdisks.get_mut(job.vdisk.name()) {
            known.unsynced.push((job.id, job.chunk));
        }
        let mut status = lock(&self.device.status);
        status.written_bytes = self.packs.position();
        status.free_bytes = self.free.saturating_sub(self.since_asked);
        status.blocks += u64::from(matches!(entry, Entry::Block(_)));
        status.places += u64::from(matches!(entry, Entry::Place(_)));
        Ok(())
    }

    fn entry(&self, job: &Job, vdisk: u32) -> Entry {
        let chunk = job.chunk;
        let Some(content) = &job.content else {
            return Entry::Zeros {
                vdisk,
                first: chunk,
                count: 1,
            };
        };
        let hash = content.hash;
        match self.packs.place_of(&hash) {
            Some((pack, offset)) => Entry::Place(Place {
                vdisk,
                chunk,
                hash,
                pack,
                offset,
            }),
            None => Entry::Block(Block {
                vdisk,
                chunk,
                hash,
                raw_length: job.raw_length,
                compression: content.compression as u8,
                payload: content.payload.clone(),
            }),
        }
    }

    /// Appends an entry of a VDISK, to the next pack if this one is full.
    fn append(&mut self, vdisk: &Vdisk, entry: &Entry) -> Result<(), Stop> {
        loop {
            self.describe(vdisk)?;
            if self.packs.append(entry)? {
                return Ok(());
            }
            self.finish_pack()?;
        }
    }

    /// Each pack says itself which VDISKs it has.
    fn describe(&mut self, vdisk: &Vdisk) -> Result<(), Stop> {
        loop {
            let number = self.packs.number()?;
            let Some(known) = self.vdisks.get_mut(vdisk.name()) else {
                return Ok(());
            };
            if known.described_in == Some(number) {
                return Ok(());
            }
            known.described_in = Some(number);
            if self.packs.append(&known.description())? {
                return Ok(());
            }
            self.finish_pack()?;
        }
    }

    /// The number of a VDISK in a load that does not have this chunk yet.
    fn number_of(&mut self, vdisk: &Arc<Vdisk>, chunk: u32) -> Result<u32, Stop> {
        match self.vdisks.get(vdisk.name()) {
            Some(known) if !known.has(chunk) => return Ok(known.number),
            Some(_) => self.sync()?,
            None => {}
        }
        let number = self.next_number;
        self.next_number += 1;
        let load = vdisk.begin_load(self.device.id).map_err(|error| {
            let name = vdisk.name();
            Stop::Failed(format!(
                "noting that VDISK {name} is being loaded failed: {error}"
            ))
        })?;
        let known = Known {
            vdisk: vdisk.clone(),
            load,
            number,
            described_in: None,
            unsynced: Vec::new(),
            written: vec![0; vdisk.geometry().chunks().div_ceil(64) as usize],
        };
        self.vdisks.insert(vdisk.name().to_owned(), known);
        Ok(number)
    }

    /// What is synced is noted, and only then counts as loaded.
    fn sync(&mut self) -> Result<(), Stop> {
        self.packs.sync()?;
        self.note()
    }

    fn note(&mut self) -> Result<(), Stop> {
        (self.unsynced, self.begun) = (0, None);
        for known in self.vdisks.values_mut() {
            let done = std::mem::take(&mut known.unsynced);
            if done.is_empty() {
                continue;
            }
            if !known.vdisk.loaded(known.load, &done) {
                return Err(Stop::Failed("what was loaded could not be noted".into()));
            }
            lock(&self.device.status).loaded_chunks += done.len() as u64;
        }
        Ok(())
    }

    fn finish_pack(&mut self) -> Result<(), Stop> {
        let Some(number) = self.packs.open_number() else {
            return Ok(());
        };
        let known = self.vdisks.values();
        let described = known.filter(|known| known.described_in == Some(number));
        // So that damage to the first does not make a whole pack useless.
        self.packs.finish(described.map(Known::description))?;
        self.note()
    }

    fn ask_for_room(&mut self, length: u64) -> Result<(), Stop> {
        if self.since_asked >= ASK_BYTES {
            self.free = free_bytes(&self.device.packs).map_err(|error| {
                let path = self.device.packs.display();
                Stop::Failed(format!("asking how much room {path} has failed: {error}"))
            })?;
            self.since_asked = 0;
        }
        match self.free.saturating_sub(self.since_asked) < RESERVE + length {
            true => Err(Stop::Full),
            false => Ok(()),
        }
    }
}

/// Bytes that the file system of a folder has left.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail * found.f_frsize)
}
