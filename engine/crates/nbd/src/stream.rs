//! The socket to a server, unix or TCP.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::{Address, Error};

/// A peer that vanished without a word is noticed after about a minute of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The two directions of a socket, usable at the same time.
pub(crate) struct Halves {
    pub(crate) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) output: Box<dyn AsyncWrite + Send + Unpin>,
}

pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) async fn connect(address: &Address) -> Result<Socket, Error> {
        let socket = match address {
            Address::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            Address::Tcp(host) => connect_tcp(host).await.map(Socket::Tcp),
        };
        // Not `Error::io`: a refused or reset connection was never open, so it is not `Closed`.
        socket.map_err(|source| Error::Io {
            action: format!("connecting to the NBD server at {address}"),
            source: source.into(),
        })
    }

    pub(crate) fn as_stream(&mut self) -> &mut dyn Stream {
        match self {
            Socket::Unix(socket) => socket,
            Socket::Tcp(socket) => socket,
        }
    }

    pub(crate) fn into_halves(self) -> Halves {
        match self {
            Socket::Unix(socket) => {
                let (input, output) = socket.into_split();
                Halves {
                    input: Box::new(input),
                    output: Box::new(output),
                }
            }
            Socket::Tcp(socket) => {
                let (input, output) = socket.into_split();
                Halves {
                    input: Box::new(input),
                    output: Box::new(output),
                }
            }
        }
    }
}

async fn connect_tcp(host: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(host).await?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}
