//! NBD servers that send anything: in the handshake, or in their replies after an honest one.

use bytes::Bytes;
use nbd::{Address, Client, Error, Export, Extent};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const SIZE: u64 = 1 << 20;
const CONTEXTS: [&str; 2] = ["base:allocation", "qemu:dirty-bitmap:drover-1"];
/// Most bytes of one request here.
const LONGEST: u64 = 64 << 10;
/// What the specification and this client allow of one payload, in bytes.
const MAX_PAYLOAD: u32 = 32 << 20;
/// The clock stands still while anything can go on, so this passes only if nothing does.
const NEVER: Duration = Duration::from_secs(3600);

/// A server that has said all that it will ever say, and takes whatever comes.
struct Script {
    bytes: Vec<u8>,
    at: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Everything that the server says, from its greeting on.
pub(crate) fn handshake(bytes: &[u8]) {
    converse(bytes.to_vec());
}

/// The first byte says what was agreed; the rest is what follows an honest handshake.
pub(crate) fn replies(bytes: &[u8]) {
    let Some((agreed, rest)) = bytes.split_first() else {
        return;
    };
    let mut script = honest(agreed & 1 != 0, agreed & 2 != 0);
    script.extend(rest);
    converse(script);
}

fn honest(structured: bool, odd: bool) -> Vec<u8> {
    let mut said = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    let mut reply = |option: u32, kind: u32, payload: &[u8]| {
        said.extend(0x0003_e889_0455_65a9_u64.to_be_bytes());
        for number in [option, kind, payload.len() as u32] {
            said.extend(number.to_be_bytes());
        }
        said.extend(payload);
    };
    let (ack, unsupported) = (1, 1 << 31 | 1);
    reply(8, if structured { ack } else { unsupported }, &[]);
    if structured {
        for (id, name) in CONTEXTS.iter().enumerate() {
            reply(
                10,
                4,
                &[&(id as u32).to_be_bytes()[..], name.as_bytes()].concat(),
            );
        }
        reply(10, ack, &[]);
    }
    let size = SIZE - if odd { 100 } else { 0 };
    let flags: u16 = 1 | 1 << 2 | 1 << 6;
    reply(
        7,
        3,
        &[&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat(),
    );
    reply(7, ack, &[]);
    said
}

fn converse(script: Vec<u8>) {
    let sent = script.len();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let talk = tokio::time::timeout(NEVER, talk(script, sent));
        talk.await.expect("the client waits for what cannot come");
    });
}

async fn talk(bytes: Vec<u8>, sent: usize) {
    let export = Export {
        address: Address::Tcp("a script".into()),
        name: "vda".into(),
        meta_contexts: CONTEXTS.map(str::to_owned).to_vec(),
    };
    let Ok(client) = Client::over(Script { bytes, at: 0 }, &export).await else {
        return;
    };
    check_info(&client);
    let info = client.info();
    let block = u64::from(info.minimum_block);
    let length = LONGEST.min(info.size) / block * block;
    let far = (info.size - length) / block * block;
    let (length, zeros) = (length as u32, Bytes::from(vec![0; length as usize]));
    // All at once: the script answers in one go, so that later requests would come too late.
    let (near, distant, map, dirty, written, zeroed, flushed) = tokio::join!(
        client.read(0, length),
        client.read(far, length),
        client.block_status(CONTEXTS[0], 0, length),
        client.block_status(CONTEXTS[1], far, length),
        client.write(0, zeros, true),
        client.write_zeroes(far, length, true),
        client.flush(),
    );
    for read in [near, distant].into_iter().flatten() {
        assert_eq!(read.len(), length as usize);
        let data = read.iter().filter(|byte| **byte != 0).count();
        assert!(data <= sent, "{data} bytes of data out of {sent} sent");
    }
    for extents in [map, dirty] {
        check_extents(extents, length);
    }
    drop((written, zeroed, flushed));
    // After all those answers the connection still ends in an orderly way.
    client.disconnect().await;
}

fn check_info(client: &Client) {
    let info = client.info();
    assert!(i64::try_from(info.size).is_ok());
    assert!(info.minimum_block.is_power_of_two() && info.minimum_block <= 64 << 10);
    assert!(info.maximum_payload <= MAX_PAYLOAD && info.maximum_payload >= info.minimum_block);
    assert_eq!(info.maximum_payload % info.minimum_block, 0);
    let asked = |granted: &String| CONTEXTS.contains(&granted.as_str());
    assert!(info.meta_contexts.iter().all(asked) && info.meta_contexts.len() <= CONTEXTS.len());
}

fn check_extents(extents: Result<Vec<Extent>, Error>, length: u32) {
    let Ok(extents) = extents else {
        return;
    };
    assert!(!extents.is_empty());
    assert!(extents.iter().all(|extent| extent.length > 0));
    let covered: u64 = extents.iter().map(|extent| extent.length).sum();
    assert!(
        covered <= u64::from(length),
        "{covered} bytes of extents for {length}"
    );
}
