//! Header and frames of a journal file.

use super::Subject;
use super::records::Record;
use crate::chunk::CHUNK_SIZE;

pub(super) const HEADER_BYTES: usize = 128;
const HEADER_MAGIC: [u8; 8] = *b"DROVJRNL";
const VERSION: u32 = 3;
const FRAME_MAGIC: [u8; 4] = *b"DJB2";
/// Magic, length, sequence, synced, token.
const FRAME_FIXED: usize = 4 + 4 + 8 + 8 + 8;
const CHECK: usize = 16;
const FRAME_BYTES: usize = FRAME_FIXED + CHECK;
const INCARNATION: std::ops::Range<usize> = 104..112;
/// No frame that we write is longer; a length over it is damage.
const MAX_FRAME_BODY: usize = 1 << 20;

fn check_of(parts: &[&[u8]]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    let mut check = [0; CHECK];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    check
}

pub(super) fn encode_header(subject: &Subject, incarnation: u64) -> [u8; HEADER_BYTES] {
    let mut raw = [0; HEADER_BYTES];
    let name = subject.name.as_bytes();
    raw[..8].copy_from_slice(&HEADER_MAGIC);
    raw[8..12].copy_from_slice(&VERSION.to_le_bytes());
    raw[12..16].copy_from_slice(&CHUNK_SIZE.to_le_bytes());
    raw[16..24].copy_from_slice(&subject.geometry.size().to_le_bytes());
    raw[24..32].copy_from_slice(&subject.medium.to_le_bytes());
    let name_bytes = name.len().min(64);
    raw[32] = name_bytes as u8;
    raw[40..40 + name_bytes].copy_from_slice(&name[..name_bytes]);
    raw[INCARNATION].copy_from_slice(&incarnation.to_le_bytes());
    let check = check_of(&[&raw[..HEADER_BYTES - CHECK]]);
    raw[HEADER_BYTES - CHECK..].copy_from_slice(&check);
    raw
}

/// The incarnation in the header, if a file begins with one of this subject; if not, why.
pub(super) fn check_header(raw: &[u8], subject: &Subject) -> Result<u64, String> {
    let Some(found) = raw.get(..HEADER_BYTES) else {
        return Err("the file is shorter than its header".into());
    };
    let mut incarnation = [0; 8];
    incarnation.copy_from_slice(&found[INCARNATION]);
    let incarnation = u64::from_le_bytes(incarnation);
    let expected = encode_header(subject, incarnation);
    if found == expected {
        return Ok(incarnation);
    }
    if found[HEADER_BYTES - CHECK..] != check_of(&[&found[..HEADER_BYTES - CHECK]]) {
        return Err("the header is damaged".into());
    }
    let fields = [
        ("magic", 0..8),
        ("format version", 8..12),
        ("chunk size", 12..16),
        ("VDISK size", 16..24),
    ];
    let different = fields
        .into_iter()
        .find(|(_, at)| found[at.clone()] != expected[at.clone()]);
    let what = different.map_or_else(
        || {
            if found[24..32] != expected[24..32] {
                "medium"
            } else {
                "VDISK name"
            }
        },
        |(what, _)| what,
    );
    Err(format!("it belongs to another {what}"))
}

/// A frame whose check is right.
pub(super) struct Frame<'a> {
    sequence: u64,
    synced: u64,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn encode(
        out: &mut Vec<u8>,
        sequence: u64,
        synced: u64,
        token: u64,
        records: &[Record],
    ) {
        let begin = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&synced.to_le_bytes());
        out.extend_from_slice(&token.to_le_bytes());
        out.extend_from_slice(&[0; CHECK]);
        records.iter().for_each(|record| record.encode(out));
        let body = begin + FRAME_BYTES;
        let length = (out.len() - body) as u32;
        out[begin + 4..begin + 8].copy_from_slice(&length.to_le_bytes());
        let check = check_of(&[&out[begin..begin + FRAME_FIXED], &out[body..]]);
        out[begin + FRAME_FIXED..body].copy_from_slice(&check);
    }

    fn decode(raw: &'a [u8]) -> Option<Frame<'a>> {
        let fixed = raw.get(..FRAME_BYTES)?;
        let length = u32::from_le_bytes(fixed[4..8].try_into().ok()?) as usize;
        if fixed[..4] != FRAME_MAGIC || length > MAX_FRAME_BODY {
            return None;
        }
        let body = raw.get(FRAME_BYTES..FRAME_BYTES + length)?;
        if fixed[FRAME_FIXED..] != check_of(&[&fixed[..FRAME_FIXED], body]) {
            return None;
        }
        let sequence = u64::from_le_bytes(fixed[8..16].try_into().ok()?);
        let synced = u64::from_le_bytes(fixed[16..24].try_into().ok()?);
        Some(Frame {
            sequence,
            synced,
            body,
        })
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> + use<'a> {
        let mut body = self.body;
        std::iter::from_fn(move || Record::decode(&mut body))
    }
}

/// Walks over the frames of a file until the first that is not right.
pub(super) struct Scan<'a> {
    raw: &'a [u8],
    position: usize,
    sequence: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Scan {
            raw,
            position: 0,
            sequence: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Frame<'a>> {
        let frame = Frame::decode(&self.raw[self.position..])?;
        if frame.sequence != self.sequence + 1 {
            return None;
        }
        self.sequence = frame.sequence;
        self.position += FRAME_BYTES + frame.body.len();
        Some(frame)
    }

    /// Where the last good frame ends.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Number of the last good frame.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Looks behind the end for a frame which proves that a frame now missing had been synced.
    pub(super) fn broken_promise(&self) -> Option<u64> {
        let rest = &self.raw[self.position..];
        let candidates = rest.windows(FRAME_MAGIC.len()).enumerate();
        candidates
            .filter(|(_, window)| *window == FRAME_MAGIC)
            .filter_map(|(at, _)| Frame::decode(&rest[at..]))
            .find(|frame| frame.synced > self.sequence)
            .map(|frame| frame.synced)
    }
}
