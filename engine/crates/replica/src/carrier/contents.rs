//! Goes through all packs of a device, whatever happened to them, and checks every block it hands out.

use super::Damage;
use super::blocks::{Decoded, Subject, describe, raw_of};
use bytes::Bytes;
use device::{DeviceId, DeviceKey, Entry, PackError, PackReader, Place};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Most cores that one device keeps busy.
const MOST_CORES: usize = 4;

/// Packs that stay open for places that point into them.
const OPEN_PACKS: usize = 64;

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

/// The packs of a device.
pub(crate) struct Contents {
    packs: PathBuf,
    device: DeviceId,
    key: DeviceKey,
    open: HashMap<u32, PackReader>,
    pub(super) cores: usize,
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

    /// Goes through every pack. An error is the file system's; damage is told and passed over.
    pub(crate) fn walk(&mut self, walk: &mut impl Walk) -> Result<(), PackError> {
        let mut next = 0;
        for (number, bytes) in device::list_packs(&self.packs)? {
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
                        migration: None,
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
    pub(super) fn entry(
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
            migration: subject.map(|subject| subject.migration.clone()),
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

/// Damage is one thing, a file system that does not read another.
pub(super) fn unless_io(
    read: Result<Entry, PackError>,
) -> Result<Result<Entry, String>, PackError> {
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
        migration: None,
        vdisk: None,
        chunk: None,
        why: why.to_owned(),
    }
}
