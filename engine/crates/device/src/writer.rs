//! Writes one pack, front to back.

use crate::entry::{Entry, Indexed, MAX_INDEXED};
use crate::frame::{HEAD_BYTES, TAG_BYTES, seal, span};
use crate::header::{FIRST_FRAME, HEADER_BYTES, Header};
use crate::keys::{DeviceId, DeviceKey, PackKeys};
use crate::stream::{STEP, Stream};
use crate::{PackError, pack_path};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Most bytes of a pack: far below what FAT32 allows, and little to lose with one file.
pub const MAX_PACK: u64 = 1 << 30;

/// Written at once, in bytes: transport devices like it long.
const STRETCH: usize = 4 << 20;

/// Most frames of a pack, so that its End stays small.
const MAX_FRAMES: usize = 100_000;
const _: () = assert!(MAX_FRAMES <= MAX_INDEXED);

/// A pack that is being written. Work on it blocks.
pub struct PackWriter {
    path: PathBuf,
    stream: Stream,
    keys: PackKeys,
    header: Header,
    limit: u64,
    /// Frames that were not handed over yet.
    waiting: Vec<u8>,
    /// Of the next frame.
    sequence: u64,
    frames: Vec<Indexed>,
    failed: bool,
}

impl PackWriter {
    /// Makes a new pack in the folder of packs; there must be none of this number. The folder's
    /// entry is stable when this returns.
    pub fn create(
        packs: &Path,
        number: u32,
        device: DeviceId,
        key: &DeviceKey,
    ) -> Result<Self, PackError> {
        let path = pack_path(packs, number);
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| {
            let error = io::Error::other("the system gave no random bytes");
            PackError::io("making", &path)(error)
        })?;
        let header = Header {
            number,
            device,
            salt,
            end: None,
        };
        let keys = PackKeys::derive(key, &header, &path)?;
        let stream = Stream::create(&path).map_err(PackError::io("making", &path))?;
        let folder = File::open(packs).and_then(|folder| folder.sync_all());
        folder.map_err(PackError::io("making", &path))?;
        let raw = header.encode();
        Ok(PackWriter {
            path,
            stream,
            keys,
            header,
            limit: MAX_PACK,
            waiting: [raw, raw].concat(),
            sequence: 0,
            frames: Vec::new(),
            failed: false,
        })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.header.number
    }

    /// Bytes that it takes on the device once it is finished.
    pub fn length(&self) -> u64 {
        (self.position() + self.closing()).next_multiple_of(STEP as u64)
    }

    fn position(&self) -> u64 {
        self.stream.written() + self.waiting.len() as u64
    }

    /// Bytes of the End and the trailer.
    fn closing(&self) -> u64 {
        span(5 + 25 * self.frames.len() + TAG_BYTES) + HEADER_BYTES as u64
    }

    /// Appends an entry; returns where its frame stands. [`PackError::Full`] changes nothing. After
    /// another error nothing can be appended any more, and what was not synced may be lost.
    pub fn append(&mut self, entry: &Entry) -> Result<u64, PackError> {
        let begin = self.waiting.len();
        let (offset, length) = self.seal(entry)?;
        let full = self.length() + span(25 + HEAD_BYTES) > self.limit;
        if (full || self.frames.len() >= MAX_FRAMES) && offset > FIRST_FRAME {
            // Its sequence is used up: no nonce ever has two contents.
            self.waiting.truncate(begin);
            return Err(PackError::Full(self.path.clone()));
        }
        self.frames.push(entry.indexed(offset, length));
        if self.waiting.len() >= STRETCH {
            self.flush();
        }
        Ok(offset)
    }

    /// Appends the frame of an entry; returns where it stands and the length of its body.
    fn seal(&mut self, entry: &Entry) -> Result<(u64, usize), PackError> {
        let (offset, begin) = (self.position(), self.waiting.len());
        let sequence = self.sequence;
        self.sequence += 1;
        match seal(&self.keys, entry, sequence, offset, &mut self.waiting) {
            Some(length) => Ok((offset, length)),
            None => {
                self.waiting.truncate(begin);
                Err(self.failure(io::Error::other("the cipher refused it")))
            }
        }
    }

    /// A filler, so that what waits, and `more` bytes after it, end where the disk's steps do.
    fn fill(&mut self, more: u64) -> Result<(), PackError> {
        let end = self.position() + more;
        let gap = (end.next_multiple_of(STEP as u64) - end) as usize;
        if gap > 0 {
            self.seal(&Entry::Filler(gap - HEAD_BYTES - TAG_BYTES))?;
        }
        Ok(())
    }

    /// Everything that was appended is stable when this returns.
    pub fn sync(&mut self) -> Result<(), PackError> {
        self.fill(0)?;
        self.flush();
        let synced = match self.failed {
            true => Err(io::Error::other(
                "it failed before; what was not synced is lost",
            )),
            false => self.stream.sync(),
        };
        synced.map_err(|error| self.failure(error))
    }

    /// Writes the End and the trailer. Without them the pack can be read as well, by a scan.
    pub fn finish(mut self) -> Result<(), PackError> {
        self.fill(self.closing())?;
        let end = Entry::End(std::mem::take(&mut self.frames));
        let (offset, _) = self.seal(&end)?;
        let trailer = Header {
            end: Some(offset),
            ..self.header
        };
        self.waiting.extend_from_slice(&trailer.encode());
        self.sync()
    }

    /// Hands over as much of what waits as makes whole steps.
    fn flush(&mut self) {
        let whole = self.waiting.len() - self.waiting.len() % STEP;
        if whole > 0 {
            self.stream.write(&self.waiting[..whole]);
            self.waiting.drain(..whole);
        }
    }

    fn failure(&mut self, error: io::Error) -> PackError {
        self.failed = true;
        PackError::io("writing", &self.path)(error)
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(crate) fn break_with(&mut self, path: &str) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        self.stream = Stream::new(file).unwrap();
    }

    #[cfg(test)]
    pub(crate) fn limited(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}
