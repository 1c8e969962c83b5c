//! One session: all connections of one source, from its first Hello until one of them fails.

use super::attachment::{Attachment, fault};
use super::hashing::hash_chunks;
use super::{Shared, lock};
use crate::chunk::CHUNK_SIZE;
use crate::conversation::{Outgoing, Parties, Receive, RoundTrip, queues, spawn_connection};
use crate::trouble::{Trouble, TroubleCode};
use drover_link::limits::MAX_CHUNK;
use drover_link::{Connection, Data, LinkError, Message};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes of received data that may wait to be written.
const MEMORY: usize = 64 << 20;

/// Hash requests that are served at once.
const HASHERS: usize = 4;

pub(super) struct Session {
    pub(super) number: u64,
    pub(super) token: u64,
    pub(super) round_trip: Arc<RoundTrip>,
    joining: tokio::sync::mpsc::UnboundedSender<Connection>,
    ending: CancellationToken,
    over: CancellationToken,
}

/// What the readers of a session need.
struct Reception {
    shared: Weak<Shared>,
    token: u64,
    outgoing: Outgoing,
    handles: Mutex<HashMap<u32, Arc<Attachment>>>,
    memory: Arc<Semaphore>,
    hashers: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Session {
    /// Starts a session with its first connection. `ended` is called with the reason.
    pub(super) fn start(
        shared: &Arc<Shared>,
        number: u64,
        token: u64,
        ended: impl FnOnce(u64, String) + Send + 'static,
    ) -> Arc<Session> {
        let (joining, mut joined) = tokio::sync::mpsc::unbounded_channel();
        let (outgoing, outlet) = queues();
        let round_trip = Arc::<RoundTrip>::default();
        let reception = Arc::new(Reception {
            shared: Arc::downgrade(shared),
            token,
            outgoing: outgoing.clone(),
            handles: Mutex::default(),
            memory: Arc::new(Semaphore::new(MEMORY)),
            hashers: Arc::new(Semaphore::new(HASHERS)),
            tasks: TaskTracker::new(),
        });
        let parties = Parties {
            receiver: reception.clone(),
            outgoing,
            outlet,
            round_trip: round_trip.clone(),
        };
        let (ending, over) = (CancellationToken::new(), CancellationToken::new());
        let session = Arc::new(Session {
            number,
            token,
            round_trip,
            joining,
            ending: ending.clone(),
            over: over.clone(),
        });
        tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            let reason = loop {
                tokio::select! {
                    () = ending.cancelled() => break None,
                    Some(connection) = joined.recv() => spawn_connection(&mut tasks, connection, &parties),
                    Some(first) = tasks.join_next() => break Some(match first {
                        Ok(error) => error.to_string(),
                        Err(error) => format!("a connection's task failed: {error}"),
                    }),
                }
            };
            tasks.shutdown().await;
            reception.close().await;
            over.cancel();
            if let Some(reason) = reason {
                ended(number, reason);
            }
        });
        session
    }

    pub(super) fn join(&self, connection: Connection) {
        // A session that has just ended drops the connection, and the source begins anew.
        let _ = self.joining.send(connection);
    }

    /// Ends all connections and waits until no write of this session can happen any more.
    pub(super) async fn end(&self, why: &str) {
        tracing::info!(session = self.number, "ending the session: {why}");
        self.ending.cancel();
        self.over.cancelled().await;
    }
}

impl Reception {
    /// Every write is finished or dropped when this returns.
    async fn close(&self) {
        let attachments: Vec<_> = lock(&self.handles)
            .drain()
            .map(|(_, attachment)| attachment)
            .collect();
        for attachment in attachments {
            attachment.close().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        // An open that was under way may have attached meanwhile.
        let late: Vec<_> = lock(&self.handles)
            .drain()
            .map(|(_, attachment)| attachment)
            .collect();
        for attachment in late {
            attachment.close().await;
        }
    }

    fn attachment(&self, handle: u32) -> Option<Arc<Attachment>> {
        lock(&self.handles).get(&handle).cloned()
    }

    /// Waits for a share of the memory budget: this is what holds back a source that is faster
    /// than the disk.
    async fn memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes.clamp(4096, MAX_CHUNK) as u32;
        self.memory.clone().acquire_many_owned(bytes).await.ok()
    }

    async fn data(&self, data: Data) {
        let Some(attachment) = self.attachment(data.handle) else {
            return;
        };
        let memory = self.memory(data.raw_length as usize).await;
        self.tasks.spawn(async move {
            attachment.write(data).await;
            drop(memory);
        });
    }

    /// Runs `work` on the attachment of a handle; messages for closed handles mean nothing.
    async fn work<F: Future<Output = ()> + Send + 'static>(
        &self,
        handle: u32,
        work: impl FnOnce(Arc<Attachment>) -> F,
    ) {
        let Some(attachment) = self.attachment(handle) else {
            return;
        };
        let memory = self.memory(0).await;
        let work = work(attachment);
        self.tasks.spawn(async move {
            work.await;
            drop(memory);
        });
    }

    async fn hash(&self, handle: u32, request: u64, first: u32, count: u32) {
        let Some(attachment) = self.attachment(handle) else {
            return;
        };
        let hashers = self.hashers.clone();
        let memory = self.memory(0).await;
        self.tasks.spawn(async move {
            let Ok(_turn) = hashers.acquire_owned().await else {
                return;
            };
            let _memory = memory;
            let chunks = attachment.vdisk().geometry().chunks();
            if first.checked_add(count).is_none_or(|end| end > chunks) {
                let text =
                    format!("chunks {first} to {first} + {count} of {chunks} cannot be hashed");
                return attachment.fail(Trouble::new(TroubleCode::SizeMismatch, text));
            }
            match hash_chunks(attachment.vdisk(), first, count).await {
                Ok(runs) => attachment.outgoing.send(Message::HashReply {
                    handle,
                    request,
                    runs,
                }),
                Err(trouble) => attachment.fail(trouble),
            }
        });
    }

    fn open(self: &Arc<Self>, request: Open) {
        let reception = self.clone();
        self.tasks.spawn(async move {
            let handle = request.handle;
            if let Err(trouble) = reception.open_vdisk(request).await {
                reception.outgoing.send(fault(handle, &trouble));
            }
        });
    }

    async fn open_vdisk(&self, request: Open) -> Result<(), Trouble> {
        let Open {
            handle,
            name,
            size,
            chunk_size,
            forget,
        } = request;
        let unknown = || {
            let text = format!("VDISK {name} is not known here; PUT it to the destination engine");
            Trouble::new(TroubleCode::UnknownVdisk, text)
        };
        let shared = self.shared.upgrade().ok_or_else(unknown)?;
        // Two opens at once, or one and a DELETE, would leave a handle open that nobody closes.
        let _alone = shared.registry.lock().await;
        let vdisk = lock(&shared.vdisks).get(&name).cloned();
        let vdisk = vdisk.ok_or_else(unknown)?;
        if shared.tokens.is_fenced(self.token) {
            return Err(Trouble::new(
                TroubleCode::Fenced,
                "the destination is fenced",
            ));
        }
        if vdisk.geometry().size() != size || chunk_size != CHUNK_SIZE {
            let here = vdisk.geometry().size();
            let text = format!(
                "VDISK {name} has {here} bytes in chunks of {CHUNK_SIZE} here, {size} in chunks of {chunk_size} at the source"
            );
            return Err(Trouble::new(TroubleCode::SizeMismatch, text));
        }
        let runs = vdisk.prepare(forget, self.token).await?;
        let attachment =
            Attachment::start(vdisk.clone(), handle, self.token, self.outgoing.clone());
        vdisk.attach(attachment.clone());
        let older = lock(&self.handles).insert(handle, attachment);
        if let Some(older) = older {
            // The number was used twice, against the protocol; it stands for the latter from now on.
            older.close().await;
        }
        let pieces = runs.pieces();
        let count = pieces.len();
        for (index, (first, runs)) in pieces.into_iter().enumerate() {
            self.outgoing.send(Message::VdiskOpened {
                handle,
                first,
                runs,
                last: index + 1 == count,
            });
        }
        Ok(())
    }
}

struct Open {
    handle: u32,
    name: String,
    size: u64,
    chunk_size: u32,
    forget: bool,
}

/// Readers share the reception.
impl Receive for Reception {
    async fn receive(self: &Arc<Self>, message: Message) -> Result<(), LinkError> {
        match message {
            Message::Data(data) => self.data(data).await,
            Message::Zero {
                handle,
                id,
                offset,
                length,
                foreground,
            } => {
                let zero = |attachment: Arc<Attachment>| async move {
                    attachment.zero(id, offset, length, foreground).await;
                };
                self.work(handle, zero).await;
            }
            Message::Confirm {
                handle,
                id,
                first,
                count,
            } => {
                let confirm = |attachment: Arc<Attachment>| async move {
                    attachment.confirm(id, first, count).await;
                };
                self.work(handle, confirm).await;
            }
            Message::OpenVdisk {
                handle,
                name,
                size,
                chunk_size,
                forget,
            } => {
                self.open(Open {
                    handle,
                    name,
                    size,
                    chunk_size,
                    forget,
                });
            }
            Message::HashRequest {
                handle,
                request,
                first,
                count,
            } => {
                self.hash(handle, request, first, count).await;
            }
            Message::RootRequest { handle } => {
                if let Some(attachment) = self.attachment(handle) {
                    let root = attachment.vdisk().root();
                    self.outgoing.send(Message::RootReply { handle, root });
                }
            }
            Message::Flush { handle } => {
                if let Some(attachment) = self.attachment(handle) {
                    attachment.hurry();
                }
            }
            Message::CloseVdisk { handle } => {
                let attachment = lock(&self.handles).remove(&handle);
                if let Some(attachment) = attachment {
                    self.tasks.spawn(async move { attachment.close().await });
                }
            }
            other => {
                return Err(LinkError::Protocol(format!(
                    "a source does not send {}",
                    name_of(&other)
                )));
            }
        }
        Ok(())
    }
}

/// The message without its content.
fn name_of(message: &Message) -> String {
    let text = format!("{message:?}");
    text.split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
