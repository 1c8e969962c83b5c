//! How much of one VDISK the destination is ready to take.

use super::lock;
use super::outbox::Lane;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Kept free of background data, so that a foreground piece need not wait for its disk time.
const FOREGROUND_RESERVE: u64 = 1 << 20;

/// The sum of what was sent under a handle against the destination's limit.
#[derive(Default)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    sent: u64,
    limit: u64,
}

impl Window {
    /// Waits until a message of this cost may be sent.
    pub(super) async fn take(&self, cost: u64, lane: Lane) {
        let reserve = match lane {
            Lane::Background => FOREGROUND_RESERVE,
            Lane::Foreground => 0,
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            {
                let mut state = lock(&self.state);
                if state.sent + cost + reserve <= state.limit {
                    state.sent += cost;
                    return;
                }
            }
            changed.await;
        }
    }

    /// The destination has said so; an older word may come later.
    pub(super) fn raise(&self, limit: u64) {
        let mut state = lock(&self.state);
        state.limit = state.limit.max(limit);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A message did not arrive and never will.
    pub(super) fn give_back(&self, cost: u64) {
        lock(&self.state).sent -= cost;
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn foreground_passes_where_background_waits() {
        let window = Window::default();
        assert!(window.take(1, Lane::Foreground).now_or_never().is_none());
        window.raise(FOREGROUND_RESERVE + 100);
        window.raise(5);
        assert!(window.take(100, Lane::Background).now_or_never().is_some());
        assert!(window.take(1, Lane::Background).now_or_never().is_none());
        let rest = window.take(FOREGROUND_RESERVE, Lane::Foreground);
        assert!(rest.now_or_never().is_some());
        assert!(window.take(1, Lane::Foreground).now_or_never().is_none());
        window.give_back(1);
        assert!(window.take(1, Lane::Foreground).now_or_never().is_some());
    }
}
