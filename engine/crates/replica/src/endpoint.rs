//! Where a VDISK's bytes are: a file, a block device, or an NBD export.

mod block;
mod file;
mod gather;
mod nbd;
mod presence;
mod span;
#[cfg(test)]
mod tests;

pub use self::nbd::{NBD_CONNECTIONS, dirty_extents};
pub use span::{Span, zero_chunks};

use crate::trouble::Trouble;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An endpoint as the API describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum EndpointSpec {
    /// An export of an NBD server on a unix socket.
    Nbd {
        /// Path of the socket.
        socket: PathBuf,
        /// Name of the export.
        export: String,
    },
    /// A regular file.
    File {
        /// Its path.
        path: PathBuf,
        /// At a destination: make a sparse file of the VDISK's size if it is missing.
        #[serde(default)]
        create: bool,
    },
    /// A block device.
    Block {
        /// Its path.
        path: PathBuf,
    },
}

/// What an endpoint is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A source; never written.
    Read,
    /// A destination.
    Write,
}

/// An open endpoint. All offsets and lengths are bytes and must lie inside `size`.
#[derive(Debug)]
pub enum Endpoint {
    /// A regular file.
    File(file::FileEndpoint),
    /// A block device.
    Block(block::BlockEndpoint),
    /// An NBD export.
    Nbd(self::nbd::NbdEndpoint),
}

macro_rules! each {
    ($endpoint:expr, $inner:ident => $call:expr) => {
        match $endpoint {
            Endpoint::File($inner) => $call,
            Endpoint::Block($inner) => $call,
            Endpoint::Nbd($inner) => $call,
        }
    };
}

impl Endpoint {
    /// Opens an endpoint for a VDISK of `size` bytes.
    pub async fn open(spec: &EndpointSpec, size: u64, access: Access) -> Result<Endpoint, Trouble> {
        match spec {
            EndpointSpec::File { path, create } => {
                file::FileEndpoint::open(path, size, access, *create)
                    .await
                    .map(Endpoint::File)
            }
            EndpointSpec::Block { path } => block::BlockEndpoint::open(path, size, access)
                .await
                .map(Endpoint::Block),
            EndpointSpec::Nbd { socket, export } => {
                self::nbd::NbdEndpoint::open(socket, export, size, access)
                    .await
                    .map(Endpoint::Nbd)
            }
        }
    }

    /// Reads exactly `length` bytes.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Trouble> {
        each!(self, inner => inner.read(offset, length).await)
    }

    /// Writes all of `data`; it is durable only after [`Endpoint::flush`].
    pub async fn write(&self, offset: u64, data: Bytes) -> Result<(), Trouble> {
        each!(self, inner => inner.write(offset, data).await)
    }

    /// Makes a range read as zeros and frees its space where possible; durable only after
    /// [`Endpoint::flush`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        each!(self, inner => inner.zero(offset, length).await)
    }

    /// Makes everything durable that was written before. An error means that some of it is lost.
    pub async fn flush(&self) -> Result<(), Trouble> {
        each!(self, inner => inner.flush().await)
    }

    /// Which parts of a range are known to be zero, in order, without gaps.
    pub async fn spans(&self, offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
        each!(self, inner => inner.spans(offset, length).await)
    }

    /// Demands that the endpoint is still what was opened: not deleted, replaced or resized meanwhile.
    /// An NBD server vouches for its own medium.
    pub async fn check(&self) -> Result<(), Trouble> {
        match self {
            Endpoint::File(file) => file.check().await,
            Endpoint::Block(block) => block.check().await,
            Endpoint::Nbd(_) => Ok(()),
        }
    }

    /// Number of the medium that a journal can recognise it by, 0 if it has none.
    pub fn medium(&self) -> u64 {
        match self {
            Endpoint::File(file) => file.medium(),
            Endpoint::Block(_) | Endpoint::Nbd(_) => 0,
        }
    }

    /// Whether opening made the endpoint anew, so that no old claim about it can hold.
    pub fn is_new(&self) -> bool {
        matches!(self, Endpoint::File(file) if file.is_new())
    }
}
