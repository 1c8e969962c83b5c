//! What stops one VDISK, and where.

use drover_link::message::FaultCode;
use serde::Serialize;

/// The kinds of trouble, as the API names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleCode {
    /// Reading the VDISK failed (at either end; the message says which).
    ReadError,
    /// Writing or flushing the destination failed.
    WriteError,
    /// The destination is full.
    NoSpace,
    /// The sizes of endpoint and VDISK, or of both ends, differ.
    SizeMismatch,
    /// The journal cannot be written.
    JournalError,
    /// The endpoint cannot be reached (any more).
    EndpointGone,
    /// The destination does not know the VDISK (yet).
    UnknownVdisk,
    /// The destination is fenced.
    Fenced,
}

/// Why a VDISK is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// For programs.
    pub code: TroubleCode,
    /// For people: what was being done, to what, and why it failed.
    pub message: String,
    /// Where in the VDISK, in bytes, if known.
    pub offset: Option<u64>,
    /// How many bytes there, if known.
    pub length: Option<u64>,
}

impl Trouble {
    /// Trouble without a place.
    pub fn new(code: TroubleCode, message: impl Into<String>) -> Self {
        Trouble {
            code,
            message: message.into(),
            offset: None,
            length: None,
        }
    }

    /// Trouble at a byte offset.
    pub fn at(code: TroubleCode, offset: u64, message: impl Into<String>) -> Self {
        Trouble {
            code,
            message: message.into(),
            offset: Some(offset),
            length: None,
        }
    }

    /// As it travels over the link.
    pub fn fault_code(&self) -> FaultCode {
        match self.code {
            TroubleCode::ReadError => FaultCode::Read,
            TroubleCode::WriteError => FaultCode::Write,
            TroubleCode::NoSpace => FaultCode::NoSpace,
            TroubleCode::SizeMismatch => FaultCode::SizeMismatch,
            TroubleCode::JournalError => FaultCode::Journal,
            TroubleCode::EndpointGone => FaultCode::EndpointGone,
            TroubleCode::UnknownVdisk => FaultCode::UnknownVdisk,
            TroubleCode::Fenced => FaultCode::Fenced,
        }
    }

    /// As it came over the link.
    pub fn from_fault(code: FaultCode, message: String, offset: Option<u64>) -> Self {
        let code = match code {
            FaultCode::Read => TroubleCode::ReadError,
            FaultCode::Write | FaultCode::Corrupt => TroubleCode::WriteError,
            FaultCode::NoSpace => TroubleCode::NoSpace,
            FaultCode::SizeMismatch => TroubleCode::SizeMismatch,
            FaultCode::Journal => TroubleCode::JournalError,
            FaultCode::EndpointGone => TroubleCode::EndpointGone,
            FaultCode::UnknownVdisk => TroubleCode::UnknownVdisk,
            FaultCode::Fenced => TroubleCode::Fenced,
        };
        Trouble {
            code,
            message: format!("destination: {message}"),
            offset,
            length: None,
        }
    }
}
