//! Breadth-first search through every reachable state, each expanded once.
//!
//! Written out rather than taken from `stateright`: that checks "eventually" on acyclic paths only
//! and knows no "from every state the goal can still be reached", which is what stands here for
//! "nothing gets stuck".

use super::actions::Action;
use super::world::World;
use super::{Limits, properties};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a search has seen.
pub(super) struct Seen {
    pub(super) states: usize,
    pub(super) steps: usize,
}

/// A property that does not hold, and the shortest way there.
pub(super) struct Counterexample {
    pub(super) broken: String,
    pub(super) trace: String,
    pub(super) states: usize,
}

struct Search<'a> {
    limits: &'a Limits,
    numbers: HashMap<u128, u32>,
    /// The state from which each was found first, and by which of its actions.
    origins: Vec<(u32, u16)>,
    steps: Vec<(u32, u32)>,
    goals: Vec<u32>,
}

/// Looks at everything that can happen within `limits`.
pub(super) fn explore(limits: &Limits) -> Result<Seen, Counterexample> {
    let mut search = Search {
        limits,
        numbers: HashMap::new(),
        origins: Vec::new(),
        steps: Vec::new(),
        goals: Vec::new(),
    };
    search.run()?;
    search.nothing_gets_stuck()?;
    Ok(Seen {
        states: search.origins.len(),
        steps: search.steps.len(),
    })
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), Counterexample> {
        let start = World::new(self.limits);
        self.number(&start, 0, 0);
        let mut level = vec![(0, start)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (from, world) in level {
                if properties::is_goal(&world, self.limits) {
                    self.goals.push(from);
                }
                for (index, action) in world.actions(self.limits).into_iter().enumerate() {
                    let after = world.after(action, self.limits);
                    let (to, new) = self.number(&after, from, index as u16);
                    self.steps.push((from, to));
                    if new {
                        properties::check(&after, self.limits)
                            .map_err(|broken| self.counterexample(to, broken))?;
                        next.push((to, after));
                    }
                }
            }
            level = next;
        }
        Ok(())
    }

    fn number(&mut self, world: &World, from: u32, action: u16) -> (u32, bool) {
        let next = self.origins.len() as u32;
        match self.numbers.entry(world.fingerprint()) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(free) => {
                free.insert(next);
                self.origins.push((from, action));
                (next, true)
            }
        }
    }

    /// Walks back from the goals: whatever is not met on the way cannot reach any.
    fn nothing_gets_stuck(&self) -> Result<(), Counterexample> {
        let states = self.origins.len();
        let mut begin = vec![0u32; states + 1];
        for (_, to) in &self.steps {
            begin[*to as usize + 1] += 1;
        }
        for state in 0..states {
            begin[state + 1] += begin[state];
        }
        let mut filled = begin.clone();
        let mut before = vec![0u32; self.steps.len()];
        for (from, to) in &self.steps {
            before[filled[*to as usize] as usize] = *from;
            filled[*to as usize] += 1;
        }
        let mut reaches = vec![false; states];
        let mut open = self.goals.clone();
        while let Some(state) = open.pop() {
            let state = state as usize;
            if !std::mem::replace(&mut reaches[state], true) {
                open.extend(&before[begin[state] as usize..begin[state + 1] as usize]);
            }
        }
        match reaches.iter().position(|reaches| !reaches) {
            None => Ok(()),
            Some(stuck) => {
                let broken = "from here both sides never become equal".to_owned();
                Err(self.counterexample(stuck as u32, broken))
            }
        }
    }

    fn counterexample(&self, state: u32, broken: String) -> Counterexample {
        let mut choices = Vec::new();
        let mut at = state;
        while at != 0 {
            let (from, action) = self.origins[at as usize];
            choices.push(action);
            at = from;
        }
        let mut world = World::new(self.limits);
        let mut trace = format!("{:28} {world}\n", "at first");
        for choice in choices.into_iter().rev() {
            let action: Action = world.actions(self.limits)[usize::from(choice)];
            world = world.after(action, self.limits);
            trace += &format!("{:28} {world}\n", format!("{action:?}"));
        }
        Counterexample {
            broken,
            trace,
            states: self.origins.len(),
        }
    }
}
