//! Bytes to messages.

use super::kind;
use crate::limits::{
    MAX_ACK_IDS, MAX_BLOCKS, MAX_CHUNK, MAX_HASH_CHUNKS, MAX_NAME, MAX_OFFER, MAX_RUNS, MAX_TEXT,
};
use crate::message::{Compression, Data, FaultCode, Hello, Message, Patch, RefuseCode};
use crate::runs::StableRuns;
use crate::wire::{DecodeError, Fields};
use bytes::Bytes;

fn value(field: &'static str, value: impl Into<u64>) -> DecodeError {
    DecodeError::Value {
        field,
        value: value.into(),
    }
}

impl Message {
    /// Reads the body of a frame whose header named this type. Accepts nothing but exactly what
    /// `encode` makes; never panics; allocates no more than the body holds.
    pub fn decode(kind: u8, body: Bytes) -> Result<Message, DecodeError> {
        let mut fields = Fields::new(body);
        let message = match kind {
            kind::HELLO | kind::WELCOME | kind::REFUSE => take_greeting(kind, &mut fields)?,
            kind::OPEN_VDISK => Message::OpenVdisk {
                handle: fields.u32("handle")?,
                name: fields.text("name", MAX_NAME)?,
                size: fields.u64("size")?,
                chunk_size: fields.u32("chunk_size")?,
                forget: fields.flag("forget")?,
            },
            kind::VDISK_OPENED => take_opened(&mut fields)?,
            kind::DATA => Message::Data(take_data(&mut fields)?),
            kind::ZERO => take_zero(&mut fields)?,
            kind::CONFIRM => {
                let (handle, id) = (fields.u32("handle")?, fields.u64("id")?);
                let (first, count) = take_chunks(&mut fields)?;
                Message::Confirm {
                    handle,
                    id,
                    first,
                    count,
                }
            }
            kind::ACK => take_ack(&mut fields)?,
            kind::FAULT => take_fault(&mut fields)?,
            kind::HASH_REQUEST => {
                let (handle, request) = (fields.u32("handle")?, fields.u64("request")?);
                let (first, count) = take_chunks(&mut fields)?;
                Message::HashRequest {
                    handle,
                    request,
                    first,
                    count,
                }
            }
            kind::HASH_REPLY => take_hash_reply(&mut fields)?,
            kind::BLOCK_HASH_REQUEST => Message::BlockHashRequest {
                handle: fields.u32("handle")?,
                request: fields.u64("request")?,
                chunk: fields.u32("chunk")?,
            },
            kind::BLOCK_HASH_REPLY => take_block_hashes(&mut fields)?,
            kind::OFFER => take_offer(&mut fields)?,
            kind::GRANT => take_grant(&mut fields)?,
            kind::ROOT_REPLY => take_root_reply(&mut fields)?,
            kind::ROOT_REQUEST => Message::RootRequest {
                handle: fields.u32("handle")?,
            },
            kind::FLUSH => Message::Flush {
                handle: fields.u32("handle")?,
            },
            kind::RESUME => Message::Resume {
                handle: fields.u32("handle")?,
            },
            kind::CLOSE_VDISK => Message::CloseVdisk {
                handle: fields.u32("handle")?,
            },
            kind::PING => Message::Ping {
                stamp: fields.u64("stamp")?,
                received: fields.u64("received")?,
                interval: fields.u32("interval")?,
            },
            kind::PONG => Message::Pong {
                stamp: fields.u64("stamp")?,
            },
            kind::CONNECTION_CLOSED => Message::ConnectionClosed {
                connection: fields.u32("connection")?,
                received: fields.u64("received")?,
            },
            kind::WINDOW => Message::Window {
                handle: fields.u32("handle")?,
                limit: fields.u64("limit")?,
            },
            other => return Err(DecodeError::Type(other)),
        };
        fields.end()?;
        Ok(message)
    }
}

fn take_greeting(kind: u8, fields: &mut Fields) -> Result<Message, DecodeError> {
    if kind == kind::WELCOME {
        let session = fields.u64("session")?;
        return Ok(Message::Welcome {
            session,
            software: fields.text("software", MAX_TEXT)?,
        });
    }
    if kind == kind::REFUSE {
        let code = RefuseCode::from_wire(fields.u8("code")?)?;
        return Ok(Message::Refuse {
            code,
            message: fields.text("message", MAX_TEXT)?,
        });
    }
    Ok(Message::Hello(Hello {
        protocol: fields.u32("protocol")?,
        session: fields.u64("session")?,
        token: fields.u64("token")?,
        connection: fields.u32("connection")?,
        software: fields.text("software", MAX_TEXT)?,
    }))
}

fn take_opened(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, first) = (fields.u32("handle")?, fields.u32("first")?);
    let last = fields.flag("last")?;
    let incarnation = fields.u64("incarnation")?;
    let count = fields.count("runs", MAX_RUNS, 4)?;
    let raw = (0..count)
        .map(|_| fields.u32("run"))
        .collect::<Result<Vec<_>, _>>()?;
    let runs = StableRuns::from_raw(raw).ok_or_else(|| value("runs", count as u64))?;
    Ok(Message::VdiskOpened {
        handle,
        first,
        runs,
        last,
        incarnation,
    })
}

fn take_data(fields: &mut Fields) -> Result<Data, DecodeError> {
    let data = Data {
        handle: fields.u32("handle")?,
        id: fields.u64("id")?,
        offset: fields.u64("offset")?,
        raw_length: fields.u32("raw_length")?,
        foreground: fields.flag("foreground")?,
        compression: Compression::from_wire(fields.u8("compression")?)?,
        hash: fields.hash("hash")?,
        payload: fields.rest(),
    };
    let raw_length = data.raw_length as usize;
    if raw_length == 0 || raw_length > MAX_CHUNK {
        return Err(value("raw_length", data.raw_length));
    }
    if data.compression == Compression::None && data.payload.len() != raw_length {
        return Err(value("payload length", data.payload.len() as u64));
    }
    if data.compression == Compression::Patch {
        Patch::decode(data.payload.clone())?;
        if data.foreground {
            return Err(value("compression", data.compression as u8));
        }
    }
    if data
        .offset
        .checked_add(u64::from(data.raw_length))
        .is_none()
    {
        return Err(value("offset", data.offset));
    }
    Ok(data)
}

fn take_zero(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, id) = (fields.u32("handle")?, fields.u64("id")?);
    let (offset, length) = (fields.u64("offset")?, fields.u64("length")?);
    let foreground = fields.flag("foreground")?;
    if length == 0 || offset.checked_add(length).is_none() {
        return Err(value("length", length));
    }
    Ok(Message::Zero {
        handle,
        id,
        offset,
        length,
        foreground,
    })
}

fn take_chunks(fields: &mut Fields) -> Result<(u32, u32), DecodeError> {
    let (first, count) = (fields.u32("first")?, fields.u32("count")?);
    if count == 0 || count > MAX_HASH_CHUNKS || first.checked_add(count).is_none() {
        return Err(value("count", count));
    }
    Ok((first, count))
}

fn take_ack(fields: &mut Fields) -> Result<Message, DecodeError> {
    let handle = fields.u32("handle")?;
    let count = fields.count("ids", MAX_ACK_IDS, 8)?;
    let ids = (0..count)
        .map(|_| fields.u64("id"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Message::Ack { handle, ids })
}

fn take_fault(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, id) = (fields.u32("handle")?, fields.u64("id")?);
    let code = FaultCode::from_wire(fields.u8("code")?)?;
    let message = fields.text("message", MAX_TEXT)?;
    let known = fields.flag("has_offset")?;
    let offset = fields.u64("offset")?;
    if !known && offset != 0 {
        return Err(value("offset", offset));
    }
    Ok(Message::Fault {
        handle,
        id,
        code,
        message,
        offset: known.then_some(offset),
    })
}

fn take_hash_reply(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, request) = (fields.u32("handle")?, fields.u64("request")?);
    let count = fields.count("runs", MAX_HASH_CHUNKS as usize, 36)?;
    let runs = (0..count)
        .map(|_| Ok((fields.u32("count")?, fields.hash("hash")?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(Message::HashReply {
        handle,
        request,
        runs,
    })
}

fn take_block_hashes(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, request) = (fields.u32("handle")?, fields.u64("request")?);
    let count = fields.count("hashes", MAX_BLOCKS, 32)?;
    let hashes = (0..count)
        .map(|_| fields.hash("hash"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Message::BlockHashReply {
        handle,
        request,
        hashes,
    })
}

fn take_offer(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, offer) = (fields.u32("handle")?, fields.u64("offer")?);
    let load = fields.id("load")?;
    let count = fields.count("chunks", MAX_OFFER, 4)?;
    let chunks = (0..count)
        .map(|_| fields.u32("chunk"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Message::Offer {
        handle,
        offer,
        load,
        chunks,
    })
}

fn take_grant(fields: &mut Fields) -> Result<Message, DecodeError> {
    let (handle, offer) = (fields.u32("handle")?, fields.u64("offer")?);
    let known = fields.flag("known")?;
    let count = fields.count("answers", MAX_OFFER, 9)?;
    let answers = (0..count)
        .map(|_| Ok((fields.u64("id")?, fields.u8("newer")?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(Message::Grant {
        handle,
        offer,
        known,
        answers,
    })
}

fn take_root_reply(fields: &mut Fields) -> Result<Message, DecodeError> {
    let handle = fields.u32("handle")?;
    let known = fields.flag("has_root")?;
    let root = fields.hash("root")?;
    if !known && root != [0; 32] {
        return Err(value("root", root[0]));
    }
    Ok(Message::RootReply {
        handle,
        root: known.then_some(root),
    })
}
