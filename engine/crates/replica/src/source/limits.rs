//! What keeps background replication from being faster: where its data waits.

use super::outbox::Outbox;
use super::vdisk::Vdisk;
use crate::chunk::CHUNK_SIZE;
use crate::counted::Counted;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Time over which the mean forgets.
const MEMORY: Duration = Duration::from_millis(500);

/// So many chunks in line are more than chance.
const LINE: usize = 4;

/// Where data waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// For the source's disk.
    Source,
    /// For its share of the rate that is set.
    Pacing,
    /// For the processor: hashing, compression.
    Processor,
    /// For the link, or for a destination that does not take it off the link.
    Link,
    /// For a transport device.
    Device,
}

/// Those that are found out by where chunks are.
const KINDS: [Limit; 4] = [Limit::Source, Limit::Pacing, Limit::Processor, Limit::Link];

/// Means over the latest looks.
#[derive(Debug)]
pub(super) struct Limits {
    /// Pieces that wait for pacing.
    pacing: AtomicUsize,
    /// Pieces that wait for the destination to take more.
    window: AtomicUsize,
    chunks: Mutex<(Instant, [f64; KINDS.len()])>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pacing: AtomicUsize::new(0),
            window: AtomicUsize::new(0),
            chunks: Mutex::new((Instant::now(), [0.0; KINDS.len()])),
        }
    }
}

impl Limits {
    /// A piece waits for pacing.
    pub(super) fn pace(&self) -> Counted<'_> {
        Counted::new(&self.pacing)
    }

    /// A piece waits for room in the destination's window.
    pub(super) fn queue(&self) -> Counted<'_> {
        Counted::new(&self.window)
    }

    /// Whether chunks stand in line for the wire or their share of it.
    pub(super) fn held_up(&self, outbox: &Outbox) -> bool {
        let queued = outbox.lanes.outgoing.background_of(outbox.handle());
        let window = self.window.load(Ordering::Relaxed);
        queued + window + self.pacing.load(Ordering::Relaxed) >= LINE
    }

    /// Looks where the chunks are now.
    pub(super) fn look(&self, vdisk: &Vdisk, outbox: &Outbox) {
        let lanes = &outbox.lanes;
        let held = (lanes.background.held(outbox.handle()) / u64::from(CHUNK_SIZE)) as usize;
        let reading = vdisk.disk.status().waiting;
        let pacing = self.pacing.load(Ordering::Relaxed);
        let window = self.window.load(Ordering::Relaxed);
        let queued = window + lanes.outgoing.background_of(outbox.handle());
        let rest = held.saturating_sub(reading + pacing + queued);
        let mut chunks = super::lock(&self.chunks);
        let (last, means) = &mut *chunks;
        let passed = last.elapsed().as_secs_f64() / MEMORY.as_secs_f64();
        let weight = 1.0 - (-passed).exp();
        for (mean, now) in means.iter_mut().zip([reading, pacing, rest, queued]) {
            *mean += (now as f64 - *mean) * weight;
        }
        *last = Instant::now();
    }

    /// Where most of it waited lately.
    pub(super) fn limit(&self) -> Option<Limit> {
        let chunks = super::lock(&self.chunks);
        let most = KINDS
            .iter()
            .zip(chunks.1.iter())
            .max_by(|a, b| a.1.total_cmp(b.1));
        most.filter(|(_, mean)| **mean >= 0.5)
            .map(|(kind, _)| *kind)
    }
}
