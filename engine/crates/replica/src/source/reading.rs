//! Reading a VDISK that has bad sectors: tried again, narrowed down to the sectors that fail, then
//! as the administrator chose.

use super::lock;
use super::unreadable::MOST;
use super::vdisk::Vdisk;
use crate::endpoint::Endpoint;
use crate::trouble::{Trouble, TroubleCode};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// Waits before a failed read is tried again.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// Page caches and most disks fail in these units, in bytes.
const PAGE: u64 = 4096;

/// The smallest unit that a disk can fail in, in bytes.
const SECTOR: u64 = 512;

/// With more bad pages than this in one read their sectors are not tried one by one: it is a
/// damaged region, and each failing sector may take the disk seconds.
const FEW: usize = 8;

/// What to do about places that cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReadError {
    /// Hold the VDISK.
    #[default]
    Stop,
    /// Send zeros in their place, and list them.
    Zero,
}

/// Bytes that were read; in the places that could not be read they are zeros.
pub(super) struct Readout {
    pub(super) bytes: Bytes,
    pub(super) unreadable: Vec<Range<u64>>,
}

impl Vdisk {
    /// Reads exactly `length` bytes. With bad sectors in them it is a Trouble that names the first,
    /// or zeros, as the administrator chose.
    pub(super) async fn read(&self, offset: u64, length: u32) -> Result<Readout, Trouble> {
        let endpoint = self.endpoint();
        let mut first = match self.read_once(&endpoint, offset, length).await {
            Ok(bytes) => return Ok(whole(bytes)),
            Err(trouble) => trouble,
        };
        let known = lock(&self.state)
            .unreadable
            .touches(range_of(offset, length));
        let pauses = if known { &[] } else { &PAUSES[..] };
        for pause in pauses {
            if first.code != TroubleCode::ReadError {
                return Err(first);
            }
            tokio::time::sleep(*pause).await;
            first = match self.read_once(&endpoint, offset, length).await {
                Ok(bytes) => return Ok(whole(bytes)),
                Err(trouble) => trouble,
            };
        }
        if first.code != TroubleCode::ReadError {
            return Err(first);
        }
        let readout = self.narrow(&endpoint, offset, length).await?;
        self.judge(readout, &first)
    }

    async fn read_once(
        &self,
        endpoint: &Endpoint,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, Trouble> {
        let _operation = self.disk.begin();
        endpoint.read(offset, length).await
    }

    /// Halves what fails until only bad sectors are left.
    async fn narrow(
        &self,
        endpoint: &Endpoint,
        offset: u64,
        length: u32,
    ) -> Result<Readout, Trouble> {
        let end = offset + u64::from(length);
        let mut readout = Narrowed {
            offset,
            bytes: BytesMut::zeroed(length as usize),
        };
        let everything = std::iter::once(offset..end).collect();
        let pages = self
            .narrow_to(endpoint, everything, PAGE, &mut readout)
            .await?;
        let unreadable = match pages.len() {
            0..=FEW => {
                self.narrow_to(endpoint, pages, SECTOR, &mut readout)
                    .await?
            }
            _ => pages,
        };
        let bytes = readout.bytes.freeze();
        Ok(Readout {
            bytes,
            unreadable: joined(unreadable),
        })
    }

    /// The units among `doubtful` that cannot be read; the others are put into `readout`.
    async fn narrow_to(
        &self,
        endpoint: &Endpoint,
        doubtful: Vec<Range<u64>>,
        unit: u64,
        readout: &mut Narrowed,
    ) -> Result<Vec<Range<u64>>, Trouble> {
        // What to look at next is at the end, so that the result is in order.
        let mut stack: Vec<_> = doubtful.into_iter().rev().collect();
        let mut bad = Vec::new();
        while let Some(part) = stack.pop() {
            let length = part.end - part.start;
            match self.read_once(endpoint, part.start, length as u32).await {
                Ok(bytes) => readout.put(part.start, &bytes),
                Err(trouble) if trouble.code != TroubleCode::ReadError => return Err(trouble),
                Err(_) if length <= unit => bad.push(part),
                Err(_) => {
                    let middle = part.start + (length / 2).next_multiple_of(unit);
                    stack.push(middle..part.end);
                    stack.push(part.start..middle);
                }
            }
        }
        Ok(bad)
    }

    fn judge(&self, readout: Readout, error: &Trouble) -> Result<Readout, Trouble> {
        let Some(bad) = readout.unreadable.first().cloned() else {
            return Ok(readout);
        };
        let state = lock(&self.state);
        let lengths = readout.unreadable.iter().map(|bad| bad.end - bad.start);
        let (name, total, length) = (self.name(), lengths.sum::<u64>(), bad.end - bad.start);
        let why = match state.on_read_error {
            OnReadError::Zero if !state.unreadable.is_full() => {
                drop(state);
                tracing::warn!(
                    vdisk = name,
                    offset = bad.start,
                    bytes = total,
                    "unreadable, taken as zeros: {error}"
                );
                return Ok(readout);
            }
            OnReadError::Zero => {
                format!("VDISK {name} cannot be read in more than {MOST} places; replace its disk")
            }
            OnReadError::Stop => format!(
                "{length} bytes at {} of VDISK {name} cannot be read ({total} bytes around there); repair the disk and \
                 retry, or have what cannot be read sent as zeros and listed",
                bad.start
            ),
        };
        let mut trouble = Trouble::at(TroubleCode::ReadError, bad.start, format!("{why}: {error}"));
        trouble.length = Some(length);
        Err(trouble)
    }

    /// What could not be read of `offset..offset + length` and is sent as zeros; places that can be read again are
    /// taken from the list.
    pub(super) fn note_unreadable(&self, offset: u64, length: u32, found: &[Range<u64>]) {
        let range = range_of(offset, length);
        lock(&self.state).unreadable.replace(range, found);
    }
}

fn range_of(offset: u64, length: u32) -> Range<u64> {
    offset..offset + u64::from(length)
}

fn whole(bytes: Bytes) -> Readout {
    Readout {
        bytes,
        unreadable: Vec::new(),
    }
}

struct Narrowed {
    offset: u64,
    bytes: BytesMut,
}

impl Narrowed {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let at = (offset - self.offset) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Neighbours as one.
fn joined(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => joined.push(part),
        }
    }
    joined
}
