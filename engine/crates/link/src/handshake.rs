//! From a TCP address to a negotiated connection, on both ends.

use crate::connection::{Connection, TLS_BUFFER, Traffic};
use crate::limits::{DIAL_LIMIT, HANDSHAKE_LIMIT};
use crate::socket::{self, Socket};
use crate::tls::{Identity, SOURCE_NAME, check_name};
use crate::{Hello, LinkError, Message, PROTOCOL_VERSION, RefuseCode};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

/// What this software calls itself in Hello and Welcome.
pub const SOFTWARE: &str = concat!("drover ", env!("CARGO_PKG_VERSION"));

/// How a source reaches a destination.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// `host:port`.
    pub address: String,
    /// The name that the destination's certificate must have.
    pub server_name: String,
    /// Certificates of the source.
    pub identity: Identity,
    /// Counters to feed.
    pub traffic: Arc<Traffic>,
}

impl Dialer {
    /// Opens one connection and says `hello`. Returns it with the session number of the Welcome.
    pub async fn dial(&self, hello: Hello) -> Result<(Connection, u64), LinkError> {
        timeout(DIAL_LIMIT, self.dial_unlimited(hello))
            .await
            .unwrap_or(Err(LinkError::Silent(DIAL_LIMIT.as_secs_f64())))
    }

    async fn dial_unlimited(&self, hello: Hello) -> Result<(Connection, u64), LinkError> {
        let tcp = TcpStream::connect(&self.address)
            .await
            .map_err(LinkError::io("connecting"))?;
        socket::set_up(&tcp).map_err(LinkError::io("setting up the socket"))?;
        let name = ServerName::try_from(self.server_name.clone()).map_err(|_| {
            LinkError::Certificate(format!("{} is no server name", self.server_name))
        })?;
        let connector = TlsConnector::from(self.identity.client()?);
        let mut stream = connector
            .connect(name, Socket::new(tcp))
            .await
            .map_err(LinkError::io("negotiating TLS"))?;
        stream.get_mut().0.widen();
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let mut connection = Connection::new(TlsStream::Client(stream), self.traffic.clone());
        connection.writer.send(&Message::Hello(hello)).await?;
        match connection.reader.receive().await? {
            Message::Welcome { session, .. } => {
                connection.reader.welcomed();
                Ok((connection, session))
            }
            Message::Refuse { code, message } => Err(LinkError::Refused { code, message }),
            other => Err(LinkError::Protocol(format!(
                "instead of a Welcome came {other:?}"
            ))),
        }
    }
}

/// A source at the door: authenticated, its Hello read, not yet answered.
pub struct Caller {
    connection: Connection,
    /// What it said.
    pub hello: Hello,
}

impl Caller {
    /// TLS and Hello of an accepted TCP connection. `greeted` is called when a whole hello of TLS
    /// has arrived, before anything is computed for it.
    pub async fn receive(
        tcp: TcpStream,
        identity: &Identity,
        traffic: Arc<Traffic>,
        greeted: impl FnOnce(),
    ) -> Result<Caller, LinkError> {
        timeout(
            HANDSHAKE_LIMIT,
            Self::receive_unlimited(tcp, identity, traffic, greeted),
        )
        .await
        .unwrap_or(Err(LinkError::Silent(HANDSHAKE_LIMIT.as_secs_f64())))
    }

    async fn receive_unlimited(
        tcp: TcpStream,
        identity: &Identity,
        traffic: Arc<Traffic>,
        greeted: impl FnOnce(),
    ) -> Result<Caller, LinkError> {
        socket::set_up(&tcp).map_err(LinkError::io("setting up the socket"))?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(tcp))
            .await
            .map_err(LinkError::io("waiting for a hello of TLS"))?;
        greeted();
        let mut stream = hello
            .into_stream(identity.server())
            .await
            .map_err(LinkError::io("negotiating TLS"))?;
        check_name(stream.get_ref().1.peer_certificates(), SOURCE_NAME)?;
        stream.get_mut().0.widen();
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let mut connection = Connection::new(TlsStream::Server(stream), traffic);
        let hello = match connection.reader.receive().await? {
            Message::Hello(hello) => hello,
            other => {
                return Err(LinkError::Protocol(format!(
                    "instead of a Hello came {other:?}"
                )));
            }
        };
        let caller = Caller { connection, hello };
        if caller.hello.protocol != PROTOCOL_VERSION {
            let theirs = caller.hello.protocol;
            let message = format!(
                "this end speaks protocol {PROTOCOL_VERSION}, the source {theirs}; use the same release at both ends"
            );
            caller.refuse(RefuseCode::Protocol, &message).await;
            return Err(LinkError::Protocol(message));
        }
        Ok(caller)
    }

    /// Lets it in.
    pub async fn welcome(mut self, session: u64) -> Result<Connection, LinkError> {
        let welcome = Message::Welcome {
            session,
            software: SOFTWARE.into(),
        };
        timeout(HANDSHAKE_LIMIT, self.connection.writer.send(&welcome))
            .await
            .unwrap_or(Err(LinkError::Silent(HANDSHAKE_LIMIT.as_secs_f64())))?;
        self.connection.reader.welcomed();
        Ok(self.connection)
    }

    /// Sends it away with a reason.
    pub async fn refuse(mut self, code: RefuseCode, message: &str) {
        let refusal = Message::Refuse {
            code,
            message: message.into(),
        };
        // A caller that does not listen to the reason loses nothing but the reason.
        let _ = timeout(HANDSHAKE_LIMIT, async {
            if self.connection.writer.send(&refusal).await.is_ok() {
                self.connection.writer.close().await;
            }
        })
        .await;
    }
}
