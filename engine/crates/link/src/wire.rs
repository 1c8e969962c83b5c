//! Little-endian reading and writing with a check before every step.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body ends before the field.
    #[error("message is too short for its field {0}")]
    Short(&'static str),
    /// The body goes on after the last field.
    #[error("message has {0} bytes too many")]
    Long(usize),
    /// A field holds a value that is not allowed.
    #[error("field {field} holds {value}, which is not allowed")]
    Value {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Text(&'static str),
    /// No message has this type.
    #[error("unknown message type {0}")]
    Type(u8),
    /// A frame announces more bytes than are allowed.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// The frame header's reserved bytes are not zero.
    #[error("reserved bytes of a frame header are not zero")]
    Reserved,
}

/// Takes fields off the front of a message's body.
pub(crate) struct Fields(Bytes);

impl Fields {
    pub(crate) fn new(body: Bytes) -> Self {
        Fields(body)
    }

    fn need(&self, bytes: usize, field: &'static str) -> Result<(), DecodeError> {
        if self.0.remaining() < bytes {
            return Err(DecodeError::Short(field));
        }
        Ok(())
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.need(1, field)?;
        Ok(self.0.get_u8())
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Value {
                field,
                value: u64::from(other),
            }),
        }
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.need(2, field)?;
        Ok(self.0.get_u16_le())
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.need(4, field)?;
        Ok(self.0.get_u32_le())
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.need(8, field)?;
        Ok(self.0.get_u64_le())
    }

    pub(crate) fn hash(&mut self, field: &'static str) -> Result<[u8; 32], DecodeError> {
        self.array(field)
    }

    pub(crate) fn id(&mut self, field: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(field)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        self.need(N, field)?;
        let mut array = [0; N];
        self.0.copy_to_slice(&mut array);
        Ok(array)
    }

    /// A text with a 16-bit length in front.
    pub(crate) fn text(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<String, DecodeError> {
        let length = usize::from(self.u16(field)?);
        if length > limit {
            return Err(DecodeError::Value {
                field,
                value: length as u64,
            });
        }
        self.need(length, field)?;
        let raw = self.0.split_to(length);
        String::from_utf8(raw.to_vec()).map_err(|_| DecodeError::Text(field))
    }

    /// A 32-bit count that is at most `limit` and whose items are all still there.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        limit: usize,
        item_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        if count > limit {
            return Err(DecodeError::Value {
                field,
                value: count as u64,
            });
        }
        self.need(count * item_bytes, field)?;
        Ok(count)
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        self.0.split_to(self.0.len())
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.0.remaining() {
            0 => Ok(()),
            more => Err(DecodeError::Long(more)),
        }
    }
}

/// Writes a text with a 16-bit length, cut at a character border if it is over the limit.
pub(crate) fn put_text(out: &mut BytesMut, text: &str, limit: usize) {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_u16_le(end as u16);
    out.put_slice(&text.as_bytes()[..end]);
}
