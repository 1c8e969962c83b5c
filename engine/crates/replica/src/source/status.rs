//! What a source shows of itself.

use super::epoch::EpochState;
use super::limits::Limit;
use super::reading::OnReadError;
use super::slots::Slots;
use super::unreadable::UnreadableStatus;
use super::vdisk::{Mode, Vdisk};
use super::{Source, lock};
use crate::carrier::hex;
use crate::chunk::CHUNK_SIZE;
use crate::conversation::{ConnectionStatus, Roster, TcpTotals};
use crate::disk_time::DiskStatus;
use crate::scheduler::Scheduler;
use crate::trouble::Trouble;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The link as the source sees it.
#[derive(Debug, Clone, Serialize)]
pub struct LinkStatus {
    /// `unconfigured`, `connecting`, `up` or `down`.
    pub state: &'static str,
    /// Seconds in this state.
    pub since_seconds: f64,
    /// Why it is down.
    pub reason: Option<String>,
    /// Connections that are up.
    pub connections: u16,
    /// Connections that the session shall have.
    pub wanted_connections: u16,
    /// Each place for one.
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

/// A VDISK as the source sees it.
#[derive(Debug, Clone, Serialize)]
pub struct VdiskStatus {
    /// Bytes.
    pub size: u64,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// `idle`, `replicating`, `clean` or `held`.
    pub state: &'static str,
    /// Why it is held.
    pub error: Option<Trouble>,
    /// What is done about places that cannot be read.
    pub on_read_error: OnReadError,
    /// Places that could not be read and were sent as zeros.
    pub unreadable: UnreadableStatus,
    /// How long the VDISK's disk takes.
    pub disk: DiskStatus,
    /// What keeps background replication from being faster, while it runs.
    pub limited_by: Option<Limit>,
    /// Background replication.
    pub background: BackgroundStatus,
    /// The epoch that was asked for last.
    pub epoch: Option<EpochStatus>,
    /// Verification.
    pub verify: VerifyStatus,
    /// Counters since the engine started.
    pub sent: Sent,
    /// Both ends' root hashes, when every chunk is clean and verified.
    pub root: Option<RootStatus>,
}

/// Progress of background replication, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct BackgroundStatus {
    /// What was asked for.
    pub mode: Option<Mode>,
    /// `idle`, `running`, `loaded` while all that is left is on transport devices, or `done`.
    pub state: &'static str,
    /// Bytes of the VDISK.
    pub total_bytes: u64,
    /// Bytes that are stable at the destination.
    pub done_bytes: u64,
    /// The rest.
    pub left_bytes: u64,
    /// Part of `left_bytes` that is on transport devices and waits to be unloaded.
    pub loaded_bytes: u64,
    /// The same by device.
    pub devices: BTreeMap<String, u64>,
}

/// Progress of an epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochStatus {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub state: EpochState,
    /// Bytes that had to travel for it, in whole blocks of 64 KiB.
    pub dirty_bytes: u64,
    /// Bytes that are not stable yet.
    pub left_bytes: u64,
    /// Seconds from the request to the acknowledgement, or to now.
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

/// Progress of a verification.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyStatus {
    /// `idle`, `running` or `done`.
    pub state: &'static str,
    /// Bytes compared in this run.
    pub checked_bytes: u64,
    /// Bytes to compare in this run.
    pub total_bytes: u64,
    /// Bytes of the VDISK that are verified now.
    pub verified_bytes: u64,
    /// Chunks that differed in this run.
    pub differing_chunks: u64,
    /// Offsets of the first 16 of them, in bytes.
    pub differing_offsets: Vec<u64>,
}

/// What has been sent since the engine started, in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sent {
    /// Data before compression.
    pub raw_bytes: u64,
    /// Data and zeros as frames.
    pub wire_bytes: u64,
    /// Zeros sent as runs.
    pub zero_bytes: u64,
    /// Written to transport devices, before compression.
    pub loaded_bytes: u64,
    /// Found equal by comparison, not sent.
    pub skipped_bytes: u64,
    /// Part of `raw_bytes` that was foreground.
    pub foreground_bytes: u64,
    /// To be sent again after a link loss or damage on the way.
    pub resent_bytes: u64,
}

/// Root hashes in hexadecimal.
#[derive(Debug, Clone, Serialize)]
pub struct RootStatus {
    /// Over what the source read.
    pub source: String,
    /// Over what the destination read back.
    pub destination: String,
}

#[derive(Debug)]
pub(super) struct LinkState {
    state: &'static str,
    since: Instant,
    reason: Option<String>,
    sessions: u64,
    session: Option<Running>,
}

/// The session of the moment.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) roster: Arc<Roster>,
    pub(super) slots: Arc<Mutex<Slots>>,
}

impl LinkState {
    pub(super) fn new() -> Self {
        let (state, since) = ("unconfigured", Instant::now());
        LinkState {
            state,
            since,
            reason: None,
            sessions: 0,
            session: None,
        }
    }

    fn set(&mut self, state: &'static str) {
        if self.state != state {
            self.state = state;
            self.since = Instant::now();
        }
    }

    pub(super) fn connecting(&mut self) {
        // After a failure it is "down" with its reason until a session is up again.
        if self.reason.is_none() {
            self.set("connecting");
        }
    }

    pub(super) fn reconfigured(&mut self) {
        self.reason = None;
        self.session = None;
        self.set("connecting");
    }

    pub(super) fn up(&mut self, session: Running) {
        self.set("up");
        self.reason = None;
        self.sessions += 1;
        self.session = Some(session);
    }

    pub(super) fn down(&mut self, reason: String) {
        self.set("down");
        self.reason = Some(reason);
        self.session = None;
    }
}

impl Source {
    /// The link.
    pub fn link_status(&self) -> LinkStatus {
        let state = lock(&self.shared.link_state);
        let traffic = &self.shared.traffic;
        let roster = state.session.as_ref().map(|session| session.roster.clone());
        let roster = roster.unwrap_or_default();
        let each = state.session.as_ref();
        let each = each.map(|session| lock(&session.slots).status(&roster));
        let round_trip = roster.round_trip();
        // Side by side: whoever asks twice takes one for the time of the other.
        let tcp = roster.tcp_totals();
        let since_seconds = state.since.elapsed().as_secs_f64();
        LinkStatus {
            state: state.state,
            since_seconds,
            reason: state.reason.clone(),
            connections: roster.living().len() as u16,
            wanted_connections: *self.shared.connections.borrow(),
            each_connection: each.unwrap_or_default(),
            lost_connections: roster.lost.load(Ordering::Relaxed),
            sent_bytes: traffic.sent.load(Ordering::Relaxed),
            received_bytes: traffic.received.load(Ordering::Relaxed),
            round_trip_seconds: round_trip.as_ref().map(Duration::as_secs_f64),
            reconnects: state.sessions.saturating_sub(1),
            tcp,
        }
    }
}

impl Vdisk {
    /// Bytes that are noted as loaded, by device; those of the last look while a disk is waited for.
    fn on_devices(&self) -> BTreeMap<String, u64> {
        if let Ok(loads) = self.loads.try_lock() {
            let counts = loads.by_device().into_iter();
            let bytes =
                counts.map(|(device, chunks)| (device, u64::from(chunks) * u64::from(CHUNK_SIZE)));
            *lock(&self.seen_on_devices) = bytes.collect();
        }
        lock(&self.seen_on_devices).clone()
    }

    /// Its state.
    pub fn status(&self) -> VdiskStatus {
        let devices = self.on_devices();
        let state = lock(&self.state);
        let scheduler = &state.scheduler;
        let left_epoch = scheduler.epoch_left();
        let background = background_status(scheduler, state.mode, devices);
        let phase = match (&state.trouble, scheduler.is_clean()) {
            (Some(_), _) => "held",
            (None, true) => "clean",
            (None, false) if background.state == "running" || scheduler.open_work() > 0 => {
                "replicating"
            }
            (None, false) if scheduler.foreground_waits() => "replicating",
            (None, false) => "idle",
        };
        if let Some(attachment) = &state.attachment {
            self.limits.look(self, &attachment.outbox);
        }
        let running = background.state == "running" && phase == "replicating";
        let no_device = background.state == "running" && scheduler.wants_device();
        VdiskStatus {
            size: self.geometry().size(),
            chunk_size: CHUNK_SIZE,
            state: phase,
            error: state.trouble.clone(),
            on_read_error: state.on_read_error,
            unreadable: state.unreadable.status(),
            disk: self.disk.status(),
            limited_by: match no_device {
                true => Some(Limit::Device),
                false => self.limits.limit().filter(|_| running),
            },
            background,
            epoch: state.epoch.as_ref().map(|epoch| EpochStatus {
                number: epoch.number,
                state: epoch.state,
                dirty_bytes: epoch.dirty_bytes,
                left_bytes: left_epoch,
                seconds: epoch.seconds(),
                error: epoch.error.clone(),
            }),
            verify: verify_status(scheduler),
            sent: state.sent.clone(),
            root: state.root.map(|(source, destination)| RootStatus {
                source: hex(&source),
                destination: hex(&destination),
            }),
        }
    }
}

/// Chunk counts as bytes; the short last chunk is taken for a whole one until all are counted.
fn bytes_of(scheduler: &Scheduler, chunks: u32) -> u64 {
    let geometry = scheduler.geometry();
    geometry
        .size()
        .min(u64::from(chunks) * u64::from(CHUNK_SIZE))
}

fn background_status(
    scheduler: &Scheduler,
    mode: Option<Mode>,
    devices: BTreeMap<String, u64>,
) -> BackgroundStatus {
    let chunks = scheduler.geometry().chunks();
    let left = scheduler.background_left();
    let done = chunks - (left + scheduler.loaded_chunks()).min(chunks);
    let total_bytes = scheduler.geometry().size();
    let done_bytes = bytes_of(scheduler, done);
    let state = match mode {
        None => "idle",
        Some(_) if left > 0 || scheduler.must_forget() => "running",
        Some(_) if scheduler.loaded_chunks() > 0 => "loaded",
        Some(_) => "done",
    };
    BackgroundStatus {
        mode,
        state,
        total_bytes,
        done_bytes,
        left_bytes: total_bytes - done_bytes,
        loaded_bytes: bytes_of(scheduler, scheduler.loaded_chunks()),
        devices,
    }
}

fn verify_status(scheduler: &Scheduler) -> VerifyStatus {
    let (verify, left) = scheduler.verification();
    let state = match verify.started {
        false => "idle",
        true if left > 0 => "running",
        true => "done",
    };
    VerifyStatus {
        state,
        checked_bytes: verify.total_bytes.saturating_sub(bytes_of(scheduler, left)),
        total_bytes: verify.total_bytes,
        verified_bytes: bytes_of(scheduler, scheduler.verified_chunks()),
        differing_chunks: verify.differing,
        differing_offsets: verify.offsets.clone(),
    }
}
