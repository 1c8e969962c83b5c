//! What a destination does with the messages of a session.

use super::attachment::{Attachment, fault};
use super::hashing::{hash_blocks, hash_chunks};
use super::window::{Place, Sharers, Window};
use super::{Shared, lock};
use crate::budget::Budget;
use crate::chunk::CHUNK_SIZE;
use crate::conversation::{LostData, Outgoing, Receive};
use crate::trouble::{Trouble, TroubleCode};
use drover_link::limits::{LEAST_COST, MAX_REQUESTS};
use drover_link::{Compression, Data, LinkError, Message};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Bytes of unpacked data on their way to the disks, over all VDISKs; and what each VDISK may have
/// whatever the others have.
const BACKGROUND_MEMORY: (u64, u64) = (32 << 20, 1 << 20);
const FOREGROUND_MEMORY: (u64, u64) = (16 << 20, 1 << 20);

/// Hash requests of one handle that are served at once, and as many for blocks, which do not wait
/// for the others: data waits for them.
const HASHERS: usize = 4;

/// What the readers of a session need.
pub(super) struct Reception {
    shared: Weak<Shared>,
    token: u64,
    outgoing: Outgoing,
    handles: Mutex<HashMap<u32, Arc<Opened>>>,
    /// The latest handle of each VDISK; locked while one is opened.
    latest: Mutex<HashMap<String, Arc<tokio::sync::Mutex<u32>>>>,
    sharers: Sharers,
    background: Arc<Budget>,
    foreground: Arc<Budget>,
    requests: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A VDISK under a handle.
struct Opened {
    attachment: Arc<Attachment>,
    window: Arc<Window>,
    hashers: Arc<Semaphore>,
    block_hashers: Arc<Semaphore>,
}

impl Reception {
    pub(super) fn new(shared: &Arc<Shared>, token: u64, outgoing: Outgoing) -> Self {
        Reception {
            shared: Arc::downgrade(shared),
            token,
            outgoing,
            handles: Mutex::default(),
            latest: Mutex::default(),
            sharers: Sharers::default(),
            background: Budget::new(BACKGROUND_MEMORY.0, BACKGROUND_MEMORY.1),
            foreground: Budget::new(FOREGROUND_MEMORY.0, FOREGROUND_MEMORY.1),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            tasks: TaskTracker::new(),
        }
    }

    /// Every write is finished or dropped when this returns.
    pub(super) async fn close(&self) {
        self.close_all().await;
        self.tasks.close();
        self.tasks.wait().await;
        // An open that was under way may have attached meanwhile.
        self.close_all().await;
    }

    async fn close_all(&self) {
        let all: Vec<_> = lock(&self.handles).drain().collect();
        for (_, opened) in all {
            opened.attachment.close().await;
        }
    }

    fn opened(&self, handle: u32) -> Option<Arc<Opened>> {
        lock(&self.handles).get(&handle).cloned()
    }

    /// A place for a request that takes its time.
    fn request(&self) -> Result<OwnedSemaphorePermit, LinkError> {
        let place = self.requests.clone().try_acquire_owned();
        place.map_err(|_| LinkError::Protocol(format!("over {MAX_REQUESTS} requests at once")))
    }

    fn data(&self, data: Data) -> Result<(), LinkError> {
        let Some(opened) = self.opened(data.handle) else {
            return Ok(());
        };
        let place = opened.window.take(data.cost())?;
        let budget = match data.foreground {
            true => self.foreground.clone(),
            false => self.background.clone(),
        };
        self.tasks.spawn(async move {
            let chunks = match data.compression {
                // What is there is read as well.
                Compression::Patch => 2,
                _ => 1,
            };
            let bytes = chunks * u64::from(data.raw_length);
            let memory = budget.acquire(data.handle, bytes).await;
            opened.attachment.write(data).await;
            drop((memory, place));
        });
        Ok(())
    }

    /// Runs `work` on the attachment of a handle; messages for closed handles mean nothing.
    fn work<F: Future<Output = ()> + Send + 'static>(
        &self,
        handle: u32,
        cost: u64,
        work: impl FnOnce(Arc<Attachment>) -> F,
    ) -> Result<(), LinkError> {
        let Some(opened) = self.opened(handle) else {
            return Ok(());
        };
        let place: Place = opened.window.take(cost)?;
        let work = work(opened.attachment.clone());
        self.tasks.spawn(async move {
            work.await;
            drop(place);
        });
        Ok(())
    }

    fn hash(&self, handle: u32, request: u64, first: u32, count: u32) -> Result<(), LinkError> {
        let Some(opened) = self.opened(handle) else {
            return Ok(());
        };
        let place = self.request()?;
        self.tasks.spawn(async move {
            let Ok(_turn) = opened.hashers.acquire().await else {
                return;
            };
            let _place = place;
            let attachment = &opened.attachment;
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
        Ok(())
    }

    fn hash_blocks(&self, handle: u32, request: u64, chunk: u32) -> Result<(), LinkError> {
        let Some(opened) = self.opened(handle) else {
            return Ok(());
        };
        let place = self.request()?;
        self.tasks.spawn(async move {
            let Ok(_turn) = opened.block_hashers.acquire().await else {
                return;
            };
            let _place = place;
            let attachment = &opened.attachment;
            let chunks = attachment.vdisk().geometry().chunks();
            if chunk >= chunks {
                let text = format!("blocks of chunk {chunk} of {chunks} cannot be hashed");
                return attachment.fail(Trouble::new(TroubleCode::SizeMismatch, text));
            }
            match hash_blocks(attachment.vdisk(), chunk).await {
                Ok(hashes) => attachment.outgoing.send(Message::BlockHashReply {
                    handle,
                    request,
                    hashes,
                }),
                Err(trouble) => attachment.fail(trouble),
            }
        });
        Ok(())
    }

    fn open(self: &Arc<Self>, request: Open) -> Result<(), LinkError> {
        let reception = self.clone();
        let place = self.request()?;
        // Only names that are known are remembered.
        let shared = self.shared.upgrade();
        let known = shared.is_some_and(|shared| lock(&shared.vdisks).contains_key(&request.name));
        let latest = match known {
            true => lock(&self.latest)
                .entry(request.name.clone())
                .or_default()
                .clone(),
            false => Arc::default(),
        };
        self.tasks.spawn(async move {
            // Handles rise: an open that was overtaken by a later one of the same VDISK is void.
            let mut latest = latest.lock().await;
            let handle = request.handle;
            if *latest < handle {
                *latest = handle;
                if let Err(trouble) = reception.open_vdisk(request).await {
                    reception.outgoing.send(fault(handle, &trouble));
                }
            }
            drop(place);
        });
        Ok(())
    }

    async fn open_vdisk(&self, request: Open) -> Result<(), Trouble> {
        let Open {
            handle,
            name,
            size,
            chunk_size,
            forget,
        } = request;
        let shared = self.shared.upgrade();
        let vdisk = shared
            .as_ref()
            .and_then(|shared| lock(&shared.vdisks).get(&name).cloned());
        let (Some(shared), Some(vdisk)) = (shared, vdisk) else {
            let text = format!("VDISK {name} is not known here; PUT it to the destination engine");
            return Err(Trouble::new(TroubleCode::UnknownVdisk, text));
        };
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
        let (runs, incarnation) = vdisk.prepare(forget, self.token).await?;
        let attachment =
            Attachment::start(vdisk.clone(), handle, self.token, self.outgoing.clone());
        vdisk.attach(attachment.clone());
        let known = lock(&shared.vdisks).get(&name).cloned();
        if !known.is_some_and(|known| Arc::ptr_eq(&known, &vdisk)) {
            // Deleted meanwhile: whoever did that saw no attachment to close.
            attachment.close().await;
            let text = format!("VDISK {name} was deleted from the destination engine");
            return Err(Trouble::new(TroubleCode::UnknownVdisk, text));
        }
        let opened = Opened {
            attachment,
            window: Window::open(handle, self.sharers.clone(), self.outgoing.clone()),
            hashers: Arc::new(Semaphore::new(HASHERS)),
            block_hashers: Arc::new(Semaphore::new(HASHERS)),
        };
        let older = {
            let mut handles = lock(&self.handles);
            handles.retain(|_, older| !Arc::ptr_eq(older.attachment.vdisk(), &vdisk));
            handles.insert(handle, Arc::new(opened))
        };
        if let Some(older) = older {
            // The number was used twice, against the protocol; it stands for the latter from now on.
            older.attachment.close().await;
        }
        let pieces = runs.pieces();
        let count = pieces.len();
        for (index, (first, runs)) in pieces.into_iter().enumerate() {
            self.outgoing.send(Message::VdiskOpened {
                handle,
                first,
                runs,
                last: index + 1 == count,
                incarnation,
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
    fn receive(self: &Arc<Self>, message: Message) -> Result<(), LinkError> {
        match message {
            Message::Data(data) => self.data(data)?,
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
                self.work(handle, LEAST_COST, zero)?;
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
                self.work(handle, 0, confirm)?;
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
                })?;
            }
            Message::HashRequest {
                handle,
                request,
                first,
                count,
            } => {
                self.hash(handle, request, first, count)?;
            }
            Message::BlockHashRequest {
                handle,
                request,
                chunk,
            } => {
                self.hash_blocks(handle, request, chunk)?;
            }
            Message::Grant {
                handle,
                offer,
                known,
                answers,
            } => {
                if let Some(opened) = self.opened(handle) {
                    opened.attachment.granted(offer, known, &answers);
                }
            }
            Message::RootRequest { handle } => {
                if let Some(opened) = self.opened(handle) {
                    let root = opened.attachment.vdisk().root();
                    self.outgoing.send(Message::RootReply { handle, root });
                }
            }
            Message::Flush { handle } => {
                if let Some(opened) = self.opened(handle) {
                    opened.attachment.hurry();
                }
            }
            Message::CloseVdisk { handle } => {
                let opened = lock(&self.handles).remove(&handle);
                if let Some(opened) = opened {
                    let place = self.request()?;
                    self.tasks.spawn(async move {
                        opened.attachment.close().await;
                        drop(place);
                    });
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

    fn lost(&self, data: LostData) {
        tracing::error!(?data, "a destination sends no data");
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
