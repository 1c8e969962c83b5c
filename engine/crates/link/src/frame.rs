//! A frame: a fixed header of 8 bytes, then the body of one message.
//!
//! ```text
//! byte 0      type of the message
//! byte 1..4   zero (reserved)
//! byte 4..8   length of the body in bytes, little-endian
//! ```
//! The header carries no checksum: TLS authenticates every byte, and the content of a chunk is
//! hashed from end to end besides (see [`crate::message::Data`]).

use crate::wire::DecodeError;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type of the message.
    pub kind: u8,
    /// Bytes of the body.
    pub length: usize,
}

impl Header {
    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[0] = self.kind;
        raw[4..].copy_from_slice(&(self.length as u32).to_le_bytes());
        raw
    }

    /// Reads a header; a body over `limit` bytes is refused before anything is allocated for it.
    pub fn decode(raw: [u8; HEADER_BYTES], limit: usize) -> Result<Self, DecodeError> {
        let [kind, r1, r2, r3, l0, l1, l2, l3] = raw;
        if [r1, r2, r3] != [0, 0, 0] {
            return Err(DecodeError::Reserved);
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > limit {
            return Err(DecodeError::TooLong { length, limit });
        }
        Ok(Header { kind, length })
    }
}
