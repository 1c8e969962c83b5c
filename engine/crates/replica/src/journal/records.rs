//! Records, and the claims that they add up to.

use crate::chunk::{Geometry, Hash};
use crate::hash_table::{HashTable, zero_hash, zero_hash_at};

/// One change of what the destination claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The whole chunk is stable and has this hash.
    Stable {
        /// The chunk.
        chunk: u32,
        /// BLAKE3 of its bytes, if known.
        hash: Option<Hash>,
    },
    /// These chunks are stable and zero.
    Zero {
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// A part of the chunk was written; its hash is not known any more.
    Touched {
        /// The chunk.
        chunk: u32,
    },
    /// These chunks are not claimed any more.
    Forget {
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
}

const STABLE_WITH_HASH: u8 = 1;
const STABLE: u8 = 2;
const ZERO: u8 = 3;
const TOUCHED: u8 = 4;
const FORGET: u8 = 5;
const SHORT: usize = 9;
const LONG: usize = SHORT + 32;

impl Record {
    fn bytes(&self) -> usize {
        match self {
            Record::Stable { hash: Some(_), .. } => LONG,
            _ => SHORT,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, first, count, hash) = match *self {
            Record::Stable {
                chunk,
                hash: Some(hash),
            } => (STABLE_WITH_HASH, chunk, 1, Some(hash)),
            Record::Stable { chunk, hash: None } => (STABLE, chunk, 1, None),
            Record::Zero { first, count } => (ZERO, first, count, None),
            Record::Touched { chunk } => (TOUCHED, chunk, 1, None),
            Record::Forget { first, count } => (FORGET, first, count, None),
        };
        out.push(kind);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&u32::to_le_bytes(count));
        out.extend_from_slice(hash.as_ref().map_or(&[], |hash| &hash[..]));
    }

    /// Takes the next record off a body.
    pub(super) fn decode(body: &mut &[u8]) -> Option<Record> {
        let (fixed, rest) = body.split_first_chunk::<SHORT>()?;
        *body = rest;
        let first = u32::from_le_bytes(fixed[1..5].try_into().ok()?);
        let count = u32::from_le_bytes(fixed[5..9].try_into().ok()?);
        match fixed[0] {
            STABLE_WITH_HASH => {
                let (hash, rest) = body.split_first_chunk::<32>()?;
                *body = rest;
                Some(Record::Stable {
                    chunk: first,
                    hash: Some(*hash),
                })
            }
            STABLE => Some(Record::Stable {
                chunk: first,
                hash: None,
            }),
            ZERO => Some(Record::Zero { first, count }),
            TOUCHED => Some(Record::Touched { chunk: first }),
            FORGET => Some(Record::Forget { first, count }),
            _ => None,
        }
    }
}

/// Cuts records into groups of at most `limit` encoded bytes.
pub(super) fn grouped(records: &[Record], limit: usize) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|record| {
            bytes += record.bytes();
            bytes <= limit
        });
        let count = fitting.count().max(1).min(rest.len());
        let (group, after) = rest.split_at(count);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

/// Which chunks are stable, and their hashes.
#[derive(Debug)]
pub(super) struct Claims {
    geometry: Geometry,
    stable: Vec<bool>,
    stable_chunks: u32,
    hashes: HashTable,
}

impl Claims {
    pub(super) fn new(geometry: Geometry) -> Self {
        Claims {
            geometry,
            stable: vec![false; geometry.chunks() as usize],
            stable_chunks: 0,
            hashes: HashTable::new(geometry.chunks()),
        }
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match *record {
            Record::Stable { chunk, hash } => self.set(chunk, true, hash),
            Record::Zero { first, count } => {
                for chunk in self.range(first, count) {
                    self.set(chunk, true, Some(zero_hash_at(self.geometry, chunk)));
                }
            }
            Record::Touched { chunk } => {
                for chunk in self.range(chunk, 1) {
                    self.hashes.clear(chunk);
                }
            }
            Record::Forget { first, count } => {
                for chunk in self.range(first, count) {
                    self.set(chunk, false, None);
                }
            }
        }
    }

    fn range(&self, first: u32, count: u32) -> std::ops::Range<u32> {
        let end = first.saturating_add(count).min(self.geometry.chunks());
        first.min(end)..end
    }

    fn set(&mut self, chunk: u32, stable: bool, hash: Option<Hash>) {
        let Some(entry) = self.stable.get_mut(chunk as usize) else {
            return;
        };
        self.stable_chunks -= u32::from(*entry);
        self.stable_chunks += u32::from(stable);
        *entry = stable;
        match hash {
            Some(hash) => self.hashes.set(chunk, hash),
            None => self.hashes.clear(chunk),
        }
    }

    pub(super) fn is_stable(&self, chunk: u32) -> bool {
        self.stable.get(chunk as usize).copied().unwrap_or(false)
    }

    pub(super) fn stable_chunks(&self) -> u32 {
        self.stable_chunks
    }

    pub(super) fn hashes(&self) -> &HashTable {
        &self.hashes
    }

    /// The fewest records that lead here.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for chunk in 0..self.stable.len() as u32 {
            if !self.is_stable(chunk) {
                continue;
            }
            let hash = self.hashes.get(chunk);
            match records.last_mut() {
                Some(Record::Zero { first, count })
                    if *first + *count == chunk && hash == Some(zero_hash()) =>
                {
                    *count += 1;
                }
                _ if hash == Some(zero_hash()) => records.push(Record::Zero {
                    first: chunk,
                    count: 1,
                }),
                _ => records.push(Record::Stable { chunk, hash }),
            }
        }
        records
    }
}
