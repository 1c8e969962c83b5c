//! What can go wrong between this client and an NBD server.

use std::io;
use std::sync::Arc;

use crate::protocol::Command;

/// `EPERM` as NBD sends it: the export does not permit the request.
pub const EPERM: i32 = 1;
/// `EIO` as NBD sends it: the medium failed.
pub const EIO: i32 = 5;
/// `ENOMEM` as NBD sends it: the server ran out of memory.
pub const ENOMEM: i32 = 12;
/// `EINVAL` as NBD sends it: the server found the request senseless.
pub const EINVAL: i32 = 22;
/// `ENOSPC` as NBD sends it: no space is left behind the export.
pub const ENOSPC: i32 = 28;
/// `EOVERFLOW` as NBD sends it: the reply would be too large.
pub const EOVERFLOW: i32 = 75;
/// `ENOTSUP` as NBD sends it: the server cannot do this.
pub const ENOTSUP: i32 = 95;
/// `ESHUTDOWN` as NBD sends it: the server is about to go away.
pub const ESHUTDOWN: i32 = 108;

/// Why a request, or the whole connection, failed.
///
/// Cheap to clone: when a connection breaks, each request in flight gets its copy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The operating system failed us; the connection is unusable.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, and to what.
        action: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The server broke the NBD specification; the connection was given up.
    #[error("the NBD server broke the protocol: {0}")]
    Protocol(String),
    /// The server refused an option of the handshake, for example an export it does not have.
    #[error("the NBD server refused {option}: {reason}")]
    Refused {
        /// Name of the option, for example `NBD_OPT_GO`.
        option: &'static str,
        /// The kind of refusal and the server's own words.
        reason: String,
    },
    /// The server answered a request with an error; the connection goes on.
    #[error("{command} of {length} bytes at {offset} failed at the NBD server: {} {message}", errno_name(*errno))]
    Server {
        /// The request that failed.
        command: Command,
        /// The error number of the wire (Linux numbering).
        errno: i32,
        /// Offset in bytes: of the failed byte if the server told, else of the request.
        offset: u64,
        /// Length of the request in bytes.
        length: u32,
        /// The server's own words, may be empty.
        message: String,
    },
    /// The export cannot do what was asked; nothing was sent.
    #[error("the NBD export does not support {0}")]
    Unsupported(&'static str),
    /// The connection is closed: by the server, or by `disconnect`.
    #[error("the NBD connection is closed; connect again")]
    Closed,
    /// A length of the caller is over a limit (end of the export, length of a name); nothing was sent.
    #[error("{what} is too large: {size}, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The value asked for.
        size: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Offset or length is no multiple of the export's minimum block; nothing was sent.
    #[error(
        "{length} bytes at {offset} are not aligned to the export's minimum block of {minimum_block} bytes"
    )]
    Misaligned {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// What both must be multiples of, in bytes.
        minimum_block: u32,
    },
    /// Connecting and handshake took longer than [`crate::HANDSHAKE_TIMEOUT`].
    #[error(
        "no NBD handshake with {address} within {seconds} s; is it an NBD server, and does it accept one more client?"
    )]
    HandshakeTimeout {
        /// Whom we called.
        address: String,
        /// How long we waited, in seconds.
        seconds: u64,
    },
}

impl Error {
    /// The error number the server (wire numbering) or the operating system gave, if any.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Server { errno, .. } => Some(*errno),
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the connection is still usable after this error.
    pub fn connection_survives(&self) -> bool {
        matches!(
            self,
            Error::Server { .. }
                | Error::Unsupported(_)
                | Error::TooLarge { .. }
                | Error::Misaligned { .. }
        )
    }

    /// An end of file means that the server closed the connection, all else is [`Error::Io`].
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Io {
                action: action.into(),
                source: Arc::new(source),
            },
        }
    }
}

/// `Err` of [`Error::Protocol`], with its words.
macro_rules! broken {
    ($($text:tt)*) => { Err($crate::Error::Protocol(format!($($text)*))) };
}
pub(crate) use broken;

/// The symbolic name of an error number of the NBD specification.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        EPERM => "EPERM",
        EIO => "EIO",
        ENOMEM => "ENOMEM",
        EINVAL => "EINVAL",
        ENOSPC => "ENOSPC",
        EOVERFLOW => "EOVERFLOW",
        ENOTSUP => "ENOTSUP",
        ESHUTDOWN => "ESHUTDOWN",
        other => return format!("error {other}"),
    };
    name.to_owned()
}
