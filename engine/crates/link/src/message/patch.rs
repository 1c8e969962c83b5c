//! The payload of Data that carries only some blocks of its chunk.

use super::Compression;
use crate::wire::{DecodeError, Fields};
use bytes::{BufMut, Bytes, BytesMut};

/// Blocks of one chunk; the others are at the destination already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Bit i stands for block i of the chunk; neither none nor all.
    pub blocks: u8,
    /// How the blocks are compressed; never [`Compression::Patch`].
    pub compression: Compression,
    /// The blocks one after the other, compressed as one.
    pub packed: Bytes,
}

impl Patch {
    /// The payload of Data.
    pub fn encode(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(2 + self.packed.len());
        payload.put_u8(self.blocks);
        payload.put_u8(self.compression as u8);
        payload.put_slice(&self.packed);
        payload.freeze()
    }

    /// Reads the payload of Data whose compression is [`Compression::Patch`].
    pub fn decode(payload: Bytes) -> Result<Patch, DecodeError> {
        let mut fields = Fields::new(payload);
        let blocks = fields.u8("blocks")?;
        let compression = Compression::from_wire(fields.u8("compression of blocks")?)?;
        let packed = fields.rest();
        let refused = |field, value: u8| DecodeError::Value {
            field,
            value: value.into(),
        };
        if blocks == 0 || blocks == u8::MAX {
            return Err(refused("blocks", blocks));
        }
        if compression == Compression::Patch {
            return Err(refused("compression of blocks", compression as u8));
        }
        Ok(Patch {
            blocks,
            compression,
            packed,
        })
    }
}
