//! What a reply may contain, as pure functions: no socket, no clock, no allocation by the server's wish.
//!
//! The reader of a connection feeds headers and small payloads in, and is told where the data bytes
//! belong in the request's buffer. A [`Violation`] means that the stream cannot be trusted any more.

mod coverage;
mod error_chunk;
pub(crate) mod extents;
#[cfg(test)]
mod properties;
pub(crate) mod replay;

use std::ops::Range;

use crate::error::{EINVAL, Error};
use crate::protocol::{
    CHUNK_BLOCK_STATUS, CHUNK_FLAG_ERROR, CHUNK_NONE, CHUNK_OFFSET_DATA, CHUNK_OFFSET_HOLE,
    Command, MAX_STRING, REPLY_FLAG_DONE, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use coverage::Coverage;
use extents::ExtentReply;

/// Most error chunks that one reply may hold.
const MAX_ERRORS: u32 = 1024;
/// Longest payload of an error chunk in bytes: a message, its frame, and room for unknown kinds.
const MAX_ERROR_PAYLOAD: u32 = MAX_STRING as u32 + 256;

/// How the server broke the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

impl From<Violation> for Error {
    fn from(violation: Violation) -> Error {
        Error::Protocol(violation.0)
    }
}

/// Shorthand for `Err(Violation(format!(..)))`.
macro_rules! violation {
    ($($text:tt)*) => { Err($crate::reply::Violation(format!($($text)*))) };
}
pub(crate) use violation;

/// The first 16 bytes of any reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A simple reply; data follows if it answers a read without error.
    Simple { errno: u32, cookie: u64 },
    /// A chunk of a structured reply; 4 bytes of payload length follow, then the payload.
    Chunk { flags: u16, kind: u16, cookie: u64 },
}

impl Header {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn parse(bytes: &[u8; Header::SIZE]) -> Result<Header, Violation> {
        let magic = be32(&bytes[0..4]);
        let word = be32(&bytes[4..8]);
        let cookie = be64(&bytes[8..16]);
        match magic {
            SIMPLE_REPLY_MAGIC => Ok(Header::Simple {
                errno: word,
                cookie,
            }),
            STRUCTURED_REPLY_MAGIC => {
                let flags = (word >> 16) as u16;
                let kind = (word & 0xffff) as u16;
                Ok(Header::Chunk {
                    flags,
                    kind,
                    cookie,
                })
            }
            other => violation!("a reply begins with {other:#010x}, no reply magic"),
        }
    }
}

/// What was asked, as far as the reply depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    /// Bytes.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u32,
}

/// What follows a chunk's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// So many bytes for [`Assembly::fields`].
    Fields(usize),
    /// 8 bytes for [`Assembly::place_data`], then so many bytes of data.
    Data(u32),
}

/// One reply in the making.
#[derive(Debug)]
pub(crate) struct Assembly {
    request: Request,
    structured: bool,
    coverage: Coverage,
    extents: ExtentReply,
    errors: u32,
    error: Option<Error>,
}

impl Assembly {
    /// `structured`: structured replies were negotiated. `contexts`: ids of all negotiated contexts.
    /// `wanted`: the one whose extents are kept.
    pub(crate) fn new(
        request: Request,
        structured: bool,
        contexts: &[u32],
        wanted: u32,
    ) -> Assembly {
        Assembly {
            request,
            structured,
            coverage: Coverage::new(request.length),
            extents: ExtentReply::new(request.length, contexts, wanted),
            errors: 0,
            error: None,
        }
    }

    /// Takes a simple reply, which is always the last. Returns the bytes of data that follow.
    pub(crate) fn simple(&mut self, errno: u32) -> Result<usize, Violation> {
        let command = self.request.command;
        if self.errors > 0 || !self.coverage.is_empty() || !self.extents.is_empty() {
            return violation!("a simple reply in the middle of a structured one");
        }
        if errno != 0 {
            self.fail(errno, self.request.offset, String::new());
            return Ok(0);
        }
        match command {
            Command::Read if self.structured => {
                violation!("a simple reply to a read although structured replies were agreed")
            }
            Command::Read => {
                self.coverage.add(0..self.request.length)?;
                Ok(self.request.length as usize)
            }
            Command::BlockStatus => violation!("a simple reply to a block status request"),
            _ => Ok(0),
        }
    }

    /// Takes the header of a chunk, and says what to read next.
    pub(crate) fn chunk(&mut self, flags: u16, kind: u16, length: u32) -> Result<Body, Violation> {
        let command = self.request.command;
        if !self.structured {
            return violation!("a structured reply although none were agreed");
        }
        match (kind, command) {
            (CHUNK_NONE, _) if length != 0 => {
                violation!("an empty chunk with a payload of {length} bytes")
            }
            (CHUNK_NONE, _) if flags & REPLY_FLAG_DONE == 0 => {
                violation!("an empty chunk that is not the last")
            }
            (CHUNK_NONE, _) => Ok(Body::Empty),
            (CHUNK_OFFSET_DATA, Command::Read) => match length.checked_sub(8) {
                None | Some(0) => violation!("a data chunk of {length} bytes holds no data"),
                Some(data) if data > self.request.length => {
                    violation!("{data} bytes of data for a read of {}", self.request.length)
                }
                Some(data) => Ok(Body::Data(data)),
            },
            (CHUNK_OFFSET_HOLE, Command::Read) if length == 12 => Ok(Body::Fields(12)),
            (CHUNK_OFFSET_HOLE, Command::Read) => {
                violation!("a hole chunk of {length} bytes instead of 12")
            }
            (CHUNK_BLOCK_STATUS, Command::BlockStatus) => {
                extents::check_payload(length)?;
                Ok(Body::Fields(length as usize))
            }
            (kind, _) if kind & CHUNK_FLAG_ERROR != 0 => self.error_chunk(length),
            (kind, command) => violation!("a chunk of kind {kind} in the reply to a {command}"),
        }
    }

    fn error_chunk(&mut self, length: u32) -> Result<Body, Violation> {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            return violation!("more than {MAX_ERRORS} error chunks in one reply");
        }
        if !(6..=MAX_ERROR_PAYLOAD).contains(&length) {
            return violation!("an error chunk of {length} bytes");
        }
        Ok(Body::Fields(length as usize))
    }

    /// Takes the offset of a data chunk. Returns where in the request's buffer the data belongs.
    pub(crate) fn place_data(
        &mut self,
        offset: u64,
        length: u32,
    ) -> Result<Range<usize>, Violation> {
        self.place(offset, length)
    }

    /// Takes the payload of a chunk whose body was [`Body::Fields`]. Returns the part of the
    /// request's buffer that is zeros by it.
    pub(crate) fn fields(&mut self, kind: u16, payload: &[u8]) -> Result<Range<usize>, Violation> {
        match kind {
            CHUNK_OFFSET_HOLE => {
                let size = be32(&payload[8..12]);
                if size == 0 {
                    return violation!("a hole of no bytes");
                }
                self.place(be64(&payload[0..8]), size)
            }
            CHUNK_BLOCK_STATUS => self.extents.take(payload).map(|()| 0..0),
            kind => {
                let told = error_chunk::parse(kind, payload, self.request)?;
                self.fail(told.errno, told.offset, told.message);
                Ok(0..0)
            }
        }
    }

    /// Takes the end of the reply: is it whole?
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        if self.error.is_some() {
            return Ok(());
        }
        match self.request.command {
            Command::Read => self.coverage.check_full(),
            Command::BlockStatus => self.extents.check_present(),
            _ => Ok(()),
        }
    }

    /// The first error of the reply, or its extents (empty unless they were asked for).
    pub(crate) fn outcome(self) -> Result<Vec<crate::Extent>, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.extents.into_extents()),
        }
    }

    fn place(&mut self, offset: u64, length: u32) -> Result<Range<usize>, Violation> {
        let Request {
            offset: start,
            length: asked,
            ..
        } = self.request;
        let at = offset
            .checked_sub(start)
            .and_then(|at| u32::try_from(at).ok());
        let range = at.and_then(|at| Some(at..at.checked_add(length)?));
        let Some(range) = range.filter(|range| range.end <= asked) else {
            return violation!(
                "{length} bytes at {offset} in the reply to a read of {asked} at {start}"
            );
        };
        self.coverage.add(range.clone())?;
        Ok(range.start as usize..range.end as usize)
    }

    /// Keeps the first error; later ones of the same reply add nothing a caller could use.
    fn fail(&mut self, errno: u32, offset: u64, message: String) {
        let Request {
            command, length, ..
        } = self.request;
        let errno = i32::try_from(errno).unwrap_or(EINVAL);
        self.error.get_or_insert(Error::Server {
            command,
            errno,
            offset,
            length,
            message,
        });
    }
}

/// Big-endian number out of at most 4 bytes.
pub(crate) fn be32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Big-endian number out of at most 8 bytes.
pub(crate) fn be64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
