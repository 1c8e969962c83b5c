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
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A session that lasted this long was a good one: the pauses begin anew.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// How a source reaches its destination.
#[derive(Debug, Clone)]
pub struct SourceLink {
    /// `host:port`.
    pub connect: String,
    /// The name in the destination's certificate.
    pub server_name: String,
    /// Connections of a session.
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
        self.shared.link.send_replace(Some(Arc::new(link)));
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
        if began.elapsed() > GOOD_SESSION {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = sleep(pause.mul_f64(rand::random_range(0.5..1.5))) => {}
            _ = configured.changed() => configured.mark_changed(),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
