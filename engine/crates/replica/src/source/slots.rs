//! The places for connections in a session: which are taken, which have to be dialled, and when.

use super::link::{GOOD, LONGEST_PAUSE, jitter, pauses};
use crate::conversation::{ConnectionStatus, Roster};
use std::time::Duration;
use tokio::time::Instant;

/// As many places as connections are wanted.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    next_number: u32,
}

#[derive(Debug)]
struct Slot {
    state: State,
    since: Instant,
    /// Why it is not up.
    reason: Option<String>,
    /// Before the next attempt.
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Until the pause is over.
    Waiting(u32),
    Connecting(u32),
    Up(u32),
}

/// A connection to be dialled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its number in the session.
    pub(super) number: u32,
    /// To be waited before.
    pub(super) pause: Duration,
}

impl Slot {
    fn set(&mut self, state: State) {
        self.state = state;
        self.since = Instant::now();
    }
}

impl Slots {
    /// One, and connection 0 has it.
    pub(super) fn new() -> Self {
        let mut slots = Slots {
            slots: Vec::new(),
            next_number: 1,
        };
        slots.resize(1);
        slots.slots[0].set(State::Up(0));
        slots
    }

    /// Makes it so many. Returns the numbers of connections that have to go.
    pub(super) fn resize(&mut self, wanted: u16) -> Vec<u32> {
        let mut retired = Vec::new();
        while self.slots.len() > usize::from(wanted) {
            let idle = |slot: &Slot| !matches!(slot.state, State::Up(_));
            let last = self.slots.len() - 1;
            let index = self.slots.iter().rposition(idle).unwrap_or(last);
            if let State::Up(number) = self.slots.remove(index).state {
                retired.push(number);
            }
        }
        while self.slots.len() < usize::from(wanted) {
            self.slots.push(Slot {
                state: State::Free,
                since: Instant::now(),
                reason: None,
                pause: Duration::ZERO,
            });
        }
        retired
    }

    /// What has to be dialled now.
    pub(super) fn attempts(&mut self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for slot in &mut self.slots {
            if slot.state == State::Free {
                let number = self.next_number;
                self.next_number += 1;
                slot.set(State::Waiting(number));
                let pause = jitter(slot.pause);
                attempts.push(Attempt { number, pause });
            }
        }
        attempts
    }

    fn find(&mut self, state: State) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.state == state)
    }

    /// The pause is over. False if the place is gone.
    pub(super) fn connecting(&mut self, number: u32) -> bool {
        let slot = self.find(State::Waiting(number));
        slot.map(|slot| slot.set(State::Connecting(number)))
            .is_some()
    }

    /// Welcomed. False if the place is gone.
    pub(super) fn up(&mut self, number: u32) -> bool {
        let slot = self.find(State::Connecting(number));
        slot.map(|slot| {
            slot.set(State::Up(number));
            slot.reason = None;
        })
        .is_some()
    }

    /// It could not be reached, or is lost.
    pub(super) fn down(&mut self, number: u32, reason: String) {
        let states = [State::Connecting(number), State::Up(number)];
        let slot = self.slots.iter_mut();
        let Some(slot) = slot.into_iter().find(|slot| states.contains(&slot.state)) else {
            return;
        };
        let good = slot.state == State::Up(number) && slot.since.elapsed() > GOOD;
        slot.pause = match good {
            true => pauses(Duration::ZERO),
            false => pauses(slot.pause),
        };
        debug_assert!(slot.pause <= LONGEST_PAUSE);
        slot.set(State::Free);
        slot.reason = Some(reason);
    }

    /// For the status.
    pub(super) fn status(&self, roster: &Roster) -> Vec<ConnectionStatus> {
        let living = roster.living();
        let one = |(index, slot): (u32, &Slot)| {
            let age = slot.since.elapsed();
            let not_up = |state| ConnectionStatus::not_up(index, state, age, slot.reason.clone());
            match slot.state {
                State::Free | State::Waiting(_) => not_up("waiting"),
                State::Connecting(_) => not_up("connecting"),
                State::Up(number) => match living.get(&number) {
                    Some(health) => ConnectionStatus::up(index, health),
                    None => not_up("waiting"),
                },
            }
        };
        (0..).zip(&self.slots).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(attempts: Vec<Attempt>) -> Vec<u32> {
        attempts.iter().map(|attempt| attempt.number).collect()
    }

    fn raise(slots: &mut Slots, number: u32) -> bool {
        slots.connecting(number) && slots.up(number)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_one_is_replaced_under_a_new_number_after_ever_longer_pauses() {
        let mut slots = Slots::new();
        assert!(slots.resize(3).is_empty());
        assert_eq!(numbers(slots.attempts()), [1, 2]);
        assert!(slots.attempts().is_empty());
        assert!(raise(&mut slots, 1) && raise(&mut slots, 2));
        let mut longest = Duration::ZERO;
        let mut number = 1;
        for _ in 0..12 {
            slots.down(number, "reset".into());
            let attempt = slots.attempts().pop().unwrap();
            assert!(attempt.number > number);
            (number, longest) = (attempt.number, longest.max(attempt.pause));
            slots.connecting(number);
        }
        assert!(longest > LONGEST_PAUSE / 4 && longest <= LONGEST_PAUSE * 2);
        assert!(slots.up(number));
        tokio::time::sleep(GOOD * 2).await;
        slots.down(number, "reset".into());
        assert!(slots.attempts()[0].pause < Duration::from_millis(200));
    }

    #[tokio::test]
    async fn what_is_not_up_goes_first() {
        let mut slots = Slots::new();
        slots.resize(4);
        slots.attempts();
        assert!(raise(&mut slots, 1) && raise(&mut slots, 3));
        slots.down(0, "reset".into());
        assert!(slots.resize(2).is_empty());
        assert_eq!(slots.resize(1), [3]);
        // Late news of places that are gone.
        assert!(!raise(&mut slots, 2));
        slots.down(3, "retired".into());
        assert!(slots.attempts().is_empty());
        slots.resize(2);
        assert_eq!(numbers(slots.attempts()), [4]);
    }
}
