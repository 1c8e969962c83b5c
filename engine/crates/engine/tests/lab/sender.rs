//! A sender with a valid certificate that says whatever a test wants it to.

use super::Lab;
use bytes::Bytes;
use drover_link::handshake::Dialer;
use drover_link::message::Data;
use drover_link::tls::{DESTINATION_NAME, Identity};
use drover_link::{
    Compression, Connection, Hello, LinkError, Message, PROTOCOL_VERSION, RefuseCode,
};
use serde_json::Value;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Longest wait for an answer that must come.
const SOON: Duration = Duration::from_secs(20);

/// The first connection of a session.
pub struct Sender {
    pub session: u64,
    connection: Connection,
    runtime: Runtime,
}

pub fn hello(session: u64, token: u64, connection: u32) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        session,
        token,
        connection,
        software: "a test".into(),
    }
}

/// The identity of a link as the API takes it.
fn identity(link: &Value) -> Identity {
    let text = |field: &str| link[field].as_str().unwrap().to_owned();
    Identity::from_pem(&text("certificate"), &text("key"), &text("authority")).unwrap()
}

impl Sender {
    pub fn try_dial(lab: &Lab, hello: Hello) -> Result<Sender, LinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.unwrap();
        let dialer = Dialer {
            address: lab.address.clone(),
            server_name: DESTINATION_NAME.into(),
            identity: identity(&lab.authority.link("source")),
            traffic: Default::default(),
        };
        let (connection, session) = runtime.block_on(dialer.dial(hello))?;
        Ok(Sender {
            session,
            connection,
            runtime,
        })
    }

    /// Begins a session.
    pub fn dial(lab: &Lab, token: u64) -> Sender {
        Self::try_dial(lab, hello(0, token, 0)).unwrap()
    }

    /// Demands a refusal.
    pub fn refused(lab: &Lab, hello: Hello) -> RefuseCode {
        match Self::try_dial(lab, hello) {
            Err(LinkError::Refused { code, .. }) => code,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was let in"),
        }
    }

    pub fn send(&mut self, message: &Message) {
        // The destination may have ended the session already.
        let _ = self.runtime.block_on(self.connection.writer.send(message));
    }

    /// The next message that is no Ping, or why there is none.
    pub fn hear(&mut self) -> Result<Message, LinkError> {
        let reader = &mut self.connection.reader;
        self.runtime.block_on(async {
            loop {
                let heard = timeout(SOON, reader.receive()).await.expect("an answer");
                match heard? {
                    Message::Ping { .. } | Message::Window { .. } => {}
                    message => return Ok(message),
                }
            }
        })
    }

    /// Waits for the end of the session.
    pub fn ended(&mut self) {
        while self.hear().is_ok() {}
    }

    /// Opens a VDISK and waits until it is open.
    pub fn open(&mut self, handle: u32, name: &str, size: u64) {
        self.send(&open(handle, name, size));
        match self.hear().unwrap() {
            Message::VdiskOpened { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Sends a piece, which must be acknowledged, and returns everything heard before that.
    pub fn write(
        &mut self,
        handle: u32,
        id: u64,
        offset: u64,
        fill: u8,
        length: usize,
    ) -> Vec<Message> {
        self.send(&data(handle, id, offset, fill, length));
        self.send(&Message::Flush { handle });
        let mut before = Vec::new();
        loop {
            match self.hear().unwrap() {
                Message::Ack { handle: of, ids } if of == handle && ids.contains(&id) => {
                    before.extend((ids.len() > 1).then_some(Message::Ack { handle, ids }));
                    return before;
                }
                other => before.push(other),
            }
        }
    }
}

pub fn open(handle: u32, name: &str, size: u64) -> Message {
    Message::OpenVdisk {
        handle,
        name: name.into(),
        size,
        chunk_size: 512 << 10,
        forget: false,
    }
}

pub fn data(handle: u32, id: u64, offset: u64, fill: u8, length: usize) -> Message {
    let payload = Bytes::from(vec![fill; length]);
    Message::Data(Data {
        handle,
        id,
        offset,
        foreground: true,
        raw_length: length as u32,
        compression: Compression::None,
        hash: blake3::hash(&payload).into(),
        payload,
    })
}

pub fn zero(handle: u32, id: u64, offset: u64, length: u64) -> Message {
    Message::Zero {
        handle,
        id,
        offset,
        length,
        foreground: true,
    }
}
