//! Finds the level at which most raw bytes per second are accepted.
//!
//! It begins at the level that the wire's rate suggests: a core compresses far faster than a slow
//! link carries. From there it tries the neighbours, which needs no model of what the bottleneck
//! is. When the link or its pacing is, a higher level brings more raw bytes through; when the cores
//! or the reading are, it brings fewer or as many, and the lower level wins a tie. A trial is
//! compared with home before and after it, so that a change of the data is not taken for its gain.

use std::time::{Duration, Instant};

/// How many levels there are.
const LEVELS: usize = super::LEVELS.len();

/// Time that a level is measured.
const WINDOW: Duration = Duration::from_millis(300);

/// A higher level must bring this much more, a lower one may bring this much less.
const MARGIN: f64 = 0.07;

/// Windows between two attempts, at first; doubled after each that led nowhere.
const FIRST_REST: u32 = 2;
const LONGEST_REST: u32 = 32;

/// Bytes per second on the wire below which a level's compression is sure not to be what limits,
/// from the highest level down. One core does a quarter of its work at these rates.
const SUITS_BELOW: [(f64, usize); 3] = [(25e6, 3), (100e6, 2), (400e6, 1)];

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
        }
    }

    pub(super) fn level(&self) -> usize {
        match self.phase {
            Phase::Trial { .. } => self.neighbour(),
            _ => self.home,
        }
    }

    /// Bytes that were accepted, before and after compression.
    pub(super) fn sent(&mut self, raw: u64, wire: u64, now: Instant) {
        self.raw += raw;
        self.wire += wire;
        let passed = now.saturating_duration_since(self.window_began);
        if passed < WINDOW {
            return;
        }
        let (raw, wire) = (self.raw as f64, self.wire as f64);
        (self.window_began, self.raw, self.wire) = (now, 0, 0);
        // A pause (no work) measures nothing.
        if passed < WINDOW * 4 {
            let seconds = passed.as_secs_f64();
            self.window_ended(raw / seconds, wire / seconds);
        }
    }

    fn window_ended(&mut self, raw: f64, wire: f64) {
        self.phase = match self.phase {
            Phase::Settling(last) if last.is_some_and(|last| alike(last, wire)) => {
                let suits = SUITS_BELOW.iter().find(|(rate, _)| wire < *rate);
                self.home = suits.map_or(0, |(_, level)| *level);
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
        let better = match level > self.home {
            true => tried > at_home * (1.0 + MARGIN),
            false => tried > at_home * (1.0 - MARGIN),
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

fn alike(one: f64, other: f64) -> bool {
    one.min(other) * 1.5 > one.max(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raw bytes per second for each level; what it compresses to.
    const RATIOS: [f64; LEVELS] = [1.0, 1.8, 2.5, 2.8];

    fn run(rates: [f64; LEVELS], steps: usize, noise: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut now = Instant::now();
        let mut climber = Climber::new(now);
        let mut levels = Vec::new();
        for step in 0..steps {
            now += Duration::from_millis(10);
            let level = climber.level();
            let raw = rates[level] / 100.0 * noise(step);
            climber.sent(raw as u64, (raw / RATIOS[level]) as u64, now);
            levels.push(level);
        }
        levels
    }

    fn settles(rates: [f64; LEVELS]) -> usize {
        let levels = run(rates, 20_000, |_| 1.0).split_off(5_000);
        let visits = |level: &usize| levels.iter().filter(|seen| *seen == level).count();
        (0..LEVELS).max_by_key(visits).unwrap_or(0)
    }

    #[test]
    fn a_slow_link_makes_it_climb() {
        assert_eq!(settles([10e6, 18e6, 25e6, 28e6]), 3);
    }

    #[test]
    fn a_slow_link_is_known_within_a_second() {
        let levels = run([20e6, 36e6, 50e6, 56e6], 100, |_| 1.0);
        assert_eq!(levels.last(), Some(&3));
    }

    #[test]
    fn busy_cores_make_it_descend() {
        assert_eq!(settles([900e6, 600e6, 300e6, 150e6]), 0);
    }

    #[test]
    fn a_slow_reader_makes_it_rest_at_the_bottom() {
        assert_eq!(settles([50e6, 50e6, 50e6, 50e6]), 0);
    }

    #[test]
    fn it_finds_the_middle() {
        assert_eq!(settles([100e6, 180e6, 220e6, 120e6]), 2);
    }

    #[test]
    fn data_that_slowly_gets_heavier_drives_it_nowhere() {
        let heavier = |step: usize| 1.0 / (1.0 + step as f64 / 2_000.0);
        let levels = run([20e6, 36e6, 50e6, 56e6], 6_000, heavier);
        let away = levels[200..].iter().filter(|level| **level < 2).count();
        assert!(away < levels.len() / 20, "{away}");
    }
}
