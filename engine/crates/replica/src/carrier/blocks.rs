//! What the entries of a device mean: of which VDISK they are, and the bytes of a block, checked.

use super::from_hex;
use crate::chunk::{CHUNK_SIZE, Geometry, MAX_VDISK};
use crate::compression::decompress;
use bytes::Bytes;
use device::{Block, Entry};
use drover_link::Compression;
use serde::Deserialize;
use std::collections::HashMap;

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

/// An entry, and the bytes of a block; not of a place, which may be in another pack.
pub(super) struct Decoded {
    pub(super) entry: Entry,
    pub(super) raw: Option<Result<Bytes, String>>,
}

impl Decoded {
    pub(super) fn of(mut entry: Entry, subjects: &HashMap<u32, Subject>) -> Self {
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

impl Subject {
    pub(super) fn chunks(&self) -> u32 {
        Geometry::new(self.size).chunks()
    }

    pub(super) fn length(&self, chunk: u32) -> u32 {
        Geometry::new(self.size).length(chunk)
    }
}

pub(super) fn describe(description: &[u8]) -> Option<Subject> {
    let described: Described = serde_json::from_slice(description).ok()?;
    let legal = described.chunk_size == CHUNK_SIZE && described.size <= MAX_VDISK;
    let load = from_hex(&described.load).filter(|_| legal)?;
    Some(Subject {
        load,
        migration: described.migration,
        vdisk: described.vdisk,
        size: described.size,
    })
}

/// The bytes of a block, if they have its hash.
pub(super) fn raw_of(block: &Block, length: u32) -> Result<Bytes, String> {
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
