//! Chunk hashes of one VDISK; zeros cost no memory.

use crate::chunk::{CHUNK_SIZE, Geometry, Hash};
use std::sync::OnceLock;

/// Entries of a page (32 KiB).
const PAGE: usize = 1024;

/// BLAKE3 of a whole chunk of zeros.
fn zero_hash() -> Hash {
    static HASH: OnceLock<Hash> = OnceLock::new();
    *HASH.get_or_init(|| zero_hash_of(CHUNK_SIZE))
}

fn zero_hash_of(length: u32) -> Hash {
    blake3::hash(&vec![0; length as usize]).into()
}

/// BLAKE3 of a chunk of this VDISK if it were all zero; the last chunk may be short.
pub fn zero_hash_at(geometry: Geometry, chunk: u32) -> Hash {
    match geometry.length(chunk) {
        CHUNK_SIZE => zero_hash(),
        short => zero_hash_of(short),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Unknown,
    Zero,
    Stored,
}

/// A hash or nothing for every chunk.
#[derive(Debug)]
pub struct HashTable {
    entries: Vec<Entry>,
    pages: Vec<Option<Box<[Hash]>>>,
    known: u32,
}

impl HashTable {
    /// A table that knows nothing.
    pub fn new(chunks: u32) -> Self {
        let chunks = chunks as usize;
        HashTable {
            entries: vec![Entry::Unknown; chunks],
            pages: (0..chunks.div_ceil(PAGE)).map(|_| None).collect(),
            known: 0,
        }
    }

    /// Notes a hash.
    pub fn set(&mut self, chunk: u32, hash: Hash) {
        let index = chunk as usize;
        self.known += u32::from(self.entries[index] == Entry::Unknown);
        if hash == zero_hash() {
            self.entries[index] = Entry::Zero;
            return;
        }
        self.entries[index] = Entry::Stored;
        let page = self.pages[index / PAGE].get_or_insert_with(|| vec![[0; 32]; PAGE].into());
        page[index % PAGE] = hash;
    }

    /// Forgets a hash.
    pub fn clear(&mut self, chunk: u32) {
        let entry = &mut self.entries[chunk as usize];
        self.known -= u32::from(*entry != Entry::Unknown);
        *entry = Entry::Unknown;
    }

    /// The hash, if known.
    pub fn get(&self, chunk: u32) -> Option<Hash> {
        let index = chunk as usize;
        match self.entries[index] {
            Entry::Unknown => None,
            Entry::Zero => Some(zero_hash()),
            Entry::Stored => self.pages[index / PAGE]
                .as_ref()
                .map(|page| page[index % PAGE]),
        }
    }

    /// BLAKE3 over all hashes in order, if every one is known.
    pub fn root(&self) -> Option<Hash> {
        if self.known as usize != self.entries.len() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for chunk in 0..self.entries.len() as u32 {
            hasher.update(&self.get(chunk)?);
        }
        Some(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_needs_every_hash() {
        let mut table = HashTable::new(3);
        table.set(0, [1; 32]);
        table.set(1, zero_hash());
        assert_eq!(table.root(), None);
        table.set(2, [3; 32]);
        let whole = [[1; 32], zero_hash(), [3; 32]].concat();
        assert_eq!(table.root(), Some(blake3::hash(&whole).into()));
        table.clear(1);
        assert_eq!(table.root(), None);
    }
}
