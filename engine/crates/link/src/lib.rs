//! The link: the wire protocol between a source engine and a destination engine.
//!
//! A link *session* is a set of TLS 1.3 connections that come and go. Every byte on them is a
//! [`frame`] that holds one [`Message`]. The messages are described for other implementers in
//! `docs/link-protocol.md`. This crate knows frames, messages, negotiation, certificates and
//! sockets; it knows no VDISK, no file and no scheduler.

pub mod connection;
pub mod frame;
pub mod handshake;
pub mod limits;
pub mod liveness;
pub mod message;
pub mod runs;
pub mod socket;
pub mod tcp;
pub mod tls;
mod wire;

pub use connection::{Connection, FrameReader, FrameWriter};
pub use message::{Compression, Data, Hello, Message, Patch, RefuseCode};
pub use runs::StableRuns;
pub use wire::DecodeError;

/// The version of the protocol that this crate speaks. Both ends must name the same one.
pub const PROTOCOL_VERSION: u32 = 3;

/// Why a connection of the link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket or TLS failed.
    #[error("link connection failed while {action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The peer sent bytes that are not a message of this protocol.
    #[error("the peer broke the link protocol: {0}")]
    Decode(#[from] DecodeError),
    /// The peer sent a legal message at the wrong moment.
    #[error("the peer broke the link protocol: {0}")]
    Protocol(String),
    /// The peer refused the session.
    #[error("the destination refused the session ({code:?}): {message}")]
    Refused {
        /// Why, for programs.
        code: RefuseCode,
        /// Why, for people.
        message: String,
    },
    /// The other end closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing was heard from the peer for too long.
    #[error("nothing was heard from the peer for {0:.1} seconds")]
    Silent(f64),
    /// The other end found the connection dead.
    #[error("the peer gave the connection up")]
    GivenUp,
    /// A certificate or key cannot be used.
    #[error("certificates: {0}")]
    Certificate(String),
}

impl LinkError {
    /// Wraps an I/O error with what was being done.
    pub fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> LinkError {
        move |source| LinkError::Io { action, source }
    }
}
