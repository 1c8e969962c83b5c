//! Finds the level at which most raw bytes per second are accepted.
//!
//! It begins at the level that the wire's rate suggests: a core compresses far faster than a slow
//! link carries. From there it tries the neighbours, which needs no model of what the bottleneck
//! is. When the cores or the reading are, a higher level brings fewer raw bytes through, or as many,
//! and the lower level wins a tie. When the link or its pacing is, a higher level brings more, though
//! among chunks that differ a gain of a few per cent cannot be measured: then the higher level wins a
//! tie, up to the one that the wire's rate suggests. A trial is compared with home before and after
//! it, so that a change of the data is not taken for its gain.

use std::time::{Duration, Instant};

/// How many levels there are.
const LEVELS: usize = super::LEVELS.len();

/// Time that a level is measured.
const WINDOW: Duration = Duration::from_millis(300);

/// The level that loses a tie must bring this much more.
const MARGIN: f64 = 0.07;

/// Windows between two attempts, at first; doubled after each that led nowhere.
const FIRST_REST: u32 = 2;
const LONGEST_REST: u32 = 32;

/// Bytes per second on the wire below which a level costs half a core at most, on data of which a
/// part shrinks; from the highest level down.
const SUITS_BELOW: [(f64, usize); LEVELS - 1] =
    [(6e6, 5), (30e6, 4), (60e6, 3), (150e6, 2), (400e6, 1)];

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Buffers fill: what is accepted says nothing of the wire until two windows agree. Holds the
    /// wire's rate in the last window.
    Settling(Option<f64>),
    Home,
    /// Holds the rate at home before it.
    Trial {
        before: f64,
    },
    /// At home again after a trial of `level`.
    Back {
        before: f64,
        level: usize,
        tried: f64,
    },
}

#[derive(Debug)]
pub(super) struct Climber {
    home: usize,
    phase: Phase,
    try_up: bool,
    rest: u32,
    rest_left: u32,
    window_began: Instant,
    raw: u64,
    wire: u64,
    /// Pieces of this window, and those of them for which the wire had no room yet.
    pieces: u32,
    held_up: u32,
    /// What the latest window at home said: the highest level that wins ties.
    suits: usize,
}

impl Climber {
    pub(super) fn new(now: Instant) -> Self {
        Climber {
            home: 1,
            phase: Phase::Settling(None),
            try_up: true,
            rest: FIRST_REST,
            rest_left: FIRST_REST,
            window_began: now,
            raw: 0,
            wire: 0,
            pieces: 0,
            held_up: 0,
            suits: 0,
        }
    }

    pub(super) fn level(&self) -> usize {
        match self.phase {
            Phase::Trial { .. } => self.neighbour(),
            _ => self.home,
        }
    }

    /// Bytes that were accepted, before and after compression, and whether the wire has no room.
    pub(super) fn sent(&mut self, raw: u64, wire: u64, held_up: bool, now: Instant) {
        self.raw += raw;
        self.wire += wire;
        self.pieces += 1;
        self.held_up += u32::from(held_up);
        let passed = now.saturating_duration_since(self.window_began);
        if passed < WINDOW {
            return;
        }
        let (raw, wire) = (self.raw as f64, self.wire as f64);
        let held_up = self.held_up * 2 > self.pieces;
        (self.window_began, self.raw, self.wire) = (now, 0, 0);
        (self.pieces, self.held_up) = (0, 0);
        // A pause (no work) measures nothing.
        if passed < WINDOW * 4 {
            let seconds = passed.as_secs_f64();
            self.window_ended(raw / seconds, wire / seconds, held_up);
        }
    }

    fn window_ended(&mut self, raw: f64, wire: f64, held_up: bool) {
        if !matches!(self.phase, Phase::Trial { .. }) {
            self.suits = if held_up { suited(wire) } else { 0 };
        }
        self.phase = match self.phase {
            Phase::Settling(last) if last.is_some_and(|last| alike(last, wire)) => {
                self.home = suited(wire);
                Phase::Home
            }
            Phase::Settling(_) => Phase::Settling(Some(wire)),
            Phase::Home => self.rested(raw),
            Phase::Trial { before } => Phase::Back {
                before,
                level: self.neighbour(),
                tried: raw,
            },
            Phase::Back {
                before,
                level,
                tried,
            } => {
                self.judge(level, tried, (before + raw) / 2.0);
                Phase::Home
            }
        };
    }

    fn rested(&mut self, raw: f64) -> Phase {
        self.rest_left = self.rest_left.saturating_sub(1);
        if self.rest_left > 0 {
            return Phase::Home;
        }
        if self.home == 0 {
            self.try_up = true;
        } else if self.home == LEVELS - 1 {
            self.try_up = false;
        }
        Phase::Trial { before: raw }
    }

    fn judge(&mut self, level: usize, tried: f64, at_home: f64) {
        let higher = level.max(self.home);
        let wins_ties = match higher <= self.suits {
            true => higher,
            false => level.min(self.home),
        };
        let better = match level == wins_ties {
            true => tried > at_home * (1.0 - MARGIN),
            false => tried > at_home * (1.0 + MARGIN),
        };
        if better {
            self.home = level;
            self.rest = FIRST_REST;
        } else {
            self.try_up = !self.try_up;
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
        self.rest_left = self.rest;
    }

    fn neighbour(&self) -> usize {
        if self.try_up {
            self.home + 1
        } else {
            self.home - 1
        }
    }
}

fn suited(wire: f64) -> usize {
    let suits = SUITS_BELOW.iter().find(|(rate, _)| wire < *rate);
    suits.map_or(0, |(_, level)| *level)
}

fn alike(one: f64, other: f64) -> bool {
    one.min(other) * 1.5 > one.max(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each level compresses to.
    const RATIOS: [f64; LEVELS] = [1.0, 1.8, 2.5, 2.6, 2.75, 2.8];

    /// The raw bytes per second at which one of the levels compresses, and at which the wire carries it.
    struct World {
        cores: [f64; LEVELS],
        wire: f64,
    }

    impl World {
        fn run(&self, steps: usize, noise: impl Fn(usize) -> f64) -> Vec<usize> {
            let mut now = Instant::now();
            let mut climber = Climber::new(now);
            let mut levels = Vec::new();
            for step in 0..steps {
                now += Duration::from_millis(10);
                let level = climber.level();
                let carried = self.wire * RATIOS[level];
                let held_up = carried < self.cores[level];
                let raw = carried.min(self.cores[level]) / 100.0 * noise(step);
                climber.sent(raw as u64, (raw / RATIOS[level]) as u64, held_up, now);
                levels.push(level);
            }
            levels
        }

        fn settles(&self) -> usize {
            let levels = self.run(20_000, uneven).split_off(5_000);
            let visits = |level: &usize| levels.iter().filter(|seen| *seen == level).count();
            (0..LEVELS).max_by_key(visits).unwrap_or(0)
        }
    }

    /// Chunks differ by more than levels do.
    fn uneven(step: usize) -> f64 {
        0.8 + 0.4 * ((step * 7919) % 101) as f64 / 100.0
    }

    const QUICK_CORES: [f64; LEVELS] = [4e9, 2e9, 600e6, 500e6, 160e6, 90e6];

    #[test]
    fn the_slower_the_link_the_higher_it_climbs() {
        let settles = |wire| {
            let cores = QUICK_CORES;
            World { cores, wire }.settles()
        };
        assert_eq!(settles(3e6), 5);
        assert_eq!(settles(24e6), 4);
        assert_eq!(settles(50e6), 3);
        assert_eq!(settles(120e6), 2);
        assert_eq!(settles(1000e6), 1);
        assert_eq!(settles(5e9), 0);
    }

    #[test]
    fn a_slow_link_is_known_within_a_second() {
        let (cores, wire) = (QUICK_CORES, 20e6);
        let levels = World { cores, wire }.run(100, |_| 1.0);
        assert_eq!(levels.last(), Some(&4));
    }

    #[test]
    fn busy_cores_make_it_descend() {
        let (cores, wire) = ([900e6, 600e6, 300e6, 150e6, 50e6, 25e6], 2e9);
        assert_eq!(World { cores, wire }.settles(), 0);
        // What the wire's rate suggests these cores cannot do.
        let (cores, wire) = ([900e6, 600e6, 100e6, 60e6, 20e6, 10e6], 25e6);
        assert_eq!(World { cores, wire }.settles(), 3);
    }

    #[test]
    fn a_slow_reader_makes_it_rest_at_the_bottom() {
        let (cores, wire) = ([50e6; LEVELS], 1e9);
        assert_eq!(World { cores, wire }.settles(), 0);
    }

    #[test]
    fn data_that_slowly_gets_heavier_drives_it_nowhere() {
        let heavier = |step: usize| 1.0 / (1.0 + step as f64 / 2_000.0);
        let (cores, wire) = (QUICK_CORES, 20e6);
        let levels = World { cores, wire }.run(6_000, heavier);
        let away = levels[200..].iter().filter(|level| **level < 3).count();
        assert!(away < levels.len() / 20, "{away}");
    }
}
