//! When a peer was last heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The moment at which the last byte of a connection arrived; cheap to note from its reader and to
/// ask from its watchdog.
#[derive(Debug)]
pub struct Liveness {
    start: Instant,
    last_heard_millis: AtomicU64,
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness {
            start: Instant::now(),
            last_heard_millis: AtomicU64::new(0),
        }
    }
}

impl Liveness {
    /// Notes that bytes have arrived.
    pub fn heard(&self) {
        self.last_heard_millis
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// This end stops reading for a while (its disk is slow): silence is not the peer's. Ends with
    /// the next [`Liveness::heard`].
    pub fn not_listening(&self) {
        self.last_heard_millis.store(u64::MAX, Ordering::Relaxed);
    }

    /// How long nothing has arrived.
    pub fn silent_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_heard_millis.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}
