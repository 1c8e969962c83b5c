//! One connection to an export.

mod checks;

use std::sync::Arc;
use std::time::Duration;

use buffers::Buffer;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{ENOTSUP, EOVERFLOW, Error};
use crate::export::{Export, ExportInfo, Extent};
use crate::negotiate::{Agreement, HANDSHAKE_TIMEOUT, negotiate};
use crate::protocol::{CMD_FLAG_DF, CMD_FLAG_NO_HOLE, Command};
use crate::reply::{Assembly, Request};
use crate::stream::{Halves, Socket};
use crate::transmission::{self, Answer, Outgoing, Pending, Table, encode};

/// Most requests in flight on one connection; one more waits for its turn.
const MAX_IN_FLIGHT: usize = 256;
/// Most parts of one split request that are in flight together.
const PARTS_IN_FLIGHT: usize = 16;
/// Longest write that stands in for a write of zeros, in bytes.
const ZERO_PART: u32 = 1 << 20;
/// How long `disconnect` waits for the server to hang up.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection to an export. Clones share it; it ends with the last clone.
///
/// All offsets and lengths are bytes, and multiples of [`ExportInfo::minimum_block`]. Futures may be
/// dropped at any time; a write may then happen or not. After an error whose
/// [`Error::connection_survives`] is false, every request fails with it.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

struct Connection {
    agreement: Agreement,
    table: Arc<Table>,
    queue: UnboundedSender<Outgoing>,
    slots: Arc<Semaphore>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Connects and shakes hands, all within [`HANDSHAKE_TIMEOUT`].
    ///
    /// Meta contexts that the server does not grant are no error: see [`ExportInfo::meta_contexts`].
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such export (with the names that there are), and
    /// [`Error::HandshakeTimeout`], [`Error::Io`], [`Error::Protocol`], [`Error::Closed`],
    /// [`Error::Unsupported`], [`Error::TooLarge`].
    pub async fn connect(export: &Export) -> Result<Client, Error> {
        let handshake = async {
            let mut socket = Socket::connect(&export.address).await?;
            let agreement = negotiate(socket.as_stream(), export).await?;
            Ok(Client::start(socket.into_halves(), agreement))
        };
        timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .unwrap_or_else(|_| {
                let address = export.address.to_string();
                Err(Error::HandshakeTimeout {
                    address,
                    seconds: HANDSHAKE_TIMEOUT.as_secs(),
                })
            })
    }

    /// As [`Client::connect`], over a stream that is open already. For fuzzing only: no part of the
    /// interface.
    #[doc(hidden)]
    pub async fn over<S>(mut stream: S, export: &Export) -> Result<Client, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let agreement = negotiate(&mut stream, export).await?;
        let (input, output) = tokio::io::split(stream);
        let halves = Halves {
            input: Box::new(input),
            output: Box::new(output),
        };
        Ok(Client::start(halves, agreement))
    }

    fn start(halves: Halves, agreement: Agreement) -> Client {
        let table = Arc::new(Table::default());
        let (queue, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(transmission::run(halves, table.clone(), requests));
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let task = task.abort_handle();
        Client {
            connection: Arc::new(Connection {
                agreement,
                table,
                queue,
                slots,
                task,
            }),
        }
    }

    /// What the server said of the export.
    pub fn info(&self) -> &ExportInfo {
        &self.connection.agreement.info
    }

    /// Reads exactly `length` bytes; holes come back as zeros.
    ///
    /// # Errors
    /// [`Error::Server`], [`Error::TooLarge`] (beyond the end), [`Error::Misaligned`], or the end of
    /// the connection.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Error> {
        self.check(offset, length.into())?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let most = self.info().maximum_payload;
        if length <= most {
            return Ok(self.read_part(offset, length).await?.freeze());
        }
        let starts = (0..length).step_by(most as usize);
        let parts =
            starts.map(|start| self.read_part(offset + u64::from(start), most.min(length - start)));
        stream::iter(parts)
            .buffered(PARTS_IN_FLIGHT)
            .try_fold(
                (Buffer::new(length as usize), 0),
                async |(mut whole, done), part| {
                    whole[done..done + part.len()].copy_from_slice(&part);
                    Ok((whole, done + part.len()))
                },
            )
            .await
            .map(|(whole, _)| whole.freeze())
    }

    /// Writes `data`. With `fua` it is durable when this returns, else only after a [`Client::flush`].
    ///
    /// # Errors
    /// As [`Client::read`]; [`Error::Unsupported`] if the export is read-only, or if `fua` is asked
    /// of a server that can neither do that nor flush.
    pub async fn write(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), Error> {
        self.check_writable()?;
        self.check(offset, data.len() as u64)?;
        let (flags, flush) = self.durability(fua)?;
        stream::iter(self.parts(offset, data, Bytes::split_to))
            .map(|(offset, part)| self.write_part(offset, part, flags))
            .buffer_unordered(PARTS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        if flush { self.flush().await } else { Ok(()) }
    }

    /// Makes `length` bytes read as zeros, as holes if `may_punch_hole` and the server likes.
    ///
    /// A server that cannot do this gets zeros written.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn write_zeroes(
        &self,
        offset: u64,
        length: u32,
        may_punch_hole: bool,
    ) -> Result<(), Error> {
        self.check_writable()?;
        self.check(offset, length.into())?;
        if length == 0 {
            return Ok(());
        }
        if self.info().can_write_zeroes {
            let flags = if may_punch_hole { 0 } else { CMD_FLAG_NO_HOLE };
            let request = Request {
                command: Command::WriteZeroes,
                offset,
                length,
            };
            match self
                .call(request, flags, 0, Bytes::new(), Buffer::default())
                .await
            {
                Err(Error::Server { errno: ENOTSUP, .. }) => {}
                outcome => return outcome.map(drop),
            }
        }
        self.write_plain_zeroes(offset, length).await
    }

    /// Makes all completed writes durable.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the server says that it cannot flush; [`Error::Server`], or the end
    /// of the connection.
    pub async fn flush(&self) -> Result<(), Error> {
        if !self.info().can_flush {
            return Err(Error::Unsupported("flush"));
        }
        let request = Request {
            command: Command::Flush,
            offset: 0,
            length: 0,
        };
        self.call(request, 0, 0, Bytes::new(), Buffer::default())
            .await
            .map(drop)
    }

    /// The extents of a granted meta context from `offset` on: at least one, never beyond
    /// `offset + length`, perhaps covering less.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `context` was not granted; else as [`Client::read`].
    pub async fn block_status(
        &self,
        context: &str,
        offset: u64,
        length: u32,
    ) -> Result<Vec<Extent>, Error> {
        let Agreement { info, context_ids } = &self.connection.agreement;
        let Some(at) = info
            .meta_contexts
            .iter()
            .position(|granted| granted == context)
        else {
            return Err(Error::Unsupported("this meta context"));
        };
        if length == 0 {
            return Err(Error::Unsupported("an empty block status request"));
        }
        self.check(offset, length.into())?;
        let request = Request {
            command: Command::BlockStatus,
            offset,
            length,
        };
        let answer = self
            .call(request, 0, context_ids[at], Bytes::new(), Buffer::default())
            .await?;
        Ok(answer.extents)
    }

    /// Says goodbye and closes the connection for all clones: requests in flight are still answered
    /// if that takes less than a second.
    pub async fn disconnect(self) {
        self.connection.table.close();
        let request = Request {
            command: Command::Disconnect,
            offset: 0,
            length: 0,
        };
        let header = encode(request, 0, u64::MAX);
        if self
            .connection
            .queue
            .send(Outgoing {
                header,
                payload: Bytes::new(),
            })
            .is_ok()
        {
            // A server that does not hang up is left alone: the task is aborted.
            let _ = timeout(DISCONNECT_TIMEOUT, self.connection.queue.closed()).await;
        }
        self.connection.task.abort();
        self.connection.table.fail(Error::Closed);
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.queue.is_closed()
    }

    /// Requests in flight, those included whose callers do not wait any more.
    pub fn in_flight(&self) -> usize {
        MAX_IN_FLIGHT - self.connection.slots.available_permits()
    }

    async fn read_part(&self, offset: u64, length: u32) -> Result<Buffer, Error> {
        let request = Request {
            command: Command::Read,
            offset,
            length,
        };
        let buffer = Buffer::new(length as usize);
        let answer = match self.info().can_df && self.info().structured_replies {
            // QEMU hangs up on a read error in a reply of several pieces, and answers one of a whole.
            true => {
                let whole = self.call(request, CMD_FLAG_DF, 0, Bytes::new(), buffer);
                match whole.await {
                    Err(Error::Server {
                        errno: EOVERFLOW, ..
                    }) => {
                        let buffer = Buffer::new(length as usize);
                        self.call(request, 0, 0, Bytes::new(), buffer).await
                    }
                    answer => answer,
                }
            }
            false => self.call(request, 0, 0, Bytes::new(), buffer).await,
        };
        Ok(answer?.data)
    }

    async fn write_part(&self, offset: u64, data: Bytes, flags: u16) -> Result<(), Error> {
        let request = Request {
            command: Command::Write,
            offset,
            length: data.len() as u32,
        };
        self.call(request, flags, 0, data, Buffer::default())
            .await
            .map(drop)
    }

    async fn write_plain_zeroes(&self, offset: u64, length: u32) -> Result<(), Error> {
        let block = self.info().minimum_block;
        let zeros = Bytes::from(vec![0; ZERO_PART.min(length).max(block) as usize]);
        let mut done = 0;
        while done < length {
            let part = zeros.slice(..(zeros.len()).min((length - done) as usize));
            let size = part.len() as u32;
            self.write(offset + u64::from(done), part, false).await?;
            done += size;
        }
        Ok(())
    }

    /// Sends one request and waits for its reply.
    async fn call(
        &self,
        request: Request,
        flags: u16,
        wanted_context: u32,
        payload: Bytes,
        buffer: Buffer,
    ) -> Result<Answer, Error> {
        let Connection {
            agreement,
            table,
            queue,
            slots,
            ..
        } = &*self.connection;
        let permit = slots
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| table.end())?;
        let structured = agreement.info.structured_replies;
        let assembly = Assembly::new(request, structured, &agreement.context_ids, wanted_context);
        let (answer, reply) = oneshot::channel();
        // No await between these two: a request in the table is on its way as a whole.
        let cookie = table.insert(Pending {
            assembly,
            buffer,
            answer,
            permit,
        })?;
        let sent = queue.send(Outgoing {
            header: encode(request, flags, cookie),
            payload,
        });
        drop(sent); // If the task has ended, it has failed the request or is about to.
        reply.await.unwrap_or_else(|_| Err(table.end()))
    }
}
