//! Chunks that tell of an error.

use super::{Request, Violation, be32, be64, violation};
use crate::protocol::{CHUNK_ERROR_OFFSET, CHUNK_FLAG_ERROR, MAX_STRING};
use crate::text::printable;

/// `NBD_REPLY_TYPE_ERROR`
const CHUNK_ERROR: u16 = CHUNK_FLAG_ERROR + 1;

#[derive(Debug)]
pub(crate) struct ServerError {
    pub(crate) errno: u32,
    /// Bytes: the failed byte if the server told, else the start of the request.
    pub(crate) offset: u64,
    pub(crate) message: String,
}

/// All kinds, known or not, begin with errno, length of the message, message.
pub(crate) fn parse(kind: u16, payload: &[u8], request: Request) -> Result<ServerError, Violation> {
    let (Some(head), Some(rest)) = (payload.get(..6), payload.get(6..)) else {
        return violation!("an error chunk of {} bytes", payload.len());
    };
    let errno = be32(&head[..4]);
    let message_length = be32(&head[4..6]) as usize;
    if errno == 0 {
        return violation!("an error chunk without an error");
    }
    if message_length > MAX_STRING || message_length > rest.len() {
        return violation!(
            "an error message of {message_length} bytes in {}",
            payload.len()
        );
    }
    let (message, rest) = rest.split_at(message_length);
    let offset = match (kind, rest.len()) {
        (CHUNK_ERROR_OFFSET, 8) => failed_at(be64(rest), request)?,
        (CHUNK_ERROR_OFFSET, _) | (CHUNK_ERROR, 1..) => {
            return violation!("an error chunk of kind {kind} of {} bytes", payload.len());
        }
        _ => request.offset,
    };
    Ok(ServerError {
        errno,
        offset,
        message: printable(message),
    })
}

fn failed_at(offset: u64, request: Request) -> Result<u64, Violation> {
    match offset.checked_sub(request.offset) {
        Some(at) if at < u64::from(request.length) => Ok(offset),
        _ => violation!(
            "an error at {offset}, outside {} bytes at {}",
            request.length,
            request.offset
        ),
    }
}
