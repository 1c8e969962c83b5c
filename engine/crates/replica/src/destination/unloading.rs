//! Brings what is on a transport device into the VDISKs, but only what the source says it waits for,
//! and no block that is newer already. Any number of devices, in any order, while the foreground goes
//! on; begun again, it passes over what is stable.

use super::attachment::{Answer, Attachment};
use super::vdisk::Vdisk;
use super::{Shared, lock};
use crate::carrier::{Contents, Damage, DeviceStatus, Found, Subject, Walk, hex};
use bytes::Bytes;
use device::{DeviceId, DeviceKey};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Chunks that are read ahead (8 MiB), and most chunks of one offer.
const AHEAD: usize = 16;

/// Offers of one device that are under way at once.
const OFFERS: usize = 4;

/// How often it is looked whether a VDISK is open again, or a busy chunk free.
const LOOK: Duration = Duration::from_millis(100);

/// How long chunks may take to become stable after the last was written.
const SETTLE: Duration = Duration::from_secs(60);

/// A device that is being unloaded; dropping it ends that.
pub(super) struct Unloading {
    status: Arc<Mutex<DeviceStatus>>,
    _stop: DropGuard,
}

/// What all of an unloading shares.
#[derive(Clone)]
struct Job {
    shared: Weak<Shared>,
    status: Arc<Mutex<DeviceStatus>>,
    stop: CancellationToken,
}

/// A chunk that was read and checked.
struct Chunk {
    vdisk: Arc<Vdisk>,
    load: [u8; 16],
    chunk: u32,
    raw: Option<Bytes>,
}

impl Unloading {
    /// Begins to read the packs in a folder. Must be called inside a tokio runtime.
    pub(super) fn start(
        shared: &Arc<Shared>,
        packs: &Path,
        device: DeviceId,
        key: DeviceKey,
    ) -> io::Result<Self> {
        let mut contents = Contents::new(packs, device, key);
        let status = DeviceStatus::of_reading(packs, "unload")?;
        let status = Arc::new(Mutex::new(status));
        let stop = CancellationToken::new();
        let job = Job {
            shared: Arc::downgrade(shared),
            status: status.clone(),
            stop: stop.clone(),
        };
        let (chunks, taken) = mpsc::channel(AHEAD);
        let reader = Reader {
            job: job.clone(),
            chunks,
            runtime: Handle::current(),
            waited_for: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name("unload".into());
        let (read, done) = oneshot::channel();
        thread.spawn(move || {
            let mut reader = reader;
            let outcome = contents.walk(&mut reader);
            let _ = read.send(outcome.map_err(|error| error.to_string()));
        })?;
        tokio::spawn(async move {
            job.write(taken).await;
            let outcome = done
                .await
                .unwrap_or_else(|_| Err("its reader failed".into()));
            lock(&job.status).end_reading(outcome);
        });
        Ok(Unloading {
            status,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn status(&self) -> DeviceStatus {
        lock(&self.status).clone()
    }
}

impl Job {
    /// Offers and writes until the reader is at its end and everything is stable.
    async fn write(&self, mut taken: mpsc::Receiver<Chunk>) {
        let tasks = TaskTracker::new();
        let places = Arc::new(tokio::sync::Semaphore::new(OFFERS));
        let mut touched: HashMap<String, Arc<Vdisk>> = HashMap::new();
        loop {
            let mut chunks = Vec::new();
            if taken.recv_many(&mut chunks, AHEAD).await == 0 {
                break;
            }
            for group in grouped(chunks) {
                touched.insert(group.vdisk.name().to_owned(), group.vdisk.clone());
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                let (job, stop) = (self.clone(), self.stop.clone());
                tasks.spawn(async move {
                    stop.run_until_cancelled(job.bring(group)).await;
                    drop(place);
                });
            }
        }
        tasks.close();
        tasks.wait().await;
        let settled = async {
            for vdisk in touched.values() {
                while let Some(attachment) = vdisk.attachment() {
                    if attachment.is_settled() {
                        break;
                    }
                    attachment.hurry();
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        let settled = tokio::time::timeout(SETTLE, settled);
        self.stop.run_until_cancelled(settled).await;
    }

    /// Until the source has answered for each of these chunks, and what it wanted is written.
    async fn bring(&self, group: Group) {
        let Group {
            vdisk,
            load,
            mut chunks,
        } = group;
        while !chunks.is_empty() {
            let numbers = chunks.iter().map(|(chunk, _)| *chunk).collect();
            let attachment = wait_until_open(&vdisk).await;
            let Some(granted) = attachment.offer(load, numbers).await else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let mut again = Vec::new();
            let mut writes = Vec::new();
            let mut answers = granted.answers.into_iter();
            for (chunk, raw) in chunks {
                match answers.next().unwrap_or(Answer::Unwanted) {
                    Answer::Unwanted => lock(&self.status).refused_chunks += 1,
                    Answer::NotNow => again.push((chunk, raw)),
                    Answer::Write(permit) => {
                        let (attachment, raw_again) = (attachment.clone(), raw.clone());
                        // A task of its own, since this one may be cancelled at any moment; and all
                        // at once, since one write alone keeps no disk busy.
                        let write =
                            async move { attachment.unload(permit, chunk, raw_again).await };
                        writes.push((chunk, raw, tokio::spawn(write)));
                    }
                }
            }
            for (chunk, raw, write) in writes {
                match write.await {
                    Ok(true) => lock(&self.status).unloaded_chunks += 1,
                    _ => again.push((chunk, raw)),
                }
            }
            chunks = again;
            if !chunks.is_empty() {
                attachment.hurry();
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Whether the source waits for anything of a load.
async fn is_known(vdisk: &Arc<Vdisk>, load: [u8; 16]) -> bool {
    loop {
        let attachment = wait_until_open(vdisk).await;
        match attachment.offer(load, Vec::new()).await {
            Some(granted) => return granted.known,
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

async fn wait_until_open(vdisk: &Arc<Vdisk>) -> Arc<Attachment> {
    loop {
        if let Some(attachment) = vdisk.attachment().filter(|_| !vdisk.is_held()) {
            return attachment;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Chunks of one load.
struct Group {
    vdisk: Arc<Vdisk>,
    load: [u8; 16],
    chunks: Vec<(u32, Option<Bytes>)>,
}

fn grouped(chunks: Vec<Chunk>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for chunk in chunks {
        let item = (chunk.chunk, chunk.raw);
        let group = groups
            .iter_mut()
            .find(|group| Arc::ptr_eq(&group.vdisk, &chunk.vdisk) && group.load == chunk.load);
        match group {
            Some(group) => group.chunks.push(item),
            None => groups.push(Group {
                vdisk: chunk.vdisk,
                load: chunk.load,
                chunks: vec![item],
            }),
        }
    }
    groups
}

/// In the thread that reads.
struct Reader {
    job: Job,
    chunks: mpsc::Sender<Chunk>,
    runtime: Handle,
    /// Loads of which the source was asked whether it waits for anything of them.
    waited_for: HashMap<[u8; 16], bool>,
}

impl Reader {
    fn vdisk(&self, subject: &Subject) -> Option<Arc<Vdisk>> {
        let shared = self.job.shared.upgrade()?;
        let vdisk = lock(&shared.vdisks).get(&subject.vdisk).cloned();
        vdisk.filter(|vdisk| vdisk.geometry().size() == subject.size)
    }

    /// Asks the source, once for each load.
    fn is_waited_for(&mut self, vdisk: &Arc<Vdisk>, load: [u8; 16]) -> bool {
        if let Some(known) = self.waited_for.get(&load) {
            return *known;
        }
        let (answer, answered) = oneshot::channel();
        let (vdisk_asked, stop) = (vdisk.clone(), self.job.stop.clone());
        self.runtime.spawn(async move {
            let asked = stop.run_until_cancelled(is_known(&vdisk_asked, load)).await;
            // Nobody waits for the answer once this engine ends.
            let _ = answer.send(asked.unwrap_or(false));
        });
        // No answer: the engine is ending.
        let Ok(known) = answered.blocking_recv() else {
            return false;
        };
        if !known {
            let (vdisk, load) = (vdisk.name(), hex(&load));
            tracing::info!(vdisk, load, "the source does not wait for this load");
        }
        self.waited_for.insert(load, known);
        known
    }
}

impl Walk for Reader {
    fn wants(&mut self, subject: &Subject, chunk: u32) -> bool {
        let Some(vdisk) = self.vdisk(subject) else {
            return false;
        };
        if vdisk.is_stable(chunk) {
            lock(&self.job.status).skipped_chunks += 1;
            return false;
        }
        if !self.is_waited_for(&vdisk, subject.load) {
            lock(&self.job.status).refused_chunks += 1;
            return false;
        }
        true
    }

    fn found(&mut self, found: Found<'_>) {
        let Some(vdisk) = self.vdisk(found.subject) else {
            return;
        };
        lock(&self.job.status).note_chunk(&found, true);
        let chunk = Chunk {
            vdisk,
            load: found.subject.load,
            chunk: found.chunk,
            raw: found.raw,
        };
        // Nobody takes it any more if this was stopped.
        let _ = self.chunks.blocking_send(chunk);
    }

    fn damaged(&mut self, damage: Damage) {
        tracing::warn!(
            pack = damage.pack,
            offset = damage.offset,
            vdisk = damage.vdisk,
            chunk = damage.chunk,
            "damaged: {}",
            damage.why
        );
        lock(&self.job.status).note_damage(damage);
    }

    fn passed(&mut self, bytes: u64) {
        lock(&self.job.status).read_bytes += bytes;
    }

    fn stop(&self) -> bool {
        self.job.stop.is_cancelled()
    }
}
