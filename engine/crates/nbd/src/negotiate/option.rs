//! Options and their replies, each with a limit.

use std::fmt;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Error;
use crate::error::broken;
use crate::protocol::{
    OPT_EXPORT_NAME, OPT_GO, OPT_LIST, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, REP_ACK, REP_FLAG_ERROR, refusal_name,
};
use crate::reply::{be32, be64};
use crate::stream::Stream;
use crate::text::printable;

/// Longest payload of one option reply in bytes: two strings of 4096 bytes and their frame fit.
const MAX_REPLY: u32 = 16 << 10;
/// Most replies to one option.
const MAX_REPLIES: usize = 1024;

/// How the replies to an option ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Accepted,
    Refused { kind: u32, message: String },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Accepted => f.write_str("accepted"),
            Ending::Refused { kind, message } if message.is_empty() => {
                f.write_str(refusal_name(*kind))
            }
            Ending::Refused { kind, message } => {
                write!(f, "{} (it says: {message})", refusal_name(*kind))
            }
        }
    }
}

/// The option phase on a stream.
pub(crate) struct Options<'a> {
    stream: &'a mut dyn Stream,
}

impl<'a> Options<'a> {
    pub(crate) fn new(stream: &'a mut dyn Stream) -> Options<'a> {
        Options { stream }
    }

    pub(crate) fn into_stream(self) -> &'a mut dyn Stream {
        self.stream
    }

    pub(crate) async fn send(&mut self, option: u32, payload: &[u8]) -> Result<(), Error> {
        let mut message = Vec::with_capacity(16 + payload.len());
        message.extend(OPTION_MAGIC.to_be_bytes());
        message.extend(option.to_be_bytes());
        message.extend((payload.len() as u32).to_be_bytes());
        message.extend(payload);
        self.stream.write_all(&message).await.map_err(io_error)
    }

    /// Reads all replies to `option`; `take` gets kind and payload of those between.
    pub(crate) async fn replies(
        &mut self,
        option: u32,
        mut take: impl FnMut(u32, &[u8]) -> Result<(), Error>,
    ) -> Result<Ending, Error> {
        for _ in 0..MAX_REPLIES {
            let (kind, payload) = self.reply(option).await?;
            if kind == REP_ACK {
                return Ok(Ending::Accepted);
            }
            if kind & REP_FLAG_ERROR != 0 {
                return Ok(Ending::Refused {
                    kind,
                    message: printable(&payload),
                });
            }
            take(kind, &payload)?;
        }
        broken!("more than {MAX_REPLIES} replies to {}", option_name(option))
    }

    async fn reply(&mut self, option: u32) -> Result<(u32, Vec<u8>), Error> {
        let mut header = [0; 20];
        self.stream
            .read_exact(&mut header)
            .await
            .map_err(io_error)?;
        let magic = be64(&header[..8]);
        let answered = be32(&header[8..12]);
        let length = be32(&header[16..20]);
        if magic != OPTION_REPLY_MAGIC {
            return broken!(
                "the reply to {} begins with {magic:#018x}",
                option_name(option)
            );
        }
        if answered != option {
            return broken!(
                "{} was answered with a reply to option {answered}",
                option_name(option)
            );
        }
        if length > MAX_REPLY {
            return broken!("a reply to {} of {length} bytes", option_name(option));
        }
        let mut payload = vec![0; length as usize];
        self.stream
            .read_exact(&mut payload)
            .await
            .map_err(io_error)?;
        Ok((be32(&header[12..16]), payload))
    }
}

pub(crate) fn option_name(option: u32) -> &'static str {
    match option {
        OPT_EXPORT_NAME => "NBD_OPT_EXPORT_NAME",
        OPT_LIST => "NBD_OPT_LIST",
        OPT_GO => "NBD_OPT_GO",
        OPT_STRUCTURED_REPLY => "NBD_OPT_STRUCTURED_REPLY",
        OPT_SET_META_CONTEXT => "NBD_OPT_SET_META_CONTEXT",
        _ => "an option",
    }
}

pub(crate) fn io_error(source: io::Error) -> Error {
    Error::io("NBD handshake", source)
}
