//! Messages to bytes.

use super::kind;
use crate::frame::{HEADER_BYTES, Header};
use crate::limits::{MAX_NAME, MAX_TEXT};
use crate::message::Message;
use crate::wire::put_text;
use bytes::{BufMut, Bytes, BytesMut};

impl Message {
    /// The frame: header with the fixed fields, and the payload that follows it (empty for all
    /// messages but Data, whose payload is not copied).
    pub fn encode(&self) -> (BytesMut, Bytes) {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + 96);
        out.put_bytes(0, HEADER_BYTES);
        let kind = self.put_fields(&mut out);
        let payload = match self {
            Message::Data(data) => data.payload.clone(),
            _ => Bytes::new(),
        };
        let length = out.len() - HEADER_BYTES + payload.len();
        out[..HEADER_BYTES].copy_from_slice(&Header { kind, length }.encode());
        (out, payload)
    }

    fn put_fields(&self, out: &mut BytesMut) -> u8 {
        match self {
            Message::Hello(_)
            | Message::Welcome { .. }
            | Message::Refuse { .. }
            | Message::OpenVdisk { .. }
            | Message::VdiskOpened { .. } => self.put_negotiation(out),
            Message::Data(_) | Message::Zero { .. } | Message::Confirm { .. } => self.put_work(out),
            Message::Ack { .. } | Message::Fault { .. } => self.put_outcome(out),
            Message::HashRequest { .. }
            | Message::HashReply { .. }
            | Message::BlockHashRequest { .. }
            | Message::BlockHashReply { .. }
            | Message::RootRequest { .. }
            | Message::RootReply { .. } => self.put_hashes(out),
            Message::Offer {
                handle,
                offer,
                load,
                chunks,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*offer);
                out.put_slice(load);
                out.put_u32_le(chunks.len() as u32);
                chunks.iter().for_each(|chunk| out.put_u32_le(*chunk));
                kind::OFFER
            }
            Message::Grant {
                handle,
                offer,
                known,
                answers,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*offer);
                out.put_u8(u8::from(*known));
                out.put_u32_le(answers.len() as u32);
                for (id, newer) in answers {
                    out.put_u64_le(*id);
                    out.put_u8(*newer);
                }
                kind::GRANT
            }
            Message::Flush { handle } => put_handle(out, *handle, kind::FLUSH),
            Message::Resume { handle } => put_handle(out, *handle, kind::RESUME),
            Message::CloseVdisk { handle } => put_handle(out, *handle, kind::CLOSE_VDISK),
            Message::Ping {
                stamp,
                received,
                interval,
            } => {
                out.put_u64_le(*stamp);
                out.put_u64_le(*received);
                out.put_u32_le(*interval);
                kind::PING
            }
            Message::Pong { stamp } => {
                out.put_u64_le(*stamp);
                kind::PONG
            }
            Message::ConnectionClosed {
                connection,
                received,
            } => {
                out.put_u32_le(*connection);
                out.put_u64_le(*received);
                kind::CONNECTION_CLOSED
            }
            Message::Window { handle, limit } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*limit);
                kind::WINDOW
            }
        }
    }

    fn put_negotiation(&self, out: &mut BytesMut) -> u8 {
        match self {
            Message::Hello(hello) => {
                out.put_u32_le(hello.protocol);
                out.put_u64_le(hello.session);
                out.put_u64_le(hello.token);
                out.put_u32_le(hello.connection);
                put_text(out, &hello.software, MAX_TEXT);
                kind::HELLO
            }
            Message::Welcome { session, software } => {
                out.put_u64_le(*session);
                put_text(out, software, MAX_TEXT);
                kind::WELCOME
            }
            Message::Refuse { code, message } => {
                out.put_u8(*code as u8);
                put_text(out, message, MAX_TEXT);
                kind::REFUSE
            }
            Message::OpenVdisk {
                handle,
                name,
                size,
                chunk_size,
                forget,
            } => {
                out.put_u32_le(*handle);
                put_text(out, name, MAX_NAME);
                out.put_u64_le(*size);
                out.put_u32_le(*chunk_size);
                out.put_u8(u8::from(*forget));
                kind::OPEN_VDISK
            }
            Message::VdiskOpened {
                handle,
                first,
                runs,
                last,
                incarnation,
            } => {
                out.put_u32_le(*handle);
                out.put_u32_le(*first);
                out.put_u8(u8::from(*last));
                out.put_u64_le(*incarnation);
                out.put_u32_le(runs.raw().len() as u32);
                runs.raw().iter().for_each(|run| out.put_u32_le(*run));
                kind::VDISK_OPENED
            }
            other => unreachable!("{other:?} is not part of the negotiation"),
        }
    }

    fn put_work(&self, out: &mut BytesMut) -> u8 {
        match self {
            Message::Data(data) => {
                out.put_u32_le(data.handle);
                out.put_u64_le(data.id);
                out.put_u64_le(data.offset);
                out.put_u32_le(data.raw_length);
                out.put_u8(u8::from(data.foreground));
                out.put_u8(data.compression as u8);
                out.put_slice(&data.hash);
                kind::DATA
            }
            Message::Zero {
                handle,
                id,
                offset,
                length,
                foreground,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*id);
                out.put_u64_le(*offset);
                out.put_u64_le(*length);
                out.put_u8(u8::from(*foreground));
                kind::ZERO
            }
            Message::Confirm {
                handle,
                id,
                first,
                count,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*id);
                out.put_u32_le(*first);
                out.put_u32_le(*count);
                kind::CONFIRM
            }
            other => unreachable!("{other:?} is no work"),
        }
    }

    fn put_outcome(&self, out: &mut BytesMut) -> u8 {
        match self {
            Message::Ack { handle, ids } => {
                out.put_u32_le(*handle);
                out.put_u32_le(ids.len() as u32);
                ids.iter().for_each(|id| out.put_u64_le(*id));
                kind::ACK
            }
            Message::Fault {
                handle,
                id,
                code,
                message,
                offset,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*id);
                out.put_u8(*code as u8);
                put_text(out, message, MAX_TEXT);
                out.put_u8(u8::from(offset.is_some()));
                out.put_u64_le(offset.unwrap_or(0));
                kind::FAULT
            }
            other => unreachable!("{other:?} is no outcome"),
        }
    }

    fn put_hashes(&self, out: &mut BytesMut) -> u8 {
        match self {
            Message::HashRequest {
                handle,
                request,
                first,
                count,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*request);
                out.put_u32_le(*first);
                out.put_u32_le(*count);
                kind::HASH_REQUEST
            }
            Message::HashReply {
                handle,
                request,
                runs,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*request);
                out.put_u32_le(runs.len() as u32);
                for (count, hash) in runs {
                    out.put_u32_le(*count);
                    out.put_slice(hash);
                }
                kind::HASH_REPLY
            }
            Message::BlockHashRequest {
                handle,
                request,
                chunk,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*request);
                out.put_u32_le(*chunk);
                kind::BLOCK_HASH_REQUEST
            }
            Message::BlockHashReply {
                handle,
                request,
                hashes,
            } => {
                out.put_u32_le(*handle);
                out.put_u64_le(*request);
                out.put_u32_le(hashes.len() as u32);
                hashes.iter().for_each(|hash| out.put_slice(hash));
                kind::BLOCK_HASH_REPLY
            }
            Message::RootRequest { handle } => put_handle(out, *handle, kind::ROOT_REQUEST),
            Message::RootReply { handle, root } => {
                out.put_u32_le(*handle);
                out.put_u8(u8::from(root.is_some()));
                out.put_slice(&root.unwrap_or([0; 32]));
                kind::ROOT_REPLY
            }
            other => unreachable!("{other:?} has no hashes"),
        }
    }
}

fn put_handle(out: &mut BytesMut, handle: u32, kind: u8) -> u8 {
    out.put_u32_le(handle);
    kind
}
