//! How a chunk is compressed: what does not shrink travels as it is, and "auto" climbs to the
//! level at which most raw bytes per second arrive.

mod climber;

use buffers::Buffer;
use bytes::Bytes;
use climber::Climber;
use drover_link::Compression;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What the administrator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// By measurement, chunk by chunk.
    #[default]
    Auto,
    /// Never.
    None,
    /// LZ4.
    Lz4,
    /// zstd.
    Zstd,
}

impl Choice {
    /// None: that changes.
    fn level(self) -> Option<Level> {
        match self {
            Choice::None => Some(Level::None),
            Choice::Lz4 => Some(Level::Lz4),
            Choice::Zstd => Some(Level::Zstd(1)),
            Choice::Auto => None,
        }
    }

    /// How many bytes would travel of `raw`, if the choice stays the same from chunk to chunk.
    pub(crate) fn shrinks_to(self, raw: &Bytes) -> usize {
        let level = self.level().unwrap_or(Level::None);
        compress(level, raw).1.len()
    }
}

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// zstd at a level of its own scale.
    Zstd(i32),
}

/// From the quickest to the smallest. On text one core does some 2,000 (LZ4), 290, 250, 75 and 40 MB/s.
const LEVELS: [Level; 6] = [
    Level::None,
    Level::Lz4,
    Level::Zstd(1),
    Level::Zstd(4),
    Level::Zstd(7),
    Level::Zstd(12),
];

/// Compressed data must be smaller than this share of the raw data to be worth its decompression.
const WORTH_PERCENT: usize = 92;

/// Bytes tried with LZ4 before the whole chunk is.
const SAMPLE: usize = 8 << 10;

/// Chooses the level for a link.
#[derive(Debug)]
pub struct Compressor {
    choice: Choice,
    climber: Mutex<Climber>,
}

impl Compressor {
    /// For the administrator's choice.
    pub fn new(choice: Choice) -> Self {
        Compressor {
            choice,
            climber: Mutex::new(Climber::new(Instant::now())),
        }
    }

    /// Compresses one chunk or piece at the level of the moment.
    pub fn compress(&self, raw: &Bytes) -> (Compression, Bytes) {
        let level = self.choice.level().unwrap_or_else(|| {
            let climber = self.climber.lock();
            LEVELS[climber.unwrap_or_else(PoisonError::into_inner).level()]
        });
        compress(level, raw)
    }

    /// Tells how many bytes were accepted for the wire, before and after compression, and whether
    /// others wait for it.
    pub fn sent(&self, raw_bytes: u64, wire_bytes: u64, held_up: bool) {
        if self.choice == Choice::Auto {
            let mut climber = self.climber.lock().unwrap_or_else(PoisonError::into_inner);
            climber.sent(raw_bytes, wire_bytes, held_up, Instant::now());
        }
    }
}

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(level: Level, raw: &Bytes) -> (Compression, Bytes) {
    let unchanged = (Compression::None, raw.clone());
    if level == Level::None || !sample_shrinks(raw) {
        return unchanged;
    }
    let (kind, packed) = match level {
        Level::None => return unchanged,
        Level::Lz4 => (Compression::Lz4, lz4_flex::block::compress(raw)),
        Level::Zstd(level) => (Compression::Zstd, zstd_at(level, raw)),
    };
    match packed.len() * 100 < raw.len() * WORTH_PERCENT && !packed.is_empty() {
        true => (kind, packed.into()),
        false => unchanged,
    }
}

/// Whether a few kilobytes out of the middle shrink; encrypted or packed data is found out cheaply.
fn sample_shrinks(raw: &[u8]) -> bool {
    if raw.len() <= 4 * SAMPLE {
        return true;
    }
    let parts = [raw.len() / 4, raw.len() * 5 / 8];
    parts.iter().any(|begin| {
        let sample = &raw[*begin..begin + SAMPLE];
        lz4_flex::block::compress(sample).len() * 100 < SAMPLE * 97
    })
}

/// Empty if zstd refuses; the caller then sends the data as it is.
fn zstd_at(level: i32, raw: &[u8]) -> Vec<u8> {
    ZSTD.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(level).ok();
        }
        let Some(compressor) = slot else {
            return Vec::new();
        };
        match compressor.set_compression_level(level) {
            Ok(()) => compressor.compress(raw).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    })
}

/// Undoes [`Compressor::compress`]; the result has exactly `raw_length` bytes.
pub fn decompress(kind: Compression, payload: Bytes, raw_length: u32) -> Result<Bytes, String> {
    let length = raw_length as usize;
    let raw: Bytes = match kind {
        Compression::None => payload,
        Compression::Patch => return Err("a patch is not a whole".into()),
        Compression::Lz4 => {
            let mut raw = Buffer::new(length);
            let count = lz4_flex::block::decompress_into(&payload, &mut raw);
            raw.truncate(count.map_err(|error| format!("LZ4: {error}"))?);
            raw.freeze()
        }
        Compression::Zstd => {
            let mut raw = Buffer::new(length);
            let count = zstd::bulk::decompress_to_buffer(&payload, &mut raw[..]);
            raw.truncate(count.map_err(|error| format!("zstd: {error}"))?);
            raw.freeze()
        }
    };
    match raw.len() == length {
        true => Ok(raw),
        false => Err(format!("{} bytes instead of {length}", raw.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(seed in proptest::collection::vec(any::<u8>(), 1..2000), repeat in 1..50usize) {
            let raw = Bytes::from(seed.repeat(repeat));
            for level in LEVELS {
                let (kind, packed) = compress(level, &raw);
                prop_assert!(packed.len() <= raw.len());
                prop_assert_eq!(decompress(kind, packed, raw.len() as u32).unwrap(), raw.clone());
            }
        }

        #[test]
        fn garbage_never_panics(kind in 0..3usize, payload in proptest::collection::vec(any::<u8>(), 0..500), length in 1..100_000u32) {
            let kind = [Compression::None, Compression::Lz4, Compression::Zstd][kind];
            if let Ok(raw) = decompress(kind, payload.into(), length) {
                prop_assert_eq!(raw.len(), length as usize);
            }
        }
    }
}
