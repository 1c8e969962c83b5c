//! Dials the destination, and dials again when a session has ended.

use super::session;
use super::{Shared, Source, lock};
use crate::compression::Choice;
use drover_link::tls::Identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// First pause after a failure; doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A session or connection that lasted this long was a good one: the pauses begin anew.
pub(super) const GOOD: Duration = Duration::from_secs(10);

/// The pause after the next failure.
pub(super) fn pauses(before: Duration) -> Duration {
    (before * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Half as long up to half longer, so that not all come at once.
pub(super) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// How a source reaches its destination.
#[derive(Debug, Clone)]
pub struct SourceLink {
    /// `host:port`.
    pub connect: String,
    /// The name in the destination's certificate.
    pub server_name: String,
    /// Connections of a session, until told otherwise.
    pub connections: u16,
    /// Certificates of the source.
    pub identity: Identity,
    /// Fencing token of the migration.
    pub token: u64,
    /// Compression.
    pub compression: Choice,
}

impl Source {
    /// Connects in the background, with these settings from now on.
    pub fn put_link(&self, link: SourceLink) {
        lock(&self.shared.link_state).reconfigured();
        self.shared.connections.send_replace(link.connections);
        self.shared.link.send_replace(Some(Arc::new(link)));
    }

    /// Adds connections to the session or takes some away; it goes on meanwhile. False if there is
    /// no link yet.
    pub fn set_connections(&self, connections: u16) -> bool {
        let configured = self.shared.link.borrow().is_some();
        if configured {
            self.shared.connections.send_replace(connections);
        }
        configured
    }
}

/// Keeps a session up as long as a link is configured.
pub(super) async fn keep_connected(shared: Arc<Shared>) {
    let mut configured = shared.link.subscribe();
    let mut pause = FIRST_PAUSE;
    loop {
        let link = configured.borrow_and_update().clone();
        let began = Instant::now();
        let ended = async {
            match &link {
                Some(link) => session::run(&shared, link).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            changed = configured.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = FIRST_PAUSE;
                continue;
            }
            reason = ended => {
                tracing::warn!("link down: {reason}");
                lock(&shared.link_state).down(reason.to_string());
            }
        }
        if began.elapsed() > GOOD {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = sleep(jitter(pause)) => {}
            _ = configured.changed() => configured.mark_changed(),
        }
        pause = pauses(pause);
    }
}
