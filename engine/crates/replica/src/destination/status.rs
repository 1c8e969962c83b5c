//! What a destination shows of itself.

use super::{Destination, Vdisk, lock};
use crate::conversation::{ConnectionStatus, TcpTotals};
use crate::disk_time::DiskStatus;
use crate::trouble::{Trouble, TroubleCode};
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The link as the destination sees it.
#[derive(Debug, Clone, Serialize)]
pub struct LinkStatus {
    /// `unconfigured`, `listening` or `up`.
    pub state: &'static str,
    /// Seconds in this state.
    pub since_seconds: f64,
    /// Why the last session ended.
    pub reason: Option<String>,
    /// Connections of the session.
    pub connections: u16,
    /// Each of them.
    pub each_connection: Vec<ConnectionStatus>,
    /// Connections that ended while a session went on, since it began.
    pub lost_connections: u64,
    /// Frame bytes sent since the engine started.
    pub sent_bytes: u64,
    /// Frame bytes received since the engine started.
    pub received_bytes: u64,
    /// Time of the latest Ping and its Pong, in seconds.
    pub round_trip_seconds: Option<f64>,
    /// Sessions after the first.
    pub reconnects: u64,
    /// What the TCP connections of the session sent, those that have ended too.
    pub tcp: TcpTotals,
}

/// Pieces waiting for the disk (up to 16 MiB) that still mean nothing: writes come in bursts.
const BURST: usize = 32;

/// An operation that takes longer than this (seconds) is slow.
const SLOW: f64 = 1.0;

/// A VDISK as the destination sees it.
#[derive(Debug, Clone, Serialize)]
pub struct VdiskStatus {
    /// Bytes.
    pub size: u64,
    /// `idle`, `receiving`, `held` or `fenced`.
    pub state: &'static str,
    /// Why it is held.
    pub error: Option<Trouble>,
    /// How long the VDISK's disk takes.
    pub disk: DiskStatus,
    /// `destination` while data waits for the disk.
    pub limited_by: Option<&'static str>,
    /// Bytes written since the engine started.
    pub written_bytes: u64,
    /// Chunks that the journal claims.
    pub stable_chunks: u32,
    /// Chunks of the VDISK.
    pub total_chunks: u32,
}

#[derive(Debug)]
pub(super) struct LinkState {
    state: &'static str,
    since: Instant,
    reason: Option<String>,
    sessions: u64,
}

impl LinkState {
    pub(super) fn new() -> Self {
        LinkState {
            state: "unconfigured",
            since: Instant::now(),
            reason: None,
            sessions: 0,
        }
    }

    fn set(&mut self, state: &'static str) {
        if self.state != state {
            self.state = state;
            self.since = Instant::now();
        }
    }

    pub(super) fn listening(&mut self) {
        if self.state == "unconfigured" {
            self.set("listening");
        }
    }

    pub(super) fn up(&mut self) {
        self.set("up");
        self.since = Instant::now();
        self.reason = None;
        self.sessions += 1;
    }

    pub(super) fn down(&mut self, reason: &str) {
        self.set("listening");
        self.reason = Some(reason.to_owned());
    }
}

impl Destination {
    /// The link.
    pub fn link_status(&self) -> LinkStatus {
        let session = lock(&self.shared.session).clone();
        let state = lock(&self.shared.link_state);
        let traffic = &self.shared.traffic;
        let roster = session.map(|session| session.roster.clone());
        let roster = roster.unwrap_or_default();
        let living = roster.living();
        let round_trip = roster.round_trip();
        LinkStatus {
            state: state.state,
            since_seconds: state.since.elapsed().as_secs_f64(),
            reason: state.reason.clone(),
            connections: living.len() as u16,
            each_connection: living
                .into_iter()
                .map(|(number, health)| ConnectionStatus::up(number, &health))
                .collect(),
            lost_connections: roster.lost.load(Ordering::Relaxed),
            sent_bytes: traffic.sent.load(Ordering::Relaxed),
            received_bytes: traffic.received.load(Ordering::Relaxed),
            round_trip_seconds: round_trip.map(|time| time.as_secs_f64()),
            reconnects: state.sessions.saturating_sub(1),
            tcp: roster.tcp_totals(),
        }
    }
}

impl Vdisk {
    /// Its state.
    pub fn status(&self) -> VdiskStatus {
        let (error, receiving, written_bytes, stable_chunks) = self.figures();
        let state = match &error {
            Some(trouble) if trouble.code == TroubleCode::Fenced => "fenced",
            Some(_) => "held",
            None if receiving => "receiving",
            None => "idle",
        };
        let size = self.geometry().size();
        let total_chunks = self.geometry().chunks();
        let disk = self.disk.status();
        let slow = disk.waiting > BURST || disk.waiting_seconds > SLOW;
        VdiskStatus {
            size,
            state,
            error,
            disk,
            limited_by: slow.then_some("destination"),
            written_bytes,
            stable_chunks,
            total_chunks,
        }
    }
}
