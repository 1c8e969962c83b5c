//! Runs recorded bytes through the reply parser, as a connection would: for property tests and fuzzing.

use super::{Assembly, Body, Header, Request, Violation, be32, be64};
use crate::protocol::REPLY_FLAG_DONE;
use crate::{Command, Error, Extent};

/// What one reply came to: the buffer (zeros where nothing was sent) and the extents.
pub type Answer = (Vec<u8>, Vec<Extent>);

/// `Ok(None)`: the bytes end before the reply does. Cookies are not looked at. The extents are those
/// of the first of `contexts`.
pub fn replay(
    (command, offset, length): (Command, u64, u32),
    structured: bool,
    contexts: &[u32],
    mut bytes: &[u8],
) -> Result<Option<Answer>, Error> {
    let request = Request {
        command,
        offset,
        length,
    };
    let mut assembly = Assembly::new(
        request,
        structured,
        contexts,
        contexts.first().copied().unwrap_or(0),
    );
    let mut buffer = vec![0; request.length as usize];
    loop {
        match step(&mut assembly, &mut buffer, &mut bytes)? {
            None => return Ok(None),
            Some(false) => {}
            Some(true) => {
                assembly.finish()?;
                return assembly.outcome().map(|extents| Some((buffer, extents)));
            }
        }
    }
}

/// One simple reply or chunk. `Some(true)`: it was the last. `None`: bytes are missing.
fn step(
    assembly: &mut Assembly,
    buffer: &mut [u8],
    bytes: &mut &[u8],
) -> Result<Option<bool>, Violation> {
    let Some(head) = take(bytes, Header::SIZE) else {
        return Ok(None);
    };
    let mut header = [0; Header::SIZE];
    header.copy_from_slice(head);
    match Header::parse(&header)? {
        Header::Simple { errno, .. } => {
            let length = assembly.simple(errno)?;
            let Some(data) = take(bytes, length) else {
                return Ok(None);
            };
            buffer[..length].copy_from_slice(data);
            Ok(Some(true))
        }
        Header::Chunk { flags, kind, .. } => {
            let Some(length) = take(bytes, 4) else {
                return Ok(None);
            };
            match assembly.chunk(flags, kind, be32(length))? {
                Body::Empty => {}
                Body::Fields(length) => {
                    let Some(payload) = take(bytes, length) else {
                        return Ok(None);
                    };
                    assembly.fields(kind, payload)?;
                }
                Body::Data(length) => {
                    let Some(offset) = take(bytes, 8) else {
                        return Ok(None);
                    };
                    let range = assembly.place_data(be64(offset), length)?;
                    let Some(data) = take(bytes, length as usize) else {
                        return Ok(None);
                    };
                    buffer[range].copy_from_slice(data);
                }
            }
            Ok(Some(flags & REPLY_FLAG_DONE != 0))
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}
