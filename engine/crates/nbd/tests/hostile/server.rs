//! A server made of small steps, so that each test can take one of them wrong.

use std::future::Future;
use std::time::Duration;

use nbd::{Address, Client, Error, Export};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub const SIZE: u64 = 1 << 20;
pub const FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 6;
pub const CONTEXT: &str = "base:allocation";
pub const CONTEXT_ID: u32 = 11;

pub const ACK: u32 = 1;
pub const INFO: u32 = 3;
pub const META_CONTEXT: u32 = 4;
pub const ERR_UNSUP: u32 = 1 << 31 | 1;
pub const ERR_UNKNOWN: u32 = 1 << 31 | 6;

pub const DONE: u16 = 1;

/// Nothing here takes long; a test that waits longer hangs.
const SOON: Duration = Duration::from_secs(5);

pub struct Server {
    pub stream: UnixStream,
}

/// An option as the client sent it.
pub struct OptionRequest {
    pub number: u32,
    pub payload: Vec<u8>,
}

pub struct Request {
    pub command: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u32,
}

impl Server {
    pub async fn send(&mut self, bytes: &[u8]) {
        // A client that has noticed the misdeed hangs up; that is what the test is for.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn receive<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).await.ok().map(|_| bytes)
    }

    pub async fn greet(&mut self) {
        self.send(b"NBDMAGICIHAVEOPT\0\x03").await;
        self.receive::<4>().await;
    }

    pub async fn option(&mut self) -> Option<OptionRequest> {
        let head = self.receive::<16>().await?;
        let number = u32::from_be_bytes(head[8..12].try_into().unwrap());
        let length = u32::from_be_bytes(head[12..16].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(OptionRequest { number, payload })
    }

    pub async fn reply(&mut self, option: u32, kind: u32, payload: &[u8]) {
        self.send(&option_reply(option, kind, payload)).await;
    }

    pub async fn info_export(&mut self, size: u64, flags: u16) {
        let payload = [&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat();
        self.reply(7, INFO, &payload).await;
    }

    /// An honest handshake, up to the transmission phase.
    pub async fn handshake(&mut self, structured: bool) {
        self.greet().await;
        while let Some(option) = self.option().await {
            match option.number {
                8 if structured => self.reply(8, ACK, &[]).await,
                10 => {
                    let context = [&CONTEXT_ID.to_be_bytes()[..], CONTEXT.as_bytes()].concat();
                    self.reply(10, META_CONTEXT, &context).await;
                    self.reply(10, ACK, &[]).await;
                }
                7 => {
                    self.info_export(SIZE, FLAGS).await;
                    self.reply(7, ACK, &[]).await;
                    return;
                }
                other => self.reply(other, ERR_UNSUP, &[]).await,
            }
        }
    }

    pub async fn request(&mut self) -> Option<Request> {
        let head = self.receive::<28>().await?;
        let request = Request {
            command: u16::from_be_bytes(head[6..8].try_into().unwrap()),
            cookie: u64::from_be_bytes(head[8..16].try_into().unwrap()),
            offset: u64::from_be_bytes(head[16..24].try_into().unwrap()),
            length: u32::from_be_bytes(head[24..28].try_into().unwrap()),
        };
        if request.command == 1 {
            let mut data = vec![0; request.length as usize];
            self.stream.read_exact(&mut data).await.ok()?;
        }
        Some(request)
    }

    /// Keeps the connection open until the client hangs up.
    pub async fn linger(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}

pub fn simple(cookie: u64, errno: u32, data: &[u8]) -> Vec<u8> {
    let head = [
        &0x6744_6698u32.to_be_bytes()[..],
        &errno.to_be_bytes(),
        &cookie.to_be_bytes(),
    ];
    [&head.concat()[..], data].concat()
}

pub fn chunk(cookie: u64, flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [
        &chunk_header(cookie, flags, kind, payload.len() as u32)[..],
        payload,
    ]
    .concat()
}

/// A chunk that announces `length` bytes of payload.
pub fn chunk_header(cookie: u64, flags: u16, kind: u16, length: u32) -> Vec<u8> {
    let mut head = 0x668e_33efu32.to_be_bytes().to_vec();
    head.extend(flags.to_be_bytes());
    head.extend(kind.to_be_bytes());
    head.extend(cookie.to_be_bytes());
    head.extend(length.to_be_bytes());
    head
}

pub fn data(cookie: u64, flags: u16, offset: u64, data: &[u8]) -> Vec<u8> {
    chunk(
        cookie,
        flags,
        1,
        &[&offset.to_be_bytes()[..], data].concat(),
    )
}

pub fn hole(cookie: u64, flags: u16, offset: u64, length: u32) -> Vec<u8> {
    chunk(
        cookie,
        flags,
        2,
        &[&offset.to_be_bytes()[..], &length.to_be_bytes()].concat(),
    )
}

/// An error chunk with `offset` (kind 0x8002) or without (0x8001).
pub fn error(cookie: u64, flags: u16, errno: u32, words: &str, offset: Option<u64>) -> Vec<u8> {
    let mut payload = errno.to_be_bytes().to_vec();
    payload.extend((words.len() as u16).to_be_bytes());
    payload.extend(words.as_bytes());
    payload.extend(offset.map(u64::to_be_bytes).into_iter().flatten());
    chunk(
        cookie,
        flags,
        if offset.is_some() { 0x8002 } else { 0x8001 },
        &payload,
    )
}

pub fn extents(cookie: u64, flags: u16, context: u32, extents: &[(u32, u32)]) -> Vec<u8> {
    let mut payload = context.to_be_bytes().to_vec();
    for (length, bits) in extents {
        payload.extend(length.to_be_bytes());
        payload.extend(bits.to_be_bytes());
    }
    chunk(cookie, flags, 5, &payload)
}

pub fn option_reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9u64.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A server in a temporary folder that serves one client with `serve`.
pub fn start<F>(serve: impl FnOnce(Server) -> F + Send + 'static) -> (TempDir, Export)
where
    F: Future<Output = ()> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nbd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(Server { stream }).await;
    });
    let export = Export {
        address: Address::Unix(path),
        name: "disk".to_owned(),
        meta_contexts: vec![CONTEXT.to_owned()],
    };
    (folder, export)
}

/// An honest handshake, then `serve`.
pub async fn client<F>(
    structured: bool,
    serve: impl FnOnce(Server) -> F + Send + 'static,
) -> (TempDir, Client)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (folder, export) = start(async move |mut server: Server| {
        server.handshake(structured).await;
        serve(server).await;
    });
    (folder, Client::connect(&export).await.unwrap())
}

/// `future` must end soon.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .expect("it must end soon")
}

/// Asserts a protocol error whose words contain `words`.
#[track_caller]
pub fn assert_violation<T: std::fmt::Debug>(outcome: Result<T, Error>, words: &str) {
    match outcome {
        Err(Error::Protocol(text)) if text.contains(words) => {}
        other => panic!("expected a violation with {words:?}, got {other:?}"),
    }
}
