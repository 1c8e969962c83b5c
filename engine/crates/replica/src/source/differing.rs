//! Chunks that a comparison found different: only those of their blocks have to travel that the
//! destination does not have.

use super::lock;
use super::outbox::Outbox;
use super::vdisk::Vdisk;
use crate::chunk::{BLOCK_SIZE, Hash};
use drover_link::Message;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// With more blocks that differ the whole chunk is sent, which the destination need not read first.
const MOST_BLOCKS: u32 = 6;

/// What the comparison of the session of the moment left to do.
#[derive(Debug, Default)]
pub(super) struct Differing {
    /// A bit for each chunk that differs and holds data at both ends.
    chunks: Vec<u64>,
    /// Who waits for block hashes, by request.
    replies: HashMap<u64, oneshot::Sender<Vec<Hash>>>,
}

impl Differing {
    pub(super) fn insert(&mut self, chunk: u32) {
        let word = chunk as usize / 64;
        if self.chunks.len() <= word {
            self.chunks.resize(word + 1, 0);
        }
        self.chunks[word] |= 1 << (chunk % 64);
    }

    fn remove(&mut self, chunk: u32) -> bool {
        let Some(word) = self.chunks.get_mut(chunk as usize / 64) else {
            return false;
        };
        let bit = 1 << (chunk % 64);
        let was_in = *word & bit != 0;
        *word &= !bit;
        was_in
    }
}

impl Vdisk {
    /// Asks for the block hashes of a chunk that was found different; only once, so what did not
    /// fit to the destination's content is sent whole the next time.
    pub(super) fn ask_for_blocks(
        &self,
        outbox: &Outbox,
        request: u64,
        chunk: u32,
    ) -> Option<oneshot::Receiver<Vec<Hash>>> {
        let mut state = lock(&self.state);
        if !state.differing.remove(chunk) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        state.differing.replies.insert(request, answer);
        drop(state);
        outbox.say(Message::BlockHashRequest {
            handle: outbox.handle(),
            request,
            chunk,
        });
        Some(answered)
    }

    pub(super) fn block_hash_reply(&self, request: u64, hashes: Vec<Hash>) {
        let waiting = lock(&self.state).differing.replies.remove(&request);
        if let Some(waiting) = waiting {
            // Nobody waits any more if the session ended meanwhile.
            let _ = waiting.send(hashes);
        }
    }
}

/// The blocks of a chunk to send; None if all of it is to be sent.
pub(super) fn blocks_to_send(raw: &[u8], theirs: &[Hash]) -> Option<u8> {
    let ours = raw.chunks(BLOCK_SIZE as usize);
    if ours.len() != theirs.len() {
        return None;
    }
    let differing = ours
        .zip(theirs)
        .enumerate()
        .filter(|(_, (ours, theirs))| blake3::hash(ours) != **theirs);
    let blocks = differing.fold(0u8, |blocks, (block, _)| blocks | 1 << block);
    let count = blocks.count_ones();
    // None differs if an end was altered since the comparison; then nothing is taken for granted.
    (1..=MOST_BLOCKS.min(theirs.len() as u32 - 1))
        .contains(&count)
        .then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(raw: &[u8]) -> Vec<Hash> {
        let blocks = raw.chunks(BLOCK_SIZE as usize);
        blocks.map(|block| blake3::hash(block).into()).collect()
    }

    #[test]
    fn a_chunk_is_asked_for_once() {
        let mut differing = Differing::default();
        assert!(!differing.remove(1000));
        for chunk in [0, 63, 64, 1000] {
            differing.insert(chunk);
        }
        assert!(!differing.remove(999) && !differing.remove(1001));
        for chunk in [0, 63, 64, 1000] {
            assert!(differing.remove(chunk) && !differing.remove(chunk));
        }
    }

    #[test]
    fn what_differs_is_sent_unless_it_is_most_of_the_chunk() {
        let ours = vec![1; 8 * BLOCK_SIZE as usize];
        let altered = |blocks: u8| {
            let mut theirs = hashes(&ours);
            for block in (0..8).filter(|block| blocks & (1 << block) != 0) {
                theirs[block][0] ^= 1;
            }
            blocks_to_send(&ours, &theirs)
        };
        assert_eq!(altered(0b1000_0001), Some(0b1000_0001));
        assert_eq!(altered(0b0011_1111), Some(0b0011_1111));
        assert_eq!(altered(0b0111_1111), None);
        assert_eq!(altered(0xff), None);
        assert_eq!(altered(0), None);
    }

    #[test]
    fn a_short_chunk_has_fewer_blocks() {
        let ours = vec![1; BLOCK_SIZE as usize + 5];
        let mut theirs = hashes(&ours);
        theirs[1] = [0; 32];
        assert_eq!(blocks_to_send(&ours, &theirs), Some(0b10));
        theirs[0] = [0; 32];
        assert_eq!(blocks_to_send(&ours, &theirs), None, "all of it");
        assert_eq!(blocks_to_send(&ours, &theirs[..1]), None, "no answer to it");
        assert_eq!(blocks_to_send(&ours, &[]), None);
        assert_eq!(blocks_to_send(&ours[..5], &[[0; 32]]), None);
    }
}
