//! Where everything is.
//!
//! On the device, from 1 MiB on: block 0 the superblock, blocks 1 and 2 the ledger, from block 16 on
//! the slots. In the folder: `superblock`, `ledger`, and the slots in `records-0000`, ... of 1 MiB.

use std::io;
use std::path::{Path, PathBuf};

use crate::block::{Aligned, BLOCK};
use crate::record::Place;
use crate::store::Store;

/// First byte of the device that the witness touches.
pub const AREA_START: u64 = 1 << 20;
/// Blocks before the first slot on the device.
const HEADER: u64 = 16;
/// Bytes of one file of records.
const FILE: u64 = 1 << 20;
/// Bytes read at once in a survey.
const STRIDE: u64 = 1 << 20;
const BLOCK_BYTES: u64 = BLOCK as u64;

/// Sizes of both areas in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// On the device, headers included.
    pub raw: u64,
    /// In files, headers not included.
    pub file: u64,
}

impl Sizes {
    /// Both areas hold whole blocks, the files are whole, and there is at least one slot in each.
    pub fn check(&self) -> Result<(), String> {
        if self.raw % BLOCK_BYTES != 0 || self.raw <= HEADER * BLOCK_BYTES {
            return Err(format!(
                "--area-bytes is {}; give a multiple of 4096 above 65536",
                self.raw
            ));
        }
        if self.file % FILE != 0 || self.file == 0 {
            return Err(format!(
                "--file-bytes is {}; give a multiple of 1048576",
                self.file
            ));
        }
        Ok(())
    }

    /// Slots of one place.
    pub fn slots(&self, place: Place) -> u64 {
        match place {
            Place::Raw => self.raw / BLOCK_BYTES - HEADER,
            Place::File => self.file / BLOCK_BYTES,
        }
    }
}

/// Both areas, open.
pub struct Areas {
    device: Store,
    folder: PathBuf,
    sizes: Sizes,
    files: Vec<Option<Store>>,
}

impl Areas {
    /// Opens the device; the folder's files are opened when they are needed.
    pub fn open(device: &Path, folder: &Path, sizes: Sizes) -> io::Result<Areas> {
        let device = Store::device(device)?;
        if device.size()? < AREA_START + sizes.raw {
            let text = format!("it is smaller than {} bytes", AREA_START + sizes.raw);
            return Err(io::Error::other(text));
        }
        let files = (0..sizes.file / FILE).map(|_| None).collect();
        Ok(Areas {
            device,
            folder: folder.to_owned(),
            sizes,
            files,
        })
    }

    /// As opened.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// A block of the header of the device, or of a file of that name.
    pub fn read_header(&self, place: Place, name: &str, block: u64) -> io::Result<Aligned> {
        let mut buffer = Aligned::zeroed(BLOCK);
        match place {
            Place::Raw => self.device.read(header_offset(name, block), &mut buffer)?,
            Place::File => {
                if let Some(file) = Store::file(&self.folder.join(name), false)? {
                    file.read(block * BLOCK_BYTES, &mut buffer)?;
                }
            }
        }
        Ok(buffer)
    }

    /// As [`Areas::read_header`]; durable.
    pub fn write_header(
        &self,
        place: Place,
        name: &str,
        block: u64,
        data: &Aligned,
    ) -> io::Result<()> {
        match place {
            Place::Raw => self.device.write(header_offset(name, block), data),
            Place::File => match Store::file(&self.folder.join(name), true)? {
                Some(file) => file.write(block * BLOCK_BYTES, data),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    /// Writes a slot; durable.
    pub fn write_slot(&mut self, place: Place, slot: u64, data: &Aligned) -> io::Result<()> {
        match place {
            Place::Raw => self.device.write(slot_offset(slot), data),
            Place::File => {
                let (number, offset) = file_of(slot);
                match self.file(number, true)? {
                    Some(file) => file.write(offset, data),
                    None => Err(io::ErrorKind::NotFound.into()),
                }
            }
        }
    }

    /// Reads all slots of one place in order; a missing file reads as zeros.
    pub fn survey<T>(
        &mut self,
        place: Place,
        mut read: impl FnMut(u64, &[u8]) -> T,
    ) -> io::Result<Vec<T>> {
        let slots = self.sizes.slots(place);
        let mut found = Vec::with_capacity(slots as usize);
        let mut slot = 0;
        while slot < slots {
            let count = (STRIDE / BLOCK_BYTES).min(slots - slot);
            let mut buffer = Aligned::zeroed((count * BLOCK_BYTES) as usize);
            match place {
                Place::Raw => self.device.read(slot_offset(slot), &mut buffer)?,
                // A stride is a file: each read begins with one.
                Place::File => {
                    if let Some(file) = self.file(file_of(slot).0, false)? {
                        file.read(0, &mut buffer)?;
                    }
                }
            }
            found.extend(
                buffer
                    .chunks_exact(BLOCK)
                    .zip(slot..)
                    .map(|(block, at)| read(at, block)),
            );
            slot += count;
        }
        Ok(found)
    }

    fn file(&mut self, number: u64, create: bool) -> io::Result<Option<&Store>> {
        let entry = &mut self.files[number as usize];
        if entry.is_none() {
            *entry = Store::file(&self.folder.join(format!("records-{number:04}")), create)?;
        }
        Ok(entry.as_ref())
    }
}

/// A slot's first byte on the device.
pub fn slot_offset(slot: u64) -> u64 {
    AREA_START + (HEADER + slot) * BLOCK_BYTES
}

/// Number of the file of a slot, and the slot's first byte there.
fn file_of(slot: u64) -> (u64, u64) {
    let byte = slot * BLOCK_BYTES;
    (byte / FILE, byte % FILE)
}

fn header_offset(name: &str, block: u64) -> u64 {
    let first = if name == crate::ledger::NAME { 1 } else { 0 };
    AREA_START + (first + block) * BLOCK_BYTES
}
