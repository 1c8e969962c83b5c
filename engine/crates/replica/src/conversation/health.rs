//! How a connection is doing: what it carried, when the peer was last heard, its round trip.

use super::status::TcpTotals;
use drover_link::limits::PING_INTERVALS;
use drover_link::liveness::Liveness;
use drover_link::tcp::{TcpInfo, TcpMeter};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The connections of a session that live, by their numbers.
#[derive(Debug, Default)]
pub struct Roster {
    living: Mutex<BTreeMap<u32, Arc<Health>>>,
    /// Connections that ended although nobody wanted them to.
    pub lost: AtomicU64,
    /// What those sent that have ended.
    ended: Mutex<TcpTotals>,
}

impl Roster {
    pub(super) fn change(&self, change: impl FnOnce(&mut BTreeMap<u32, Arc<Health>>)) {
        change(&mut self.living.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One has ended; what it sent stays in the totals.
    pub(super) fn leave(&self, number: u32) {
        let gone = self.living.lock();
        let gone = gone.unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some(info) = gone.and_then(|gone| gone.tcp_ends()) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.add(&info);
        }
    }

    /// Of all connections of the session, those that have ended too.
    pub fn tcp_totals(&self) -> TcpTotals {
        let ended = self.ended.lock();
        let mut totals = ended.unwrap_or_else(PoisonError::into_inner).clone();
        for health in self.living().values() {
            if let Some(info) = health.tcp() {
                totals.add(&info);
            }
        }
        totals
    }

    /// All that live.
    pub fn living(&self) -> BTreeMap<u32, Arc<Health>> {
        let living = self.living.lock();
        living.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of the quickest connection.
    pub fn round_trip(&self) -> Option<Duration> {
        let living = self.living();
        let latest = living.values().map(|health| health.round_trip().latest);
        latest.flatten().min()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    liveness: Arc<Liveness>,
    round_trip: Mutex<RoundTrip>,
    pub(super) sent_bytes: AtomicU64,
    pub(super) frames_taken: AtomicU64,
    peer_interval_millis: AtomicU64,
    /// Until the connection has ended: it holds the socket open.
    meter: Mutex<Option<TcpMeter>>,
}

impl Health {
    pub(super) fn new(liveness: Arc<Liveness>, meter: Option<TcpMeter>) -> Arc<Self> {
        liveness.heard();
        Arc::new(Health {
            began: Instant::now(),
            liveness,
            round_trip: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            frames_taken: AtomicU64::new(0),
            peer_interval_millis: AtomicU64::new(PING_INTERVALS.1.as_millis() as u64),
            meter: Mutex::new(meter),
        })
    }

    /// What the kernel says of it.
    pub fn tcp(&self) -> Option<TcpInfo> {
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.as_ref().and_then(TcpMeter::read)
    }

    /// The same for the last time; the socket closes.
    fn tcp_ends(&self) -> Option<TcpInfo> {
        let meter = self.meter.lock();
        let meter = meter.unwrap_or_else(PoisonError::into_inner).take();
        meter.as_ref().and_then(TcpMeter::read)
    }

    /// How long it has been part of the session.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Frame bytes sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Frame bytes received.
    pub fn received_bytes(&self) -> u64 {
        self.liveness.bytes()
    }

    /// As measured by Ping and Pong.
    pub fn round_trip(&self) -> RoundTrip {
        *self
            .round_trip
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, update: impl FnOnce(&mut RoundTrip, u64) -> T) -> T {
        let now = self.age().as_micros() as u64;
        let mut round_trip = self.round_trip.lock();
        update(
            round_trip
                .as_mut()
                .unwrap_or_else(|poisoned| poisoned.get_mut()),
            now,
        )
    }

    /// The stamp of a Ping that goes out now.
    pub(super) fn ping(&self) -> u64 {
        self.update(RoundTrip::asked)
    }

    pub(super) fn pong(&self, stamp: u64) {
        self.update(|round_trip, now| round_trip.answered(stamp, now));
    }

    /// Round trip as it must be now at least, given how long the oldest Ping is unanswered.
    pub(super) fn at_least(&self) -> Duration {
        self.update(|round_trip, now| round_trip.at_least(now))
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.liveness.silent_for()
    }

    /// The peer says within what time it sends its next Ping.
    pub(super) fn promised(&self, millis: u32) {
        let longest = PING_INTERVALS.1.as_millis() as u64;
        let millis = u64::from(millis).min(longest);
        self.peer_interval_millis.store(millis, Ordering::Relaxed);
    }

    pub(super) fn peer_interval(&self) -> Duration {
        Duration::from_millis(self.peer_interval_millis.load(Ordering::Relaxed))
    }
}

/// Time for a message to the other end and back, on one connection.
#[derive(Debug, Default, Clone, Copy)]
pub struct RoundTrip {
    /// As last measured.
    pub latest: Option<Duration>,
    /// Follows a rise at once and a fall slowly (by an eighth per answer).
    pub estimate: Option<Duration>,
    /// Stamps of the oldest and the newest Ping that are unanswered, in microseconds.
    unanswered: Option<(u64, u64)>,
}

impl RoundTrip {
    fn asked(&mut self, now: u64) -> u64 {
        let oldest = self.unanswered.map_or(now, |(oldest, _)| oldest);
        self.unanswered = Some((oldest, now));
        now
    }

    fn answered(&mut self, stamp: u64, now: u64) {
        let sample = Duration::from_micros(now.saturating_sub(stamp).max(1));
        self.latest = Some(sample);
        self.estimate = Some(match self.estimate {
            Some(before) if before > sample => before - (before - sample) / 8,
            _ => sample,
        });
        self.unanswered = self
            .unanswered
            .filter(|(_, newest)| *newest > stamp)
            .map(|(_, newest)| (newest, newest));
    }

    fn at_least(&self, now: u64) -> Duration {
        let waiting = self
            .unanswered
            .map_or(0, |(oldest, _)| now - oldest.min(now));
        let waiting = Duration::from_micros(waiting);
        self.estimate
            .map_or(waiting, |estimate| estimate.max(waiting))
    }

    /// When the next Ping is due: a link that is slow is not burdened with many.
    pub(super) fn interval(&self) -> Duration {
        let (shortest, longest) = PING_INTERVALS;
        self.estimate
            .map_or(shortest, |estimate| estimate.clamp(shortest, longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.at_least(5), Duration::ZERO);
        let ask = trip.asked(1000);
        trip.answered(ask, 3000);
        let ask = trip.asked(10_000);
        assert_eq!(trip.at_least(60_000), Duration::from_micros(50_000));
        trip.answered(ask, 90_000);
        assert_eq!(trip.estimate, Some(Duration::from_micros(80_000)));
        let ask = trip.asked(100_000);
        trip.answered(ask, 100_000);
        assert_eq!(trip.latest, Some(Duration::from_micros(1)));
        assert!(trip.estimate > Some(Duration::from_micros(69_000)));
    }

    #[test]
    fn a_stamp_that_was_never_sent_does_no_harm() {
        let mut trip = RoundTrip::default();
        trip.answered(u64::MAX, 5);
        assert_eq!(trip.latest, Some(Duration::from_micros(1)));
    }
}
