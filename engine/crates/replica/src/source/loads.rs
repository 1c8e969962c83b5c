//! Notes of which chunks of a VDISK are on which transport device, on the source's own disk.
//!
//! One file for each load: the chunks of one VDISK that one opening of one device took. It is a
//! journal whose claims mean "on the device", and whose `newer` are the blocks that the destination
//! has acknowledged since: what is unloaded must not go over them. Its name says the rest:
//! `<vdisk>.<device>.<load>.<incarnation of the destination's journal>.loaded`.

use crate::carrier::{from_hex, hex};
use crate::chunk::Geometry;
use crate::journal::{Found, Journal, Record, Subject};
use device::DeviceId;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Names a load; random. The same number is on the device.
pub(super) type LoadId = [u8; 16];

const SUFFIX: &str = "loaded";

struct Load {
    id: LoadId,
    device: DeviceId,
    /// Of the destination's journal when the load began.
    incarnation: u64,
    notes: Journal,
}

/// All loads of one VDISK. Work on it blocks.
pub(super) struct Loads {
    folder: PathBuf,
    vdisk: String,
    geometry: Geometry,
    loads: Vec<Load>,
}

impl Loads {
    /// Reads the notes of earlier engines in the folder. Those that say nothing any more are deleted.
    pub(super) fn open(folder: &Path, vdisk: &str, geometry: Geometry) -> io::Result<Self> {
        let mut loads = Loads {
            folder: folder.to_owned(),
            vdisk: vdisk.to_owned(),
            geometry,
            loads: Vec::new(),
        };
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(loads),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some((device, id, incarnation)) = path
                .file_name()
                .and_then(|name| parse(name.to_str()?, vdisk))
            else {
                continue;
            };
            let (notes, found) = Journal::open(&path, loads.subject(incarnation))?;
            if let Found::Void(why) = found {
                let file = path.display();
                tracing::warn!(
                    vdisk,
                    "{file} is not believed, nothing of it is waited for: {why}"
                );
            }
            if notes.stable_chunks() == 0 {
                prune(&path);
                continue;
            }
            loads.loads.push(Load {
                id,
                device,
                incarnation,
                notes,
            });
        }
        Ok(loads)
    }

    fn subject(&self, incarnation: u64) -> Subject {
        Subject {
            name: self.vdisk.clone(),
            geometry: self.geometry,
            medium: incarnation,
        }
    }

    /// A new load, without any chunk yet. What could not be noted in an older one is settled first.
    pub(super) fn begin(&mut self, device: DeviceId, incarnation: u64) -> io::Result<LoadId> {
        for load in &mut self.loads {
            load.notes.append(&[], 0)?;
        }
        let id: LoadId = rand::random();
        let name = format!(
            "{}.{}.{}.{incarnation:016x}.{SUFFIX}",
            self.vdisk,
            hex(&device.0),
            hex(&id)
        );
        let notes = Journal::create(&self.folder.join(name), self.subject(incarnation))?;
        self.loads.push(Load {
            id,
            device,
            incarnation,
            notes,
        });
        Ok(id)
    }

    /// These chunks are on the device of this load, and nothing that an older load has of them
    /// counts. An error leaves open what a later engine will read.
    pub(super) fn note(&mut self, id: LoadId, chunks: &[u32]) -> io::Result<()> {
        let older = self.loads.iter_mut().filter(|load| load.id != id);
        for load in older {
            forget(&mut load.notes, chunks.iter().copied())?;
        }
        let records: Vec<_> = chunks
            .iter()
            .map(|chunk| Record::Stable {
                first: *chunk,
                count: 1,
            })
            .collect();
        match self.loads.iter_mut().find(|load| load.id == id) {
            Some(load) => load.notes.append(&records, 0),
            None => Err(io::Error::other("the load was ended")),
        }
    }

    /// Of these chunks the destination has newer blocks (a mask each), whichever load they are in.
    pub(super) fn note_newer(&mut self, chunks: &[(u32, u8)]) -> io::Result<()> {
        for load in &mut self.loads {
            let records: Vec<_> = chunks
                .iter()
                .filter(|(chunk, mask)| {
                    load.notes.is_stable(*chunk) && load.notes.newer(*chunk) & mask != *mask
                })
                .map(|(chunk, mask)| Record::Newer {
                    chunk: *chunk,
                    mask: *mask,
                })
                .collect();
            load.notes.append(&records, 0)?;
        }
        Ok(())
    }

    /// Blocks of a chunk that the destination has in a newer version than this load, as a mask.
    pub(super) fn newer(&self, id: LoadId, chunk: u32) -> u8 {
        let load = self.loads.iter().find(|load| load.id == id);
        load.map_or(0, |load| load.notes.newer(chunk))
    }

    /// These chunks need not be remembered any more.
    pub(super) fn release(&mut self, chunks: impl Iterator<Item = u32> + Clone) -> io::Result<()> {
        for load in &mut self.loads {
            forget(&mut load.notes, chunks.clone())?;
        }
        Ok(())
    }

    /// Nothing of this device is remembered any more. Returns its chunks.
    pub(super) fn forget(&mut self, device: DeviceId) -> io::Result<Vec<u32>> {
        let mut chunks = Vec::new();
        for load in self.loads.iter_mut().filter(|load| load.device == device) {
            chunks.extend(noted(&load.notes, self.geometry));
            let all = Record::Forget {
                first: 0,
                count: self.geometry.chunks(),
            };
            load.notes.append(&[all], 0)?;
        }
        Ok(chunks)
    }

    /// Whether anything is expected of this load.
    pub(super) fn knows(&self, id: LoadId) -> bool {
        let load = self.loads.iter().find(|load| load.id == id);
        load.is_some_and(|load| load.notes.stable_chunks() > 0)
    }

    /// Whether it is this load that has the chunk.
    pub(super) fn has(&self, id: LoadId, chunk: u32) -> bool {
        let load = self.loads.iter().find(|load| load.id == id);
        load.is_some_and(|load| load.notes.is_stable(chunk))
    }

    /// Whether a load has the chunk that began while the destination's journal was this one.
    pub(super) fn trusts(&self, chunk: u32, incarnation: u64) -> bool {
        self.loads
            .iter()
            .any(|load| load.incarnation == incarnation && load.notes.is_stable(chunk))
    }

    /// All chunks that are noted.
    pub(super) fn chunks(&self) -> impl Iterator<Item = u32> {
        let all = self.loads.iter();
        all.flat_map(|load| noted(&load.notes, self.geometry))
    }

    /// How many chunks each device has, by its number in hexadecimal.
    pub(super) fn by_device(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for load in self
            .loads
            .iter()
            .filter(|load| load.notes.stable_chunks() > 0)
        {
            *counts.entry(hex(&load.device.0)).or_default() += load.notes.stable_chunks();
        }
        counts
    }
}

fn noted(notes: &Journal, geometry: Geometry) -> impl Iterator<Item = u32> {
    (0..geometry.chunks()).filter(|chunk| notes.is_stable(*chunk))
}

/// Drops the notes of those chunks that there are notes of.
fn forget(notes: &mut Journal, chunks: impl Iterator<Item = u32>) -> io::Result<()> {
    let records: Vec<_> = chunks
        .filter(|chunk| notes.is_stable(*chunk))
        .map(|first| Record::Forget { first, count: 1 })
        .collect();
    notes.append(&records, 0)
}

/// Without it there would be one more file to read after each opening of a device.
fn prune(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        let file = path.display();
        tracing::warn!("{file} says nothing any more, but cannot be deleted: {error}");
    }
}

fn parse(name: &str, vdisk: &str) -> Option<(DeviceId, LoadId, u64)> {
    let rest = name.strip_prefix(vdisk)?.strip_prefix('.')?;
    let mut parts = rest.split('.');
    let (device, load) = (from_hex(parts.next()?)?, from_hex(parts.next()?)?);
    let incarnation = u64::from_str_radix(parts.next()?, 16).ok()?;
    let last = (parts.next(), parts.next());
    (last == (Some(SUFFIX), None)).then_some((DeviceId(device), load, incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CHUNK_SIZE;

    const DEVICE: DeviceId = DeviceId([7; 16]);
    const OTHER: DeviceId = DeviceId([8; 16]);

    fn open(folder: &Path) -> Loads {
        let geometry = Geometry::new(20 * u64::from(CHUNK_SIZE));
        Loads::open(folder, "vda.x", geometry).unwrap()
    }

    #[test]
    fn notes_survive_and_only_the_latest_load_of_a_chunk_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut loads = open(folder.path());
        let first = loads.begin(DEVICE, 3).unwrap();
        loads.note(first, &[1, 2, 3]).unwrap();
        let second = loads.begin(OTHER, 4).unwrap();
        loads.note(second, &[3, 4]).unwrap();
        drop(loads);
        let mut loads = open(folder.path());
        assert!(loads.has(first, 2) && !loads.has(first, 3) && loads.has(second, 3));
        assert!(loads.trusts(2, 3) && !loads.trusts(2, 4) && loads.trusts(4, 4));
        let mut chunks: Vec<_> = loads.chunks().collect();
        chunks.sort_unstable();
        assert_eq!(chunks, [1, 2, 3, 4]);
        loads.note_newer(&[(2, 5), (9, 1)]).unwrap();
        loads.note_newer(&[(2, 6)]).unwrap();
        assert_eq!((loads.newer(first, 2), loads.newer(second, 9)), (7, 0));
        loads.release([1, 4, 9].into_iter()).unwrap();
        assert_eq!(loads.forget(OTHER).unwrap(), [3]);
        let loads = open(folder.path());
        assert_eq!(loads.chunks().collect::<Vec<_>>(), [2]);
        assert!(loads.knows(first) && !loads.knows(second));
        assert_eq!(loads.newer(first, 2), 7, "it survives");
        assert_eq!(loads.by_device(), BTreeMap::from([(hex(&DEVICE.0), 1)]));
    }

    #[test]
    fn notes_that_say_nothing_any_more_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut loads = open(folder.path());
        let (unused, forgotten) = (loads.begin(DEVICE, 3), loads.begin(OTHER, 3));
        let left = loads.begin(DEVICE, 3).unwrap();
        loads.note(forgotten.unwrap(), &[1]).unwrap();
        loads.note(left, &[2]).unwrap();
        loads.forget(OTHER).unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files(), 3);
        let mut loads = open(folder.path());
        assert_eq!(files(), 1);
        assert!(loads.has(left, 2) && !loads.knows(unused.unwrap()));
        loads.begin(OTHER, 3).unwrap();
        assert_eq!(files(), 2);
    }

    #[test]
    fn files_of_other_vdisks_are_none_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut loads = open(folder.path());
        let load = loads.begin(DEVICE, 3).unwrap();
        loads.note(load, &[1]).unwrap();
        let geometry = Geometry::new(20 * u64::from(CHUNK_SIZE));
        let others = Loads::open(folder.path(), "vda", geometry).unwrap();
        assert_eq!(others.chunks().count(), 0);
        assert_eq!(from_hex(&hex(&DEVICE.0)), Some(DEVICE.0));
        assert_eq!(from_hex("+f000000000000000000000000000000"), None);
    }
}
