//! How a VDISK is cut: chunks for background replication, blocks of a chunk for foreground.

/// Bytes of a chunk. The last chunk of a VDISK may be shorter.
pub const CHUNK_SIZE: u32 = 512 << 10;

/// Bytes of a block: the granularity of foreground replication.
pub const BLOCK_SIZE: u32 = 64 << 10;

/// Blocks of a chunk; one bit each in a mask.
pub const BLOCKS: u32 = CHUNK_SIZE / BLOCK_SIZE;

/// Largest VDISK in bytes (512 TiB): keeps every chunk number in 30 bits.
pub const MAX_VDISK: u64 = 1 << 49;

/// BLAKE3 of a chunk's bytes.
pub type Hash = [u8; 32];

/// Positions of chunks and blocks in a VDISK of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    size: u64,
}

impl Geometry {
    /// Of a VDISK of `size` bytes.
    pub fn new(size: u64) -> Self {
        Geometry { size }
    }

    /// Bytes of the VDISK.
    pub fn size(self) -> u64 {
        self.size
    }

    /// How many chunks there are.
    pub fn chunks(self) -> u32 {
        self.size.div_ceil(u64::from(CHUNK_SIZE)) as u32
    }

    /// Where a chunk begins, in bytes.
    pub fn offset(self, chunk: u32) -> u64 {
        u64::from(chunk) * u64::from(CHUNK_SIZE)
    }

    /// The chunk that holds the byte at `offset`.
    pub fn chunk_at(self, offset: u64) -> u32 {
        (offset / u64::from(CHUNK_SIZE)) as u32
    }

    /// Bytes of `count` chunks from `first`, clipped at the end of the VDISK.
    pub fn bytes(self, first: u32, count: u32) -> u64 {
        let end = (self.offset(first) + u64::from(count) * u64::from(CHUNK_SIZE)).min(self.size);
        end.saturating_sub(self.offset(first))
    }

    /// Bytes of one chunk.
    pub fn length(self, chunk: u32) -> u32 {
        self.bytes(chunk, 1) as u32
    }

    /// The mask of all blocks that a chunk has.
    pub fn all_blocks(self, chunk: u32) -> u8 {
        let blocks = self.length(chunk).div_ceil(BLOCK_SIZE);
        ((1u16 << blocks) - 1) as u8
    }

    /// The mask of the blocks of `chunk` that overlap `offset..end` (bytes of the VDISK).
    pub fn blocks(self, chunk: u32, offset: u64, end: u64) -> u8 {
        let begin = offset
            .saturating_sub(self.offset(chunk))
            .min(u64::from(CHUNK_SIZE));
        let end = end
            .saturating_sub(self.offset(chunk))
            .min(u64::from(CHUNK_SIZE));
        let first = begin / u64::from(BLOCK_SIZE);
        let last = end.div_ceil(u64::from(BLOCK_SIZE));
        let below = |block: u64| (1u16 << block) - 1;
        (below(last) & !below(first.min(last))) as u8 & self.all_blocks(chunk)
    }

    /// Offset and length in bytes of `blocks` blocks from `first_block` of `chunk`.
    pub fn piece(self, chunk: u32, first_block: u32, blocks: u32) -> (u64, u32) {
        let offset = self.offset(chunk) + u64::from(first_block * BLOCK_SIZE);
        let end = (offset + u64::from(blocks * BLOCK_SIZE)).min(self.size);
        (offset, (end - offset) as u32)
    }
}

/// The contiguous runs of set bits in a mask, as (first, count).
pub fn mask_runs(mask: u8) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = mask;
    let mut position = 0;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let skip = rest.trailing_zeros();
        rest >>= skip;
        let count = rest.trailing_ones();
        rest = rest.checked_shr(count).unwrap_or(0);
        let first = position + skip;
        position = first + count;
        Some((first, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_runs() {
        assert_eq!(mask_runs(0).count(), 0);
        assert_eq!(mask_runs(0b1111_1111).collect::<Vec<_>>(), [(0, 8)]);
        assert_eq!(mask_runs(0b1000_0110).collect::<Vec<_>>(), [(1, 2), (7, 1)]);
    }

    #[test]
    fn the_last_chunk_is_short() {
        let geometry = Geometry::new(u64::from(CHUNK_SIZE) + 70_000);
        assert_eq!(geometry.chunks(), 2);
        assert_eq!(geometry.length(1), 70_000);
        assert_eq!(geometry.all_blocks(1), 0b11);
        assert_eq!(
            geometry.piece(1, 1, 1),
            (u64::from(CHUNK_SIZE + BLOCK_SIZE), 70_000 - BLOCK_SIZE)
        );
    }

    #[test]
    fn byte_ranges_become_blocks() {
        let geometry = Geometry::new(10 * u64::from(CHUNK_SIZE));
        let block = u64::from(BLOCK_SIZE);
        assert_eq!(geometry.blocks(0, 0, 1), 1);
        assert_eq!(geometry.blocks(0, block - 1, block + 1), 0b11);
        assert_eq!(geometry.blocks(0, 0, u64::MAX), 0xff);
        assert_eq!(geometry.blocks(1, 0, 8 * block + 1), 1);
        assert_eq!(geometry.blocks(1, 0, 8 * block), 0);
    }
}
