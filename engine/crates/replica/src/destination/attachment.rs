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
use drover_link::message::FaultCode;
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
#[derive(Debug)]
pub(super) struct Granted {
    /// Whether it waits for anything of the load.
    pub(super) known: bool,
    /// As in a Grant.
    pub(super) ids: Vec<u64>,
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
        let end = offset + u64::from(length);
        self.written(
            id,
            [record(geometry, chunk, offset, end)],
            bytes,
            foreground,
        );
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
        self.written(id, records(geometry, offset, length), 0, foreground);
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

    pub(super) fn granted(&self, offer: u64, granted: Granted) {
        let waiting = lock(&self.offers).remove(&offer);
        if let Some(waiting) = waiting {
            // Whoever asked may have been stopped.
            let _ = waiting.send(granted);
        }
    }

    /// Writes what a transport device has of a chunk, but for blocks that are newer; None: zeros.
    /// False if nothing of this handle is written any more.
    pub(super) async fn unload(&self, id: u64, chunk: u32, raw: Option<&Bytes>) -> bool {
        let _writing = self.busy.read().await;
        if !self.is_open() {
            return false;
        }
        let geometry = self.vdisk.geometry();
        let older = match self.vdisk.newer(chunk) {
            Some(newer) => geometry.all_blocks(chunk) & !newer,
            None => 0,
        };
        let mut bytes = 0;
        for (first, blocks) in mask_runs(older) {
            let (offset, length) = geometry.piece(chunk, first, blocks);
            let written = match raw {
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
        self.written(id, [Record::Stable { first, count }], bytes, false);
        true
    }

    /// The source found these chunks equal to its own.
    pub(super) async fn confirm(&self, id: u64, first: u32, count: u32) {
        let _writing = self.busy.read().await;
        if self.is_open() {
            self.written(id, self.vdisk.confirmed(first, count), 0, false);
        }
    }

    fn written(
        &self,
        id: u64,
        records: impl IntoIterator<Item = Record>,
        bytes: u64,
        foreground: bool,
    ) {
        lock(&self.batch).add(id, records, bytes, foreground);
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

/// What the journal shall say of the part of a chunk from `offset` to `end`: stable if that is all of
/// it. Of any other chunk the blocks are newer than what a transport device may bring.
fn record(geometry: Geometry, chunk: u32, offset: u64, end: u64) -> Record {
    let begin = geometry.offset(chunk);
    let last = begin + u64::from(geometry.length(chunk));
    match offset <= begin && end >= last {
        true => Record::Stable {
            first: chunk,
            count: 1,
        },
        false => Record::Newer {
            chunk,
            mask: geometry.blocks(chunk, offset, end),
        },
    }
}

/// The same for a range of any length.
fn records(geometry: Geometry, offset: u64, length: u64) -> Vec<Record> {
    let end = offset + length;
    let (first, last) = (geometry.chunk_at(offset), geometry.chunk_at(end - 1));
    let edges = [first, last].map(|chunk| record(geometry, chunk, offset, end));
    let mut records = edges.to_vec();
    if last > first + 1 {
        let (first, count) = (first + 1, last - first - 1);
        records.push(Record::Stable { first, count });
    }
    records
}
