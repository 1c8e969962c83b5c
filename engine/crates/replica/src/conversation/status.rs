//! A connection as the status shows it.

use super::Health;
use drover_link::tcp::TcpInfo;
use serde::Serialize;
use std::time::Duration;

/// One connection of a session.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionStatus {
    /// At a source its place, from 0; at a destination its number in the session.
    pub index: u32,
    /// `up`; at a source also `connecting`, or `waiting` to connect again.
    pub state: &'static str,
    /// Seconds in this state.
    pub since_seconds: f64,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Time of the latest Ping and its Pong, in seconds.
    pub round_trip_seconds: Option<f64>,
    /// Frame bytes sent on it.
    pub sent_bytes: u64,
    /// Frame bytes received on it.
    pub received_bytes: u64,
    /// What the kernel says of it.
    pub tcp: Option<TcpStatus>,
}

/// TCP_INFO of a connection that lives. Seconds, bytes, bytes/s; what the kernel does not know is 0.
#[derive(Debug, Clone, Serialize)]
pub struct TcpStatus {
    /// Smoothed round trip.
    pub round_trip_seconds: f64,
    /// Its mean deviation.
    pub round_trip_deviation_seconds: f64,
    /// The smallest of the latest minutes.
    pub min_round_trip_seconds: f64,
    /// Bytes of a segment without headers.
    pub mss: u32,
    /// Bytes of a packet that the path takes.
    pub path_mtu: u32,
    /// In segments.
    pub congestion_window: u32,
    /// As `cubic`.
    pub congestion: String,
    /// Bytes/s that were delivered lately.
    pub delivery_rate: u64,
    /// What it sent.
    #[serde(flatten)]
    pub totals: TcpTotals,
}

/// What connections sent. Segments are those with data.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TcpTotals {
    /// Segments sent, repetitions too.
    pub segments: u64,
    /// Of these: repetitions.
    pub retransmitted_segments: u64,
    /// Of these: the peer had the segment already.
    pub spurious_segments: u64,
    /// Bytes sent, repetitions too.
    pub sent_wire_bytes: u64,
    /// Of these: repetitions.
    pub retransmitted_bytes: u64,
    /// Bytes that have reached the peer's kernel, those behind a gap too; without the headers of TCP
    /// and IP, with TLS.
    pub delivered_bytes: u64,
    /// Seconds with something to send.
    pub busy_seconds: f64,
    /// Of these: the peer's receive buffer held it up.
    pub receiver_limited_seconds: f64,
    /// Of these: the own send buffer held it up.
    pub sender_limited_seconds: f64,
}

impl TcpTotals {
    pub(super) fn add(&mut self, info: &TcpInfo) {
        self.segments += info.segments;
        self.retransmitted_segments += info.retransmitted;
        self.spurious_segments += info.spurious;
        self.sent_wire_bytes += info.sent_bytes;
        self.retransmitted_bytes += info.retransmitted_bytes;
        self.delivered_bytes += info.delivered_bytes;
        self.busy_seconds += info.busy;
        self.receiver_limited_seconds += info.receiver_limited;
        self.sender_limited_seconds += info.sender_limited;
    }
}

impl From<TcpInfo> for TcpStatus {
    fn from(info: TcpInfo) -> Self {
        let mut totals = TcpTotals::default();
        totals.add(&info);
        TcpStatus {
            round_trip_seconds: info.round_trip,
            round_trip_deviation_seconds: info.round_trip_deviation,
            min_round_trip_seconds: info.min_round_trip,
            mss: info.mss,
            path_mtu: info.path_mtu,
            congestion_window: info.congestion_window,
            congestion: info.congestion,
            delivery_rate: info.delivery_rate,
            totals,
        }
    }
}

impl ConnectionStatus {
    /// One that works.
    pub fn up(index: u32, health: &Health) -> Self {
        let latest = health.round_trip().latest;
        ConnectionStatus {
            index,
            state: "up",
            since_seconds: health.age().as_secs_f64(),
            reason: None,
            round_trip_seconds: latest.map(|time| time.as_secs_f64()),
            sent_bytes: health.sent_bytes(),
            received_bytes: health.received_bytes(),
            tcp: health.tcp().map(TcpStatus::from),
        }
    }

    /// One that does not.
    pub fn not_up(index: u32, state: &'static str, age: Duration, reason: Option<String>) -> Self {
        ConnectionStatus {
            index,
            state,
            since_seconds: age.as_secs_f64(),
            reason,
            round_trip_seconds: None,
            sent_bytes: 0,
            received_bytes: 0,
            tcp: None,
        }
    }
}
