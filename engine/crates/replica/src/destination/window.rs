//! What a source may have on its way to one VDISK: a limit on the sum of all it ever sent under a
//! handle, raised as the disk takes it. A slow disk holds up its own VDISK only, and no reader of a
//! connection ever waits for a disk.

use super::lock;
use crate::conversation::Outgoing;
use drover_link::limits::{LEAST_WINDOW, MAX_UNFINISHED, WINDOW_BYTES};
use drover_link::{LinkError, Message};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How many VDISKs share the window of a session.
pub(super) type Sharers = Arc<AtomicU64>;

/// The window of one handle.
pub(super) struct Window {
    handle: u32,
    sharers: Sharers,
    outgoing: Outgoing,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    received: u64,
    released: u64,
    limit: u64,
    unfinished: usize,
}

/// Room that is taken until this is dropped.
pub(super) struct Place {
    window: Arc<Window>,
    cost: u64,
}

impl Window {
    /// Opens the window and tells the source.
    pub(super) fn open(handle: u32, sharers: Sharers, outgoing: Outgoing) -> Arc<Self> {
        sharers.fetch_add(1, Ordering::Relaxed);
        let window = Window {
            handle,
            sharers,
            outgoing,
            state: Mutex::default(),
        };
        window.raise(&mut lock(&window.state));
        Arc::new(window)
    }

    fn size(&self) -> u64 {
        (WINDOW_BYTES / self.sharers.load(Ordering::Relaxed).max(1)).max(LEAST_WINDOW)
    }

    /// Takes room for a message. A source that sends more than it was allowed to ends the session.
    pub(super) fn take(self: &Arc<Self>, cost: u64) -> Result<Place, LinkError> {
        let mut state = lock(&self.state);
        state.received += cost;
        state.unfinished += 1;
        if state.received > state.limit || state.unfinished > MAX_UNFINISHED {
            let text = format!(
                "the window of handle {} was overrun: {} bytes of {}, {} messages",
                self.handle, state.received, state.limit, state.unfinished
            );
            return Err(LinkError::Protocol(text));
        }
        let window = self.clone();
        Ok(Place { window, cost })
    }

    /// Moves the limit on, in steps that are worth a message.
    fn raise(&self, state: &mut State) {
        let size = self.size();
        let limit = state.released + size;
        if limit >= state.limit + size / 8 {
            state.limit = limit;
            let handle = self.handle;
            self.outgoing.send(Message::Window { handle, limit });
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.window.state);
        state.released += self.cost;
        state.unfinished -= 1;
        self.window.raise(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(sharers: &Sharers) -> Arc<Window> {
        Window::open(1, sharers.clone(), Outgoing::default())
    }

    #[test]
    fn what_was_not_allowed_is_refused() {
        let window = open(&Sharers::default());
        let all = window.take(WINDOW_BYTES).unwrap();
        assert!(window.take(1).is_err());
        drop(all);
        window.take(WINDOW_BYTES / 2).unwrap();
    }

    #[test]
    fn many_share_and_each_has_room_for_the_largest_frame() {
        let sharers = Sharers::default();
        let alone = open(&sharers);
        let others: Vec<_> = (0..3).map(|_| open(&sharers)).collect();
        assert_eq!(lock(&others[2].state).limit, WINDOW_BYTES / 4);
        // What was promised before is kept, but not renewed.
        drop(alone.take(WINDOW_BYTES / 2).unwrap());
        assert_eq!(lock(&alone.state).limit, WINDOW_BYTES);
        let crowd: Vec<_> = (0..60).map(|_| open(&sharers)).collect();
        assert_eq!(lock(&crowd[59].state).limit, LEAST_WINDOW);
        drop((crowd, others));
        assert_eq!(sharers.load(Ordering::Relaxed), 1);
    }
}
