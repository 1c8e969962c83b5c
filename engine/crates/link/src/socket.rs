//! The link's TCP sockets: set-up, a buffer for reading, and when something came over them.

use crate::limits::UNSENT_LIMIT;
use crate::liveness::Liveness;
use crate::tcp::TcpMeter;
use socket2::SockRef;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes read at once from a peer that has shown its certificate. rustls asks for at most 16 KiB at
/// a time; the buffer makes of that one system call for many records.
const WIDE: usize = 256 << 10;

/// Bytes read at once from anybody else: a stranger must not cost much.
const NARROW: usize = 2 << 10;

/// Sends small frames at once and lets the kernel give up on data that the peer does not
/// acknowledge. Buffer sizes are left to the kernel's autotuning.
pub fn set_up(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNSENT_LIMIT))
}

/// Connections that may wait to be accepted; what is over that is dropped, and tried again by its
/// maker only a second later. The system may allow fewer.
const WAITING: i32 = 4096;

/// Lets many connections wait, so that a crowd of others seldom costs the source that second.
pub fn expect_crowds(listener: &TcpListener) -> Result<()> {
    SockRef::from(listener).listen(WAITING)
}

/// What TLS runs on: tokio's `BufReader`, but for a buffer that can grow later.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    /// Noted below TLS, because over a slow link one record of TLS may take longer than silence is
    /// borne.
    liveness: Arc<Liveness>,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Socket {
    /// With a small buffer.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Socket {
            tcp,
            liveness: Arc::default(),
            buffer: vec![0; NARROW].into(),
            begin: 0,
            end: 0,
        }
    }

    pub(crate) fn liveness(&self) -> Arc<Liveness> {
        self.liveness.clone()
    }

    pub(crate) fn meter(&self) -> Option<TcpMeter> {
        TcpMeter::new(&self.tcp)
    }

    /// The peer is worth a large buffer.
    pub(crate) fn widen(&mut self) {
        let mut wide = vec![0; WIDE].into_boxed_slice();
        let kept = self.end - self.begin;
        wide[..kept].copy_from_slice(&self.buffer[self.begin..self.end]);
        (self.buffer, self.begin, self.end) = (wide, 0, kept);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let socket = self.get_mut();
        if socket.begin == socket.end {
            let mut fresh = ReadBuf::new(&mut socket.buffer);
            ready!(Pin::new(&mut socket.tcp).poll_read(context, &mut fresh))?;
            (socket.begin, socket.end) = (0, fresh.filled().len());
            if socket.end > 0 {
                socket.liveness.heard();
            }
        }
        let count = (socket.end - socket.begin).min(into.remaining());
        into.put_slice(&socket.buffer[socket.begin..][..count]);
        socket.begin += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
