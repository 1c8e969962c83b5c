//! Blocks of 4 KiB: aligned for `O_DIRECT`, and sealed with a BLAKE3 checksum.

use std::ops::{Deref, DerefMut};

/// Bytes of everything the witness writes.
pub const BLOCK: usize = 4096;
/// Bytes before the checksum.
pub const SEALED: usize = BLOCK - blake3::OUT_LEN;

/// A buffer that begins at a multiple of [`BLOCK`] in memory.
pub struct Aligned {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Zeros.
    pub fn zeroed(length: usize) -> Aligned {
        let storage = vec![0; length + BLOCK];
        let start = storage.as_ptr().align_offset(BLOCK);
        Aligned {
            storage,
            start,
            length,
        }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

/// Puts the checksum at the end.
pub fn seal(block: &mut [u8]) {
    let (content, checksum) = block.split_at_mut(SEALED);
    checksum.copy_from_slice(blake3::hash(content).as_bytes());
}

/// Whether this is a block with the right checksum.
pub fn is_sealed(block: &[u8]) -> bool {
    block.len() == BLOCK && blake3::hash(&block[..SEALED]).as_bytes() == &block[SEALED..]
}

/// Whether nothing was ever written here.
pub fn is_blank(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The number at byte `at`.
pub fn get(block: &[u8], at: usize) -> u64 {
    block[at..at + 8]
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Puts a number at byte `at`.
pub fn put(block: &mut [u8], at: usize, number: u64) {
    block[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_breaks_the_seal() {
        let mut block = Aligned::zeroed(BLOCK);
        put(&mut block, 8, 42);
        seal(&mut block);
        assert!(is_sealed(&block) && get(&block, 8) == 42);
        for at in 0..BLOCK {
            block[at] ^= 1;
            assert!(!is_sealed(&block), "{at}");
            block[at] ^= 1;
        }
    }

    #[test]
    fn buffers_are_aligned() {
        for _ in 0..10 {
            assert_eq!(Aligned::zeroed(BLOCK).as_ptr().align_offset(BLOCK), 0);
        }
    }
}
