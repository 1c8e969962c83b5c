//! The fixed newstyle handshake, up to the transmission phase.

mod constraints;
mod option;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::broken;
use crate::protocol::{
    FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INFO_BLOCK_SIZE, INFO_EXPORT, MAX_STRING, NBD_MAGIC,
    OLDSTYLE_MAGIC, OPT_EXPORT_NAME, OPT_GO, OPT_LIST, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY,
    OPTION_MAGIC, REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO, REP_META_CONTEXT, REP_SERVER,
};
use crate::reply::{be32, be64};
use crate::stream::Stream;
use crate::text::printable;
use crate::{Error, Export, ExportInfo};
use constraints::{BlockSizes, export_info, parse_block_sizes};
use option::{Ending, Options, io_error, option_name};

/// Longest time for connecting and handshake together.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most export names that an error message lists.
const LISTED_EXPORTS: usize = 16;
/// Zero bytes after the answer to `NBD_OPT_EXPORT_NAME`, unless both sides do without.
const EXPORT_NAME_PADDING: usize = 124;

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) info: ExportInfo,
    /// Ids of `info.meta_contexts`, in the same order.
    pub(crate) context_ids: Vec<u32>,
}

/// Speaks the handshake; afterwards the stream is at the first request.
pub(crate) async fn negotiate(
    stream: &mut dyn Stream,
    export: &Export,
) -> Result<Agreement, Error> {
    check_lengths(export)?;
    let no_zeroes = greet(stream).await?;
    let mut options = Options::new(stream);
    let structured = ask_structured_replies(&mut options).await?;
    let contexts = if structured && !export.meta_contexts.is_empty() {
        ask_meta_contexts(&mut options, export).await?
    } else {
        Vec::new()
    };
    let mut info = match go(&mut options, export).await? {
        Some(info) => info,
        None => enter_by_name(options.into_stream(), export, no_zeroes).await?,
    };
    let (names, context_ids) = contexts.into_iter().unzip();
    info.meta_contexts = names;
    info.structured_replies = structured;
    Ok(Agreement { info, context_ids })
}

fn check_lengths(export: &Export) -> Result<(), Error> {
    let names = export
        .meta_contexts
        .iter()
        .map(|name| ("the name of a meta context", name.len()));
    for (what, size) in names.chain([("the name of the export", export.name.len())]) {
        if size > MAX_STRING {
            return Err(Error::TooLarge {
                what,
                size: size as u64,
                limit: MAX_STRING as u64,
            });
        }
    }
    Ok(())
}

/// Exchanges magic numbers and flags. Returns whether both sides do without zero padding.
async fn greet(stream: &mut dyn Stream) -> Result<bool, Error> {
    let mut greeting = [0; 18];
    // The first half alone first: something that is no NBD server may send less than a greeting.
    stream
        .read_exact(&mut greeting[..8])
        .await
        .map_err(io_error)?;
    match be64(&greeting[..8]) {
        NBD_MAGIC => {}
        other => return broken!("it greets with {other:#018x}, no NBD greeting"),
    }
    stream
        .read_exact(&mut greeting[8..])
        .await
        .map_err(io_error)?;
    match be64(&greeting[8..16]) {
        OPTION_MAGIC => {}
        OLDSTYLE_MAGIC => return Err(Error::Unsupported("the oldstyle handshake of this server")),
        other => return broken!("after the greeting comes {other:#018x}"),
    }
    let offered = be32(&greeting[16..18]) as u16;
    if offered & FLAG_FIXED_NEWSTYLE == 0 {
        return Err(Error::Unsupported(
            "a server without the fixed newstyle handshake",
        ));
    }
    let accepted = offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
    stream
        .write_all(&u32::from(accepted).to_be_bytes())
        .await
        .map_err(io_error)?;
    Ok(accepted & FLAG_NO_ZEROES != 0)
}

async fn ask_structured_replies(options: &mut Options<'_>) -> Result<bool, Error> {
    options.send(OPT_STRUCTURED_REPLY, &[]).await?;
    // Any refusal means the same: simple replies it is.
    let ending = options
        .replies(OPT_STRUCTURED_REPLY, |kind, _| unexpected(kind))
        .await?;
    Ok(matches!(ending, Ending::Accepted))
}

/// Returns the names and ids of the granted contexts, none if the server knows no contexts.
async fn ask_meta_contexts(
    options: &mut Options<'_>,
    export: &Export,
) -> Result<Vec<(String, u32)>, Error> {
    let mut query = with_length(&export.name);
    query.extend((export.meta_contexts.len() as u32).to_be_bytes());
    for name in &export.meta_contexts {
        query.extend(with_length(name));
    }
    options.send(OPT_SET_META_CONTEXT, &query).await?;
    let mut granted: Vec<(String, u32)> = Vec::new();
    let ending = options
        .replies(OPT_SET_META_CONTEXT, |kind, payload| {
            if kind != REP_META_CONTEXT {
                return unexpected(kind);
            }
            granted.push(granted_context(payload, &export.meta_contexts, &granted)?);
            Ok(())
        })
        .await?;
    match ending {
        Ending::Accepted => Ok(granted),
        Ending::Refused {
            kind: REP_ERR_UNSUP,
            ..
        } => Ok(Vec::new()),
        refused => Err(refusal(options, OPT_SET_META_CONTEXT, refused, export).await),
    }
}

fn granted_context(
    payload: &[u8],
    asked: &[String],
    granted: &[(String, u32)],
) -> Result<(String, u32), Error> {
    let Some((id, name)) = payload.split_at_checked(4) else {
        return broken!("a meta context of {} bytes", payload.len());
    };
    let id = be32(id);
    let Some(name) = asked.iter().find(|asked| asked.as_bytes() == name) else {
        return broken!(
            "it grants the meta context {:?}, not asked for",
            printable(name)
        );
    };
    if granted
        .iter()
        .any(|(other, other_id)| other == name || *other_id == id)
    {
        return broken!("it grants the meta context {name:?} or its id {id} twice");
    }
    Ok((name.clone(), id))
}

/// Enters the transmission phase. `None`: the server does not know this option.
async fn go(options: &mut Options<'_>, export: &Export) -> Result<Option<ExportInfo>, Error> {
    let mut query = with_length(&export.name);
    query.extend(1u16.to_be_bytes());
    query.extend(INFO_BLOCK_SIZE.to_be_bytes());
    options.send(OPT_GO, &query).await?;
    let mut size_and_flags = None;
    let mut blocks = None;
    let ending = options
        .replies(OPT_GO, |kind, payload| {
            if kind != REP_INFO {
                return unexpected(kind);
            }
            match (
                payload.get(..2).map(|kind| be32(kind) as u16),
                payload.len(),
            ) {
                (Some(INFO_EXPORT), 12) => size_and_flags = Some(size_and_flags_of(&payload[2..])),
                (Some(INFO_BLOCK_SIZE), 14) => blocks = Some(parse_block_sizes(&payload[2..])?),
                (Some(INFO_EXPORT | INFO_BLOCK_SIZE) | None, length) => {
                    return broken!("an information reply of {length} bytes");
                }
                (Some(_), _) => {}
            }
            Ok(())
        })
        .await?;
    match (ending, size_and_flags) {
        (Ending::Accepted, Some((size, flags))) => export_info(size, flags, blocks).map(Some),
        (Ending::Accepted, None) => broken!("it never told the export's size"),
        (
            Ending::Refused {
                kind: REP_ERR_UNSUP,
                ..
            },
            _,
        ) => Ok(None),
        (refused, _) => Err(refusal(options, OPT_GO, refused, export).await),
    }
}

/// The way in for servers without `NBD_OPT_GO`; they close the connection if there is no such export.
async fn enter_by_name(
    stream: &mut dyn Stream,
    export: &Export,
    no_zeroes: bool,
) -> Result<ExportInfo, Error> {
    Options::new(stream)
        .send(OPT_EXPORT_NAME, export.name.as_bytes())
        .await?;
    let mut answer = [0; 10 + EXPORT_NAME_PADDING];
    let length = if no_zeroes { 10 } else { answer.len() };
    match stream
        .read_exact(&mut answer[..length])
        .await
        .map_err(io_error)
    {
        Ok(_) => {}
        Err(Error::Closed) => {
            let reason = format!(
                "it closed the connection; has it an export {:?}?",
                export.name
            );
            return Err(Error::Refused {
                option: option_name(OPT_EXPORT_NAME),
                reason,
            });
        }
        Err(error) => return Err(error),
    }
    let (size, flags) = size_and_flags_of(&answer[..10]);
    export_info(size, flags, None::<BlockSizes>)
}

fn size_and_flags_of(bytes: &[u8]) -> (u64, u16) {
    (be64(&bytes[..8]), be32(&bytes[8..10]) as u16)
}

/// Words for a refusal; if the export is unknown, with the names of those that exist.
async fn refusal(options: &mut Options<'_>, option: u32, ending: Ending, export: &Export) -> Error {
    let mut reason = ending.to_string();
    if let Ending::Refused {
        kind: REP_ERR_UNKNOWN,
        ..
    } = ending
    {
        reason = format!(
            "export {:?}: {reason}; {}",
            export.name,
            offer(options).await
        );
    }
    Error::Refused {
        option: option_name(option),
        reason,
    }
}

/// A courtesy of an error message, so its own failures stay unsaid.
async fn offer(options: &mut Options<'_>) -> String {
    let mut names = Vec::new();
    if options.send(OPT_LIST, &[]).await.is_ok() {
        let listed = options.replies(OPT_LIST, |kind, payload| {
            let name = payload
                .get(4..)
                .filter(|_| kind == REP_SERVER)
                .unwrap_or_default();
            let length = payload.get(..4).map_or(0, be32) as usize;
            if let Some(name) = name.get(..length).filter(|_| names.len() < LISTED_EXPORTS) {
                names.push(format!("{:?}", printable(name)));
            }
            Ok(())
        });
        // The names heard so far are of use even if the list broke off.
        let _ = listed.await;
    }
    match names.is_empty() {
        true => "the server does not list its exports".to_owned(),
        false => format!("the server offers {}", names.join(", ")),
    }
}

fn with_length(name: &str) -> Vec<u8> {
    let mut bytes = (name.len() as u32).to_be_bytes().to_vec();
    bytes.extend(name.as_bytes());
    bytes
}

fn unexpected(kind: u32) -> Result<(), Error> {
    broken!("an option was answered with reply kind {kind}")
}
