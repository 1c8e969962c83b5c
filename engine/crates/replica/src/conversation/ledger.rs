//! What was sent on one connection and not yet confirmed as taken, in order.

use super::queue::weight;
use drover_link::limits::MAX_UNCONFIRMED;
use drover_link::{LinkError, Message};
use std::collections::VecDeque;

/// A Data message that never arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostData {
    /// The VDISK.
    pub handle: u32,
    /// Of the work.
    pub id: u64,
    /// Bytes after decompression.
    pub raw_length: u32,
    /// What it counted for in the VDISK's window.
    pub cost: u64,
}

#[derive(Debug)]
enum Entry {
    /// Nothing to do if it is lost.
    Nothing,
    /// Small: sent again as it is.
    Again(Message),
    /// Its bytes are not kept: whoever sent it reads them again.
    Data(LostData),
}

/// What has to be done for frames that never arrived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) again: Vec<Message>,
    pub(super) data: Vec<LostData>,
}

/// Frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Frames confirmed so far; the first entry is the frame after them.
    confirmed: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ledger {
    /// A frame is about to be written.
    pub(super) fn sending(&mut self, message: &Message) {
        let entry = match message {
            Message::Ping { .. } | Message::Pong { .. } => Entry::Nothing,
            Message::Data(data) => Entry::Data(LostData {
                handle: data.handle,
                id: data.id,
                raw_length: data.raw_length,
                cost: data.cost(),
            }),
            other => {
                self.bytes += weight(other);
                Entry::Again(other.clone())
            }
        };
        self.entries.push_back(entry);
    }

    /// Whether another small message may be sent before the peer confirms some.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_UNCONFIRMED
    }

    /// The peer has taken so many frames in all. It cannot have taken more than were sent, nor
    /// fewer than it said before.
    pub(super) fn confirm(&mut self, received: u64) -> Result<(), LinkError> {
        let more = received
            .checked_sub(self.confirmed)
            .filter(|more| *more <= self.entries.len() as u64)
            .ok_or_else(|| {
                let sent = self.confirmed + self.entries.len() as u64;
                LinkError::Protocol(format!(
                    "{received} frames taken, after {} of {sent} sent",
                    self.confirmed
                ))
            })?;
        for entry in self.entries.drain(..more as usize) {
            if let Entry::Again(message) = entry {
                self.bytes -= weight(&message);
            }
        }
        self.confirmed = received;
        Ok(())
    }

    /// The words about other connections that the peer has not confirmed. They are as good as
    /// taken afterwards: whoever asks sends them again.
    pub(super) fn take_closings(&mut self) -> Vec<Message> {
        let mut closings = Vec::new();
        for entry in &mut self.entries {
            if matches!(entry, Entry::Again(Message::ConnectionClosed { .. }))
                && let Entry::Again(message) = std::mem::replace(entry, Entry::Nothing)
            {
                self.bytes -= weight(&message);
                closings.push(message);
            }
        }
        closings
    }

    /// The connection is over, and the peer took so many frames of it: the others are lost.
    pub(super) fn settle(mut self, received: u64) -> Result<Lost, LinkError> {
        self.confirm(received)?;
        let mut lost = Lost::default();
        for entry in self.entries {
            match entry {
                Entry::Nothing => {}
                Entry::Again(message) => lost.again.push(message),
                Entry::Data(data) => lost.data.push(data),
            }
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(handle: u32) -> Message {
        Message::Flush { handle }
    }

    fn sent() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.sending(&flush(1));
        ledger.sending(&Message::Pong { stamp: 1 });
        ledger.sending(&flush(2));
        ledger.sending(&flush(3));
        ledger
    }

    #[test]
    fn exactly_what_was_not_taken_is_lost() {
        for (received, again) in [
            (0, vec![1, 2, 3]),
            (1, vec![2, 3]),
            (3, vec![3]),
            (4, vec![]),
        ] {
            let lost = sent().settle(received).unwrap();
            assert_eq!(lost.again, again.into_iter().map(flush).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_peer_cannot_take_what_was_not_sent_or_give_back_what_it_took() {
        assert!(sent().settle(5).is_err());
        let mut ledger = sent();
        ledger.confirm(3).unwrap();
        assert!(ledger.confirm(2).is_err());
        assert_eq!(ledger.settle(3).unwrap().again, [flush(3)]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut ledger = Ledger::default();
        let ack = Message::Ack {
            handle: 1,
            ids: vec![0; 16_384],
        };
        let mut sent = 0;
        while ledger.has_room() {
            ledger.sending(&ack);
            sent += 1;
        }
        assert!(sent <= 32);
        ledger.confirm(sent).unwrap();
        assert!(ledger.has_room() && ledger.bytes == 0);
    }
}
