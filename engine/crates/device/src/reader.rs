//! Reads a pack whatever happened to it: by its index, or by a scan that goes on after damage.

use crate::entry::{BLOCK_BYTES, Entry, Indexed};
use crate::frame::{GRID, HEAD_BYTES, Head, MAX_BODY, TAG_BYTES, span};
use crate::header::{FIRST_FRAME, HEADER_BYTES, Header};
use crate::keys::{DeviceId, DeviceKey, PackKeys};
use crate::{Ahead, PackError, Stretch};
use buffers::Buffer;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Read at once by a scan, in bytes.
const STRETCH: usize = 4 << 20;

/// A pack that is open for reading. Work on it blocks.
pub struct PackReader {
    path: PathBuf,
    file: File,
    length: u64,
    keys: PackKeys,
    header: Header,
    end: Option<u64>,
}

/// What a scan comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A frame that opens.
    Entry {
        /// Where it stands, in bytes.
        offset: u64,
        /// What it holds.
        entry: Entry,
    },
    /// Bytes between frames that are none, or a frame that does not open.
    Damaged {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes, up to the next frame or the end.
        bytes: u64,
    },
}

impl PackReader {
    /// Opens a pack of this device. Of its three headers one must be left.
    pub fn open(path: &Path, device: DeviceId, key: &DeviceKey) -> Result<Self, PackError> {
        let file = File::open(path).map_err(PackError::io("opening", path))?;
        // It is read from front to back, and it is no matter where nobody knows that.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let length = file
            .metadata()
            .map_err(PackError::io("opening", path))?
            .len();
        let headers = [
            0,
            HEADER_BYTES as u64,
            length.saturating_sub(HEADER_BYTES as u64),
        ]
        .map(|offset| header_at(&file, offset));
        let no_pack = |why: String| PackError::NoPack {
            path: path.to_owned(),
            why,
        };
        let header = match headers {
            [Ok(header), ..] | [_, Ok(header), _] | [.., Ok(header)] => header,
            [Err(why), ..] => return Err(no_pack(why.to_owned())),
        };
        if header.device != device {
            return Err(no_pack("it belongs to another device".into()));
        }
        let end = headers[2].ok().filter(|last| last.salt == header.salt);
        Ok(PackReader {
            path: path.to_owned(),
            file,
            length,
            keys: PackKeys::derive(key, &header, path)?,
            header,
            end: end.and_then(|last| last.end),
        })
    }

    /// Its number, which may not be that of its name.
    pub fn number(&self) -> u32 {
        self.header.number
    }

    /// The pack's own list of its frames; None if it was not finished, or that part is damaged.
    pub fn index(&self) -> Option<Vec<Indexed>> {
        match self.read(self.end?) {
            Ok(Entry::End(frames)) => Some(frames),
            _ => None,
        }
    }

    /// The entry of the frame at `offset`.
    pub fn read(&self, offset: u64) -> Result<Entry, PackError> {
        let damaged = |why| PackError::Damaged {
            path: self.path.clone(),
            offset,
            why,
        };
        let mut raw = [0; HEAD_BYTES];
        let there = offset.checked_add(HEAD_BYTES as u64);
        if there.is_none_or(|end| end > self.length) {
            return Err(damaged("the pack ends before it"));
        }
        let io = |error| PackError::io("reading", &self.path)(error);
        self.file.read_exact_at(&mut raw, offset).map_err(io)?;
        let head = Head::decode(&self.keys, raw, offset);
        let head = head.ok_or_else(|| damaged("there is no head of a frame"))?;
        if offset + (HEAD_BYTES + head.length) as u64 > self.length {
            return Err(damaged("the pack ends within it"));
        }
        let mut body = Buffer::new(head.length);
        let at = offset + HEAD_BYTES as u64;
        self.file.read_exact_at(&mut body, at).map_err(io)?;
        open(&self.keys, head, &body).ok_or_else(|| damaged("its content is damaged"))
    }

    /// Reads what is ordered there while what was read before is being opened.
    pub fn ahead(&self) -> Result<Ahead, PackError> {
        Ahead::open(&self.path).map_err(PackError::io("opening", &self.path))
    }

    /// What was ordered first of all that was not taken yet. An error is the file system's.
    pub fn take(&self, ahead: &Ahead) -> Result<Stretch, PackError> {
        ahead.take().map_err(PackError::io("reading", &self.path))
    }

    /// As [`PackReader::read`], out of a stretch if all of the frame is in it.
    pub fn read_in(&self, stretch: &Stretch, offset: u64) -> Result<Entry, PackError> {
        let entry = stretch.get(offset, HEAD_BYTES).and_then(|raw| {
            let head = Head::decode(&self.keys, raw.try_into().ok()?, offset)?;
            let body = stretch.get(offset + HEAD_BYTES as u64, head.length)?;
            open(&self.keys, head, body)
        });
        // What is wrong with it is the same from the file.
        entry.map_or_else(|| self.read(offset), Ok)
    }

    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Everything in the pack, in order.
    pub fn scan(&self) -> Scan<'_> {
        Scan {
            pack: self,
            position: FIRST_FRAME,
            buffer: Vec::new(),
            begin: 0,
        }
    }
}

fn header_at(file: &File, offset: u64) -> Result<Header, &'static str> {
    let mut raw = [0; HEADER_BYTES];
    match file.read_exact_at(&mut raw, offset) {
        Ok(()) => Header::decode(&raw),
        Err(_) => Err("its header cannot be read"),
    }
}

fn open(keys: &PackKeys, head: Head, body: &[u8]) -> Option<Entry> {
    // A block's payload is aligned then, and need not be copied to be written.
    let mut plain = Buffer::with_lead(body.len().checked_sub(TAG_BYTES)?, BLOCK_BYTES);
    head.open(keys, body, &mut plain)?;
    Entry::decode(plain.freeze())
}

/// Goes through a pack from its beginning. Memory is bounded by a stretch and a frame.
pub struct Scan<'a> {
    pack: &'a PackReader,
    position: u64,
    /// Bytes of the pack from `begin` on.
    buffer: Vec<u8>,
    begin: u64,
}

/// What stands at a place.
enum Here {
    Entry(Entry, u64),
    /// A head that is right, with something else after it.
    Broken(u64),
    Nothing,
}

/// An error is the file system's, and the last that comes.
impl Iterator for Scan<'_> {
    type Item = Result<Found, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if found.is_err() {
            self.position = self.pack.length;
        }
        found.transpose()
    }
}

impl Scan<'_> {
    fn advance(&mut self) -> Result<Option<Found>, PackError> {
        let begin = self.position;
        let last = self.frames_end();
        while self.position < last {
            match self.here()? {
                Here::Nothing => self.position += GRID,
                _ if self.position > begin => break,
                Here::Entry(entry, span) => {
                    self.position += span;
                    return Ok(Some(Found::Entry {
                        offset: begin,
                        entry,
                    }));
                }
                Here::Broken(span) => {
                    self.position += span;
                    break;
                }
            }
        }
        self.position = self.position.min(last);
        let bytes = self.position.saturating_sub(begin);
        Ok((bytes > 0).then_some(Found::Damaged {
            offset: begin,
            bytes,
        }))
    }

    /// Where frames end: at the trailer, if there is one.
    fn frames_end(&self) -> u64 {
        let trailer = self.pack.end.map_or(0, |_| HEADER_BYTES as u64);
        self.pack.length.saturating_sub(trailer)
    }

    fn here(&mut self) -> Result<Here, PackError> {
        let (pack, position) = (self.pack, self.position);
        let Some(raw) = self.bytes(HEAD_BYTES)? else {
            return Ok(Here::Nothing);
        };
        let mut head = [0; HEAD_BYTES];
        head.copy_from_slice(raw);
        let Some(head) = Head::decode(&self.pack.keys, head, position) else {
            return Ok(Here::Nothing);
        };
        let length = head.length;
        let Some(raw) = self.bytes(HEAD_BYTES + length)? else {
            return Ok(Here::Broken(span(length)));
        };
        Ok(match open(&pack.keys, head, &raw[HEAD_BYTES..]) {
            Some(entry) => Here::Entry(entry, span(length)),
            None => Here::Broken(span(length)),
        })
    }

    /// So many bytes from the position on; None if the pack ends before.
    fn bytes(&mut self, count: usize) -> Result<Option<&[u8]>, PackError> {
        debug_assert!(count <= HEAD_BYTES + MAX_BODY);
        if self.position + count as u64 > self.pack.length {
            return Ok(None);
        }
        let held = self.begin..self.begin + self.buffer.len() as u64;
        if self.position < held.start || self.position + count as u64 > held.end {
            let rest = self.pack.length - self.position;
            let wanted = (count.max(STRETCH) as u64).min(rest) as usize;
            self.buffer.resize(wanted, 0);
            self.begin = self.position;
            let read = self.pack.file.read_exact_at(&mut self.buffer, self.begin);
            read.map_err(PackError::io("reading", &self.pack.path))?;
        }
        let from = (self.position - self.begin) as usize;
        Ok(self.buffer.get(from..from + count))
    }
}
