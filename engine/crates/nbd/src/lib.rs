//! An asynchronous NBD client (fixed newstyle handshake) for Drover's engine.
//!
//! * [`Client`] is one connection: requests are pipelined, replies may come in any order.
//! * [`Pool`] is several connections to one export.
//!
//! The server is not trusted: whatever it sends ends in data that was checked, or in an [`Error`].
//! The handshake has a time limit ([`HANDSHAKE_TIMEOUT`]), a data request has none, for a slow disk
//! is legal; drop the future to stop waiting. That never harms the connection.

mod client;
mod error;
mod export;
mod negotiate;
mod pool;
mod protocol;
mod reply;
mod stream;
mod text;
mod transmission;

pub use client::Client;
pub use error::{
    EINVAL, EIO, ENOMEM, ENOSPC, ENOTSUP, EOVERFLOW, EPERM, ESHUTDOWN, Error, errno_name,
};
pub use export::{Address, Export, ExportInfo, Extent};
pub use negotiate::HANDSHAKE_TIMEOUT;
pub use pool::Pool;
pub use protocol::{BASE_ALLOCATION, Command, DIRTY, DIRTY_BITMAP, STATE_HOLE, STATE_ZERO};

/// The reply parser, for fuzzing only: no part of the interface.
#[doc(hidden)]
pub use reply::replay::replay;
