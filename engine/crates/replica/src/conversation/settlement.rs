//! Which connections are over, at which end, and what follows from it. No I/O, no clock.
//!
//! The words about closed connections travel on connections that may die as well. Were such a word
//! sent again only when its own connection is settled, two connections could wait for each other:
//! the source's word about A went down with B, the destination's word about B with A. So a word that
//! the peer has not confirmed is repeated as soon as its connection has ended here.

use super::ledger::{Ledger, LostData};
use drover_link::limits::MAX_CONNECTIONS_EVER;
use drover_link::{LinkError, Message};
use std::collections::{HashMap, HashSet};

/// The connections of a session that are not living, or not at both ends.
#[derive(Debug, Default)]
pub(super) struct Settlement {
    /// Ended here, not yet there.
    parting: HashMap<u32, Ledger>,
    /// Ended there with so many frames taken, not yet here.
    taken: HashMap<u32, u64>,
    /// Ended at both ends; nothing of them can be taken any more.
    settled: HashSet<u32>,
}

/// What has to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// To be sent over whichever connection is free.
    pub(super) send: Vec<Message>,
    /// Data that did not arrive and never will.
    pub(super) lost: Vec<LostData>,
}

impl Settlement {
    /// Whether a connection is over at both ends.
    pub(super) fn is_settled(&self, number: u32) -> bool {
        self.settled.contains(&number)
    }

    /// A connection has ended at this end, where `received` frames were taken from it.
    pub(super) fn ended_here(
        &mut self,
        number: u32,
        mut ledger: Ledger,
        received: u64,
    ) -> Result<Due, LinkError> {
        let mut send = vec![closed(number, received)];
        send.extend(ledger.take_closings());
        let mut due = match self.taken.remove(&number) {
            Some(taken) => self.settle(number, ledger, taken)?,
            None => {
                self.parting.insert(number, ledger);
                Due::default()
            }
        };
        due.send.splice(..0, send);
        Ok(due)
    }

    /// The peer says that a connection has ended there, where `taken` frames were taken from it.
    /// `living` says that it has not ended here; it must now.
    pub(super) fn ended_there(
        &mut self,
        number: u32,
        taken: u64,
        living: bool,
    ) -> Result<Due, LinkError> {
        if living {
            self.taken.entry(number).or_insert(taken);
            return Ok(Due::default());
        }
        if let Some(ledger) = self.parting.remove(&number) {
            return self.settle(number, ledger, taken);
        }
        if self.settled.contains(&number) {
            // The peer could not know that its word had arrived.
            return Ok(Due::default());
        }
        // It never became part of the session here.
        let mut due = self.settle(number, Ledger::default(), taken)?;
        due.send.push(closed(number, 0));
        Ok(due)
    }

    /// Both ends have torn it down: what the peer did not take goes over the others.
    fn settle(&mut self, number: u32, ledger: Ledger, taken: u64) -> Result<Due, LinkError> {
        self.settled.insert(number);
        if self.settled.len() >= MAX_CONNECTIONS_EVER {
            let text = format!("{MAX_CONNECTIONS_EVER} connections in one session");
            return Err(LinkError::Protocol(text));
        }
        let lost = ledger.settle(taken)?;
        tracing::debug!(
            connection = number,
            messages = lost.again.len(),
            data = lost.data.len(),
            "connection settled"
        );
        Ok(Due {
            send: lost.again,
            lost: lost.data,
        })
    }
}

fn closed(connection: u32, received: u64) -> Message {
    Message::ConnectionClosed {
        connection,
        received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    #[test]
    fn a_word_that_may_be_lost_is_repeated_without_waiting_for_anyone() {
        let mut here = Settlement::default();
        let mut ledger = Ledger::default();
        let word = closed(1, 7);
        ledger.sending(&Message::Flush { handle: 1 });
        ledger.sending(&word);
        let due = here.ended_here(2, ledger, 3).unwrap();
        assert_eq!(due.send, [closed(2, 3), word]);
        // What else was on it goes again once the peer has spoken, the word does not.
        let due = here.ended_there(2, 0, false).unwrap();
        assert_eq!(due.send, [Message::Flush { handle: 1 }]);
        assert_eq!(here.ended_there(2, 0, false).unwrap(), Due::default());
    }

    #[test]
    fn one_that_never_joined_is_answered_once() {
        let mut here = Settlement::default();
        let due = here.ended_there(9, 4, false);
        assert!(due.is_err(), "nothing was sent on it");
        let mut here = Settlement::default();
        assert_eq!(here.ended_there(9, 0, false).unwrap().send, [closed(9, 0)]);
        assert_eq!(here.ended_there(9, 0, false).unwrap(), Due::default());
        assert!(here.is_settled(9));
    }

    /// One end of a session: what it has to send, and its connections that live.
    #[derive(Default)]
    struct End {
        settlement: Settlement,
        queue: VecDeque<Message>,
        living: BTreeMap<u32, Living>,
        taken: Vec<u32>,
    }

    #[derive(Default)]
    struct Living {
        ledger: Ledger,
        received: u64,
        /// On its way from the peer.
        inbox: VecDeque<Message>,
    }

    impl End {
        fn act(&mut self, due: Result<Due, LinkError>) {
            self.queue.extend(due.unwrap().send);
        }

        fn end(&mut self, number: u32) {
            if let Some(connection) = self.living.remove(&number) {
                let Living {
                    ledger, received, ..
                } = connection;
                let due = self.settlement.ended_here(number, ledger, received);
                self.act(due);
            }
        }

        /// Takes the next frame of a connection.
        fn take(&mut self, number: u32) {
            let Some(connection) = self.living.get_mut(&number) else {
                return;
            };
            let Some(message) = connection.inbox.pop_front() else {
                return;
            };
            connection.received += 1;
            match message {
                Message::Flush { handle } => self.taken.push(handle),
                Message::ConnectionClosed {
                    connection,
                    received,
                } => {
                    let living = self.living.contains_key(&connection);
                    let due = self.settlement.ended_there(connection, received, living);
                    self.act(due);
                    self.end(connection);
                }
                other => panic!("{other:?}"),
            }
        }

        /// Puts the next message on a connection; what it puts on a dead one is lost.
        fn send(&mut self, number: u32, peer: &mut End) {
            let Some(connection) = self.living.get_mut(&number) else {
                return;
            };
            let Some(message) = self.queue.pop_front() else {
                return;
            };
            connection.ledger.sending(&message);
            if let Some(connection) = peer.living.get_mut(&number) {
                connection.inbox.push_back(message);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send(bool, u32),
        Take(bool, u32),
        /// An end finds that a connection is dead, whatever the other finds and when.
        Dies(bool, u32),
    }

    const CONNECTIONS: u32 = 4;
    const MESSAGES: u32 = 12;

    fn step() -> impl Strategy<Value = Step> {
        let at = || (any::<bool>(), 0..CONNECTIONS);
        prop_oneof![
            4 => at().prop_map(|(end, number)| Step::Send(end, number)),
            3 => at().prop_map(|(end, number)| Step::Take(end, number)),
            // The last one survives, or the session would be over.
            1 => (any::<bool>(), 0..CONNECTIONS - 1).prop_map(|(end, number)| Step::Dies(end, number)),
        ]
    }

    fn run(steps: Vec<Step>) -> [End; 2] {
        let mut ends = [End::default(), End::default()];
        for end in &mut ends {
            end.living = (0..CONNECTIONS)
                .map(|number| (number, Living::default()))
                .collect();
            end.queue = (0..MESSAGES)
                .map(|handle| Message::Flush { handle })
                .collect();
        }
        let mut perform = |step: Step| {
            let [a, b] = &mut ends;
            let sides = |end| if end { (a, b) } else { (b, a) };
            match step {
                Step::Send(end, number) => {
                    let (this, peer) = sides(end);
                    this.send(number, peer);
                }
                Step::Take(end, number) => sides(end).0.take(number),
                Step::Dies(end, number) => sides(end).0.end(number),
            }
        };
        let died: HashSet<u32> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Dies(_, number) => Some(*number),
                _ => None,
            })
            .collect();
        steps.into_iter().for_each(&mut perform);
        // In the end both have noticed, and the survivors carry what is left.
        for number in &died {
            perform(Step::Dies(false, *number));
            perform(Step::Dies(true, *number));
        }
        for _ in 0..20 * MESSAGES {
            for number in 0..CONNECTIONS {
                for end in [false, true] {
                    perform(Step::Send(end, number));
                    perform(Step::Take(end, number));
                }
            }
        }
        ends
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn everything_arrives_once_whatever_dies_and_whoever_notices_first(
            steps in prop::collection::vec(step(), 0..120)
        ) {
            for mut end in run(steps) {
                end.taken.sort_unstable();
                prop_assert_eq!(end.taken, (0..MESSAGES).collect::<Vec<_>>());
                prop_assert!(end.settlement.parting.is_empty() && end.settlement.taken.is_empty());
                prop_assert!(end.queue.is_empty());
            }
        }
    }
}
