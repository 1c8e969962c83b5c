//! Records, and the claims that they add up to.

use crate::chunk::Geometry;
use std::ops::Range;

/// One change of what the destination claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// These chunks are stable, whole.
    Stable {
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// These chunks are not claimed any more.
    Forget {
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// These blocks of a chunk are newer somewhere else than in what is claimed.
    Newer {
        /// The chunk.
        chunk: u32,
        /// One bit for each block.
        mask: u8,
    },
}

const STABLE: u8 = 1;
const FORGET: u8 = 2;
const NEWER: u8 = 3;

impl Record {
    /// Encoded length.
    pub(super) const BYTES: usize = 9;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, first, second) = match *self {
            Record::Stable { first, count } => (STABLE, first, count),
            Record::Forget { first, count } => (FORGET, first, count),
            Record::Newer { chunk, mask } => (NEWER, chunk, u32::from(mask)),
        };
        out.push(kind);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&second.to_le_bytes());
    }

    /// Takes the next record off a body.
    pub(super) fn decode(body: &mut &[u8]) -> Option<Record> {
        let (fixed, rest) = body.split_first_chunk::<{ Self::BYTES }>()?;
        *body = rest;
        let first = u32::from_le_bytes(fixed[1..5].try_into().ok()?);
        let count = u32::from_le_bytes(fixed[5..9].try_into().ok()?);
        match fixed[0] {
            STABLE => Some(Record::Stable { first, count }),
            FORGET => Some(Record::Forget { first, count }),
            NEWER => {
                let (chunk, mask) = (first, u8::try_from(count).ok()?);
                Some(Record::Newer { chunk, mask })
            }
            _ => None,
        }
    }
}

/// Which chunks are stable, and which of their blocks are newer somewhere else.
#[derive(Debug)]
pub(super) struct Claims {
    stable: Vec<bool>,
    newer: Vec<u8>,
    stable_chunks: u32,
}

impl Claims {
    pub(super) fn new(geometry: Geometry) -> Self {
        Claims {
            stable: vec![false; geometry.chunks() as usize],
            newer: vec![0; geometry.chunks() as usize],
            stable_chunks: 0,
        }
    }

    pub(super) fn apply(&mut self, record: &Record) {
        let (range, stable) = match *record {
            Record::Stable { first, count } => (self.range(first, count), true),
            Record::Forget { first, count } => (self.range(first, count), false),
            Record::Newer { chunk, mask } => {
                if self.is_stable(chunk) {
                    self.newer[chunk as usize] |= mask;
                }
                return;
            }
        };
        let range = range.start as usize..range.end as usize;
        let newer = &mut self.newer[range.clone()];
        for (entry, newer) in self.stable[range].iter_mut().zip(newer) {
            if *entry == stable {
                continue;
            }
            match stable {
                true => self.stable_chunks += 1,
                false => self.stable_chunks -= 1,
            }
            (*entry, *newer) = (stable, 0);
        }
    }

    /// Blocks of a chunk that are newer somewhere else, as a mask.
    pub(super) fn newer(&self, chunk: u32) -> u8 {
        self.newer.get(chunk as usize).copied().unwrap_or(0)
    }

    fn range(&self, first: u32, count: u32) -> Range<u32> {
        let end = first.saturating_add(count).min(self.stable.len() as u32);
        first.min(end)..end
    }

    pub(super) fn is_stable(&self, chunk: u32) -> bool {
        self.stable.get(chunk as usize).copied().unwrap_or(false)
    }

    pub(super) fn stable_chunks(&self) -> u32 {
        self.stable_chunks
    }

    /// What of `records` is new, neighbours joined. The order matters unless all are claims.
    pub(super) fn lacking(&self, records: &[Record]) -> Vec<Record> {
        let mut runs = Vec::new();
        for record in records {
            match *record {
                Record::Stable { first, count } => runs.push(self.range(first, count)),
                Record::Forget { .. } | Record::Newer { .. } => return records.to_vec(),
            }
        }
        runs.sort_unstable_by_key(|run| run.start);
        let mut joined: Vec<Range<u32>> = Vec::new();
        for run in runs {
            match joined.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => joined.push(run),
            }
        }
        joined.retain(|run| run.clone().any(|chunk| !self.is_stable(chunk)));
        let records = joined.into_iter().map(|run| Record::Stable {
            first: run.start,
            count: run.end - run.start,
        });
        records.collect()
    }

    /// The fewest records that lead here.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut first = 0;
        for run in self.stable.chunk_by(|one, next| one == next) {
            let count = run.len() as u32;
            if run[0] {
                records.push(Record::Stable { first, count });
            }
            first += count;
        }
        let newer = (0..).zip(&self.newer).filter(|(_, mask)| **mask != 0);
        records.extend(newer.map(|(chunk, mask)| Record::Newer { chunk, mask: *mask }));
        records
    }
}
