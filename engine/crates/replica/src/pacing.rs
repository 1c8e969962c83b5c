//! Token buckets on bytes put on the wire or a transport device, settable while they are in use.

use crate::counted::Counted;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A bucket never holds more than this much time's worth of tokens.
const BURST: Duration = Duration::from_millis(200);

/// Pure token bucket that may go into debt: whoever finds it above zero passes, whatever it costs.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket of `rate` bytes per second.
    pub fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1) as f64;
        TokenBucket {
            rate,
            level: rate * BURST.as_secs_f64(),
            filled: now,
        }
    }

    /// Takes `bytes` and returns None, or returns how long to wait before asking again.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.level = (self.level + passed * self.rate).min(self.rate * BURST.as_secs_f64());
        if self.level > 0.0 {
            self.level -= bytes as f64;
            return None;
        }
        // A second at most: a wait computed from a tiny rate must still notice a stop.
        let wait = (-self.level / self.rate).clamp(0.001, 1.0);
        Some(Duration::from_secs_f64(wait))
    }
}

/// A bucket that many tasks pay into, or none at all.
#[derive(Debug, Default)]
pub struct Pacer {
    bucket: Mutex<Option<(u64, TokenBucket)>>,
    changed: Notify,
    /// Payers of foreground that wait.
    foreground: AtomicUsize,
}

/// How often background looks whether foreground still waits before it.
const STAND_BACK: Duration = Duration::from_millis(5);

impl Pacer {
    /// Sets the rate in bytes per second; None = as fast as it goes. Waiting payers notice.
    pub fn set(&self, rate: Option<u64>) {
        let bucket = rate.map(|rate| (rate, TokenBucket::new(rate, Instant::now())));
        *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) = bucket;
        self.changed.notify_waiters();
    }

    /// The rate in bytes per second.
    pub fn rate(&self) -> Option<u64> {
        self.bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|(rate, _)| *rate)
    }

    /// Waits until `bytes` may be sent. Whoever is not `foreground` lets those pass who are.
    pub async fn pay(&self, bytes: u64, foreground: bool) {
        let _waiting = foreground.then(|| Counted::new(&self.foreground));
        loop {
            let changed = self.changed.notified();
            let stand_back = !foreground && self.foreground.load(Ordering::Relaxed) > 0;
            let wait = match &mut *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) {
                None => return,
                Some(_) if stand_back => Some(STAND_BACK),
                Some((_, bucket)) => bucket.take(bytes, Instant::now()),
            };
            let Some(wait) = wait else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

/// The limits of a source.
#[derive(Debug, Default)]
pub struct Pacing {
    /// Of background replication alone: replication backpressure.
    pub background: Pacer,
    /// Of all that is sent: for links that must keep room for others.
    pub link: Pacer,
}

impl Pacing {
    /// Waits until `bytes` may be sent.
    pub async fn pay(&self, bytes: u64, foreground: bool) {
        if !foreground {
            self.background.pay(bytes, false).await;
        }
        self.link.pay(bytes, foreground).await;
    }

    /// Waits until `bytes` of background may go another way than over the link.
    pub async fn pay_aside(&self, bytes: u64) {
        self.background.pay(bytes, false).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(rate in 1_000..100_000_000u64, steps in proptest::collection::vec((1..600_000u64, 0..300u64), 1..200)) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, start);
            let (mut now, mut sent) = (start, 0);
            for (bytes, millis) in steps {
                now += Duration::from_millis(millis);
                if bucket.take(bytes, now).is_none() {
                    sent += bytes;
                }
                // The last one may go into debt by its own size.
                let allowed = rate as f64 * ((now - start) + BURST).as_secs_f64() + 600_000.0;
                prop_assert!(sent as f64 <= allowed + 1.0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_frees_those_who_wait() {
        let pacer = std::sync::Arc::new(Pacer::default());
        pacer.set(Some(10));
        pacer.pay(1_000_000, true).await;
        let waiting = tokio::spawn({
            let pacer = pacer.clone();
            async move { pacer.pay(1, true).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished());
        pacer.set(None);
        tokio::time::timeout(Duration::from_millis(1), waiting)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn foreground_passes_background_that_waits_for_the_link() {
        let pacing = std::sync::Arc::new(Pacing::default());
        pacing.link.set(Some(1000));
        pacing.pay(1000, true).await;
        let pay = |foreground| {
            let pacing = pacing.clone();
            tokio::spawn(async move {
                pacing.pay(1000, foreground).await;
                Instant::now()
            })
        };
        let background = pay(false);
        tokio::task::yield_now().await;
        let mut last = Instant::now();
        for foreground in [pay(true), pay(true), pay(true)] {
            last = last.max(foreground.await.unwrap());
        }
        assert!(last < background.await.unwrap());
    }
}
