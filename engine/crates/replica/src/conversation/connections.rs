//! The connections of a session: they join, retire and die, and each is settled with the peer.

use super::connection::{self, Notice, Shared};
use super::health::Health;
use super::settlement::{Due, Settlement};
use super::silence::{self, Sight};
use super::{Parties, Receive};
use drover_link::{Connection, LinkError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the watchdog looks. Silence must be too long twice, so that an end which was itself
/// held up takes what had arrived meanwhile before it accuses anyone.
const WATCH: Duration = Duration::from_millis(100);

/// What happened to the connections.
#[derive(Debug)]
pub enum Event {
    /// One is gone; the session goes on.
    Lost {
        /// Its number.
        number: u32,
        /// Why.
        reason: LinkError,
    },
    /// The session is over: the last connection is gone, or the peer broke the protocol.
    Over(LinkError),
}

/// A connection that lives.
struct Member {
    shared: Arc<Shared>,
    suspect: bool,
    /// Set when this end or the peer has given it up.
    why: Option<LinkError>,
}

struct Gone {
    number: u32,
    reason: Option<LinkError>,
}

/// All connections of a session. Dropping it ends them without waiting.
pub struct Connections<R> {
    parties: Arc<Parties<R>>,
    tasks: JoinSet<Gone>,
    living: BTreeMap<u32, Member>,
    settlement: Settlement,
    notice: mpsc::UnboundedSender<Notice>,
    notices: mpsc::UnboundedReceiver<Notice>,
    watch: Interval,
}

impl<R: Receive> Connections<R> {
    /// None yet.
    pub fn new(parties: Parties<R>) -> Self {
        let (notice, notices) = mpsc::unbounded_channel();
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Connections {
            parties: Arc::new(parties),
            tasks: JoinSet::new(),
            living: BTreeMap::new(),
            settlement: Settlement::default(),
            notice,
            notices,
            watch,
        }
    }

    /// Takes a negotiated connection into the session, unless the peer has closed it already.
    pub fn join(&mut self, number: u32, mut connection: Connection) -> bool {
        if self.settlement.is_settled(number) {
            return false;
        }
        let shared = Shared::new(Health::new(
            connection.reader.liveness(),
            connection.meter.take(),
        ));
        let health = shared.health.clone();
        self.parties.roster.change(|living| {
            living.insert(number, health);
        });
        let (parties, notice) = (self.parties.clone(), self.notice.clone());
        let running = connection::run(connection, shared.clone(), parties, notice);
        self.tasks.spawn(async move {
            let reason = running.await;
            Gone { number, reason }
        });
        let member = Member {
            shared,
            suspect: false,
            why: None,
        };
        self.living.insert(number, member);
        true
    }

    /// Lets one finish what it is sending and end.
    pub fn retire(&mut self, number: u32) {
        if let Some(member) = self.living.get(&number) {
            member.shared.retiring.cancel();
        }
    }

    /// The next event. Safe to cancel.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = tokio::select! {
                Some(gone) = self.tasks.join_next() => match gone {
                    Ok(gone) => self.gone(gone),
                    Err(error) => {
                        let text = format!("a connection's task failed: {error}");
                        Some(Event::Over(LinkError::Protocol(text)))
                    }
                },
                Some(notice) = self.notices.recv() => self.noticed(notice).err().map(Event::Over),
                _ = self.watch.tick() => {
                    self.look();
                    None
                }
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Ends all; nothing is read or written any more when this returns.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }

    /// Torn down at this end: the peer is told what was taken.
    fn gone(&mut self, gone: Gone) -> Option<Event> {
        let Gone { number, reason } = gone;
        let member = self.living.remove(&number)?;
        self.parties.roster.leave(number);
        let ledger = std::mem::take(&mut *member.shared.ledger());
        let received = member.shared.health.frames_taken.load(Ordering::Relaxed);
        let due = self.settlement.ended_here(number, ledger, received);
        if let Err(error) = self.act(due) {
            return Some(Event::Over(error));
        }
        let reason = member.why.or(reason).unwrap_or(LinkError::Closed);
        let broken = matches!(reason, LinkError::Protocol(_) | LinkError::Decode(_));
        if broken || self.living.is_empty() {
            return Some(Event::Over(reason));
        }
        if !member.shared.retiring.is_cancelled() {
            self.parties.roster.lost.fetch_add(1, Ordering::Relaxed);
        }
        Some(Event::Lost { number, reason })
    }

    /// Torn down at the other end.
    fn noticed(&mut self, (number, taken): Notice) -> Result<(), LinkError> {
        let member = self.living.get_mut(&number);
        let living = member.is_some();
        if let Some(member) = member {
            member.why.get_or_insert(LinkError::GivenUp);
            member.shared.stopping.cancel();
        }
        let due = self.settlement.ended_there(number, taken, living);
        self.act(due)
    }

    fn act(&self, due: Result<Due, LinkError>) -> Result<(), LinkError> {
        let Due { send, lost } = due?;
        for message in send {
            self.parties.outgoing.send(message);
        }
        for data in lost {
            self.parties.receiver.lost(data);
        }
        Ok(())
    }

    /// The watchdog.
    fn look(&mut self) {
        let sights: BTreeMap<u32, Sight> = self
            .living
            .iter()
            .map(|(number, member)| (*number, sight(&member.shared.health)))
            .collect();
        for (number, member) in &mut self.living {
            let this = sights[number];
            let others = sights.iter().filter(|(other, _)| *other != number);
            let limit = silence::limit(this, others.map(|(_, sight)| *sight));
            let before = std::mem::replace(&mut member.suspect, this.silent > limit);
            if before && member.suspect {
                member
                    .why
                    .get_or_insert(LinkError::Silent(this.silent.as_secs_f64()));
                member.shared.stopping.cancel();
            }
        }
    }
}

/// The roster may be known to others for longer, and each of its connections holds a socket.
impl<R> Drop for Connections<R> {
    fn drop(&mut self) {
        let roster = &self.parties.roster;
        self.living.keys().for_each(|number| roster.leave(*number));
    }
}

fn sight(health: &Health) -> Sight {
    Sight {
        silent: health.silent_for(),
        interval: health.peer_interval(),
        estimate: health.round_trip().estimate,
        at_least: health.at_least(),
    }
}
