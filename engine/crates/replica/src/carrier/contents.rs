//! Goes through all packs of a device, whatever happened to them, and checks every block it hands out.

use super::{Damage, from_hex};
use crate::chunk::CHUNK_SIZE;
use crate::compression::decompress;
use bytes::Bytes;
use device::{Block, DeviceId, DeviceKey, Entry, Indexed, PackError, PackReader, Place};
use drover_link::Compression;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Frames that are read and checked together (8 MiB).
const TOGETHER: usize = 16;

/// Most cores that one device keeps busy.
const MOST_CORES: usize = 4;

/// Packs that stay open for places that point into them.
const OPEN_PACKS: usize = 64;

/// What a pack says of a VDISK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) load: [u8; 16],
    pub(crate) migration: String,
    pub(crate) vdisk: String,
    pub(crate) size: u64,
}

/// The description of a VDISK as it is written.
#[derive(Deserialize)]
struct Described {
    load: String,
    migration: String,
    vdisk: String,
    size: u64,
    chunk_size: u32,
}

/// What whoever goes through a device is asked and told.
pub(crate) trait Walk {
    /// Whether the content of a chunk is wanted; what is not is not read.
    fn wants(&mut self, subject: &Subject, chunk: u32) -> bool;
    /// A chunk with its content; None if it is all zeros.
    fn found(&mut self, found: Found<'_>);
    /// Something is damaged.
    fn damaged(&mut self, damage: Damage);
    /// So many bytes of all packs are behind.
    fn passed(&mut self, bytes: u64);
    /// Whether to stop.
    fn stop(&self) -> bool;
}

/// A chunk that was wanted, and checked.
pub(crate) struct Found<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) chunk: u32,
    /// None: zeros.
    pub(crate) raw: Option<Bytes>,
    /// Whether it has the block of another chunk.
    pub(crate) is_place: bool,
}

/// An entry, and the bytes of a block; not of a place, which may be in another pack.
struct Decoded {
    entry: Entry,
    raw: Option<Result<Bytes, String>>,
}

impl Decoded {
    fn of(mut entry: Entry, subjects: &HashMap<u32, Subject>) -> Self {
        let raw = match &mut entry {
            Entry::Block(block) => {
                let subject = subjects.get(&block.vdisk);
                let subject = subject.filter(|subject| block.chunk < subject.chunks());
                subject.map(|subject| raw_of(block, subject.length(block.chunk)))
            }
            _ => None,
        };
        if let Entry::Block(block) = &mut entry {
            block.payload = Bytes::new();
        }
        Decoded { entry, raw }
    }
}

/// The packs of a device.
pub(crate) struct Contents {
    packs: PathBuf,
    device: DeviceId,
    key: DeviceKey,
    open: HashMap<u32, PackReader>,
    cores: usize,
}

impl Contents {
    pub(crate) fn new(packs: &Path, device: DeviceId, key: DeviceKey) -> Self {
        Contents {
            packs: packs.to_owned(),
            device,
            key,
            open: HashMap::new(),
            cores: thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_CORES)),
        }
    }

    /// The packs that are there: number and bytes, in order.
    pub(crate) fn list(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut packs = Vec::new();
        for entry in std::fs::read_dir(&self.packs)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(number) = name.to_str().and_then(device::pack_number) {
                packs.push((number, entry.metadata()?.len()));
            }
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Goes through every pack. An error is the file system's; damage is told and passed over.
    pub(crate) fn walk(&mut self, walk: &mut impl Walk) -> Result<(), PackError> {
        let listing = |error| PackError::Io {
            action: "listing",
            path: self.packs.clone(),
            source: error,
        };
        let packs = self.list().map_err(listing)?;
        let mut next = 0;
        for (number, bytes) in packs {
            if walk.stop() {
                return Ok(());
            }
            match number.checked_sub(next) {
                Some(1) => walk.damaged(whole_pack(next, 0, "the pack is missing")),
                Some(2..) => {
                    let why = format!("the packs {next} to {} are missing", number - 1);
                    walk.damaged(whole_pack(next, 0, &why));
                }
                _ => {}
            }
            next = number.saturating_add(1);
            self.walk_pack(walk, number, bytes)?;
        }
        Ok(())
    }

    fn walk_pack(
        &mut self,
        walk: &mut impl Walk,
        number: u32,
        bytes: u64,
    ) -> Result<(), PackError> {
        let path = device::pack_path(&self.packs, number);
        let pack = match PackReader::open(&path, self.device, &self.key) {
            Ok(pack) if pack.number() == number => pack,
            Ok(pack) => {
                let why = format!("it is pack {} under another name", pack.number());
                walk.damaged(whole_pack(number, bytes, &why));
                walk.passed(bytes);
                return Ok(());
            }
            Err(error @ PackError::Io { .. }) => return Err(error),
            Err(error) => {
                walk.damaged(whole_pack(number, bytes, &error.to_string()));
                walk.passed(bytes);
                return Ok(());
            }
        };
        match pack.index() {
            Some(index) => self.walk_index(walk, &pack, &index),
            None => self.walk_scan(walk, &pack),
        }
    }

    /// By the pack's own list of its frames.
    fn walk_index(
        &mut self,
        walk: &mut impl Walk,
        pack: &PackReader,
        index: &[Indexed],
    ) -> Result<(), PackError> {
        let mut subjects = HashMap::new();
        for frame in index.iter().filter(|frame| frame.is_vdisk()) {
            if let Ok(Entry::Vdisk {
                number,
                description,
            }) = unless_io(pack.read(frame.offset))?
                && let Some(subject) = describe(&description)
            {
                subjects.insert(number, subject);
            }
        }
        let mut behind = 0;
        let mut wanted: Vec<&Indexed> = Vec::new();
        for frame in index {
            if walk.stop() {
                return Ok(());
            }
            let end = frame.offset + u64::from(frame.length);
            walk.passed(end.saturating_sub(behind));
            behind = behind.max(end);
            let chunks = frame.first..frame.first.saturating_add(frame.count);
            let subject = subjects.get(&frame.vdisk);
            let passed_over = subject
                .is_some_and(|subject| !chunks.clone().any(|chunk| walk.wants(subject, chunk)));
            if frame.has_content() && !passed_over {
                wanted.push(frame);
            }
            if wanted.len() == TOGETHER {
                self.hand_out(walk, pack, &subjects, &wanted)?;
                wanted.clear();
            }
        }
        self.hand_out(walk, pack, &subjects, &wanted)
    }

    /// Reads and checks frames on several cores, and hands out what they hold in their order.
    fn hand_out(
        &mut self,
        walk: &mut impl Walk,
        pack: &PackReader,
        subjects: &HashMap<u32, Subject>,
        frames: &[&Indexed],
    ) -> Result<(), PackError> {
        let read = |frame: &&Indexed| {
            let entry = unless_io(pack.read(frame.offset))?;
            Ok(entry.map(|entry| Decoded::of(entry, subjects)))
        };
        let share = frames.len().div_ceil(self.cores).max(1);
        let decoded: Vec<Result<Result<Decoded, String>, PackError>> = thread::scope(|scope| {
            let parts = frames.chunks(share);
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>()))
                .collect();
            let parts = threads.into_iter().map(|thread| thread.join());
            parts
                .flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (frame, decoded) in frames.iter().zip(decoded) {
            let bytes = u64::from(frame.length);
            match decoded? {
                Ok(decoded) => {
                    let place = (pack.number(), frame.offset, bytes);
                    self.entry(walk, subjects, decoded, place)?;
                }
                Err(why) => walk.damaged(Damage {
                    pack: pack.number(),
                    offset: frame.offset,
                    bytes,
                    vdisk: subjects
                        .get(&frame.vdisk)
                        .map(|subject| subject.vdisk.clone()),
                    chunk: Some(frame.first),
                    why,
                }),
            }
        }
        Ok(())
    }

    /// Frame by frame.
    fn walk_scan(&mut self, walk: &mut impl Walk, pack: &PackReader) -> Result<(), PackError> {
        let mut subjects = HashMap::new();
        let mut behind = 0;
        // Of VDISKs whose first description is damaged; there is another at the end.
        let mut orphans = Vec::new();
        for found in pack.scan() {
            if walk.stop() {
                return Ok(());
            }
            match found? {
                device::Found::Damaged { offset, bytes } => {
                    walk.passed((offset + bytes).saturating_sub(behind));
                    behind = offset + bytes;
                    walk.damaged(Damage {
                        pack: pack.number(),
                        offset,
                        bytes,
                        vdisk: None,
                        chunk: None,
                        why: "there is no frame that opens".into(),
                    });
                }
                device::Found::Entry { offset, entry } => {
                    walk.passed(offset.saturating_sub(behind));
                    behind = offset;
                    if let Entry::Vdisk {
                        number,
                        description,
                    } = &entry
                    {
                        subjects.extend(describe(description).map(|subject| (*number, subject)));
                    }
                    if entry
                        .vdisk_of_chunks()
                        .is_some_and(|number| !subjects.contains_key(&number))
                    {
                        orphans.push(offset);
                        continue;
                    }
                    let decoded = Decoded::of(entry, &subjects);
                    self.entry(walk, &subjects, decoded, (pack.number(), offset, 0))?;
                }
            }
        }
        for offset in orphans {
            if walk.stop() {
                break;
            }
            if let Ok(entry) = unless_io(pack.read(offset))? {
                let decoded = Decoded::of(entry, &subjects);
                self.entry(walk, &subjects, decoded, (pack.number(), offset, 0))?;
            }
        }
        Ok(())
    }

    /// Hands out what an entry holds. `place`: pack, offset and bytes of its frame.
    fn entry(
        &mut self,
        walk: &mut impl Walk,
        subjects: &HashMap<u32, Subject>,
        decoded: Decoded,
        place: (u32, u64, u64),
    ) -> Result<(), PackError> {
        let Decoded { entry, raw } = decoded;
        let (first, count) = match &entry {
            Entry::Block(block) => (block.chunk, 1),
            Entry::Place(place) => (place.chunk, 1),
            Entry::Zeros { first, count, .. } => (*first, *count),
            Entry::Vdisk { .. }
            | Entry::End(_)
            | Entry::Hashes(_)
            | Entry::Filler(_)
            | Entry::Unknown(_) => {
                return Ok(());
            }
        };
        let (pack, offset, bytes) = place;
        let damage = |subject: Option<&Subject>, why: String| Damage {
            pack,
            offset,
            bytes,
            vdisk: subject.map(|subject| subject.vdisk.clone()),
            chunk: Some(first),
            why,
        };
        let number = entry.vdisk_of_chunks();
        let Some(subject) = number.and_then(|number| subjects.get(&number)) else {
            walk.damaged(damage(
                None,
                "the pack does not say of which VDISK it is".into(),
            ));
            return Ok(());
        };
        let end = first.checked_add(count);
        let Some(end) = end.filter(|end| *end <= subject.chunks()) else {
            let why = "it reaches over the end of its VDISK".into();
            walk.damaged(damage(Some(subject), why));
            return Ok(());
        };
        let is_place = matches!(entry, Entry::Place(_));
        let raw = match &entry {
            Entry::Block(_) => raw
                .unwrap_or_else(|| Err("it was not read".into()))
                .map(Some),
            Entry::Place(place) => self.raw_of_place(place, subject.length(first))?.map(Some),
            _ => Ok(None),
        };
        match raw {
            Err(why) => walk.damaged(damage(Some(subject), why)),
            Ok(raw) => {
                for chunk in first..end {
                    if walk.wants(subject, chunk) {
                        let raw = raw.clone();
                        walk.found(Found {
                            subject,
                            chunk,
                            raw,
                            is_place,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The bytes of the block that a place points to.
    fn raw_of_place(
        &mut self,
        place: &Place,
        length: u32,
    ) -> Result<Result<Bytes, String>, PackError> {
        if !self.open.contains_key(&place.pack) {
            let path = device::pack_path(&self.packs, place.pack);
            let opened = PackReader::open(&path, self.device, &self.key);
            match opened {
                Ok(pack) => {
                    if self.open.len() >= OPEN_PACKS {
                        self.open.clear();
                    }
                    self.open.insert(place.pack, pack);
                }
                Err(PackError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Ok(Err(format!(
                        "its block was in pack {}, which is missing",
                        place.pack
                    )));
                }
                Err(error @ PackError::Io { .. }) => return Err(error),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let Some(pack) = self.open.get(&place.pack) else {
            return Ok(Err("its pack is not open".into()));
        };
        Ok(match unless_io(pack.read(place.offset))? {
            Ok(Entry::Block(block)) if block.hash == place.hash => raw_of(&block, length),
            Ok(_) => Err("it points to another block than it says".into()),
            Err(why) => Err(why),
        })
    }
}

impl Subject {
    fn chunks(&self) -> u32 {
        crate::chunk::Geometry::new(self.size).chunks()
    }

    fn length(&self, chunk: u32) -> u32 {
        crate::chunk::Geometry::new(self.size).length(chunk)
    }
}

fn describe(description: &[u8]) -> Option<Subject> {
    let described: Described = serde_json::from_slice(description).ok()?;
    let legal = described.chunk_size == CHUNK_SIZE && described.size <= crate::chunk::MAX_VDISK;
    let load = from_hex(&described.load).filter(|_| legal)?;
    Some(Subject {
        load,
        migration: described.migration,
        vdisk: described.vdisk,
        size: described.size,
    })
}

/// The bytes of a block, if they have its hash.
fn raw_of(block: &Block, length: u32) -> Result<Bytes, String> {
    if block.raw_length != length {
        return Err(format!(
            "it has {} bytes instead of {length}",
            block.raw_length
        ));
    }
    let kind = match block.compression {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Zstd,
        other => return Err(format!("its compression {other} is unknown")),
    };
    let raw = decompress(kind, block.payload.clone(), length)?;
    match blake3::hash(&raw) == block.hash {
        true => Ok(raw),
        false => Err("its hash is wrong".into()),
    }
}

/// Damage is one thing, a file system that does not read another.
fn unless_io(read: Result<Entry, PackError>) -> Result<Result<Entry, String>, PackError> {
    match read {
        Err(error @ PackError::Io { .. }) => Err(error),
        other => Ok(other.map_err(|error| error.to_string())),
    }
}

fn whole_pack(pack: u32, bytes: u64, why: &str) -> Damage {
    Damage {
        pack,
        offset: 0,
        bytes,
        vdisk: None,
        chunk: None,
        why: why.to_owned(),
    }
}
