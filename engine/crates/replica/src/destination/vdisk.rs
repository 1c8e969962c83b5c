//! One VDISK at the destination: endpoint, journal, and what stops it.

use super::attachment::Attachment;
use super::lock;
use crate::blocking::blocking;
use crate::chunk::{Geometry, Hash, MAX_VDISK};
use crate::disk_time::DiskTime;
use crate::endpoint::{Access, Endpoint, EndpointSpec};
use crate::hash_table::HashTable;
use crate::journal::{Found, Journal, Record, Subject};
use crate::trouble::{Trouble, TroubleCode};
use bytes::Bytes;
use drover_link::{Message, StableRuns};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A VDISK that a source may write.
pub struct Vdisk {
    name: String,
    geometry: Geometry,
    journal_path: PathBuf,
    spec: Mutex<EndpointSpec>,
    endpoint: Mutex<Option<Arc<Endpoint>>>,
    journal: Arc<Mutex<Journal>>,
    /// As the journal says; the status must not wait for a journal on a slow disk.
    stable_chunks: Arc<AtomicU32>,
    pub(super) disk: DiskTime,
    trouble: Mutex<Option<Trouble>>,
    attachment: Mutex<Option<Arc<Attachment>>>,
    /// Hashes of chunks as they were re-read from the endpoint and not written since.
    read_hashes: Mutex<HashTable>,
    written_bytes: AtomicU64,
}

impl Vdisk {
    pub(super) async fn open(
        name: &str,
        size: u64,
        spec: EndpointSpec,
        state: &Path,
    ) -> Result<Self, Trouble> {
        if size == 0 || size > MAX_VDISK {
            let text = format!("a VDISK must have 1 to {MAX_VDISK} bytes, not {size}");
            return Err(Trouble::new(TroubleCode::SizeMismatch, text));
        }
        let geometry = Geometry::new(size);
        let endpoint = Endpoint::open(&spec, size, Access::Write).await?;
        let journal_path = state.join(format!("{name}.journal"));
        let journal = open_journal(name, geometry, &endpoint, &journal_path).await?;
        Ok(Vdisk {
            name: name.to_owned(),
            geometry,
            journal_path,
            spec: Mutex::new(spec),
            endpoint: Mutex::new(Some(Arc::new(endpoint))),
            stable_chunks: Arc::new(AtomicU32::new(journal.stable_chunks())),
            journal: Arc::new(Mutex::new(journal)),
            disk: DiskTime::default(),
            trouble: Mutex::default(),
            attachment: Mutex::default(),
            read_hashes: Mutex::new(HashTable::new(geometry.chunks())),
            written_bytes: AtomicU64::new(0),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size and chunks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Uses `spec` from now on; nothing happens if it is in use already.
    pub(super) async fn put_endpoint(&self, spec: EndpointSpec) -> Result<(), Trouble> {
        if *lock(&self.spec) == spec && lock(&self.endpoint).is_some() {
            return Ok(());
        }
        self.detach().await;
        self.reopen(&spec).await?;
        *lock(&self.spec) = spec;
        *lock(&self.trouble) = None;
        Ok(())
    }

    /// Opens the endpoint anew, and the journal that belongs to it. Nothing is attached meanwhile.
    async fn reopen(&self, spec: &EndpointSpec) -> Result<(), Trouble> {
        *lock(&self.endpoint) = None;
        let endpoint = Endpoint::open(spec, self.geometry.size(), Access::Write).await?;
        let journal =
            open_journal(&self.name, self.geometry, &endpoint, &self.journal_path).await?;
        self.stable_chunks
            .store(journal.stable_chunks(), Ordering::Relaxed);
        *lock(&self.journal) = journal;
        *lock(&self.read_hashes) = HashTable::new(self.geometry.chunks());
        *lock(&self.endpoint) = Some(Arc::new(endpoint));
        Ok(())
    }

    /// Ends the handle that is open, if any; afterwards nothing of it is written any more.
    pub(super) async fn detach(&self) {
        let attachment = lock(&self.attachment).take();
        if let Some(attachment) = attachment {
            attachment.close().await;
        }
    }

    /// As [`Vdisk::detach`], and closes the endpoint.
    pub(super) async fn close(&self, why: Option<Trouble>) {
        self.detach().await;
        *lock(&self.endpoint) = None;
        if why.is_some() {
            *lock(&self.trouble) = why;
        }
    }

    /// Gets ready for a session: cures what stopped the VDISK by opening its endpoint again, and
    /// drops all claims if asked to. Returns what is stable, and the journal's incarnation.
    pub(super) async fn prepare(
        &self,
        forget: bool,
        token: u64,
    ) -> Result<(StableRuns, u64), Trouble> {
        self.detach().await;
        let closed = lock(&self.endpoint).is_none();
        if self.is_held() || closed {
            let spec = lock(&self.spec).clone();
            let reopened = self.reopen(&spec).await;
            *lock(&self.trouble) = reopened.as_ref().err().cloned();
            reopened?;
        }
        if forget {
            let count = self.geometry.chunks();
            self.record(vec![Record::Forget { first: 0, count }], token)
                .await?;
            *lock(&self.read_hashes) = HashTable::new(count);
        }
        let journal = lock(&self.journal);
        let chunks = 0..self.geometry.chunks();
        let runs = StableRuns::from_flags(chunks.map(|chunk| journal.is_stable(chunk)));
        Ok((runs, journal.incarnation()))
    }

    /// The VDISK as opened in the session of the moment, if it is.
    pub(super) fn attachment(&self) -> Option<Arc<Attachment>> {
        lock(&self.attachment).clone()
    }

    pub(super) fn attach(&self, attachment: Arc<Attachment>) {
        *lock(&self.attachment) = Some(attachment);
    }

    pub(super) fn hold(&self, trouble: Trouble) {
        let mut slot = lock(&self.trouble);
        // The first one is the cause of the others.
        slot.get_or_insert(trouble);
    }

    pub(super) fn is_held(&self) -> bool {
        lock(&self.trouble).is_some()
    }

    pub(super) fn tell_source(&self, trouble: &Trouble) {
        if let Some(attachment) = &*lock(&self.attachment) {
            attachment
                .outgoing
                .send(super::attachment::fault(attachment.handle, trouble));
        }
    }

    /// Asks the source to open the VDISK again.
    pub(super) fn resume(&self) {
        if let Some(attachment) = &*lock(&self.attachment) {
            attachment.outgoing.send(Message::Resume {
                handle: attachment.handle,
            });
        }
    }

    pub(super) fn endpoint(&self) -> Result<Arc<Endpoint>, Trouble> {
        lock(&self.endpoint).clone().ok_or_else(|| {
            Trouble::new(
                TroubleCode::EndpointGone,
                format!("the endpoint of VDISK {} is closed", self.name),
            )
        })
    }

    pub(super) async fn write(&self, offset: u64, raw: Bytes) -> Result<(), Trouble> {
        let length = raw.len() as u64;
        self.forget_read(offset, length);
        let endpoint = self.endpoint()?;
        let operation = self.disk.begin();
        #[cfg(test)]
        crate::hostile_link::slow_disk().await;
        endpoint.write(offset, raw).await?;
        drop(operation);
        self.written_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        self.forget_read(offset, length);
        let endpoint = self.endpoint()?;
        let _operation = self.disk.begin();
        endpoint.zero(offset, length).await
    }

    fn forget_read(&self, offset: u64, length: u64) {
        let mut hashes = lock(&self.read_hashes);
        for chunk in self.geometry.chunk_at(offset)..=self.geometry.chunk_at(offset + length - 1) {
            hashes.clear(chunk);
        }
    }

    /// Flushes the endpoint, makes sure that it is still the VDISK, then flushes the journal with
    /// what is new in `records`. Only then may the source be told.
    pub(super) async fn make_stable(
        &self,
        records: Vec<Record>,
        token: u64,
    ) -> Result<(), Trouble> {
        let endpoint = self.endpoint()?;
        let operation = self.disk.begin();
        endpoint.flush().await?;
        drop(operation);
        match endpoint.check().await {
            Ok(()) => self.record(records, token).await,
            Err(trouble) => {
                self.distrust(&trouble, token).await;
                Err(trouble)
            }
        }
    }

    /// A VDISK that was cut has lost data of which the journal says that it is there; bringing it
    /// back to its size does not bring that back.
    async fn distrust(&self, trouble: &Trouble, token: u64) {
        if trouble.code != TroubleCode::SizeMismatch {
            return;
        }
        let (journal, stable_chunks) = (self.journal.clone(), self.stable_chunks.clone());
        let renewed = blocking(move || {
            stable_chunks.store(0, Ordering::Relaxed);
            lock(&journal).renew(token)
        });
        let renewed = renewed.await;
        if let Err(error) = renewed.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(
                vdisk = self.name,
                "the journal still claims what was cut off: {error}"
            );
        }
    }

    async fn record(&self, records: Vec<Record>, token: u64) -> Result<(), Trouble> {
        let (journal, stable_chunks) = (self.journal.clone(), self.stable_chunks.clone());
        let appended = blocking(move || {
            let mut journal = lock(&journal);
            journal.append(&records, token)?;
            stable_chunks.store(journal.stable_chunks(), Ordering::Relaxed);
            Ok(())
        });
        let appended = appended.await;
        let appended = appended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        appended.map_err(|error| {
            let code = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => TroubleCode::NoSpace,
                _ => TroubleCode::JournalError,
            };
            let path = self.journal_path.display();
            Trouble::new(code, format!("writing the journal {path} failed: {error}"))
        })
    }

    /// Whether all of a chunk is stable.
    pub(super) fn is_stable(&self, chunk: u32) -> bool {
        lock(&self.journal).is_stable(chunk)
    }

    /// What the journal shall say of chunks that the source found equal.
    pub(super) fn confirmed(&self, first: u32, count: u32) -> Option<Record> {
        let count = count.min(self.geometry.chunks().saturating_sub(first));
        (count > 0).then_some(Record::Stable { first, count })
    }

    pub(super) fn re_read(&self, chunk: u32, hash: Hash) {
        lock(&self.read_hashes).set(chunk, hash);
    }

    pub(super) fn root(&self) -> Option<Hash> {
        lock(&self.read_hashes).root()
    }

    pub(super) fn figures(&self) -> (Option<Trouble>, bool, u64, u32) {
        let trouble = lock(&self.trouble).clone();
        let receiving = lock(&self.attachment).is_some();
        (
            trouble,
            receiving,
            self.written_bytes.load(Ordering::Relaxed),
            self.stable_chunks.load(Ordering::Relaxed),
        )
    }
}

async fn open_journal(
    name: &str,
    geometry: Geometry,
    endpoint: &Endpoint,
    path: &Path,
) -> Result<Journal, Trouble> {
    let subject = Subject {
        name: name.to_owned(),
        geometry,
        medium: endpoint.medium(),
    };
    let (fresh, path) = (endpoint.is_new(), path.to_owned());
    let shown = path.display().to_string();
    let opened = blocking(move || match fresh {
        true => Journal::create(&path, subject).map(|journal| (journal, Found::Nothing)),
        false => Journal::open(&path, subject),
    });
    let opened = opened
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let (journal, found) = opened.map_err(|error| {
        Trouble::new(
            TroubleCode::JournalError,
            format!("opening the journal {shown} failed: {error}"),
        )
    })?;
    match found {
        Found::Void(why) => tracing::warn!(
            vdisk = name,
            "journal not believed, everything is sent again: {why}"
        ),
        found => tracing::info!(
            vdisk = name,
            ?found,
            stable = journal.stable_chunks(),
            "journal open"
        ),
    }
    Ok(journal)
}
