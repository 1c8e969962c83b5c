//! Page-aligned buffers that are used again.
//!
//! Memory that is fresh from the kernel costs a page fault and a cleared page for every 4 KiB, which
//! for data that is touched a handful of times is as much as the work itself. Direct I/O wants
//! memory that is aligned to pages besides. So chunks live in buffers of two sizes that come back
//! to a shelf when the last reference to them is dropped; the shelf keeps a bounded number of bytes.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// What a buffer's marked byte is aligned to, in bytes: enough for direct I/O on any disk.
pub const ALIGNMENT: usize = 4096;

/// Below this many bytes memory from the heap costs less than a shelf's.
const SMALL: usize = 16 << 10;

/// Capacities in bytes: pieces of foreground replication, and whole chunks with their headers.
static KEPT: [Shelf; 2] = [Shelf::new(72 << 10, 64), Shelf::new(520 << 10, 64)];

struct Shelf {
    capacity: usize,
    most: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Shelf {
    const fn new(capacity: usize, most: usize) -> Self {
        Shelf {
            capacity,
            most,
            free: Mutex::new(Vec::new()),
        }
    }

    fn take(&self) -> Vec<u8> {
        let used = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        used.unwrap_or_else(|| vec![0; self.capacity])
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most {
            free.push(memory);
        }
    }
}

/// Bytes whose content is undefined, though never uninitialised, until they are written.
#[derive(Default)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` bytes whose first byte is aligned.
    pub fn new(length: usize) -> Self {
        Self::with_lead(length, 0)
    }

    /// A buffer of `length` bytes whose byte number `lead` is aligned, for data that follows a
    /// header of `lead` bytes.
    pub fn with_lead(length: usize, lead: usize) -> Self {
        if length == 0 {
            return Buffer::default();
        }
        let needed = length + ALIGNMENT;
        let memory = match KEPT.iter().find(|shelf| needed <= shelf.capacity) {
            Some(shelf) if length >= SMALL => shelf.take(),
            _ => vec![0; needed],
        };
        let address = memory.as_ptr().addr() + lead;
        let start = address.next_multiple_of(ALIGNMENT) - address;
        Buffer {
            memory,
            start,
            length,
        }
    }

    /// Drops all bytes from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The bytes, shareable. The memory is used again when the last reference is dropped.
    pub fn freeze(self) -> Bytes {
        match self.length {
            0 => Bytes::new(),
            _ => Bytes::from_owner(self),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if let Some(shelf) = KEPT.iter().find(|shelf| memory.len() == shelf.capacity) {
            shelf.give_back(memory);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

/// `data` itself if it is aligned, else a copy that is.
pub fn aligned(data: Bytes) -> Bytes {
    if data.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        return data;
    }
    let mut copy = Buffer::new(data.len());
    copy.copy_from_slice(&data);
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_byte_is_aligned_whatever_the_length() {
        for length in [1, 58, 4096, 65_536 + 58, 524_288, 524_288 + 58, 5 << 20] {
            for lead in [0, 1, 58, 4096] {
                let buffer = Buffer::with_lead(length, lead);
                assert_eq!(buffer.len(), length);
                assert!((buffer.as_ptr().addr() + lead).is_multiple_of(ALIGNMENT));
            }
        }
    }

    #[test]
    fn memory_is_used_again_after_the_last_reference() {
        let mut buffer = Buffer::new(524_288);
        buffer.fill(7);
        let frozen = buffer.freeze();
        let (part, address) = (frozen.slice(1000..2000), frozen.as_ptr());
        drop(frozen);
        assert!(part.iter().all(|byte| *byte == 7));
        // Held by `part`: whoever asks now gets other memory.
        let other = Buffer::new(524_288);
        assert_ne!(other.as_ptr(), address);
        drop((part, other));
        let again = [Buffer::new(524_288), Buffer::new(524_288)];
        assert!(again.iter().any(|buffer| buffer.as_ptr() == address));
    }

    #[test]
    fn data_is_copied_only_if_it_must_be() {
        let frozen = Buffer::new(8192).freeze();
        assert_eq!(aligned(frozen.clone()).as_ptr(), frozen.as_ptr());
        let odd = frozen.slice(1..);
        assert_eq!(aligned(odd.clone()), odd);
        assert!(aligned(odd).as_ptr().addr().is_multiple_of(ALIGNMENT));
    }
}
