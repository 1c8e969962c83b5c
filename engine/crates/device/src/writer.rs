//! Writes one pack, front to back.

use crate::entry::{Entry, Indexed, MAX_INDEXED};
use crate::frame::{HEAD_BYTES, TAG_BYTES, seal, span};
use crate::header::{FIRST_FRAME, HEADER_BYTES, Header};
use crate::keys::{DeviceId, DeviceKey, PackKeys};
use crate::{PackError, pack_path};
use rustix::fs::{Advice, fadvise};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
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
    file: File,
    keys: PackKeys,
    header: Header,
    limit: u64,
    /// Frames that are not written yet; they begin at `written`.
    waiting: Vec<u8>,
    written: u64,
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
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(PackError::io("making", &path))?;
        let folder = File::open(packs).and_then(|folder| folder.sync_all());
        folder.map_err(PackError::io("making", &path))?;
        let raw = header.encode();
        Ok(PackWriter {
            path,
            file,
            keys,
            header,
            limit: MAX_PACK,
            waiting: [raw, raw].concat(),
            written: 0,
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
        self.position() + self.closing()
    }

    fn position(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Bytes of the End and the trailer.
    fn closing(&self) -> u64 {
        span(5 + 25 * self.frames.len() + TAG_BYTES) + HEADER_BYTES as u64
    }

    /// Appends an entry; returns where its frame stands. [`PackError::Full`] changes nothing. After
    /// another error nothing can be appended any more, and what was not synced may be lost.
    pub fn append(&mut self, entry: &Entry) -> Result<u64, PackError> {
        let offset = self.position();
        let begin = self.waiting.len();
        let sequence = self.frames.len() as u64;
        let sealed = seal(&self.keys, entry, sequence, offset, &mut self.waiting);
        let Some(length) = sealed else {
            self.waiting.truncate(begin);
            return Err(self.failure(io::Error::other("the cipher refused it")));
        };
        let full = self.length() + span(25 + HEAD_BYTES) > self.limit;
        if (full || self.frames.len() >= MAX_FRAMES) && offset > FIRST_FRAME {
            self.waiting.truncate(begin);
            return Err(PackError::Full(self.path.clone()));
        }
        self.frames.push(entry.indexed(offset, length));
        if self.waiting.len() >= STRETCH {
            self.flush()?;
        }
        Ok(offset)
    }

    /// Everything that was appended is stable when this returns.
    pub fn sync(&mut self) -> Result<(), PackError> {
        self.flush()?;
        let synced = self.file.sync_data();
        synced.map_err(|error| self.failure(error))
    }

    /// Writes the End and the trailer. Without them the pack can be read as well, by a scan.
    pub fn finish(mut self) -> Result<(), PackError> {
        let offset = self.position();
        let end = Entry::End(std::mem::take(&mut self.frames));
        let Entry::End(frames) = &end else {
            return Ok(());
        };
        let sequence = frames.len() as u64;
        if seal(&self.keys, &end, sequence, offset, &mut self.waiting).is_none() {
            return Err(self.failure(io::Error::other("the cipher refused the index")));
        }
        let trailer = Header {
            end: Some(offset),
            ..self.header
        };
        self.waiting.extend_from_slice(&trailer.encode());
        self.sync()
    }

    fn flush(&mut self) -> Result<(), PackError> {
        if self.failed {
            let error = io::Error::other("it failed before; what was not synced is lost");
            return Err(self.failure(error));
        }
        let wrote = self.file.write_all(&self.waiting);
        wrote.map_err(|error| self.failure(error))?;
        // Has the kernel write it now, so that the device works while the next stretch is made, and
        // keeps the host's page cache for others. Where it cannot, the sync does it all.
        let length = NonZeroU64::new(self.waiting.len() as u64);
        let _ = fadvise(&self.file, self.written, length, Advice::DontNeed);
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn failure(&mut self, error: io::Error) -> PackError {
        self.failed = true;
        PackError::io("writing", &self.path)(error)
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(crate) fn break_with(&mut self, path: &str) {
        self.file = OpenOptions::new().write(true).open(path).unwrap();
    }

    #[cfg(test)]
    pub(crate) fn limited(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}
