//! One session: all connections of one source, from its first Hello until the last of them is gone.

use super::reception::Reception;
use super::{Shared, lock};
use crate::conversation::{Connections, Event, Outgoing, Parties, Roster};
use drover_link::Connection;
use drover_link::limits::{HANDSHAKE_LIMIT, MAX_CONNECTIONS, MAX_CONNECTIONS_EVER};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(super) struct Session {
    pub(super) number: u64,
    pub(super) token: u64,
    pub(super) roster: Arc<Roster>,
    /// Numbers that connections have had.
    used: Mutex<HashSet<u32>>,
    joining: mpsc::UnboundedSender<(u32, Connection)>,
    ending: CancellationToken,
    over: CancellationToken,
}

impl Session {
    /// Starts a session. `ended` is called with the reason.
    pub(super) fn start(
        shared: &Arc<Shared>,
        number: u64,
        token: u64,
        ended: impl FnOnce(u64, String) + Send + 'static,
    ) -> Arc<Session> {
        let (joining, joined) = mpsc::unbounded_channel();
        let outgoing = Outgoing::default();
        let reception = Arc::new(Reception::new(shared, token, outgoing.clone()));
        let roster = Arc::<Roster>::default();
        let connections = Connections::new(Parties {
            receiver: reception.clone(),
            outgoing,
            roster: roster.clone(),
        });
        let (ending, over) = (CancellationToken::new(), CancellationToken::new());
        let session = Arc::new(Session {
            number,
            token,
            roster,
            used: Mutex::default(),
            joining,
            ending: ending.clone(),
            over: over.clone(),
        });
        tokio::spawn(async move {
            let reason = converse(number, connections, joined, ending).await;
            reception.close().await;
            over.cancel();
            if let Some(reason) = reason {
                ended(number, reason);
            }
        });
        session
    }

    /// Whether a connection of this number may be welcomed; it may be asked once.
    pub(super) fn admit(&self, number: u32) -> Result<(), String> {
        let mut used = lock(&self.used);
        if self.roster.living().len() >= usize::from(MAX_CONNECTIONS) {
            return Err(format!(
                "a session has at most {MAX_CONNECTIONS} connections"
            ));
        }
        if used.len() >= MAX_CONNECTIONS_EVER || !used.insert(number) {
            return Err(format!("connection {number} cannot be had (again)"));
        }
        Ok(())
    }

    pub(super) fn join(&self, number: u32, connection: Connection) {
        // A session that has just ended drops the connection, and the source begins anew.
        let _ = self.joining.send((number, connection));
    }

    /// Ends all connections and waits until no write of this session can happen any more.
    pub(super) async fn end(&self, why: &str) {
        tracing::info!(session = self.number, "ending the session: {why}");
        self.ending.cancel();
        self.over.cancelled().await;
    }
}

/// Runs the connections until the session is over. Returns why, or None if it was ended from here;
/// nothing is received any more then.
async fn converse(
    session: u64,
    mut connections: Connections<Reception>,
    mut joined: mpsc::UnboundedReceiver<(u32, Connection)>,
    ending: CancellationToken,
) -> Option<String> {
    let begin = tokio::time::Instant::now();
    let mut begun = false;
    let reason = loop {
        tokio::select! {
            () = ending.cancelled() => break None,
            Some((number, connection)) = joined.recv() => begun |= connections.join(number, connection),
            event = connections.next() => match event {
                Event::Over(reason) => break Some(reason.to_string()),
                Event::Lost { number, reason } => {
                    tracing::info!(session, connection = number, "connection lost: {reason}");
                }
            },
            () = tokio::time::sleep_until(begin + HANDSHAKE_LIMIT), if !begun => {
                break Some("its first connection never came about".to_owned());
            }
        }
    };
    connections.shutdown().await;
    reason
}
