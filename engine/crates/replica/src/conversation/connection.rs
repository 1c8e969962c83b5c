//! The tasks of one connection.

use super::health::Health;
use super::ledger::Ledger;
use super::{Parties, Receive};
use drover_link::limits::MAX_WAITING;
use drover_link::{Connection, FrameReader, FrameWriter, LinkError, Message};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What the peer says of a connection: its number, and how many frames it took from it.
pub(super) type Notice = (u32, u64);

/// One connection, as its tasks and the watchdog share it.
pub(super) struct Shared {
    pub(super) health: Arc<Health>,
    ledger: Mutex<Ledger>,
    /// Stamp of the latest Ping that has no Pong yet.
    pong: Mutex<Option<u64>>,
    /// There is a Pong to send, or room in the ledger again.
    nudged: Notify,
    /// Send no more, and let the peer finish.
    pub(super) retiring: CancellationToken,
    /// Drop everything.
    pub(super) stopping: CancellationToken,
}

impl Shared {
    pub(super) fn new(health: Arc<Health>) -> Arc<Self> {
        Arc::new(Shared {
            health,
            ledger: Mutex::default(),
            pong: Mutex::default(),
            nudged: Notify::new(),
            retiring: CancellationToken::new(),
            stopping: CancellationToken::new(),
        })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pong(&self) -> MutexGuard<'_, Option<u64>> {
        self.pong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and writes until the connection ends; says why, or None if it was told to stop. Nothing is
/// read from it or written to it any more when this returns.
pub(super) async fn run<R: Receive>(
    connection: Connection,
    shared: Arc<Shared>,
    parties: Arc<Parties<R>>,
    notices: mpsc::UnboundedSender<Notice>,
) -> Option<LinkError> {
    let Connection { reader, writer, .. } = connection;
    let mut tasks = JoinSet::new();
    tasks.spawn(read_all(reader, shared.clone(), parties.clone(), notices));
    tasks.spawn(write_all(writer, shared.clone(), parties));
    let reason = loop {
        tokio::select! {
            () = shared.stopping.cancelled() => break None,
            Some(ended) = tasks.join_next() => match ended {
                // The writer has retired; what the peer still sends is read until it closes too.
                Ok(None) => {}
                Ok(reason) => break reason,
                Err(error) => {
                    let text = format!("a connection's task failed: {error}");
                    break Some(LinkError::Protocol(text));
                }
            },
        }
    };
    tasks.shutdown().await;
    reason
}

async fn read_all<R: Receive>(
    mut reader: FrameReader,
    shared: Arc<Shared>,
    parties: Arc<Parties<R>>,
    notices: mpsc::UnboundedSender<Notice>,
) -> Option<LinkError> {
    loop {
        let message = match reader.receive().await {
            Ok(message) => message,
            Err(error) => return Some(error),
        };
        // From here to the next wait nothing can interrupt: a frame is counted and handled, or not.
        shared.health.frames_taken.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = handle(message, &shared, &parties, &notices) {
            return Some(error);
        }
    }
}

fn handle<R: Receive>(
    message: Message,
    shared: &Shared,
    parties: &Parties<R>,
    notices: &mpsc::UnboundedSender<Notice>,
) -> Result<(), LinkError> {
    match message {
        Message::Ping {
            stamp,
            received,
            interval,
        } => {
            shared.ledger().confirm(received)?;
            shared.health.promised(interval);
            *shared.pong() = Some(stamp);
            shared.nudged.notify_one();
            Ok(())
        }
        Message::Pong { stamp } => {
            shared.health.pong(stamp);
            Ok(())
        }
        Message::ConnectionClosed {
            connection,
            received,
        } => {
            // Nobody listens any more when the session is ending.
            let _ = notices.send((connection, received));
            Ok(())
        }
        _ if parties.outgoing.waiting() > MAX_WAITING => Err(LinkError::Protocol(
            "the peer asks but does not take the answers".into(),
        )),
        message => parties.receiver.receive(message),
    }
}

async fn write_all<R: Receive>(
    mut writer: FrameWriter,
    shared: Arc<Shared>,
    parties: Arc<Parties<R>>,
) -> Option<LinkError> {
    let health = &shared.health;
    let mut next_ping = Instant::now();
    loop {
        let pong = shared.pong().take();
        let room = shared.ledger().has_room();
        let parcel = if let Some(stamp) = pong {
            Message::Pong { stamp }.into()
        } else {
            tokio::select! {
                biased;
                () = shared.retiring.cancelled() => break,
                () = sleep_until(next_ping) => {
                    let interval = health.round_trip().interval();
                    next_ping = Instant::now() + interval;
                    let message = Message::Ping {
                        stamp: health.ping(),
                        received: health.frames_taken.load(Ordering::Relaxed),
                        interval: interval.as_millis() as u32,
                    };
                    message.into()
                }
                () = shared.nudged.notified() => continue,
                parcel = parties.outgoing.next(), if room => parcel,
            }
        };
        // Before the first byte leaves, so that whatever may have arrived is known.
        shared.ledger().sending(&parcel.message);
        match writer.send(&parcel.message).await {
            Ok(bytes) => health.sent_bytes.fetch_add(bytes, Ordering::Relaxed),
            Err(error) => return Some(error),
        };
    }
    writer.close().await;
    None
}
