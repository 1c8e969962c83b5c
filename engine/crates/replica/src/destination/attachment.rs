//! A VDISK as opened by one session under one handle. A new handle ends the older one: its writes
//! are finished or dropped before the new one is answered.

use super::batch::Batch;
use super::lock;
use super::unpacking::{Refusal, unpack};
use super::vdisk::Vdisk;
use crate::chunk::{Geometry, mask_runs};
use crate::conversation::Outgoing;
use crate::journal::Record;
use crate::trouble::Trouble;
use bytes::Bytes;
use drover_link::limits::MAX_ACK_IDS;
use drover_link::message::{FaultCode, NOT_NOW, NOT_WANTED};
use drover_link::{Data, Message};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, RwLock, oneshot};
use tokio::task::JoinHandle;

pub(super) struct Attachment {
    pub(super) handle: u32,
    pub(super) token: u64,
    pub(super) outgoing: Outgoing,
    vdisk: Arc<Vdisk>,
    closed: AtomicBool,
    /// Closed, and no write is in progress any more.
    drained: AtomicBool,
    /// Readers are writes in progress; the writer is whoever waits for the last of them.
    busy: RwLock<()>,
    batch: Mutex<Batch>,
    batch_changed: Notify,
    stabilizing: AtomicBool,
    stabilizer: Mutex<Option<JoinHandle<()>>>,
    /// Offers that the source has not answered.
    offers: Mutex<HashMap<u64, oneshot::Sender<Granted>>>,
    next_offer: AtomicU64,
}

/// What a source says to an offer.
pub(super) struct Granted {
    /// Whether it waits for anything of the load.
    pub(super) known: bool,
    /// For each chunk.
    pub(super) answers: Vec<Answer>,
}

/// What a source says to one chunk of an offer.
pub(super) enum Answer {
    /// It does not wait for it.
    Unwanted,
    /// Offer it again.
    NotNow,
    /// Write it.
    Write(Permit),
}

/// Leave to write one chunk. The source keeps everything else from it until it is acknowledged, or
/// given back by dropping this unused.
pub(super) struct Permit {
    handle: u32,
    id: u64,
    newer: u8,
    outgoing: Outgoing,
    used: bool,
}

impl Permit {
    /// It is written from now on, whatever else happens. Returns what is to be acknowledged, and the
    /// blocks that are not to be written.
    fn begin(mut self) -> (u64, u8) {
        self.used = true;
        (self.id, self.newer)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.used {
            self.outgoing.send(Message::Fault {
                handle: self.handle,
                id: self.id,
                code: FaultCode::Corrupt,
                message: "what was offered is not written".into(),
                offset: None,
            });
        }
    }
}

impl Attachment {
    pub(super) fn start(
        vdisk: Arc<Vdisk>,
        handle: u32,
        token: u64,
        outgoing: Outgoing,
    ) -> Arc<Self> {
        let attachment = Arc::new(Attachment {
            handle,
            token,
            outgoing,
            vdisk,
            closed: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            busy: RwLock::default(),
            batch: Mutex::default(),
            batch_changed: Notify::new(),
            stabilizing: AtomicBool::new(false),
            stabilizer: Mutex::default(),
            offers: Mutex::default(),
            next_offer: AtomicU64::new(1),
        });
        let stabilizer = tokio::spawn(attachment.clone().stabilize());
        *lock(&attachment.stabilizer) = Some(stabilizer);
        attachment
    }

    pub(super) fn vdisk(&self) -> &Arc<Vdisk> {
        &self.vdisk
    }

    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Drops what is not written yet, waits for what is being written, makes that stable.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.offers).clear();
        drop(self.busy.write().await);
        self.drained.store(true, Ordering::Release);
        self.batch_changed.notify_one();
        let stabilizer = lock(&self.stabilizer).take();
        if let Some(stabilizer) = stabilizer {
            // It ends by itself once the last batch is stable; a panic in it must not hide here.
            if let Err(error) = stabilizer.await {
                tracing::error!(%error, vdisk = self.vdisk.name(), "stabilizer failed");
            }
        }
    }

    /// Stops the VDISK here and tells the source.
    pub(super) fn fail(&self, trouble: Trouble) {
        self.closed.store(true, Ordering::Release);
        lock(&self.offers).clear();
        tracing::warn!(vdisk = self.vdisk.name(), code = ?trouble.code, "held: {trouble}");
        self.outgoing.send(fault(self.handle, &trouble));
        self.vdisk.hold(trouble);
    }

    pub(super) async fn write(&self, data: Data) {
        let _writing = self.busy.read().await;
        if !self.is_open() {
            return;
        }
        let geometry = self.vdisk.geometry();
        let (id, offset, length) = (data.id, data.offset, data.raw_length);
        let foreground = data.foreground;
        let pieces = match unpack(&self.vdisk, data).await {
            Ok(pieces) => pieces,
            Err(Refusal::Corrupt(why)) => return self.corrupt(id, offset, &why),
            Err(Refusal::Failed(trouble)) => return self.fail(trouble),
        };
        let mut bytes = 0;
        for (offset, raw) in pieces {
            bytes += raw.len() as u64;
            if let Err(trouble) = self.vdisk.write(offset, raw).await {
                return self.fail(trouble);
            }
        }
        let chunk = geometry.chunk_at(offset);
        let whole = offset == geometry.offset(chunk) && length == geometry.length(chunk);
        // A part of a chunk changes no claim.
        let record = whole.then_some(Record::Stable {
            first: chunk,
            count: 1,
        });
        self.written(id, record, bytes, foreground);
    }

    fn corrupt(&self, id: u64, offset: u64, why: &str) {
        let message = format!("a piece did not arrive intact: {why}");
        tracing::warn!(vdisk = self.vdisk.name(), offset, "{message}");
        let (handle, code) = (self.handle, FaultCode::Corrupt);
        self.outgoing.send(Message::Fault {
            handle,
            id,
            code,
            message,
            offset: Some(offset),
        });
    }

    pub(super) async fn zero(&self, id: u64, offset: u64, length: u64, foreground: bool) {
        let _writing = self.busy.read().await;
        if !self.is_open() {
            return;
        }
        let geometry = self.vdisk.geometry();
        if offset + length > geometry.size() {
            return self.corrupt(id, offset, "it reaches over the end of the VDISK");
        }
        if let Err(trouble) = self.vdisk.zero(offset, length).await {
            return self.fail(trouble);
        }
        self.written(id, whole_chunks(geometry, offset, length), 0, foreground);
    }

    /// Asks the source which of these chunks of a load may be written. None if nothing of this
    /// handle can be written any more.
    pub(super) async fn offer(&self, load: [u8; 16], chunks: Vec<u32>) -> Option<Granted> {
        let (answer, answered) = oneshot::channel();
        let offer = self.next_offer.fetch_add(1, Ordering::Relaxed);
        lock(&self.offers).insert(offer, answer);
        if !self.is_open() {
            lock(&self.offers).clear();
        }
        self.outgoing.send(Message::Offer {
            handle: self.handle,
            offer,
            load,
            chunks,
        });
        answered.await.ok()
    }

    /// The source's answer. If nobody waits for it any more, its permits are given back.
    pub(super) fn granted(&self, offer: u64, known: bool, answers: &[(u64, u8)]) {
        let answers = answers.iter().map(|(id, newer)| match *id {
            NOT_WANTED => Answer::Unwanted,
            NOT_NOW => Answer::NotNow,
            id => Answer::Write(Permit {
                handle: self.handle,
                id,
                newer: *newer,
                outgoing: self.outgoing.clone(),
                used: false,
            }),
        });
        let answers = answers.collect();
        let waiting = lock(&self.offers).remove(&offer);
        if let Some(waiting) = waiting {
            let _ = waiting.send(Granted { known, answers });
        }
    }

    /// Writes what a transport device has of a chunk, but for blocks that are newer; None: zeros.
    /// False if nothing of this handle is written any more. Must be awaited to its end: a write that
    /// is left alone would land whenever it likes.
    pub(super) async fn unload(&self, permit: Permit, chunk: u32, raw: Option<Bytes>) -> bool {
        let _writing = self.busy.read().await;
        if !self.is_open() {
            return false;
        }
        let (id, newer) = permit.begin();
        let geometry = self.vdisk.geometry();
        let older = match self.vdisk.is_stable(chunk) {
            true => 0,
            false => geometry.all_blocks(chunk) & !newer,
        };
        let mut bytes = 0;
        for (first, blocks) in mask_runs(older) {
            let (offset, length) = geometry.piece(chunk, first, blocks);
            let written = match &raw {
                Some(raw) => {
                    let begin = (offset - geometry.offset(chunk)) as usize;
                    let piece = raw.slice(begin..begin + length as usize);
                    bytes += u64::from(length);
                    self.vdisk.write(offset, piece).await
                }
                None => self.vdisk.zero(offset, u64::from(length)).await,
            };
            if let Err(trouble) = written {
                self.fail(trouble);
                return false;
            }
        }
        let (first, count) = (chunk, 1);
        self.written(id, Some(Record::Stable { first, count }), bytes, false);
        true
    }

    /// The source found these chunks equal to its own.
    pub(super) async fn confirm(&self, id: u64, first: u32, count: u32) {
        let _writing = self.busy.read().await;
        if self.is_open() {
            self.written(id, self.vdisk.confirmed(first, count), 0, false);
        }
    }

    fn written(&self, id: u64, record: Option<Record>, bytes: u64, foreground: bool) {
        lock(&self.batch).add(id, record, bytes, foreground);
        self.batch_changed.notify_one();
    }

    /// Makes everything stable at once that was written so far.
    pub(super) fn hurry(&self) {
        lock(&self.batch).hurry();
        self.batch_changed.notify_one();
    }

    /// Whether everything that was written is stable.
    pub(super) fn is_settled(&self) -> bool {
        lock(&self.batch).ids.is_empty() && !self.stabilizing.load(Ordering::Acquire)
    }

    /// Syncs batch after batch until closed. Writes for the next batch go on meanwhile.
    async fn stabilize(self: Arc<Self>) {
        loop {
            let (closed, drained) = (!self.is_open(), self.drained.load(Ordering::Acquire));
            let due = lock(&self.batch).due();
            match due {
                Some(due) if !closed && due > tokio::time::Instant::now() => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.batch_changed.notified() => {}
                    }
                    continue;
                }
                Some(_) => self.make_stable().await,
                None if drained => return,
                None => self.batch_changed.notified().await,
            }
        }
    }

    async fn make_stable(&self) {
        let batch = {
            let mut batch = lock(&self.batch);
            self.stabilizing.store(true, Ordering::Release);
            std::mem::take(&mut *batch)
        };
        self.make_batch_stable(batch).await;
        self.stabilizing.store(false, Ordering::Release);
    }

    async fn make_batch_stable(&self, batch: Batch) {
        if self.vdisk.is_held() {
            return;
        }
        match self.vdisk.make_stable(batch.records, self.token).await {
            Err(trouble) => self.fail(trouble),
            Ok(()) => {
                for ids in batch.ids.chunks(MAX_ACK_IDS) {
                    self.outgoing.send(Message::Ack {
                        handle: self.handle,
                        ids: ids.to_vec(),
                    });
                }
            }
        }
    }
}

/// Trouble as a message.
pub(super) fn fault(handle: u32, trouble: &Trouble) -> Message {
    Message::Fault {
        handle,
        id: 0,
        code: trouble.fault_code(),
        message: trouble.message.clone(),
        offset: trouble.offset,
    }
}

/// The chunks that a range covers whole, stable.
fn whole_chunks(geometry: Geometry, offset: u64, length: u64) -> Option<Record> {
    let end = offset + length;
    let first = geometry.chunk_at(offset + u64::from(crate::chunk::CHUNK_SIZE) - 1);
    let end = if end == geometry.size() {
        geometry.chunks()
    } else {
        geometry.chunk_at(end)
    };
    (first < end).then(|| Record::Stable {
        first,
        count: end - first,
    })
}
