//! One frame: a head that can be recognised anywhere, and an encrypted entry.

use crate::entry::{Entry, MAX_ENTRY};
use crate::header::HEADER_BYTES;
use crate::keys::PackKeys;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};

pub(crate) const HEAD_BYTES: usize = 32;
pub(crate) const TAG_BYTES: usize = 16;

/// Frames begin at multiples of this, so that the next one can be found after a damaged one.
pub(crate) const GRID: u64 = HEADER_BYTES as u64;

/// Most bytes that follow a head.
pub(crate) const MAX_BODY: usize = MAX_ENTRY + TAG_BYTES;

const MAGIC: [u8; 4] = *b"DRVF";
const CHECKED: usize = 16;

/// A head whose check is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    raw: [u8; HEAD_BYTES],
    pub(crate) length: usize,
    sequence: u64,
}

impl Head {
    fn new(keys: &PackKeys, length: usize, sequence: u64, offset: u64) -> Head {
        let mut raw = [0; HEAD_BYTES];
        raw[..4].copy_from_slice(&MAGIC);
        raw[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        raw[8..16].copy_from_slice(&sequence.to_le_bytes());
        let check = check(keys, &raw[..CHECKED], offset);
        raw[CHECKED..].copy_from_slice(&check);
        Head {
            raw,
            length,
            sequence,
        }
    }

    /// The head that stands at `offset` of the pack; None if there is none.
    pub(crate) fn decode(keys: &PackKeys, raw: [u8; HEAD_BYTES], offset: u64) -> Option<Head> {
        let length = u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]) as usize;
        let legal = raw[..4] == MAGIC && (TAG_BYTES..=MAX_BODY).contains(&length);
        if !legal || raw[CHECKED..] != check(keys, &raw[..CHECKED], offset) {
            return None;
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&raw[8..16]);
        Some(Head {
            raw,
            length,
            sequence: u64::from_le_bytes(sequence),
        })
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.sequence.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Decrypts what follows the head into `plain`, which is shorter by the tag. None: do not believe
    /// a byte of it.
    pub(crate) fn open(&self, keys: &PackKeys, body: &[u8], plain: &mut [u8]) -> Option<()> {
        let (body, tag) = body.split_at_checked(plain.len())?;
        let (nonce, head) = (self.nonce(), Aad::from(&self.raw));
        keys.frames
            .open_separate_gather(nonce, head, body, tag, plain)
            .ok()
    }
}

fn check(keys: &PackKeys, head: &[u8], offset: u64) -> [u8; HEAD_BYTES - CHECKED] {
    let mut hasher = blake3::Hasher::new_keyed(&keys.heads);
    hasher.update(head).update(&offset.to_le_bytes());
    let mut check = [0; HEAD_BYTES - CHECKED];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// Bytes that a frame with a body of this length takes in the file.
pub(crate) fn span(length: usize) -> u64 {
    ((HEAD_BYTES + length) as u64).next_multiple_of(GRID)
}

/// Appends the frame of an entry to `out`, which will stand at `offset` of the pack; returns the
/// length of its body. None if the cipher refuses, which it does for nothing that fits into a frame.
pub(crate) fn seal(
    keys: &PackKeys,
    entry: &Entry,
    sequence: u64,
    offset: u64,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let begin = out.len();
    out.resize(begin + HEAD_BYTES, 0);
    entry.encode(out);
    let length = out.len() - begin - HEAD_BYTES + TAG_BYTES;
    let head = Head::new(keys, length, sequence, offset);
    out[begin..begin + HEAD_BYTES].copy_from_slice(&head.raw);
    let body = &mut out[begin + HEAD_BYTES..];
    let aad = Aad::from(&head.raw);
    let sealed = keys
        .frames
        .seal_in_place_separate_tag(head.nonce(), aad, body);
    out.extend_from_slice(sealed.ok()?.as_ref());
    out.resize(begin + span(length) as usize, 0);
    Some(length)
}
