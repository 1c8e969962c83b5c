//! The packs of one opening of a device, one after the other, in a folder that others may write to as
//! well; and which blocks are on the device already.

use super::{Device, REMEMBERED};
use crate::chunk::Hash;
use device::{DeviceKey, Entry, PackError, PackReader, PackWriter};
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;

/// Why nothing more is written to a device.
pub(super) enum Stop {
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

/// Pack and offset of a frame.
pub(super) type At = (u32, u64);

pub(super) struct Packs {
    device: Arc<Device>,
    key: DeviceKey,
    pack: Option<PackWriter>,
    next: u32,
    finished_bytes: u64,
    blocks: HashMap<Hash, At>,
    /// Those of the pack that is open.
    of_pack: Vec<(Hash, u64)>,
    /// Packs whose blocks are known.
    learnt: HashSet<u32>,
}

impl Packs {
    pub(super) fn new(device: Arc<Device>, key: DeviceKey) -> Self {
        Packs {
            device,
            key,
            pack: None,
            next: 0,
            finished_bytes: 0,
            blocks: HashMap::new(),
            of_pack: Vec::new(),
            learnt: HashSet::new(),
        }
    }

    /// Bytes of packs so far.
    pub(super) fn position(&self) -> u64 {
        self.finished_bytes + self.pack.as_ref().map_or(0, PackWriter::length)
    }

    /// The number of the pack that takes what is appended next.
    pub(super) fn number(&mut self) -> Result<u32, Stop> {
        Ok(self.open()?.number())
    }

    /// The number of the pack that is open.
    pub(super) fn open_number(&self) -> Option<u32> {
        self.pack.as_ref().map(PackWriter::number)
    }

    /// Where a block is, if it is on the device.
    pub(super) fn place_of(&self, hash: &Hash) -> Option<At> {
        self.blocks.get(hash).copied()
    }

    /// Appends an entry. False: the pack is full, and has to be finished first.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<bool, Stop> {
        let pack = self.open()?;
        let at = match pack.append(entry) {
            Ok(offset) => (pack.number(), offset),
            Err(PackError::Full(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if let Entry::Block(block) = entry {
            self.of_pack.push((block.hash, at.1));
            if self.blocks.len() < REMEMBERED {
                self.blocks.insert(block.hash, at);
            }
        }
        Ok(true)
    }

    /// Everything that was appended is stable when this returns.
    pub(super) fn sync(&mut self) -> Result<(), Stop> {
        match &mut self.pack {
            Some(pack) => Ok(pack.sync()?),
            None => Ok(()),
        }
    }

    /// As [`Packs::sync`], and the next entry goes to another pack. `last` is appended if there is room.
    pub(super) fn finish(&mut self, last: impl Iterator<Item = Entry>) -> Result<(), Stop> {
        let Some(mut pack) = self.pack.take() else {
            return Ok(());
        };
        let blocks = std::mem::take(&mut self.of_pack);
        // For those who load after us; without it they store what they have in common again.
        let hashes = (!blocks.is_empty() && blocks.len() <= device::MAX_HASHED)
            .then_some(Entry::Hashes(blocks));
        for entry in last.chain(hashes) {
            match pack.append(&entry) {
                Ok(_) | Err(PackError::Full(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.finished_bytes += pack.length();
        Ok(pack.finish()?)
    }

    fn open(&mut self) -> Result<&mut PackWriter, Stop> {
        if self.pack.is_none() {
            self.pack = Some(self.begin()?);
        }
        match &mut self.pack {
            Some(pack) => Ok(pack),
            None => unreachable!("it was opened just now"),
        }
    }

    /// A pack is never written to again by another opening; another engine may take numbers, too.
    fn begin(&mut self) -> Result<PackWriter, Stop> {
        loop {
            let found = device::list_packs(&self.device.packs)?;
            self.learn(found.iter().map(|(number, _)| *number));
            let next = match found.last() {
                Some((highest, _)) => highest.checked_add(1),
                None => Some(0),
            };
            let number = next.map(|next| next.max(self.next)).ok_or_else(|| {
                let packs = self.device.packs.display();
                Stop::Failed(format!(
                    "{packs} has a file that is named as the last of all packs"
                ))
            })?;
            self.next = number.saturating_add(1);
            self.learnt.insert(number);
            let made = PackWriter::create(&self.device.packs, number, self.device.id, &self.key);
            match made {
                Err(PackError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
                made => return Ok(made?),
            }
        }
    }

    /// What others have stored in packs that they finished, or an earlier opening, need not be stored
    /// again. A pack that cannot be read is of no use for this, and no more.
    fn learn(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            if self.learnt.contains(&number) || self.blocks.len() >= REMEMBERED {
                continue;
            }
            let path = device::pack_path(&self.device.packs, number);
            let pack = PackReader::open(&path, self.device.id, &self.key).ok();
            let Some(hashes) = pack
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
}

fn hashes_of(pack: &PackReader) -> Option<Vec<(Hash, u64)>> {
    let index = pack.index()?;
    let frame = index.iter().find(|frame| frame.is_hashes())?;
    match pack.read(frame.offset) {
        Ok(Entry::Hashes(blocks)) => Some(blocks),
        _ => None,
    }
}
