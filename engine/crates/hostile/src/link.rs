//! Frames and messages of the link, and whole connections at both ends.

use crate::tls::{ends, survive_broken_pipes};
use bytes::{Bytes, BytesMut};
use drover_link::connection::Traffic;
use drover_link::frame::{HEADER_BYTES, Header};
use drover_link::handshake::{Caller, Dialer};
use drover_link::limits::{
    MAX_ACK_IDS, MAX_BODY, MAX_CHUNK, MAX_HASH_CHUNKS, MAX_NAME, MAX_OFFER, MAX_TEXT,
};
use drover_link::tls::DESTINATION_NAME;
use drover_link::{Connection, Hello, Message, PROTOCOL_VERSION};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// One byte of type, then a body.
pub(crate) fn message(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let Ok(message) = Message::decode(*kind, body.clone()) else {
        return;
    };
    check_limits(&message);
    let (head, payload) = message.encode();
    let mut whole = BytesMut::from(&head[..]);
    whole.extend_from_slice(&payload);
    let header = whole.split_to(HEADER_BYTES);
    let header = Header::decode(header[..].try_into().expect("a header"), MAX_BODY);
    let header = header.expect("a header of our own");
    assert_eq!((header.kind, header.length), (*kind, whole.len()));
    assert_eq!(whole, body, "two bodies stand for one message");
    assert_eq!(Message::decode(*kind, whole.freeze()), Ok(message));
}

fn check_limits(message: &Message) {
    match message {
        Message::Hello(hello) => {
            assert!(hello.software.len() <= MAX_TEXT);
        }
        Message::OpenVdisk { name, .. } => assert!(name.len() <= MAX_NAME),
        Message::VdiskOpened { runs, .. } => {
            assert!(runs.chunks() <= u64::from(u32::MAX));
            let pieces: u64 = runs.pieces().iter().map(|(_, runs)| runs.chunks()).sum();
            assert_eq!(pieces, runs.chunks());
        }
        Message::Data(data) => {
            assert!(data.raw_length > 0 && data.raw_length as usize <= MAX_CHUNK);
            assert!(data.offset.checked_add(data.raw_length.into()).is_some());
        }
        Message::Zero { offset, length, .. } => {
            assert!(*length > 0 && offset.checked_add(*length).is_some());
        }
        Message::Confirm { first, count, .. } | Message::HashRequest { first, count, .. } => {
            assert!((1..=MAX_HASH_CHUNKS).contains(count) && first.checked_add(*count).is_some());
        }
        Message::Ack { ids, .. } => assert!(ids.len() <= MAX_ACK_IDS),
        Message::Offer { chunks, .. } => assert!(chunks.len() <= MAX_OFFER),
        Message::Grant { answers, .. } => assert!(answers.len() <= MAX_OFFER),
        Message::HashReply { runs, .. } => assert!(runs.len() <= MAX_HASH_CHUNKS as usize),
        _ => {}
    }
}

/// The first byte says which end is attacked, and with TLS or without; the rest is what it hears.
pub(crate) fn hello(bytes: &[u8]) {
    let Some((kind, said)) = bytes.split_first() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        survive_broken_pipes();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        match kind % 4 {
            0 => attack_destination(listener, said, false).await,
            1 => attack_destination(listener, said, true).await,
            2 => attack_source(listener, address.to_string(), said, false).await,
            _ => attack_source(listener, address.to_string(), said, true).await,
        }
    });
}

async fn attack_destination(listener: TcpListener, said: &[u8], with_tls: bool) {
    let address = listener.local_addr().expect("its address");
    let attacker = async {
        let tcp = TcpStream::connect(address).await.expect("connecting");
        no_trace(&tcp);
        if !with_tls {
            return speak(tcp, said).await;
        }
        let name = ServerName::try_from(DESTINATION_NAME).expect("a name");
        let connector = TlsConnector::from(ends().client.clone());
        speak(connector.connect(name, tcp).await.expect("TLS"), said).await;
    };
    let victim = async {
        let (tcp, _) = listener.accept().await.expect("accepting");
        let traffic = Arc::<Traffic>::default();
        let identity = ends().destination.identity();
        let Ok(caller) = Caller::receive(tcp, &identity, traffic.clone(), || {}).await else {
            return;
        };
        assert!(with_tls, "a caller without a certificate was let in");
        assert_eq!(caller.hello.protocol, PROTOCOL_VERSION);
        if let Ok(connection) = caller.welcome(7).await {
            hear_out(connection, &traffic, said.len()).await;
        }
    };
    tokio::join!(attacker, victim);
}

async fn attack_source(listener: TcpListener, address: String, said: &[u8], with_tls: bool) {
    let attacker = async {
        let (tcp, _) = listener.accept().await.expect("accepting");
        no_trace(&tcp);
        if !with_tls {
            return speak(tcp, said).await;
        }
        let acceptor = TlsAcceptor::from(ends().server.clone());
        speak(acceptor.accept(tcp).await.expect("TLS"), said).await;
    };
    let victim = async {
        let traffic = Arc::<Traffic>::default();
        let dialer = Dialer {
            address,
            server_name: DESTINATION_NAME.into(),
            identity: ends().source.identity(),
            traffic: traffic.clone(),
        };
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            session: 0,
            token: 1,
            connection: 0,
            software: String::new(),
        };
        if let Ok((connection, _)) = dialer.dial(hello).await {
            assert!(with_tls, "a destination without a certificate was believed");
            hear_out(connection, &traffic, said.len()).await;
        }
    };
    tokio::join!(attacker, victim);
}

/// Receives until the connection ends, which it must do by itself.
async fn hear_out(mut connection: Connection, traffic: &Traffic, sent: usize) {
    let hear = async { while connection.reader.receive().await.is_ok() {} };
    let heard = tokio::time::timeout(Duration::from_secs(5), hear).await;
    heard.expect("a connection that has ended is read on");
    let received = traffic.received.load(Ordering::Relaxed);
    assert!(received <= sent as u64, "{received} bytes out of {sent}");
}

/// Says it, then listens until the other end has had enough.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, said: &[u8]) {
    // The other end may hang up at any byte; that is its right.
    if stream.write_all(said).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Closes without the wait that would use up the ports.
fn no_trace(tcp: &TcpStream) {
    let linger = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    linger.expect("setting up the socket");
}
