//! The codes that travel as one byte.

use super::{Compression, FaultCode, RefuseCode};
use crate::wire::DecodeError;

impl RefuseCode {
    pub(in crate::message) fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        use RefuseCode::*;
        [
            Protocol,
            TokenTooLow,
            Fenced,
            UnknownSession,
            NotReady,
            Malformed,
        ]
        .into_iter()
        .find(|code| *code as u8 == raw)
        .ok_or(DecodeError::Value {
            field: "refuse code",
            value: u64::from(raw),
        })
    }
}

impl Compression {
    pub(in crate::message) fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        use Compression::*;
        [None, Lz4, Zstd, Patch]
            .into_iter()
            .find(|code| *code as u8 == raw)
            .ok_or(DecodeError::Value {
                field: "compression",
                value: u64::from(raw),
            })
    }
}

impl FaultCode {
    pub(in crate::message) fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        use FaultCode::*;
        [
            Write,
            NoSpace,
            Journal,
            Read,
            Corrupt,
            EndpointGone,
            UnknownVdisk,
            SizeMismatch,
            Fenced,
        ]
        .into_iter()
        .find(|code| *code as u8 == raw)
        .ok_or(DecodeError::Value {
            field: "fault code",
            value: u64::from(raw),
        })
    }
}
