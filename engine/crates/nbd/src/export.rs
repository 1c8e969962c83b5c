//! Where an export is, and what its server says about it.

use std::fmt;
use std::path::PathBuf;

/// Where an NBD server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(host) => write!(f, "tcp:{host}"),
        }
    }
}

/// One export of one server, and the meta contexts wanted from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Where the server listens.
    pub address: Address,
    /// Name of the export; empty = the server's default.
    pub name: String,
    /// Full names of meta contexts, for example `base:allocation`, `qemu:dirty-bitmap:drover-7`.
    pub meta_contexts: Vec<String>,
}

/// What the server says of the export. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Size of the export.
    pub size: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// `flush` is understood.
    pub can_flush: bool,
    /// Writes can be made durable one by one.
    pub can_fua: bool,
    /// Trim is understood.
    pub can_trim: bool,
    /// `write_zeroes` needs no data on the wire.
    pub can_write_zeroes: bool,
    /// The server can tell whether zeroing would be slow.
    pub can_fast_zero: bool,
    /// Reads can be asked for in one piece.
    pub can_df: bool,
    /// A flush on one connection covers the writes of all connections.
    pub can_multi_conn: bool,
    /// Offsets and lengths must be multiples of this.
    pub minimum_block: u32,
    /// Requests of multiples of this are fast.
    pub preferred_block: u32,
    /// Longest read or write of one request; longer ones are split by this client.
    pub maximum_payload: u32,
    /// The meta contexts that the server granted, out of those asked for.
    pub meta_contexts: Vec<String>,
    /// The server sends structured replies.
    pub structured_replies: bool,
}

/// A run of bytes of one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never zero.
    pub length: u64,
    /// Bits of the meta context, for example [`crate::STATE_HOLE`] or [`crate::DIRTY`].
    pub flags: u32,
}
