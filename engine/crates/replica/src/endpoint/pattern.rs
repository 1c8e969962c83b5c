//! Bytes for a probe of the link: made from a seed and their place, never zero, and they do not compress.

use super::span::Span;
use buffers::Buffer;
use bytes::Bytes;

/// Each page is made by itself, so that a read may begin anywhere.
const PAGE: u64 = 4096;

/// A source that needs no disk.
#[derive(Debug, Clone, Copy)]
pub struct PatternEndpoint {
    seed: u64,
}

impl PatternEndpoint {
    pub(super) fn new(seed: u64) -> Self {
        PatternEndpoint { seed }
    }

    pub(super) fn read(self, offset: u64, length: u32) -> Bytes {
        let mut buffer = Buffer::new(length as usize);
        let mut rest = &mut buffer[..];
        let mut position = offset;
        while !rest.is_empty() {
            let (page, begin) = (position / PAGE, (position % PAGE) as usize);
            let count = (PAGE as usize - begin).min(rest.len());
            let (part, after) = rest.split_at_mut(count);
            match count == PAGE as usize {
                true => self.fill(page, part),
                false => {
                    let mut whole = [0; PAGE as usize];
                    self.fill(page, &mut whole);
                    part.copy_from_slice(&whole[begin..begin + count]);
                }
            }
            rest = after;
            position += count as u64;
        }
        buffer.freeze()
    }

    /// xoshiro256++ from a state that splitmix64 makes of seed and page, as its authors advise.
    fn fill(self, page: u64, bytes: &mut [u8]) {
        let mut mixed = self.seed ^ page.wrapping_mul(0xd134_2543_de82_ef95);
        let mut state = [0; 4];
        for word in &mut state {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *word = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *word = (*word ^ (*word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word ^= *word >> 31;
        }
        for into in bytes.chunks_exact_mut(8) {
            into.copy_from_slice(&next(&mut state).to_le_bytes());
        }
    }
}

fn next(state: &mut [u64; 4]) -> u64 {
    let sum = state[0].wrapping_add(state[3]);
    let result = sum.rotate_left(23).wrapping_add(state[0]);
    let shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = state[3].rotate_left(45);
    result
}

/// All of it is data.
pub(super) fn spans(length: u64) -> Vec<Span> {
    vec![Span {
        length,
        zero: false,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_does_not_compress_and_no_two_seeds_or_pages_are_alike() {
        let bytes = PatternEndpoint::new(7).read(0, 1 << 20);
        assert!(zstd::bulk::compress(&bytes, 3).unwrap().len() > bytes.len());
        let mut pages: Vec<_> = bytes.chunks(PAGE as usize).collect();
        let other = PatternEndpoint::new(8).read(0, 1 << 20);
        pages.extend(other.chunks(PAGE as usize));
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), 512);
        assert!(
            pages
                .iter()
                .all(|page| page.chunks(8).all(|word| word != [0; 8]))
        );
    }

    proptest! {
        #[test]
        fn a_part_is_the_same_as_in_the_whole(seed: u64, begin in 0..40_000u64, length in 1..20_000u32) {
            let pattern = PatternEndpoint::new(seed);
            let whole = pattern.read(1 << 40, 64 << 10);
            let part = pattern.read((1 << 40) + begin, length);
            prop_assert_eq!(&part[..], &whole[begin as usize..][..length as usize]);
        }
    }
}
