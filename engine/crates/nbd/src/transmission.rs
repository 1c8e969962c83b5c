//! The transmission phase of one connection: one task that writes requests and reads replies.
//!
//! Callers put requests into a table and a queue, and wait. A caller that stops waiting changes
//! nothing here: its request was queued as a whole, and its reply is read to the end.

mod table;

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Error;
use crate::error::broken;
use crate::protocol::{REPLY_FLAG_DONE, REQUEST_MAGIC, REQUEST_SIZE};
use crate::reply::{Body, Header, Request, be32, be64};
use crate::stream::Halves;
pub(crate) use table::{Answer, Pending, Table};

/// Most requests written by one system call; each has up to two parts, the kernel takes 1024.
const WRITE_BATCH: usize = 128;
/// Enough for many small replies in one read; data that does not fit goes straight to its buffer.
const READ_BUFFER: usize = 16 << 10;
/// Room that is kept between chunks for payloads that are not data, in bytes.
const SCRATCH: usize = 64 << 10;

/// A request ready for the wire.
pub(crate) struct Outgoing {
    pub(crate) header: [u8; REQUEST_SIZE],
    pub(crate) payload: Bytes,
}

/// The header of `request` as it goes over the wire.
pub(crate) fn encode(request: Request, flags: u16, cookie: u64) -> [u8; REQUEST_SIZE] {
    let mut header = [0; REQUEST_SIZE];
    header[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    header[4..6].copy_from_slice(&flags.to_be_bytes());
    header[6..8].copy_from_slice(&(request.command as u16).to_be_bytes());
    header[8..16].copy_from_slice(&cookie.to_be_bytes());
    header[16..24].copy_from_slice(&request.offset.to_be_bytes());
    header[24..28].copy_from_slice(&request.length.to_be_bytes());
    header
}

/// Runs until the connection ends, then fails whatever is still in flight.
pub(crate) async fn run(halves: Halves, table: Arc<Table>, queue: UnboundedReceiver<Outgoing>) {
    let mut reader = Reader {
        input: BufReader::with_capacity(READ_BUFFER, halves.input),
        table: &table,
        scratch: Vec::new(),
        current: None,
    };
    let error = tokio::select! {
        error = reader.read_replies() => error,
        error = write_requests(halves.output, queue) => error,
    };
    // Before `reader` is dropped with the request it may hold: nobody must see the one without the other.
    table.fail(error);
}

/// Returns only when writing fails; an ended queue is ended by the client's death.
async fn write_requests(
    mut output: Box<dyn AsyncWrite + Send + Unpin>,
    mut queue: UnboundedReceiver<Outgoing>,
) -> Error {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        if let Err(source) = write_batch(&mut output, &batch).await {
            return Error::io("sending requests to the NBD server", source);
        }
        batch.clear();
    }
    Error::Closed
}

async fn write_batch(
    output: &mut (dyn AsyncWrite + Send + Unpin),
    batch: &[Outgoing],
) -> io::Result<()> {
    let parts = batch
        .iter()
        .flat_map(|request| [&request.header[..], &request.payload[..]]);
    let mut slices: Vec<IoSlice<'_>> = parts
        .filter(|part| !part.is_empty())
        .map(IoSlice::new)
        .collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match output.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

struct Reader<'a> {
    input: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    table: &'a Table,
    scratch: Vec<u8>,
    /// The request whose reply is being read.
    current: Option<Pending>,
}

impl Reader<'_> {
    /// Returns only when the connection is at its end.
    async fn read_replies(&mut self) -> Error {
        loop {
            if let Err(error) = self.read_reply().await {
                return error;
            }
        }
    }

    /// One simple reply, or one chunk of a structured one.
    async fn read_reply(&mut self) -> Result<(), Error> {
        let mut header = [0; Header::SIZE];
        self.exactly(&mut header).await?;
        match Header::parse(&header)? {
            Header::Simple { errno, cookie } => {
                let pending = take(self.table, &mut self.current, cookie)?;
                let length = pending.assembly.simple(errno)?;
                read(&mut self.input, &mut pending.buffer[..length]).await?;
                self.answer()
            }
            Header::Chunk {
                flags,
                kind,
                cookie,
            } => {
                let mut length = [0; 4];
                self.exactly(&mut length).await?;
                self.read_chunk(flags, kind, cookie, be32(&length)).await
            }
        }
    }

    async fn read_chunk(
        &mut self,
        flags: u16,
        kind: u16,
        cookie: u64,
        length: u32,
    ) -> Result<(), Error> {
        let pending = take(self.table, &mut self.current, cookie)?;
        match pending.assembly.chunk(flags, kind, length)? {
            Body::Empty => {}
            Body::Fields(length) => {
                self.scratch.resize(length, 0);
                read(&mut self.input, &mut self.scratch).await?;
                let hole = pending.assembly.fields(kind, &self.scratch)?;
                pending.buffer[hole].fill(0);
                self.scratch.truncate(SCRATCH);
                self.scratch.shrink_to(SCRATCH);
            }
            Body::Data(length) => {
                let mut offset = [0; 8];
                read(&mut self.input, &mut offset).await?;
                let range = pending.assembly.place_data(be64(&offset), length)?;
                read(&mut self.input, &mut pending.buffer[range]).await?;
            }
        }
        if flags & REPLY_FLAG_DONE == 0 {
            self.table.put_back(cookie, self.current.take());
            return Ok(());
        }
        self.answer()
    }

    /// The reply has come to its end.
    fn answer(&mut self) -> Result<(), Error> {
        if let Some(pending) = &self.current {
            pending.assembly.finish()?;
        }
        if let Some(pending) = self.current.take() {
            pending.complete();
        }
        Ok(())
    }

    async fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        read(&mut self.input, bytes).await
    }
}

/// The request that a reply belongs to; it stays in `current` while its reply is read.
fn take<'a>(
    table: &Table,
    current: &'a mut Option<Pending>,
    cookie: u64,
) -> Result<&'a mut Pending, Error> {
    match table.take(cookie) {
        Some(pending) => Ok(current.insert(pending)),
        None => broken!("a reply with cookie {cookie}, which belongs to no request in flight"),
    }
}

async fn read(
    input: &mut BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    bytes: &mut [u8],
) -> Result<(), Error> {
    match input.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::io("reading replies of the NBD server", source)),
    }
}
