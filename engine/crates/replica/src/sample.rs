//! What a VDISK holds, from chunks chosen at random among those that are allocated: how much is zero, how far the rest
//! compresses, and hashes to see what is there twice. It only reads, at a rate that is given.

mod choice;

use crate::blocking::blocking;
use crate::carrier::hex;
use crate::chunk::{Geometry, MAX_VDISK};
use crate::compression::Choice;
use crate::endpoint::{Access, Endpoint, EndpointSpec, Span};
use crate::pacing::Pacer;
use crate::trouble::{Trouble, TroubleCode};
use bytes::Bytes;
use choice::Reservoir;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most chunks of one sample; each has a row in its status.
pub const MOST_CHUNKS: usize = 16_384;

/// Bytes of a VDISK whose holes are asked for at once.
const WINDOW: u64 = 1 << 30;

/// Zeros are counted in these units, in bytes.
const PAGE: usize = 4096;

/// What to look at.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// Where the VDISK is.
    pub endpoint: EndpointSpec,
    /// Its bytes.
    pub size: u64,
    /// How many chunks to read at most.
    pub chunks: usize,
    /// Other chunks for another seed.
    pub seed: u64,
    /// Bytes/s to read at most.
    pub rate: Option<u64>,
}

/// A sample as the API shows it. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SampleStatus {
    /// `running`, `done` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// Read so far.
    pub read_bytes: u64,
    /// Of the whole VDISK; known when it is done, as is all that follows.
    pub allocated_bytes: u64,
    /// Chunks of which anything is allocated.
    pub allocated_chunks: u64,
    /// Chunks that were read.
    pub sampled_chunks: u64,
    /// Their bytes.
    pub sampled_bytes: u64,
    /// Of these: in pages of 4,096 bytes that are zero.
    pub zero_bytes: u64,
    /// Chosen chunks that could not be read, and are in none of the figures.
    pub unreadable_chunks: u64,
    /// Bytes of the sampled chunks as they would travel, by method; a chunk of zeros counts nothing.
    pub compressed_bytes: BTreeMap<&'static str, u64>,
    /// Bytes/s of one core, by method, over chunks that are not all zeros.
    pub speeds: BTreeMap<&'static str, f64>,
    /// Seconds of reading, without the waiting for the rate.
    pub read_seconds: f64,
    /// One for each chunk that was read, by offset.
    pub chunks: Vec<ChunkRow>,
}

/// One chunk of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChunkRow {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u32,
    /// Of these: in pages that are zero.
    pub zero_bytes: u32,
    /// Bytes that would travel with LZ4.
    pub lz4_bytes: u32,
    /// Bytes that would travel with zstd.
    pub zstd_bytes: u32,
    /// First half of its BLAKE3, in hexadecimal.
    pub hash: String,
}

/// A sample that is being taken or was; dropping it ends it.
pub struct Sample {
    status: Arc<Mutex<SampleStatus>>,
    _stop: DropGuard,
}

fn lock(status: &Mutex<SampleStatus>) -> MutexGuard<'_, SampleStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sample {
    /// Opens the endpoint and begins. Must be called inside a tokio runtime.
    pub async fn start(request: SampleRequest) -> Result<Sample, Trouble> {
        if request.size == 0 || request.size > MAX_VDISK {
            let text = format!(
                "a VDISK must have 1 to {MAX_VDISK} bytes, not {}",
                request.size
            );
            return Err(Trouble::new(TroubleCode::SizeMismatch, text));
        }
        let endpoint = Endpoint::open(&request.endpoint, request.size, Access::Read).await?;
        let status = Arc::new(Mutex::new(SampleStatus {
            state: "running",
            ..SampleStatus::default()
        }));
        let stop = CancellationToken::new();
        let taking = take(endpoint, request, status.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(taking));
        Ok(Sample {
            status,
            _stop: stop.drop_guard(),
        })
    }

    /// How far it is, and what was found.
    pub fn status(&self) -> SampleStatus {
        lock(&self.status).clone()
    }
}

async fn take(endpoint: Endpoint, request: SampleRequest, status: Arc<Mutex<SampleStatus>>) {
    let outcome = Taking {
        endpoint,
        geometry: Geometry::new(request.size),
        status: &status,
    }
    .run(&request)
    .await;
    let mut status = lock(&status);
    match outcome {
        Ok(found) => *status = found,
        Err(trouble) => {
            status.state = "failed";
            status.error = Some(trouble.to_string());
        }
    }
}

struct Taking<'a> {
    endpoint: Endpoint,
    geometry: Geometry,
    status: &'a Mutex<SampleStatus>,
}

/// What compressing a chunk took of one core.
#[derive(Default)]
struct Effort {
    lz4: Duration,
    zstd: Duration,
}

impl Taking<'_> {
    async fn run(&self, request: &SampleRequest) -> Result<SampleStatus, Trouble> {
        let mut found = SampleStatus {
            state: "done",
            ..SampleStatus::default()
        };
        let chosen = self.choose(request, &mut found).await?;
        let pacer = Pacer::default();
        pacer.set(request.rate);
        let (mut effort, mut compressed) = (Effort::default(), 0);
        for chunk in chosen {
            let (offset, length) = (self.geometry.offset(chunk), self.geometry.length(chunk));
            pacer.pay(length.into(), false).await;
            let began = Instant::now();
            let read = self.endpoint.read(offset, length).await;
            found.read_seconds += began.elapsed().as_secs_f64();
            let raw = match read {
                Ok(raw) => raw,
                Err(trouble) if trouble.code == TroubleCode::ReadError => {
                    found.unreadable_chunks += 1;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            found.sampled_bytes += u64::from(length);
            lock(self.status).read_bytes = found.sampled_bytes;
            let looked = blocking(move || look(offset, &raw)).await;
            let (row, spent) = looked.map_err(|error| {
                let text = format!("compressing the chunk at {offset} failed: {error}");
                Trouble::new(TroubleCode::ReadError, text)
            })?;
            if row.zero_bytes < row.bytes {
                compressed += u64::from(row.bytes);
                effort.lz4 += spent.lz4;
                effort.zstd += spent.zstd;
            }
            found.chunks.push(row);
        }
        found.sum_up(compressed, &effort);
        Ok(found)
    }

    /// The chunks to read, in order.
    async fn choose(
        &self,
        request: &SampleRequest,
        found: &mut SampleStatus,
    ) -> Result<Vec<u32>, Trouble> {
        let mut reservoir = Reservoir::new(request.chunks.min(MOST_CHUNKS), request.seed);
        let mut next = 0;
        let mut offset = 0;
        while offset < request.size {
            let length = (request.size - offset).min(WINDOW);
            let spans = match self.endpoint.spans(offset, length).await {
                // What cannot be told may hold data.
                Err(trouble) if trouble.code == TroubleCode::ReadError => vec![Span {
                    length,
                    zero: false,
                }],
                spans => spans?,
            };
            let mut position = offset;
            for span in spans {
                if !span.zero && span.length > 0 {
                    found.allocated_bytes += span.length;
                    let first = self.geometry.chunk_at(position).max(next);
                    next = self.geometry.chunk_at(position + span.length - 1) + 1;
                    reservoir.offer(first, next.saturating_sub(first));
                }
                position += span.length;
            }
            offset += length;
        }
        found.allocated_chunks = reservoir.offered();
        Ok(reservoir.into_chosen())
    }
}

impl SampleStatus {
    fn sum_up(&mut self, compressed: u64, effort: &Effort) {
        self.sampled_chunks = self.chunks.len() as u64;
        self.read_bytes = self.sampled_bytes;
        let sum = |of: fn(&ChunkRow) -> u32| self.chunks.iter().map(|row| u64::from(of(row))).sum();
        self.zero_bytes = sum(|row| row.zero_bytes);
        let methods = [
            ("lz4", sum(|row| row.lz4_bytes), effort.lz4),
            ("zstd", sum(|row| row.zstd_bytes), effort.zstd),
        ];
        for (method, bytes, took) in methods {
            self.compressed_bytes.insert(method, bytes);
            if !took.is_zero() {
                let speed = compressed as f64 / took.as_secs_f64();
                self.speeds.insert(method, speed);
            }
        }
    }
}

/// One chunk, as background replication would treat it.
fn look(offset: u64, raw: &Bytes) -> (ChunkRow, Effort) {
    let zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
    let zeros = raw.chunks(PAGE).filter(zero);
    let zero_bytes: usize = zeros.map(<[u8]>::len).sum();
    let hash = blake3::hash(raw);
    let mut row = ChunkRow {
        offset,
        bytes: raw.len() as u32,
        zero_bytes: zero_bytes as u32,
        lz4_bytes: 0,
        zstd_bytes: 0,
        hash: hex(&hash.as_bytes()[..16]),
    };
    let mut effort = Effort::default();
    // Zeros travel as runs.
    if zero_bytes < raw.len() {
        (row.lz4_bytes, effort.lz4) = compress(Choice::Lz4, raw);
        (row.zstd_bytes, effort.zstd) = compress(Choice::Zstd, raw);
    }
    (row, effort)
}

/// Processor time of this thread: others that take turns on the core do not count.
fn compress(choice: Choice, raw: &Bytes) -> (u32, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    };
    let began = now();
    let bytes = choice.shrinks_to(raw);
    (bytes as u32, now().saturating_sub(began))
}

#[cfg(test)]
mod tests;
