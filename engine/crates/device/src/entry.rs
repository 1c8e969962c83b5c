//! What a frame holds.

use crate::frame::HEAD_BYTES;
use bytes::Bytes;
use std::ops::Range;

/// BLAKE3 of raw bytes.
pub type Hash = [u8; 32];

/// Most raw bytes of a block.
pub const MAX_BLOCK: usize = 4 << 20;

/// Most bytes of an entry: a block that did not shrink, or an End.
pub(crate) const MAX_ENTRY: usize = MAX_BLOCK + 4096 - 16;

/// Bytes of a block before its payload.
pub(crate) const BLOCK_BYTES: usize = 46;

/// Most frames that an End can list.
pub(crate) const MAX_INDEXED: usize = (MAX_ENTRY - 5) / INDEXED_BYTES;

const INDEXED_BYTES: usize = 25;

const HASHED_BYTES: usize = 40;

/// Most blocks that one Hashes can list.
pub const MAX_HASHED: usize = (MAX_ENTRY - 5) / HASHED_BYTES;

mod kind {
    pub(super) const FILLER: u8 = 0;
    pub(super) const VDISK: u8 = 1;
    pub(super) const BLOCK: u8 = 2;
    pub(super) const PLACE: u8 = 3;
    pub(super) const ZEROS: u8 = 4;
    pub(super) const END: u8 = 5;
    pub(super) const HASHES: u8 = 6;
}

/// The content of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The VDISK's number in the device set.
    pub vdisk: u32,
    /// The chunk.
    pub chunk: u32,
    /// BLAKE3 of the raw bytes.
    pub hash: Hash,
    /// Bytes after decompression.
    pub raw_length: u32,
    /// 0 none, 1 LZ4, 2 zstd.
    pub compression: u8,
    /// The bytes, compressed.
    pub payload: Bytes,
}

/// A chunk with the content of a block that stands elsewhere on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The VDISK's number in the device set.
    pub vdisk: u32,
    /// The chunk.
    pub chunk: u32,
    /// BLAKE3 of the raw bytes.
    pub hash: Hash,
    /// The block's pack.
    pub pack: u32,
    /// The block's frame, in bytes of its pack.
    pub offset: u64,
}

/// A frame as the End lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexed {
    /// Where it stands, in bytes of its pack.
    pub offset: u64,
    /// Bytes after its head.
    pub length: u32,
    /// The first byte of its entry.
    pub kind: u8,
    /// The VDISK's number.
    pub vdisk: u32,
    /// The first chunk.
    pub first: u32,
    /// How many chunks.
    pub count: u32,
}

impl Indexed {
    /// Whether it says something of a VDISK.
    pub fn is_vdisk(&self) -> bool {
        self.kind == kind::VDISK
    }

    /// Its bytes of the pack.
    pub fn bytes(&self) -> Range<u64> {
        let length = HEAD_BYTES as u64 + u64::from(self.length);
        self.offset..self.offset.saturating_add(length)
    }

    /// Whether it lists blocks by their hashes.
    pub fn is_hashes(&self) -> bool {
        self.kind == kind::HASHES
    }

    /// Whether it is the content of a chunk.
    pub fn is_block(&self) -> bool {
        self.kind == kind::BLOCK
    }

    /// Whether it says something of chunks.
    pub fn has_content(&self) -> bool {
        [kind::BLOCK, kind::PLACE, kind::ZEROS].contains(&self.kind)
    }
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What the writer says of a VDISK.
    Vdisk {
        /// Its number in the device set.
        number: u32,
        /// JSON.
        description: Bytes,
    },
    /// The content of a chunk.
    Block(Block),
    /// The same content once more.
    Place(Place),
    /// Chunks without content.
    Zeros {
        /// The VDISK's number.
        vdisk: u32,
        /// The first chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// The pack's frames.
    End(Vec<Indexed>),
    /// Which blocks the pack has: BLAKE3 of the raw bytes, and where the frame stands.
    Hashes(Vec<(Hash, u64)>),
    /// Nothing, so many bytes long: packs are synced at multiples of what disks write at once.
    Filler(usize),
    /// A filler that was read, or of a later format; to be skipped.
    Unknown(u8),
}

impl Entry {
    /// The number of the VDISK whose chunks it is about, if it is about chunks.
    pub fn vdisk_of_chunks(&self) -> Option<u32> {
        match self {
            Entry::Block(block) => Some(block.vdisk),
            Entry::Place(place) => Some(place.vdisk),
            Entry::Zeros { vdisk, .. } => Some(*vdisk),
            _ => None,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut words = |kind: u8, words: &[u32]| {
            out.push(kind);
            words
                .iter()
                .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        };
        match self {
            Entry::Vdisk {
                number,
                description,
            } => {
                words(kind::VDISK, &[*number]);
                out.extend_from_slice(description);
            }
            Entry::Block(block) => {
                words(kind::BLOCK, &[block.vdisk, block.chunk]);
                out.extend_from_slice(&block.hash);
                out.extend_from_slice(&block.raw_length.to_le_bytes());
                out.push(block.compression);
                out.extend_from_slice(&block.payload);
            }
            Entry::Place(place) => {
                words(kind::PLACE, &[place.vdisk, place.chunk]);
                out.extend_from_slice(&place.hash);
                out.extend_from_slice(&place.pack.to_le_bytes());
                out.extend_from_slice(&place.offset.to_le_bytes());
            }
            Entry::Zeros {
                vdisk,
                first,
                count,
            } => words(kind::ZEROS, &[*vdisk, *first, *count]),
            Entry::End(frames) => {
                words(kind::END, &[frames.len() as u32]);
                frames.iter().for_each(|frame| frame.encode(out));
            }
            Entry::Hashes(blocks) => {
                words(kind::HASHES, &[blocks.len() as u32]);
                for (hash, offset) in blocks {
                    out.extend_from_slice(hash);
                    out.extend_from_slice(&offset.to_le_bytes());
                }
            }
            Entry::Filler(bytes) => {
                out.push(kind::FILLER);
                out.resize(out.len() + bytes - 1, 0);
            }
            Entry::Unknown(kind) => out.push(*kind),
        }
    }

    /// None if the bytes are no entry, though they were authenticated: a writer's mistake.
    pub(crate) fn decode(raw: Bytes) -> Option<Entry> {
        let mut fields = Fields(raw);
        let entry = match fields.byte()? {
            kind::VDISK => Entry::Vdisk {
                number: fields.word()?,
                description: std::mem::take(&mut fields.0),
            },
            kind::BLOCK => Entry::Block(Block {
                vdisk: fields.word()?,
                chunk: fields.word()?,
                hash: fields.hash()?,
                raw_length: fields
                    .word()
                    .filter(|length| *length as usize <= MAX_BLOCK)?,
                compression: fields.byte()?,
                payload: std::mem::take(&mut fields.0),
            }),
            kind::PLACE => Entry::Place(Place {
                vdisk: fields.word()?,
                chunk: fields.word()?,
                hash: fields.hash()?,
                pack: fields.word()?,
                offset: fields.long()?,
            }),
            kind::ZEROS => Entry::Zeros {
                vdisk: fields.word()?,
                first: fields.word()?,
                count: fields.word()?,
            },
            kind::END => {
                let count = fields.word()? as usize;
                let fits = count.checked_mul(INDEXED_BYTES) == Some(fields.0.len());
                let frames = fits.then(|| (0..count).map(|_| Indexed::decode(&mut fields)))?;
                Entry::End(frames.collect::<Option<_>>()?)
            }
            kind::HASHES => {
                let count = fields.word()? as usize;
                let fits = count.checked_mul(HASHED_BYTES) == Some(fields.0.len());
                let blocks =
                    fits.then(|| (0..count).map(|_| Some((fields.hash()?, fields.long()?))))?;
                Entry::Hashes(blocks.collect::<Option<_>>()?)
            }
            other => return Some(Entry::Unknown(other)),
        };
        fields.0.is_empty().then_some(entry)
    }

    /// Itself as the End lists it.
    pub(crate) fn indexed(&self, offset: u64, length: usize) -> Indexed {
        let (kind, vdisk, first, count) = match self {
            Entry::Vdisk { number, .. } => (kind::VDISK, *number, 0, 0),
            Entry::Block(block) => (kind::BLOCK, block.vdisk, block.chunk, 1),
            Entry::Place(place) => (kind::PLACE, place.vdisk, place.chunk, 1),
            Entry::Zeros {
                vdisk,
                first,
                count,
            } => (kind::ZEROS, *vdisk, *first, *count),
            Entry::End(_) => (kind::END, 0, 0, 0),
            Entry::Hashes(_) => (kind::HASHES, 0, 0, 0),
            Entry::Filler(_) => (kind::FILLER, 0, 0, 0),
            Entry::Unknown(kind) => (*kind, 0, 0, 0),
        };
        Indexed {
            offset,
            length: length as u32,
            kind,
            vdisk,
            first,
            count,
        }
    }
}

impl Indexed {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.push(self.kind);
        for word in [self.vdisk, self.first, self.count] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields) -> Option<Indexed> {
        Some(Indexed {
            offset: fields.long()?,
            length: fields.word()?,
            kind: fields.byte()?,
            vdisk: fields.word()?,
            first: fields.word()?,
            count: fields.word()?,
        })
    }
}

/// Takes fields from the front.
struct Fields(Bytes);

impl Fields {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = self.0.get(..N)?.try_into().ok()?;
        let _ = self.0.split_to(N);
        Some(field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.take()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn entries() -> impl Strategy<Value = Entry> {
        let payload = || prop::collection::vec(any::<u8>(), 0..3000).prop_map(Bytes::from);
        let indexed = any::<(u64, u32, u8, u32, u32, u32)>().prop_map(
            |(offset, length, kind, vdisk, first, count)| Indexed {
                offset,
                length,
                kind,
                vdisk,
                first,
                count,
            },
        );
        prop_oneof![
            (any::<u32>(), payload()).prop_map(|(number, description)| Entry::Vdisk {
                number,
                description
            }),
            (
                any::<[u32; 2]>(),
                any::<Hash>(),
                0..=MAX_BLOCK as u32,
                any::<u8>(),
                payload()
            )
                .prop_map(
                    |([vdisk, chunk], hash, raw_length, compression, payload)| {
                        Entry::Block(Block {
                            vdisk,
                            chunk,
                            hash,
                            raw_length,
                            compression,
                            payload,
                        })
                    }
                ),
            (any::<[u32; 3]>(), any::<Hash>(), any::<u64>()).prop_map(
                |([vdisk, chunk, pack], hash, offset)| Entry::Place(Place {
                    vdisk,
                    chunk,
                    hash,
                    pack,
                    offset,
                })
            ),
            any::<[u32; 3]>().prop_map(|[vdisk, first, count]| Entry::Zeros {
                vdisk,
                first,
                count
            }),
            prop::collection::vec(indexed, 0..50).prop_map(Entry::End),
            prop::collection::vec(any::<(Hash, u64)>(), 0..50).prop_map(Entry::Hashes),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_comes_back(entry in entries()) {
            let mut raw = Vec::new();
            entry.encode(&mut raw);
            prop_assert_eq!(Entry::decode(raw.into()), Some(entry));
        }

        #[test]
        fn garbage_never_panics(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(entry) = Entry::decode(raw.clone().into()) {
                let mut again = Vec::new();
                entry.encode(&mut again);
                prop_assert!(matches!(entry, Entry::Unknown(_)) || again == raw);
            }
        }
    }
}
