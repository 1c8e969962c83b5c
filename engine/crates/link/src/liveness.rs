//! When a peer was last heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The moment at which the last byte of a connection arrived; cheap to note from its reader and to
/// ask from its watchdog.
#[derive(Debug)]
pub struct Liveness {
    start: Instant,
    last_heard_millis: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness {
            start: Instant::now(),
            last_heard_millis: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Liveness {
    /// Notes bytes of frames that have arrived.
    pub(crate) fn took(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that something has arrived.
    pub fn heard(&self) {
        self.last_heard_millis
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Bytes of frames that have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long nothing has arrived.
    pub fn silent_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_heard_millis.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}
