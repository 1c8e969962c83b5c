//! Writes to one transport device: a thread that appends to packs, syncs them, and notes what is safe.

use super::{Content, Device, Job};
use crate::carrier::hex;
use crate::chunk::{CHUNK_SIZE, Hash};
use crate::source::loads::LoadId;
use crate::source::lock;
use crate::source::vdisk::Vdisk;
use device::{Block, DeviceKey, Entry, PackError, PackReader, PackWriter, Place};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
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

/// Most blocks whose places on this device are remembered.
const REMEMBERED: usize = super::REMEMBERED;

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
    key: DeviceKey,
    pack: Option<PackWriter>,
    next_pack: u32,
    vdisks: HashMap<String, Known>,
    next_number: u32,
    /// Blocks on the device, by pack and offset.
    blocks: HashMap<Hash, (u32, u64)>,
    /// Those of the pack that is open.
    of_pack: Vec<(Hash, u64)>,
    /// Packs whose blocks are known.
    learnt: HashSet<u32>,
    unsynced: u64,
    begun: Option<Instant>,
    finished_bytes: u64,
    free: u64,
    since_asked: u64,
}

/// Why a chunk was not written.
enum Stop {
    Full,
    Failed(String),
}

impl From<PackError> for Stop {
    fn from(error: PackError) -> Self {
        match &error {
            PackError::Io { source, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                ) =>
            {
                Stop::Full
            }
            _ => Stop::Failed(error.to_string()),
        }
    }
}

impl Writer {
    pub(super) fn new(device: Arc<Device>, key: DeviceKey) -> Self {
        let free = lock(&device.status).free_bytes;
        Writer {
            device,
            key,
            pack: None,
            next_pack: 0,
            vdisks: HashMap::new(),
            next_number: 0,
            blocks: HashMap::new(),
            of_pack: Vec::new(),
            learnt: HashSet::new(),
            unsynced: 0,
            begun: None,
            finished_bytes: 0,
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
        self.open_pack()?;
        let number = self.number_of(&job.vdisk, job.chunk)?;
        let (chunk, attempt) = (job.chunk, 0);
        if let Some(known) = self.vdisks.get_mut(job.vdisk.name()) {
            // Also if writing it fails: some of it may be there.
            known.note_written(chunk);
        }
        let (before, is_block) = (
            self.position(),
            matches!(job.content, Some(ref content) if !self.blocks.contains_key(&content.hash)),
        );
        match &job.content {
            None => {
                let (vdisk, first, count) = (number, chunk, 1);
                self.append(
                    &job.vdisk,
                    &Entry::Zeros {
                        vdisk,
                        first,
                        count,
                        attempt,
                    },
                )?;
            }
            Some(content) => self.write_content(job, content, number)?,
        }
        let written = self.position().saturating_sub(before);
        self.unsynced += written;
        self.since_asked += written;
        self.begun.get_or_insert_with(Instant::now);
        if let Some(known) = self.vdisks.get_mut(job.vdisk.name()) {
            known.unsynced.push((job.id, chunk));
        }
        let mut status = lock(&self.device.status);
        status.written_bytes = self.position();
        status.free_bytes = self.free.saturating_sub(self.since_asked);
        status.blocks += u64::from(is_block);
        status.places += u64::from(!is_block && job.content.is_some());
        Ok(())
    }

    fn write_content(&mut self, job: &Job, content: &Content, vdisk: u32) -> Result<(), Stop> {
        let (chunk, attempt, hash) = (job.chunk, 0, content.hash);
        if let Some((pack, offset)) = self.blocks.get(&hash).copied() {
            let place = Place {
                vdisk,
                chunk,
                attempt,
                hash,
                pack,
                offset,
            };
            return self.append(&job.vdisk, &Entry::Place(place)).map(|_| ());
        }
        let block = Entry::Block(Block {
            vdisk,
            chunk,
            attempt,
            hash,
            raw_length: job.raw_length,
            compression: content.compression as u8,
            payload: content.payload.clone(),
        });
        let place = self.append(&job.vdisk, &block)?;
        self.of_pack.push((hash, place.1));
        if self.blocks.len() < REMEMBERED {
            self.blocks.insert(hash, place);
        }
        Ok(())
    }

    /// What others have stored in packs that they finished, or an earlier opening, need not be stored
    /// again. A pack that cannot be read is of no use for this, and no more.
    fn learn(&mut self) {
        let packs = std::fs::read_dir(&self.device.packs).into_iter().flatten();
        let names = packs.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let numbers: Vec<u32> = names
            .filter_map(|name| device::pack_number(&name))
            .collect();
        for number in numbers {
            if self.learnt.contains(&number) || self.blocks.len() >= REMEMBERED {
                continue;
            }
            let path = device::pack_path(&self.device.packs, number);
            let Some(hashes) = PackReader::open(&path, self.device.id, &self.key)
                .ok()
                .filter(|pack| pack.number() == number)
                .and_then(|pack| hashes_of(&pack))
            else {
                continue;
            };
            self.learnt.insert(number);
            self.device.has(hashes.iter().map(|(hash, _)| *hash));
            for (hash, offset) in hashes {
                self.blocks.entry(hash).or_insert((number, offset));
            }
        }
    }

    /// Appends an entry of a VDISK, to the next pack if this one is full. Returns pack and offset.
    fn append(&mut self, vdisk: &Vdisk, entry: &Entry) -> Result<(u32, u64), Stop> {
        loop {
            self.describe(vdisk)?;
            let pack = self.open_pack()?;
            match pack.append(entry) {
                Ok(offset) => return Ok((pack.number(), offset)),
                Err(PackError::Full(_)) => self.finish_pack()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Each pack says itself which VDISKs it has.
    fn describe(&mut self, vdisk: &Vdisk) -> Result<(), Stop> {
        let number = self.open_pack()?.number();
        let Some(known) = self.vdisks.get_mut(vdisk.name()) else {
            return Ok(());
        };
        if known.described_in == Some(number) {
            return Ok(());
        }
        known.described_in = Some(number);
        let entry = known.description();
        match self.open_pack()?.append(&entry) {
            Ok(_) => Ok(()),
            Err(PackError::Full(_)) => {
                self.finish_pack()?;
                self.describe(vdisk)
            }
            Err(error) => Err(error.into()),
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

    fn open_pack(&mut self) -> Result<&mut PackWriter, Stop> {
        if self.pack.is_none() {
            self.pack = Some(self.new_pack()?);
        }
        match &mut self.pack {
            Some(pack) => Ok(pack),
            None => unreachable!("it was opened just now"),
        }
    }

    /// A pack is never written to again by another opening; another engine may take numbers, too.
    fn new_pack(&mut self) -> Result<PackWriter, Stop> {
        self.learn();
        loop {
            let packs = &self.device.packs;
            let highest = highest_pack(packs).map_err(|error| {
                Stop::Failed(format!("listing {} failed: {error}", packs.display()))
            })?;
            let next = highest.map_or(Some(0), |number| number.checked_add(1));
            let number = next.map(|next| next.max(self.next_pack)).ok_or_else(|| {
                let packs = packs.display();
                Stop::Failed(format!(
                    "{packs} has a file that is named as the last of all packs"
                ))
            })?;
            self.next_pack = number.saturating_add(1);
            self.learnt.insert(number);
            match PackWriter::create(packs, number, self.device.id, &self.key) {
                Err(PackError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Bytes of packs written by this opening.
    fn position(&self) -> u64 {
        self.finished_bytes + self.pack.as_ref().map_or(0, PackWriter::length)
    }

    /// What is synced is noted, and only then counts as loaded.
    fn sync(&mut self) -> Result<(), Stop> {
        if let Some(pack) = &mut self.pack {
            pack.sync()?;
        }
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
        let Some(mut pack) = self.pack.take() else {
            return Ok(());
        };
        for known in self.vdisks.values() {
            // So that damage to the first does not make a whole pack useless.
            if known.described_in == Some(pack.number()) {
                match pack.append(&known.description()) {
                    Ok(_) | Err(PackError::Full(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let blocks = std::mem::take(&mut self.of_pack);
        if !blocks.is_empty() && blocks.len() <= device::MAX_HASHED {
            // For those who load after us; without it they store what they have in common again.
            match pack.append(&Entry::Hashes(blocks)) {
                Ok(_) | Err(PackError::Full(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.finished_bytes += pack.length();
        pack.finish()?;
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

fn hashes_of(pack: &PackReader) -> Option<Vec<(Hash, u64)>> {
    let index = pack.index()?;
    let frame = index.iter().find(|frame| frame.is_hashes())?;
    match pack.read(frame.offset) {
        Ok(Entry::Hashes(blocks)) => Some(blocks),
        _ => None,
    }
}

/// Bytes that the file system of a folder has left.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail * found.f_frsize)
}

fn highest_pack(packs: &Path) -> io::Result<Option<u32>> {
    let mut highest = None;
    for entry in std::fs::read_dir(packs)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(device::pack_number);
        highest = highest.max(number);
    }
    Ok(highest)
}
