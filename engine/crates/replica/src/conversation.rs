//! What both ends do with the connections of a session: writers that drain one shared queue,
//! readers that hand messages on, heartbeats, and a watchdog.

use drover_link::limits::{PING_INTERVAL, SILENCE_LIMIT};
use drover_link::{Connection, FrameReader, FrameWriter, LinkError, Message};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// A message on its way out, with the share of the memory budget that it holds until it is sent.
struct Parcel {
    message: Message,
    _memory: Option<OwnedSemaphorePermit>,
}

/// The way out of a session: whichever connection is free takes the next message. The queues are
/// bounded by the memory budgets of those who fill them.
#[derive(Clone)]
pub struct Outgoing {
    urgent: async_channel::Sender<Parcel>,
    bulk: async_channel::Sender<Parcel>,
}

/// The other end of [`Outgoing`].
#[derive(Clone)]
pub struct Outlet {
    urgent: async_channel::Receiver<Parcel>,
    bulk: async_channel::Receiver<Parcel>,
}

/// A fresh pair of queues.
pub fn queues() -> (Outgoing, Outlet) {
    let (urgent, urgent_out) = async_channel::unbounded();
    let (bulk, bulk_out) = async_channel::unbounded();
    (
        Outgoing { urgent, bulk },
        Outlet {
            urgent: urgent_out,
            bulk: bulk_out,
        },
    )
}

#[cfg(test)]
impl Outlet {
    /// The next urgent message, where no connection takes them.
    pub async fn next_urgent(&self) -> Option<Message> {
        self.urgent.recv().await.ok().map(|parcel| parcel.message)
    }
}

impl Outgoing {
    /// Messages that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    /// Queues before all background data. Into a session that has ended it goes nowhere, which is
    /// right: whoever waits for an answer is told by the session's end.
    pub fn send(&self, message: Message) {
        let _ = self.urgent.try_send(Parcel {
            message,
            _memory: None,
        });
    }

    /// As [`Outgoing::send`], for data that holds memory.
    pub fn send_foreground(&self, message: Message, memory: OwnedSemaphorePermit) {
        let _ = self.urgent.try_send(Parcel {
            message,
            _memory: Some(memory),
        });
    }

    /// Queues behind everything urgent.
    pub fn send_background(&self, message: Message, memory: OwnedSemaphorePermit) {
        let _ = self.bulk.try_send(Parcel {
            message,
            _memory: Some(memory),
        });
    }
}

/// Most answers that may wait for a peer which asks but does not listen.
const MOST_WAITING: usize = 262_144;

/// What an end does with messages. Waiting in `receive` holds back the peer on this connection.
pub trait Receive: Send + Sync + 'static {
    /// Handles one message.
    fn receive(
        self: &Arc<Self>,
        message: Message,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// Time for a message to the other end and back, as last measured.
#[derive(Debug)]
pub struct RoundTrip {
    start: Instant,
    micros: AtomicU64,
}

impl Default for RoundTrip {
    fn default() -> Self {
        RoundTrip {
            start: Instant::now(),
            micros: AtomicU64::new(0),
        }
    }
}

impl RoundTrip {
    fn stamp(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn answered(&self, stamp: u64) {
        let micros = self.stamp().saturating_sub(stamp);
        self.micros.store(micros.max(1), Ordering::Relaxed);
    }

    /// The latest measurement.
    pub fn latest(&self) -> Option<Duration> {
        match self.micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

/// Everything that the tasks of a connection share.
pub struct Parties<R> {
    /// Takes the messages.
    pub receiver: Arc<R>,
    /// For Pongs.
    pub outgoing: Outgoing,
    /// What to send.
    pub outlet: Outlet,
    /// Measured by Ping and Pong.
    pub round_trip: Arc<RoundTrip>,
}

/// Adds the tasks of one connection to `tasks`; the first that ends says why the session is over.
pub fn spawn_connection<R: Receive>(
    tasks: &mut JoinSet<LinkError>,
    connection: Connection,
    parties: &Parties<R>,
) {
    let Connection { reader, writer } = connection;
    let liveness = reader.liveness();
    liveness.heard();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if liveness.silent_for() > SILENCE_LIMIT {
                return LinkError::Silent(SILENCE_LIMIT.as_secs());
            }
        }
    });
    tasks.spawn(read_all(
        reader,
        parties.receiver.clone(),
        parties.outgoing.clone(),
        parties.round_trip.clone(),
    ));
    tasks.spawn(write_all(
        writer,
        parties.outlet.clone(),
        parties.round_trip.clone(),
    ));
}

async fn read_all<R: Receive>(
    mut reader: FrameReader,
    receiver: Arc<R>,
    outgoing: Outgoing,
    round_trip: Arc<RoundTrip>,
) -> LinkError {
    let liveness = reader.liveness();
    loop {
        if outgoing.urgent.len() > MOST_WAITING {
            return LinkError::Protocol("the peer asks but does not take the answers".into());
        }
        let handled = match reader.receive().await {
            Ok(Message::Ping { stamp }) => {
                outgoing.send(Message::Pong { stamp });
                Ok(())
            }
            Ok(Message::Pong { stamp }) => {
                round_trip.answered(stamp);
                Ok(())
            }
            Ok(message) => {
                liveness.not_listening();
                let handled = receiver.receive(message).await;
                liveness.heard();
                handled
            }
            Err(error) => Err(error),
        };
        if let Err(error) = handled {
            return error;
        }
    }
}

async fn write_all(
    mut writer: FrameWriter,
    outlet: Outlet,
    round_trip: Arc<RoundTrip>,
) -> LinkError {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let parcel = tokio::select! {
            biased;
            _ = pings.tick() => Parcel { message: Message::Ping { stamp: round_trip.stamp() }, _memory: None },
            Ok(parcel) = outlet.urgent.recv() => parcel,
            Ok(parcel) = outlet.bulk.recv() => parcel,
            else => return LinkError::Closed,
        };
        if let Err(error) = writer.send(&parcel.message).await {
            return error;
        }
    }
}
