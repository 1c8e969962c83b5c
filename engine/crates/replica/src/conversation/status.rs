//! A connection as the status shows it.

use super::Health;
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
        }
    }
}
