//! One TLS connection as a stream of messages.

use crate::frame::{HEADER_BYTES, Header};
use crate::limits::{MAX_BODY, MAX_BODY_BEFORE_WELCOME};
use crate::liveness::Liveness;
use crate::message::DATA_FIELDS;
use crate::socket::Socket;
use crate::tcp::TcpMeter;
use crate::{LinkError, Message};
use buffers::Buffer;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_rustls::TlsStream;

/// Ciphertext that rustls may hold: one chunk in one vectored write.
pub(crate) const TLS_BUFFER: usize = 1 << 20;

/// Bytes that travelled, shared by all connections of an engine.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frame bytes sent.
    pub sent: AtomicU64,
    /// Frame bytes received.
    pub received: AtomicU64,
}

/// A negotiated or not yet negotiated connection.
pub struct Connection {
    /// Messages in.
    pub reader: FrameReader,
    /// Messages out.
    pub writer: FrameWriter,
    /// What the kernel says of it.
    pub meter: Option<TcpMeter>,
}

impl Connection {
    pub(crate) fn new(stream: TlsStream<Socket>, traffic: Arc<Traffic>) -> Self {
        let (socket, _) = stream.get_ref();
        let (liveness, meter) = (socket.liveness(), socket.meter());
        let (read, write) = tokio::io::split(stream);
        let reader = FrameReader {
            stream: read,
            limit: MAX_BODY_BEFORE_WELCOME,
            liveness,
            traffic: traffic.clone(),
        };
        Connection {
            reader,
            writer: FrameWriter {
                stream: write,
                traffic,
            },
            meter,
        }
    }
}

/// The receiving half.
pub struct FrameReader {
    stream: ReadHalf<TlsStream<Socket>>,
    limit: usize,
    liveness: Arc<Liveness>,
    traffic: Arc<Traffic>,
}

impl FrameReader {
    /// Lifts the small limit that holds before negotiation.
    pub fn welcomed(&mut self) {
        self.limit = MAX_BODY;
    }

    /// When the peer was last heard.
    pub fn liveness(&self) -> Arc<Liveness> {
        self.liveness.clone()
    }

    /// The next message. Not safe to cancel half-way and call again.
    pub async fn receive(&mut self) -> Result<Message, LinkError> {
        let mut raw = [0; HEADER_BYTES];
        self.fill(&mut raw).await?;
        let header = Header::decode(raw, self.limit)?;
        // The payload of Data comes to lie where a disk can take it without a copy.
        let mut body = Buffer::with_lead(header.length, DATA_FIELDS);
        self.fill(&mut body).await?;
        self.traffic
            .received
            .fetch_add((HEADER_BYTES + header.length) as u64, Ordering::Relaxed);
        Ok(Message::decode(header.kind, body.freeze())?)
    }

    async fn fill(&mut self, mut rest: &mut [u8]) -> Result<(), LinkError> {
        while !rest.is_empty() {
            let count = self.stream.read(rest).await;
            let count = count.map_err(LinkError::io("receiving"))?;
            if count == 0 {
                return Err(LinkError::Closed);
            }
            self.liveness.took(count);
            rest = &mut rest[count..];
        }
        Ok(())
    }
}

/// The sending half.
pub struct FrameWriter {
    stream: WriteHalf<TlsStream<Socket>>,
    traffic: Arc<Traffic>,
}

impl FrameWriter {
    /// Sends one message and flushes it to the socket. Returns the bytes of its frame.
    pub async fn send(&mut self, message: &Message) -> Result<u64, LinkError> {
        let (head, payload) = message.encode();
        let total = head.len() + payload.len();
        let mut sent = 0;
        while sent < total {
            let rest_of_head = &head[sent.min(head.len())..];
            let rest_of_payload = &payload[sent.saturating_sub(head.len())..];
            let parts = [IoSlice::new(rest_of_head), IoSlice::new(rest_of_payload)];
            let count = self
                .stream
                .write_vectored(&parts)
                .await
                .map_err(LinkError::io("sending"))?;
            if count == 0 {
                return Err(LinkError::Closed);
            }
            sent += count;
        }
        self.stream
            .flush()
            .await
            .map_err(LinkError::io("sending"))?;
        self.traffic.sent.fetch_add(total as u64, Ordering::Relaxed);
        Ok(total as u64)
    }

    /// Says goodbye in TLS and closes.
    pub async fn close(mut self) {
        // The peer may be gone already; there is nobody left to tell.
        let _ = self.stream.shutdown().await;
    }
}
