//! A VDISK as opened by one session under one handle. A new handle ends the older one: its writes
//! are finished or dropped before the new one is answered.

use super::batch::Batch;
use super::lock;
use super::unpacking::{Refusal, unpack};
use super::vdisk::Vdisk;
use crate::chunk::Geometry;
use crate::conversation::Outgoing;
use crate::journal::Record;
use crate::trouble::Trouble;
use drover_link::limits::MAX_ACK_IDS;
use drover_link::message::FaultCode;
use drover_link::{Data, Message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, RwLock};
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
    stabilizer: Mutex<Option<JoinHandle<()>>>,
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
            stabilizer: Mutex::default(),
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
        let batch = std::mem::take(&mut *lock(&self.batch));
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
