//! A sender with a valid certificate, against a whole destination.

use crate::folder;
use crate::tls::{ends, survive_broken_pipes};
use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use drover_link::connection::Traffic;
use drover_link::handshake::Dialer;
use drover_link::tls::DESTINATION_NAME;
use drover_link::{Compression, Connection, Data, Hello, Message, PROTOCOL_VERSION};
use drover_replica::chunk::CHUNK_SIZE;
use drover_replica::destination::{Destination, DestinationLink};
use drover_replica::endpoint::EndpointSpec;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Two chunks, the last of them short.
const SIZE: u64 = CHUNK_SIZE as u64 + 70_000;
const NAMES: [&str; 2] = ["vda", "vdb"];
/// Most messages of one run.
const MESSAGES: usize = 64;
const SOON: Duration = Duration::from_secs(20);

/// A plan of messages; afterwards the destination is fenced, and a newer sender comes.
pub(crate) fn messages(bytes: &[u8]) {
    let mut plan = Unstructured::new(bytes);
    let mut messages = Vec::new();
    while messages.len() < MESSAGES && !plan.is_empty() {
        let Ok(message) = message(&mut plan) else {
            break;
        };
        messages.extend(message);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        survive_broken_pipes();
        let talk = tokio::time::timeout(SOON, attack(&messages));
        talk.await.expect("the destination hangs");
    });
}

/// One message, mostly of those that a source sends, and mostly about what there is.
fn message(plan: &mut Unstructured) -> Result<Option<Message>> {
    let handle = u32::from(u8::arbitrary(plan)? % 4);
    let id = u64::from(u8::arbitrary(plan)?);
    Ok(Some(match u8::arbitrary(plan)? % 10 {
        0 => {
            let kind = u8::arbitrary(plan)?;
            let length = usize::from(u8::arbitrary(plan)?).min(plan.len());
            let body = Bytes::copy_from_slice(plan.bytes(length)?);
            // Our writer only sends what is a message; the rest is for `link_hello`.
            return Ok(Message::decode(kind, body).ok());
        }
        1 | 2 => Message::OpenVdisk {
            handle,
            name: NAMES[usize::from(u8::arbitrary(plan)?) % NAMES.len()].into(),
            size: SIZE,
            chunk_size: CHUNK_SIZE,
            forget: bool::arbitrary(plan)?,
        },
        3..=5 => Message::Data(data(handle, id, plan)?),
        6 => Message::Zero {
            handle,
            id,
            offset: place(plan)?,
            length: 1 + place(plan)? % (1 << 62),
            foreground: bool::arbitrary(plan)?,
        },
        7 => Message::Confirm {
            handle,
            id,
            first: u32::from(u8::arbitrary(plan)? % 4),
            count: 1 + u32::from(u8::arbitrary(plan)?),
        },
        8 => Message::HashRequest {
            handle,
            request: id,
            first: u32::from(u8::arbitrary(plan)? % 3),
            count: 1 + u32::from(u8::arbitrary(plan)? % 3),
        },
        _ => match u8::arbitrary(plan)? % 4 {
            3 => Message::Grant {
                handle,
                offer: id,
                known: bool::arbitrary(plan)?,
                answers: vec![(id, u8::arbitrary(plan)?); usize::from(u8::arbitrary(plan)? % 4)],
            },
            0 => Message::Flush { handle },
            1 => Message::RootRequest { handle },
            _ => Message::CloseVdisk { handle },
        },
    }))
}

fn place(plan: &mut Unstructured) -> Result<u64> {
    Ok(match u8::arbitrary(plan)? {
        0 => u64::arbitrary(plan)? % (1 << 62),
        1 => SIZE - u64::from(u8::arbitrary(plan)?),
        2 => u64::from(CHUNK_SIZE) - u64::from(u8::arbitrary(plan)?),
        _ => u64::from(u16::arbitrary(plan)?) * 16,
    })
}

fn data(handle: u32, id: u64, plan: &mut Unstructured) -> Result<Data> {
    let offset = place(plan)?;
    let payload = Bytes::from(vec![
        u8::arbitrary(plan)?;
        1 + usize::from(u16::arbitrary(plan)?)
    ]);
    let kinds = [Compression::None, Compression::Lz4, Compression::Zstd];
    let compression = kinds[usize::from(u8::arbitrary(plan)? / 100)];
    let mut hash: [u8; 32] = blake3::hash(&payload).into();
    if u8::arbitrary(plan)? == 0 {
        hash = [0; 32];
    }
    Ok(Data {
        handle,
        id,
        offset,
        foreground: bool::arbitrary(plan)?,
        raw_length: payload.len() as u32,
        compression,
        hash,
        payload,
    })
}

async fn attack(messages: &[Message]) {
    let folder = folder::fresh();
    let destination = Destination::new(folder.path()).expect("a destination");
    let link = DestinationLink {
        listen: "127.0.0.1:0".into(),
        identity: ends().destination.identity(),
        token: 1,
    };
    let address = destination
        .put_link(link)
        .await
        .expect("listening")
        .to_string();
    let images = NAMES.map(|name| folder.path().join(format!("{name}.img")));
    for (name, path) in NAMES.iter().zip(&images) {
        let spec = EndpointSpec::File {
            path: path.clone(),
            create: true,
        };
        destination
            .put_vdisk(name, SIZE, spec)
            .await
            .expect("a VDISK");
    }
    let Connection {
        mut reader,
        mut writer,
        ..
    } = dial(&address, 1).await;
    let listener = tokio::spawn(async move { while reader.receive().await.is_ok() {} });
    for message in messages {
        // A message that ends the session ends what can be sent.
        if writer.send(message).await.is_err() {
            break;
        }
    }
    destination.fence(1).await.expect("fencing");
    let fenced = images.each_ref().map(|path| content(path));
    // The session is over, so the connection ends, and nothing that is said on it counts.
    listener.await.expect("listening until the end");
    for message in messages.iter().take(4) {
        let _ = writer.send(message).await;
    }
    assert_eq!(images.each_ref().map(|path| content(path)), fenced);
    let mut newer = dial(&address, 2).await;
    write(&mut newer).await;
    assert_eq!(content(&images[0]).len() as u64, SIZE);
    destination.stop().await;
}

fn content(path: &Path) -> Vec<u8> {
    let content = std::fs::read(path).expect("the VDISK's file");
    assert_eq!(content.len() as u64, SIZE, "the file has another size");
    content
}

async fn dial(address: &str, token: u64) -> Connection {
    let dialer = Dialer {
        address: address.into(),
        server_name: DESTINATION_NAME.into(),
        identity: ends().source.identity(),
        traffic: Arc::<Traffic>::default(),
    };
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        session: 0,
        token,
        connection: 0,
        software: String::new(),
    };
    dialer.dial(hello).await.expect("a session").0
}

/// Whatever the older sender did, a newer one is served.
async fn write(connection: &mut Connection) {
    let payload = Bytes::from_static(b"newer");
    let open = Message::OpenVdisk {
        handle: 1,
        name: NAMES[0].into(),
        size: SIZE,
        chunk_size: CHUNK_SIZE,
        forget: false,
    };
    let data = Message::Data(Data {
        handle: 1,
        id: 77,
        offset: 5,
        foreground: true,
        raw_length: payload.len() as u32,
        compression: Compression::None,
        hash: blake3::hash(&payload).into(),
        payload,
    });
    connection.writer.send(&open).await.expect("sending");
    loop {
        match connection.reader.receive().await.expect("an answer") {
            Message::VdiskOpened { .. } => connection.writer.send(&data).await.expect("sending"),
            Message::Ack { ids, .. } if ids == [77] => return,
            Message::Ping { .. } | Message::Window { .. } => continue,
            other => panic!("instead of an answer came {other:?}"),
        };
    }
}
