//! Finds the level at which most raw bytes per second are accepted, by trying the neighbours.
//!
//! It needs no model of what the bottleneck is. When the link or its pacing is, a higher level
//! brings more raw bytes through; when the cores or the reading are, it brings fewer or as many,
//! and the lower level wins a tie.

use std::time::{Duration, Instant};

/// How many levels there are.
const LEVELS: usize = super::LEVELS.len();

/// Time that a level is measured.
const WINDOW: Duration = Duration::from_millis(400);

/// A higher level must bring this much more, a lower one may bring this much less.
const MARGIN: f64 = 0.07;

/// Windows between two attempts, at first; doubled after each that led nowhere.
const FIRST_REST: u32 = 2;
const LONGEST_REST: u32 = 32;

#[derive(Debug)]
pub(super) struct Climber {
    home: usize,
    trial: Option<usize>,
    /// Bytes per second at home in its latest window.
    at_home: Option<f64>,
    try_up: bool,
    rest: u32,
    rest_left: u32,
    window_began: Instant,
    window_bytes: u64,
}

impl Climber {
    pub(super) fn new(now: Instant) -> Self {
        Climber {
            home: 1,
            trial: None,
            at_home: None,
            try_up: true,
            rest: FIRST_REST,
            rest_left: FIRST_REST,
            window_began: now,
            window_bytes: 0,
        }
    }

    pub(super) fn level(&self) -> usize {
        self.trial.unwrap_or(self.home)
    }

    pub(super) fn sent(&mut self, bytes: u64, now: Instant) {
        self.window_bytes += bytes;
        let passed = now.saturating_duration_since(self.window_began);
        if passed < WINDOW {
            return;
        }
        let rate = self.window_bytes as f64 / passed.as_secs_f64();
        self.window_began = now;
        self.window_bytes = 0;
        // A pause (no work) measures nothing.
        if passed < WINDOW * 4 {
            self.window_ended(rate);
        }
    }

    fn window_ended(&mut self, rate: f64) {
        if let (Some(trial), Some(at_home)) = (self.trial.take(), self.at_home) {
            let better = match trial > self.home {
                true => rate > at_home * (1.0 + MARGIN),
                false => rate > at_home * (1.0 - MARGIN),
            };
            self.rest = if better {
                FIRST_REST
            } else {
                (self.rest * 2).min(LONGEST_REST)
            };
            self.rest_left = self.rest;
            match better {
                true => self.home = trial,
                false => self.try_up = !self.try_up,
            }
            self.at_home = better.then_some(rate);
            return;
        }
        self.at_home = Some(rate);
        self.rest_left = self.rest_left.saturating_sub(1);
        if self.rest_left == 0 {
            self.trial = Some(self.neighbour());
        }
    }

    fn neighbour(&mut self) -> usize {
        if self.home == 0 {
            self.try_up = true;
        } else if self.home == LEVELS - 1 {
            self.try_up = false;
        }
        if self.try_up {
            self.home + 1
        } else {
            self.home - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raw bytes per second for each level.
    fn settles(rates: [f64; LEVELS]) -> usize {
        let mut now = Instant::now();
        let mut climber = Climber::new(now);
        let mut visits = [0; LEVELS];
        for step in 0..20_000 {
            now += Duration::from_millis(10);
            climber.sent((rates[climber.level()] / 100.0) as u64, now);
            if step > 5_000 {
                visits[climber.level()] += 1;
            }
        }
        (0..LEVELS).max_by_key(|level| visits[*level]).unwrap_or(0)
    }

    #[test]
    fn a_slow_link_makes_it_climb() {
        assert_eq!(settles([10e6, 18e6, 25e6, 28e6]), 3);
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
}
