//! Where a VDISK's bytes are: a file, a block device, or an NBD export. For probes of the link: a pattern that is made
//! and a place that forgets.

mod block;
mod file;
mod gather;
mod nbd;
mod pattern;
mod presence;
mod span;
#[cfg(test)]
mod tests;

pub use self::nbd::{NBD_CONNECTIONS, dirty_extents};
pub use span::{Span, zero_chunks};

use crate::trouble::{Trouble, TroubleCode};
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
    /// Bytes that are made, and do not compress; only for reading.
    Pattern {
        /// Other bytes for another seed.
        seed: u64,
    },
    /// Takes everything and keeps nothing; only for writing.
    Discard {},
}

/// A medium that no journal of data can belong to.
const FORGETFUL: u64 = u64::MAX;

impl EndpointSpec {
    /// Demands that such an endpoint can be opened for this.
    pub fn check(&self, access: Access) -> Result<(), &'static str> {
        match (self, access) {
            (EndpointSpec::Pattern { .. }, Access::Write) => Err(
                "an endpoint of type pattern is only for a source; give the destination another one, as discard",
            ),
            (EndpointSpec::Discard {}, Access::Read) => Err(
                "an endpoint of type discard is only for a destination; give the source another one, as pattern",
            ),
            _ => Ok(()),
        }
    }
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
    /// Bytes that are made.
    Pattern(pattern::PatternEndpoint),
    /// Keeps nothing.
    Discard,
}

impl Endpoint {
    /// Opens an endpoint for a VDISK of `size` bytes.
    pub async fn open(spec: &EndpointSpec, size: u64, access: Access) -> Result<Endpoint, Trouble> {
        let wrong = |why: &str| Trouble::new(TroubleCode::EndpointGone, why.to_owned());
        spec.check(access).map_err(wrong)?;
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
            EndpointSpec::Pattern { seed } => {
                Ok(Endpoint::Pattern(pattern::PatternEndpoint::new(*seed)))
            }
            EndpointSpec::Discard {} => Ok(Endpoint::Discard),
        }
    }

    /// Reads exactly `length` bytes.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Trouble> {
        match self {
            Endpoint::File(file) => file.read(offset, length).await,
            Endpoint::Block(block) => block.read(offset, length).await,
            Endpoint::Nbd(nbd) => nbd.read(offset, length).await,
            Endpoint::Pattern(pattern) => Ok(pattern.read(offset, length)),
            Endpoint::Discard => Err(nothing_kept()),
        }
    }

    /// Writes all of `data`; it is durable only after [`Endpoint::flush`].
    pub async fn write(&self, offset: u64, data: Bytes) -> Result<(), Trouble> {
        match self {
            Endpoint::File(file) => file.write(offset, data).await,
            Endpoint::Block(block) => block.write(offset, data).await,
            Endpoint::Nbd(nbd) => nbd.write(offset, data).await,
            Endpoint::Pattern(_) => Err(read_only()),
            Endpoint::Discard => Ok(()),
        }
    }

    /// Makes a range read as zeros and frees its space where possible; durable only after
    /// [`Endpoint::flush`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        match self {
            Endpoint::File(file) => file.zero(offset, length).await,
            Endpoint::Block(block) => block.zero(offset, length).await,
            Endpoint::Nbd(nbd) => nbd.zero(offset, length).await,
            Endpoint::Pattern(_) => Err(read_only()),
            Endpoint::Discard => Ok(()),
        }
    }

    /// Makes everything durable that was written before. An error means that some of it is lost.
    pub async fn flush(&self) -> Result<(), Trouble> {
        match self {
            Endpoint::File(file) => file.flush().await,
            Endpoint::Block(block) => block.flush().await,
            Endpoint::Nbd(nbd) => nbd.flush().await,
            Endpoint::Pattern(_) => Err(read_only()),
            Endpoint::Discard => Ok(()),
        }
    }

    /// Which parts of a range are known to be zero, in order, without gaps.
    pub async fn spans(&self, offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
        match self {
            Endpoint::File(file) => file.spans(offset, length).await,
            Endpoint::Block(block) => block.spans(offset, length).await,
            Endpoint::Nbd(nbd) => nbd.spans(offset, length).await,
            Endpoint::Pattern(_) => Ok(pattern::spans(length)),
            Endpoint::Discard => Err(nothing_kept()),
        }
    }

    /// Demands that the endpoint is still what was opened: not deleted, replaced or resized meanwhile.
    /// An NBD server vouches for its own medium.
    pub async fn check(&self) -> Result<(), Trouble> {
        match self {
            Endpoint::File(file) => file.check().await,
            Endpoint::Block(block) => block.check().await,
            Endpoint::Nbd(_) | Endpoint::Pattern(_) | Endpoint::Discard => Ok(()),
        }
    }

    /// Number of the medium that a journal can recognise it by, 0 if it has none.
    pub fn medium(&self) -> u64 {
        match self {
            Endpoint::File(file) => file.medium(),
            Endpoint::Block(_) | Endpoint::Nbd(_) | Endpoint::Pattern(_) => 0,
            Endpoint::Discard => FORGETFUL,
        }
    }

    /// Whether opening made the endpoint anew, so that no old claim about it can hold.
    pub fn is_new(&self) -> bool {
        match self {
            Endpoint::File(file) => file.is_new(),
            Endpoint::Discard => true,
            Endpoint::Block(_) | Endpoint::Nbd(_) | Endpoint::Pattern(_) => false,
        }
    }
}

fn nothing_kept() -> Trouble {
    let text = "an endpoint of type discard keeps nothing that could be read, compared or verified; \
                it is only for probes of the link";
    Trouble::new(TroubleCode::ReadError, text.to_owned())
}

fn read_only() -> Trouble {
    let text = "an endpoint of type pattern cannot be written";
    Trouble::new(TroubleCode::WriteError, text.to_owned())
}
