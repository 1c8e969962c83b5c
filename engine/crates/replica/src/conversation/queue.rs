//! The way out of a session: whichever connection is free takes the next message. Small messages
//! go first, then foreground, then background; within each, VDISKs take turns by bytes.

use crate::budget::Share;
use drover_link::Message;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A message on its way out, with the memory that it holds until it is sent.
pub struct Parcel {
    pub(super) message: Message,
    _memory: Option<Share>,
}

/// What waits to be sent. Data is bounded by the memory budgets of those who bring it, small
/// messages by what the peer may ask for.
#[derive(Clone, Default)]
pub struct Outgoing {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Message>,
    urgent_bytes: usize,
    foreground: Lane,
    background: Lane,
}

impl From<Message> for Parcel {
    fn from(message: Message) -> Self {
        let _memory = None;
        Parcel { message, _memory }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.queue.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues before all data. Into a session that has ended it goes nowhere, which is right:
    /// whoever waits for an answer is told by the session's end.
    pub fn send(&self, message: Message) {
        {
            let mut state = self.lock();
            state.urgent_bytes += weight(&message);
            state.urgent.push_back(message);
        }
        self.queue.filled.notify_one();
    }

    /// Queues before all background data.
    pub fn send_foreground(&self, handle: u32, message: Message, memory: Share) {
        self.lock().foreground.push(handle, message, memory);
        self.queue.filled.notify_one();
    }

    /// Queues behind everything.
    pub fn send_background(&self, handle: u32, message: Message, memory: Share) {
        self.lock().background.push(handle, message, memory);
        self.queue.filled.notify_one();
    }

    /// Bytes of small messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().urgent_bytes
    }

    /// Background messages of a VDISK that wait.
    pub fn background_of(&self, handle: u32) -> usize {
        let state = self.lock();
        let mut flows = state.background.flows.iter();
        flows
            .find(|flow| flow.handle == handle)
            .map_or(0, |flow| flow.parcels.len())
    }

    /// The next small message, where no connection takes them; None when nobody is left to send any.
    #[cfg(test)]
    pub async fn next_small(&self) -> Option<Message> {
        loop {
            let last = Arc::strong_count(&self.queue) == 1;
            if let Some(parcel) = self.take() {
                return Some(parcel.message);
            }
            if last {
                return None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Takes the next message. Nothing is lost when this is cancelled.
    pub(super) async fn next(&self) -> Parcel {
        loop {
            let filled = self.queue.filled.notified();
            if let Some(parcel) = self.take() {
                return parcel;
            }
            filled.await;
        }
    }

    fn take(&self) -> Option<Parcel> {
        let mut state = self.lock();
        if let Some(message) = state.urgent.pop_front() {
            state.urgent_bytes -= weight(&message);
            return Some(message.into());
        }
        state.foreground.pop().or_else(|| state.background.pop())
    }
}

/// Bytes of a small message, more or less.
pub(super) fn weight(message: &Message) -> usize {
    64 + match message {
        Message::Ack { ids, .. } => 8 * ids.len(),
        Message::VdiskOpened { runs, .. } => 4 * runs.iter().count(),
        Message::HashReply { runs, .. } => 36 * runs.len(),
        Message::BlockHashReply { hashes, .. } => 32 * hashes.len(),
        Message::Offer { chunks, .. } => 4 * chunks.len(),
        Message::Grant { answers, .. } => 16 * answers.len(),
        Message::Fault { message, .. } => message.len(),
        _ => 0,
    }
}

/// Start-time fair queuing: the VDISK that was served least is next; one that comes back from
/// idleness is not owed for it.
#[derive(Default)]
struct Lane {
    flows: Vec<Flow>,
    clock: u64,
}

struct Flow {
    handle: u32,
    served: u64,
    parcels: VecDeque<Parcel>,
}

impl Lane {
    fn push(&mut self, handle: u32, message: Message, memory: Share) {
        let (clock, parcel) = (
            self.clock,
            Parcel {
                message,
                _memory: Some(memory),
            },
        );
        self.flows
            .retain(|flow| !flow.parcels.is_empty() || flow.served > clock);
        match self.flows.iter_mut().find(|flow| flow.handle == handle) {
            Some(flow) => flow.parcels.push_back(parcel),
            None => self.flows.push(Flow {
                handle,
                served: clock,
                parcels: VecDeque::from([parcel]),
            }),
        }
    }

    fn pop(&mut self) -> Option<Parcel> {
        let waiting = self
            .flows
            .iter_mut()
            .filter(|flow| !flow.parcels.is_empty());
        let flow = waiting.min_by_key(|flow| flow.served)?;
        self.clock = self.clock.max(flow.served);
        let parcel = flow.parcels.pop_front()?;
        flow.served = self.clock + cost(&parcel.message);
        Some(parcel)
    }
}

fn cost(message: &Message) -> u64 {
    match message {
        Message::Data(data) => data.cost(),
        _ => drover_link::limits::LEAST_COST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use bytes::Bytes;
    use drover_link::{Compression, Data};
    use futures_util::FutureExt;

    fn data(handle: u32, length: usize) -> Message {
        Message::Data(Data {
            handle,
            id: 1,
            offset: 0,
            foreground: false,
            raw_length: length as u32,
            compression: Compression::None,
            hash: [0; 32],
            payload: Bytes::from(vec![1; length]),
        })
    }

    fn share() -> Share {
        let budget = Budget::new(1, 1);
        budget.acquire(1, 1).now_or_never().unwrap()
    }

    fn handle_of(parcel: Parcel) -> u32 {
        match parcel.message {
            Message::Data(data) => data.handle,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_before_foreground_before_background() {
        let out = Outgoing::default();
        out.send_background(1, data(1, 10), share());
        out.send_foreground(2, data(2, 10), share());
        out.send(Message::Flush { handle: 3 });
        assert!(matches!(
            out.take().unwrap().message,
            Message::Flush { handle: 3 }
        ));
        assert_eq!(handle_of(out.take().unwrap()), 2);
        assert_eq!(handle_of(out.take().unwrap()), 1);
        assert!(out.take().is_none());
        assert_eq!(out.waiting(), 0);
    }

    #[test]
    fn vdisks_take_turns_by_bytes() {
        let out = Outgoing::default();
        for _ in 0..8 {
            out.send_background(1, data(1, 400_000), share());
        }
        for _ in 0..32 {
            out.send_background(2, data(2, 100_000), share());
        }
        let first: Vec<_> = (0..20).map(|_| handle_of(out.take().unwrap())).collect();
        let of_one = first.iter().filter(|handle| **handle == 1).count();
        assert!((4..=5).contains(&of_one), "{first:?}");
        // A third one begins with the others, not ahead of them.
        for _ in 0..32 {
            out.send_background(3, data(3, 100_000), share());
        }
        let next: Vec<_> = (0..9).map(|_| handle_of(out.take().unwrap())).collect();
        assert!(next.contains(&1) && next.contains(&2), "{next:?}");
    }
}
