//! One direction of the link as a pure machine: packets and times in, packets out.
//!
//! A packet waits in the queue until the packets before it have been sent at the rate, is sent
//! itself, and is then under way for the delay and its jitter. Times are since any fixed moment.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::counters::Counters;
use crate::packet::{OnWire, on_wire};
use crate::settings::Settings;

/// Most bytes that are under way on a long link; what exceeds it counts as dropped by the queue.
const MAX_UNDER_WAY: u64 = 256 << 20;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    arrival: Duration,
    number: u64,
    packet: Vec<u8>,
}

/// One direction of the link.
pub struct Shaper {
    settings: Settings,
    random: fastrand::Rng,
    /// Packets and when they came. The first is the one being sent.
    queue: VecDeque<(Duration, Vec<u8>)>,
    queued_bytes: u64,
    /// When the first of the queue has been sent; without one, when the last was.
    sent_at: Duration,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    under_way_bytes: u64,
    last_arrival: Duration,
    next_number: u64,
    /// What happened so far.
    pub counters: Counters,
}

impl Shaper {
    /// A link without limits.
    pub fn new(seed: u64) -> Shaper {
        Shaper {
            settings: Settings::default(),
            random: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_at: Duration::ZERO,
            under_way: BinaryHeap::new(),
            under_way_bytes: 0,
            last_arrival: Duration::ZERO,
            next_number: 0,
            counters: Counters::default(),
        }
    }

    /// From `now` on. A cut drops all that is on its way.
    pub fn set(&mut self, settings: &Settings, now: Duration) {
        self.send(now);
        if let (Some(old), Some(left)) = (self.settings.rate, self.sent_at.checked_sub(now)) {
            // What is being sent goes on at the new rate.
            let scale = settings.rate.map_or(0.0, |new| old / new);
            self.sent_at = now + left.mul_f64(scale);
        }
        self.settings = settings.clone();
        if settings.cut {
            let under_way = self.under_way.drain().map(|Reverse(entry)| entry.packet);
            let dropped: Vec<_> = under_way
                .chain(self.queue.drain(..).map(|(_, p)| p))
                .collect();
            self.counters.dropped.cut += dropped.iter().map(|p| on_wire(p).segments).sum::<u64>();
            (self.queued_bytes, self.under_way_bytes) = (0, 0);
            (self.sent_at, self.last_arrival) = (now, now);
        }
    }

    /// Whether a packet may pass the shaper at once: nothing is set, nothing is on its way.
    pub fn is_open(&self) -> bool {
        let Settings {
            rate,
            delay,
            jitter,
            loss,
            cut,
            ..
        } = self.settings;
        let plain = rate.is_none() && delay == 0.0 && jitter == 0.0 && loss == 0.0 && !cut;
        plain && self.queue.is_empty() && self.under_way.is_empty()
    }

    /// A packet has come; it is copied if it is kept.
    pub fn push(&mut self, packet: &[u8], now: Duration) {
        let OnWire { segments, bytes } = on_wire(packet);
        let dropped = &mut self.counters.dropped;
        if self.settings.cut {
            dropped.cut += segments;
        } else if (0..segments).any(|_| self.random.f64() < self.settings.loss) {
            // More than one segment is seen only in the moment after loss was switched on.
            dropped.loss += segments;
        } else if self.queued_bytes + bytes > self.settings.queue_limit()
            || self.under_way_bytes + bytes > MAX_UNDER_WAY
        {
            dropped.queue += segments;
        } else {
            self.queued_bytes += bytes;
            self.send(now);
            self.queue.push_back((now, packet.to_vec()));
            if self.queue.len() == 1 {
                self.begin();
            }
        }
    }

    /// The next packet that has arrived by `now`. Count it with [`Shaper::count`] when delivered.
    pub fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.send(now);
        let Reverse(first) = self.under_way.peek()?;
        if first.arrival > now {
            return None;
        }
        let Reverse(entry) = self.under_way.pop()?;
        self.under_way_bytes -= on_wire(&entry.packet).bytes;
        Some(entry.packet)
    }

    /// The moment of the next [`Shaper::pop`] that is worth while.
    pub fn next_event(&self) -> Option<Duration> {
        let send = (!self.queue.is_empty()).then_some(self.sent_at);
        let arrive = self.under_way.peek().map(|Reverse(entry)| entry.arrival);
        send.into_iter().chain(arrive).min()
    }

    /// A packet was delivered, or the device did not take it.
    pub fn count(&mut self, packet: &[u8], delivered: bool) {
        let OnWire { segments, bytes } = on_wire(packet);
        match delivered {
            true => {
                self.counters.packets += segments;
                self.counters.bytes += bytes;
            }
            false => self.counters.dropped.device += segments,
        }
    }

    /// Bytes that are on their way.
    pub fn waiting_bytes(&self) -> u64 {
        self.queued_bytes + self.under_way_bytes
    }

    /// Packets that have been sent by `now` are under way.
    fn send(&mut self, now: Duration) {
        while self.sent_at <= now {
            let Some((_, packet)) = self.queue.pop_front() else {
                return;
            };
            let bytes = on_wire(&packet).bytes;
            self.queued_bytes -= bytes;
            self.under_way_bytes += bytes;
            let arrival = self.arrival();
            let number = self.next_number;
            self.next_number += 1;
            self.under_way.push(Reverse(UnderWay {
                arrival,
                number,
                packet,
            }));
            self.begin();
        }
    }

    /// The first of the queue, if any, begins to be sent.
    fn begin(&mut self) {
        let Some((since, packet)) = self.queue.front() else {
            return;
        };
        // Not `now`: a late wake-up must not make the link slower.
        let start = self.sent_at.max(*since);
        let bits = on_wire(packet).bytes as f64 * 8.0;
        let seconds = self.settings.rate.map_or(0.0, |rate| bits / rate);
        self.sent_at = start + Duration::from_secs_f64(seconds);
    }

    fn arrival(&mut self) -> Duration {
        let jitter = self.settings.jitter * self.random.f64();
        let mut arrival = self.sent_at + Duration::from_secs_f64(self.settings.delay + jitter);
        if !self.settings.reorder {
            arrival = arrival.max(self.last_arrival);
        }
        self.last_arrival = arrival;
        arrival
    }
}

#[cfg(test)]
#[path = "shaper_tests.rs"]
mod tests;
